"""verifier/int8.py: integers that are the same whatever computes them, and close to the floats that they stand for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.verifier import answers
from verifier import int8

fixed_points = st.integers(-int8.LIMIT, int8.LIMIT)


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 7, 1024, 1025, 3000]))
@settings(max_examples=30)
def test_products_by_floats_are_those_by_integers(seed: int, n: int, m: int, k: int) -> None:
    chance = np.random.default_rng(seed)
    rows, matrix = (chance.integers(-127, 128, (count, k)).astype(np.int8) for count in (n, m))
    assert np.array_equal(int8.multiply_fast(rows, matrix), int8.multiply(rows, matrix))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_are_exact(sign: int) -> None:
    rows = np.full((2, 5000), -128, np.int8)
    matrix = np.full((3, 5000), sign * 127, np.int8)
    assert (int8.multiply_fast(rows, matrix) == -sign * 128 * 127 * 5000).all()
    assert int8.multiply_fast(rows, matrix).dtype == np.int32


def test_one_sum_of_fp32_over_all_columns_is_not_exact() -> None:
    """Why there are blocks: 127 × 127 × 4001 + 1 is odd and above 2^25."""
    rows = np.concatenate([np.full((1, 4001), 127), np.ones((1, 1))], axis=1).astype(np.int8)
    whole = rows.astype(np.float32) @ rows.astype(np.float32).T
    exact = int8.multiply(rows, rows)
    assert int(whole[0, 0]) != int(exact[0, 0])
    assert np.array_equal(int8.multiply_fast(rows, rows), exact)


@given(st.integers(0, 2**52 - 1))
def test_roots_are_floored(square: int) -> None:
    assert int(int8.root(np.array([square], np.int64))[0]) == math.isqrt(square)


@given(fixed_points)
def test_silu_is_close(value: int) -> None:
    exact = value / int8.ONE / (1 + math.exp(-max(-700.0, value / int8.ONE)))
    found = int(int8.silu(np.array([value], np.int64))[0]) / int8.ONE
    assert abs(found - exact) < 0.005


def test_the_table_of_exp_is_rounded() -> None:
    table = int8.exp_table()
    assert table[0] == int8.EXP_ONE and table[-1] == 0
    assert all(abs(table[i] - math.exp(-i / 256) * 65536) <= 0.5 + 1e-9 for i in range(len(table) - 1))


@given(hnp.arrays(np.int64, (3, 8), elements=fixed_points))
def test_rows_are_quantised_within_half_a_step(flow: int8.Ints) -> None:
    rows, largest = int8.quantise(flow)
    assert rows.min() >= -127
    assert (np.abs(flow - rows.astype(np.int64) * largest / 127) <= largest / 254 + 1e-6).all()


@given(hnp.arrays(np.int64, (2, 16), elements=st.integers(-1 << 16, 1 << 16).filter(lambda x: abs(x) > 64)))
def test_norms_are_one(flow: int8.Ints) -> None:
    normed = int8.rms_norm(flow).astype(float) / int8.ONE
    assert np.allclose(np.sqrt(np.mean(normed**2, axis=1)), 1, atol=0.03)


def test_attention_sees_nothing_that_comes_later() -> None:
    chance = np.random.default_rng(2)
    queries, keys, values = (chance.integers(-8000, 8000, (6, 2, 4)) for _ in range(3))
    whole = int8.attend(queries, keys, values, 0)
    keys[4:], values[4:] = 0, 99
    assert np.array_equal(int8.attend(queries, keys, values, 0)[:4], whole[:4])
    assert np.array_equal(int8.attend(queries[2:3], keys[:3], values[:3], 2)[0], whole[2])


def test_a_network_of_integers_says_what_that_of_floats_says() -> None:
    tokens = np.array(answers.tokens_of("The provider of a lease is paid when the ledger "))
    model = answers.integers()
    model.reset()
    exact = model.extend(tokens).logits.astype(float) / 65536
    floats = answers.floats()
    floats.reset()
    reference = floats.extend(tokens).logits.astype(float)
    assert np.mean(exact.argmax(axis=1) == reference.argmax(axis=1)) > 0.9
    assert np.sqrt(np.mean((exact - reference) ** 2)) < 0.15


def test_tokens_one_by_one_are_tokens_at_once() -> None:
    tokens = np.array(answers.tokens_of("Every block names "))
    model = answers.integers()
    model.reset()
    whole = model.extend(tokens)
    model.reset()
    for place, token in enumerate(tokens):
        step = model.extend(np.array([token]))
        assert np.array_equal(step.logits[0], whole.logits[place])
        assert np.array_equal(step.leaves[0], whole.leaves[place])


@pytest.mark.parametrize("tokens", [[], [96], [-1], [0] * 161])
def test_tokens_that_do_not_exist_are_refused(tokens: list[int]) -> None:
    model = answers.integers()
    model.reset()
    with pytest.raises(IndexError):
        model.extend(np.array(tokens, np.int64))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 33.0])
def test_weights_that_cannot_be_quantised_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite and below 32"):
        int8.quantise_weights(np.array([[1.0, bad]]))


def test_leaves_bind_everything() -> None:
    products = {"a": np.arange(3, dtype=np.int32), "b": np.arange(4, dtype=np.int32)}
    logits = np.arange(5, dtype=np.int64)
    leaves = {
        int8.leaf(1, products, logits),
        int8.leaf(2, products, logits),
        int8.leaf(1, {"a": products["b"], "b": products["a"]}, logits),
        int8.leaf(1, {"ab": np.arange(3, dtype=np.int32)}, logits),
        int8.leaf(1, products, logits[::-1]),
    }
    assert len(leaves) == 5
