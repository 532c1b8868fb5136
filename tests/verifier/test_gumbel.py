"""verifier/gumbel.py: the same chance for everybody who knows the seed, and the right distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier import gumbel
from verifier.gumbel import Sampling

SEED = b"seed" * 8


def test_draws_are_what_they_always_were() -> None:
    assert gumbel.words(SEED, 1, 2, 3).tolist() == [2318249792, 2933773300, 4020340617]


@given(st.binary(max_size=40), st.integers(0, 2**63), st.integers(0, 2**63))
def test_draws_depend_on_seed_request_and_place(seed: bytes, request: int, place: int) -> None:
    mine = gumbel.words(seed, request, place, 8)
    others = [(seed + b"\0", request, place), (seed, request + 1, place), (seed, request, place + 1)]
    assert all(not np.array_equal(mine, gumbel.words(*other, 8)) for other in others)
    assert np.array_equal(mine, gumbel.words(seed, request, place, 20)[:8])


def test_noise_has_mean_and_variance_of_gumbel() -> None:
    noise = gumbel.noise(gumbel.words(SEED, 0, 0, 100_000))
    assert abs(noise.mean() - 0.57722) < 0.02 and abs(noise.var() - math.pi**2 / 6) < 0.04


def test_the_ends_of_a_draw_are_finite() -> None:
    ends = np.array([0, 2**32 - 1], np.uint32)
    assert np.isfinite(gumbel.noise(ends)).all()
    assert np.allclose(gumbel.noise(ends), gumbel.integer_noise(ends) / 65536, atol=1.8)


@given(st.integers(0, 2**32 - 1))
def test_integer_noise_is_the_noise(draw: int) -> None:
    draws = np.array([draw], np.uint32)
    tolerance = 1e-3 if draw < 2**32 - 2**12 else 1.8  # One in a million tokens is a little too rare.
    assert abs(int(gumbel.integer_noise(draws)[0]) / 65536 - float(gumbel.noise(draws)[0])) < tolerance


@given(st.integers(1, 2**53 - 1))
def test_integer_logarithms(value: int) -> None:
    found = int(gumbel.log2(np.array([value], np.uint64))[0]) / 2**30
    assert abs(found - math.log2(value)) < 1e-7


def test_tokens_are_drawn_from_the_softmax() -> None:
    logits = np.array([1.0, 0.0, 2.0, -1.0])
    expected = np.exp(logits / 0.7) / np.exp(logits / 0.7).sum()
    drawn = [
        int(np.argmax(gumbel.scores(logits, gumbel.noise(gumbel.words(SEED, 0, place, 4)), Sampling(0.7))))
        for place in range(4000)
    ]
    assert np.abs(np.bincount(drawn, minlength=4) / 4000 - expected).max() < 0.025


def test_integers_and_floats_draw_the_same_tokens() -> None:
    logits = np.random.default_rng(1).normal(0, 2, (200, 50))
    same = 0
    for place, row in enumerate(logits):
        draws = gumbel.words(SEED, 1, place, 50)
        whole = np.rint(row * 65536).astype(np.int64)
        exact = gumbel.integer_scores(whole, gumbel.integer_noise(draws), round(0.8 * 65536), 10)
        same += int(np.argmax(exact) == np.argmax(gumbel.scores(row, gumbel.noise(draws), Sampling(0.8, 10))))
    assert same >= 199


def test_at_temperature_zero_there_is_no_chance() -> None:
    logits = np.array([0.0, 5.0, 1.0])
    assert np.array_equal(gumbel.scores(logits, np.full(3, 9.0), Sampling(0.0)), logits)
    whole = logits.astype(np.int64)
    assert np.array_equal(gumbel.integer_scores(whole, whole[::-1], 0, 0), whole)


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (Sampling(1.0), [0, 1, 2, 3]),
        (Sampling(1.0, top_k=2), [0, 1]),
        (Sampling(1.0, top_p=0.6), [0]),
        (Sampling(1.0, top_p=0.7), [0, 1]),
        (Sampling(1.0, top_p=1e-9), [0]),
        (Sampling(1.0, top_k=3, top_p=0.95), [0, 1, 2]),
    ],
)
def test_unlikely_tokens_are_left_out(sampling: Sampling, kept: list[int]) -> None:
    scaled = np.log(np.array([0.64, 0.2, 0.1, 0.06]))
    assert np.flatnonzero(gumbel.allowed(scaled, sampling)).tolist() == kept


def test_margins_are_cut() -> None:
    scores = np.array([1.0, 3.5, -np.inf, -90.0])
    assert [gumbel.margin(scores, token) for token in range(4)] == [2.5, 0.0, 4.0, 4.0]
