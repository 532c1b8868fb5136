"""specs/34-inference-proof.md against the code."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import cast

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import specs
from node.guest.work import inference as guest
from verifier import fingerprint, freivalds, gumbel, inference, int8, sprt
from verifier.gumbel import Sampling

SPEC = specs.load("34-inference-proof")
MODULES = (int8, gumbel, fingerprint, sprt, freivalds, inference)
small = st.integers(-127, 127)


def said(name: str) -> Callable[..., object]:
    """A function of the document."""
    return SPEC.functions[name]


def test_constants_are_those_of_the_code() -> None:
    for name, value in SPEC.constants.items():
        owners = [module for module in MODULES if name in vars(module)]
        assert owners and all(vars(module)[name] == value for module in owners), name


def test_codes_are_those_of_the_code() -> None:
    assert {row["code"] for row in SPEC.table("codes")} == inference.CODES


def test_bounds_are_those_of_the_code() -> None:
    rows = SPEC.table("the fingerprint")
    found = {row["arithmetic"]: tuple(float(row[name]) for name in fingerprint.Likeness._fields) for row in rows}
    assert found == {name: tuple(bounds) for name, bounds in fingerprint.BOUNDS.items()}


def test_states_are_those_of_the_program() -> None:
    first = guest.InferenceWork.first(cast("guest.InferenceWork", None))
    assert not isinstance(first, bytes)
    assert {name: str(array.dtype) for name, array in first.items()} == {
        "tokens": "int32", "ends": "int32", "prompt": "uint8",
    }  # fmt: skip


@given(st.binary(max_size=40), st.integers(0, 2**40), st.integers(0, 2**40))
def test_draws(seed: bytes, request: int, place: int) -> None:
    assert gumbel.words(seed, request, place, 5).tolist() == said("words")(seed, request, place, 5)


@given(
    st.integers(0, 2**32),
    st.floats(0.1, 3),
    st.integers(0, 8),
    st.floats(0.05, 1),
)
def test_scores(seed: int, temperature: float, top_k: int, top_p: float) -> None:
    logits = np.random.default_rng(seed).normal(0, 2, 7)
    draws = gumbel.words(seed.to_bytes(8, "big"), 0, 0, 7)
    found = gumbel.scores(logits, gumbel.noise(draws), Sampling(temperature, top_k, top_p))
    expected = cast("list[float]", said("scores")(logits.tolist(), draws.tolist(), temperature, top_k, top_p))
    assert np.allclose(found, expected)
    assert math.isclose(gumbel.margin(found, 3), cast("float", said("margin")(expected, 3)), abs_tol=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(1, 2**53 - 1))
def test_integer_noise(draw: int, value: int) -> None:
    assert int(gumbel.integer_noise(np.array([draw], np.uint32))[0]) == said("integer_noise")(draw)
    assert int(gumbel.log2(np.array([value], np.uint64))[0]) == said("log2")(value)


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 4), st.integers(1, 9))
def test_products(seed: int, n: int, m: int, k: int) -> None:
    chance = np.random.default_rng(seed)
    rows, matrix = (chance.integers(-127, 128, (count, k)).astype(np.int8) for count in (n, m))
    product = int8.multiply_fast(rows, matrix)
    assert product.tolist() == said("multiply")(rows.tolist(), matrix.tolist())
    r = freivalds.residues(b"s", 3, "w", m)
    assert r.tolist() == said("residues")(b"s", 3, "w", m)
    key = freivalds.Key(b"s", 3, {"w": matrix})
    for wrong in (0, 1):
        product[0, 0] += wrong
        expected = said("is_product")(r.tolist(), matrix.tolist(), rows[0].tolist(), product[0].tolist())
        assert key.is_product("w", rows[:1], product[:1]) == expected == (not wrong)


@given(st.lists(st.integers(-int8.LIMIT, int8.LIMIT), min_size=2, max_size=9))
def test_rows(row: list[int]) -> None:
    flow = np.array([row], np.int64)
    rows, largest = int8.quantise(flow)
    assert (rows[0].tolist(), int(largest[0, 0])) == said("quantise")(row)
    assert int8.rms_norm(flow)[0].tolist() == said("rms_norm")(row)


@given(st.integers(-(2**26), 2**26), st.integers(1, int8.SCALE_MAX - 1), st.integers(1, int8.LIMIT))
def test_requantisation(product: int, scale: int, largest: int) -> None:
    found = int8.requantise(np.array([[product]], np.int32), np.array([scale], np.int32), np.array([[largest]]))
    assert int(found[0, 0]) == said("requantise")(product, scale, largest)


def test_leaves() -> None:
    products = {"b": np.array([1, -2], np.int32), "a": np.array([3], np.int32)}
    plain = {name: row.tolist() for name, row in products.items()}
    assert int8.leaf(5, products, np.array([7, -8])) == said("leaf")(5, plain, [7, -8])


@given(st.integers(1, 500))
def test_chunks(positions: int) -> None:
    assert fingerprint.spans(positions) == said("spans")(positions)


@given(st.integers(0, 2**32))
@settings(max_examples=20)
def test_likeness(seed: int) -> None:
    chance = np.random.default_rng(seed)
    hidden = chance.normal(0, 1, (20, 16))
    own, other = fingerprint.take(hidden), fingerprint.take(hidden + chance.normal(0, 0.02, hidden.shape))
    found = fingerprint.compare(other, own)
    mine, theirs = (
        dict(zip(one.places[0].tolist(), one.values[0].tolist(), strict=True)) for one in (own, other)
    )  # fmt: skip
    equal, mean = cast("tuple[float, float]", said("likeness")(mine, theirs))
    assert math.isclose(found.equal, equal) and math.isclose(found.mantissa_mean, mean)


@given(st.integers(0, 100), st.integers(0, 3000))
def test_decisions(misses: int, hits: int) -> None:
    rates = sprt.Hypotheses(0.002, 0.011)
    seen = sprt.Evidence(misses, misses + hits)
    assert rates.decide(seen) == said("decide")(misses, misses + hits, 0.002, 0.011)


def test_the_document_draws_what_the_program_draws() -> None:
    chance = random.Random(1)
    logits = [chance.gauss(0, 2) for _ in range(20)]
    draws = gumbel.words(b"seed", 4, 9, 20)
    found = cast("list[float]", said("scores")(logits, draws.tolist(), 0.8, 5, 0.9))
    program = gumbel.scores(np.array(logits), gumbel.noise(draws), Sampling(0.8, 5, 0.9))
    assert found.index(max(found)) == int(np.argmax(program))
