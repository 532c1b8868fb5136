"""The seeded benchmark: products are exact whatever computes them, and what was not computed is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import Refused
from protocol.units import SECOND
from verifier.gpu_challenge import (
    EFFICIENCY,
    ROWS_OPENED,
    Answer,
    Challenge,
    check,
    chosen,
    product,
    standard,
)
from verifier.plausibility import Device

SMALL = Challenge(b"seed" * 8, 64, 3)
BEACON = b"later" * 6


def honest(challenge: Challenge = SMALL) -> Answer:
    pairs = [(challenge.matrix(index, "a"), challenge.matrix(index, "b")) for index in range(challenge.count)]
    return Answer(challenge, [product(left, right) for left, right in pairs])


def code_of(answer: Answer, took: int = 0, limit: int = 1) -> str:
    opened = [answer.open(leaf) for leaf in chosen(answer.challenge, answer.root, BEACON)]
    try:
        check(answer.challenge, answer.root, BEACON, opened, took, limit)
    except Refused as error:
        return error.code
    return "ok"


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 20), inner=st.sampled_from((1, 100, 1023, 1024, 1025, 3000)), seed=st.integers(0, 100))
def test_the_float_unit_gives_the_integers(rows: int, inner: int, seed: int) -> None:
    dice = np.random.default_rng(seed)
    left, right = (dice.integers(-127, 128, shape, np.int8) for shape in ((rows, inner), (inner, 5)))
    assert np.array_equal(product(left, right), left.astype(np.int64) @ right.astype(np.int64))
    worst = np.full((rows, inner), -127, np.int8)
    assert (product(worst, np.full((inner, 2), 127, np.int8)) == -127 * 127 * inner).all()


def test_an_honest_answer_holds() -> None:
    assert code_of(honest()) == "ok"
    assert len(chosen(SMALL, honest().root, BEACON)) == ROWS_OPENED


def test_matrices_and_rows_come_from_their_seeds() -> None:
    other = Challenge(b"other" * 6, 64, 3)
    assert not np.array_equal(SMALL.matrix(0, "a"), other.matrix(0, "a"))
    assert not np.array_equal(SMALL.matrix(0, "a"), SMALL.matrix(0, "b"))
    assert not np.array_equal(SMALL.matrix(0, "a"), SMALL.matrix(1, "a"))
    assert chosen(SMALL, honest().root, BEACON) != chosen(SMALL, honest().root, b"x" * 30)
    assert chosen(SMALL, honest().root, BEACON) != chosen(SMALL, bytes(32), BEACON)


@pytest.mark.parametrize("kind", ["zeros", "half", "rounded", "one_off"])
def test_what_was_not_computed_is_found(kind: str) -> None:
    products = [item.copy() for item in honest().products]
    for index, item in enumerate(products):
        match kind:
            case "zeros":
                item[:] = 0
            case "half":
                item[::2] = 0
            case "rounded":
                left, right = SMALL.matrix(index, "a"), SMALL.matrix(index, "b")
                item[:] = (left.astype(np.int32) @ right.astype(np.int32)) >> 8 << 8
            case "one_off":
                item += 1
    assert code_of(Answer(SMALL, products)) == "wrong_row"


def test_answers_of_the_wrong_form() -> None:
    answer = honest()
    leaves = chosen(SMALL, answer.root, BEACON)
    opened = [answer.open(leaf) for leaf in leaves]
    row, path = opened[0]
    for bad in (
        opened[1:],
        [(row[:-1], path), *opened[1:]],
        [(row.astype(np.int64), path), *opened[1:]],
        [(row, path[:-1]), *opened[1:]],
        [opened[1], *opened[1:]],
    ):
        with pytest.raises(Refused) as caught:
            check(SMALL, answer.root, BEACON, bad, 0, 1)  # type: ignore[arg-type]
        assert caught.value.code == "bad_path"
    for size, count in ((0, 1), (1 << 15, 1), (8, 0)):
        with pytest.raises(Refused):
            Challenge(b"s", size, count)


def test_the_limit_is_that_of_the_declared_card() -> None:
    fast, slow = (Device.of(model).gflops for model in ("H100", "T4"))
    challenge = standard(b"s" * 32)
    assert SECOND * 0.9 < challenge.limit(fast, 0) < SECOND * 1.1
    assert challenge.limit(slow, 0) > challenge.limit(fast, 0)
    processor = challenge.gop / 100 * SECOND
    assert processor > 10 * challenge.limit(fast, 0), "a hundred billion operations per second are far too few"
    assert challenge.limit(fast, 50_000) == challenge.limit(fast, 0) + 50_000
    assert code_of(honest(), took=2, limit=1) == "too_slow"
    assert EFFICIENCY >= 1
