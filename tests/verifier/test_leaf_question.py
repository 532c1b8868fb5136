"""Which unit is replayed when two traces part at a leaf, and what the replay refutes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol.jobspec import ZERO_DIGEST
from protocol.proof import STATE_BYTES_MAX, UNITS_MAX, Leaf, UnitResult
from protocol.trace import leaf_bytes
from protocol.units import Micros
from verifier.game import Dispute
from verifier.leaf_question import Question, Settled, blind, question, read_leaf
from verifier.views import Facts

hashes = st.binary(min_size=32, max_size=32)
leaves = st.builds(
    Leaf, st.integers(0, UNITS_MAX), hashes, st.integers(0, STATE_BYTES_MAX), hashes, hashes,
    st.integers(0, STATE_BYTES_MAX),
)  # fmt: skip
FACTS = Facts(
    digest=ZERO_DIGEST, size=1, floor_ppm=0, chunks=1, steps=1, disk_bytes=1, timeout=Micros(1), numeric="D0",
    runtime="wasm", units=10,
)  # fmt: skip
MINE = Leaf(4, b"s" * 32, 10, b"i" * 32, b"a" * 32, 3)
BEFORE = Leaf(3, b"b" * 32, 10, b"j" * 32, b"c" * 32, 3)


@given(leaf=leaves, cut=st.integers(0, 200), byte=st.integers(0, 255))
def test_leaves_are_read_back_and_nothing_else_is(leaf: Leaf, cut: int, byte: int) -> None:
    data = leaf_bytes(leaf)
    assert read_leaf(data) == leaf
    assert read_leaf(data[:cut] + bytes([byte]) + data[cut:]) is None
    assert read_leaf(data[: min(cut, len(data) - 1)]) is None


def ask(one: Leaf, other: Leaf, agreed: Leaf | None = BEFORE, facts: Facts = FACTS) -> Question | Settled:
    dispute = Dispute(one.index, leaf_bytes(agreed) if agreed else None, (leaf_bytes(one), leaf_bytes(other)))
    return question(dispute, facts)


def test_another_state_is_the_unit_before() -> None:
    other = replace(MINE, state=b"t" * 32)
    asked = ask(MINE, other)
    assert asked == Question(3, BEFORE, "state", (MINE, other))
    result = UnitResult(3, b"j" * 32, MINE.state, 10, b"c" * 32, 3)
    assert asked.wrong(result) == (1,)
    assert asked.wrong(replace(result, state=b"x" * 32)) == (0, 1)
    shown = blind(asked.start)
    assert (shown.state, shown.input, shown.aux) == (BEFORE.state, ZERO_DIGEST, ZERO_DIGEST)


def test_another_word_about_itself_is_the_unit_itself() -> None:
    other = replace(MINE, aux=b"x" * 32)
    asked = ask(MINE, other)
    assert asked == Question(4, MINE, "self", (MINE, other))
    assert asked.wrong(UnitResult(4, MINE.input, b"n" * 32, 10, MINE.aux, 3)) == (1,)
    assert asked.wrong(UnitResult(4, MINE.input, b"n" * 32, 10, other.aux, 3)) == (0,)


def test_where_no_replay_of_one_unit_can_tell_the_whole_chunk_is_executed() -> None:
    first, other = replace(MINE, index=0), replace(MINE, index=0, state=b"t" * 32)
    for asked in (ask(first, other, None), ask(MINE, replace(MINE, state=b"t" * 32), BEFORE, _kind("inference"))):
        assert isinstance(asked, Question)
        assert asked.what == "whole"


def _kind(kind: str) -> Facts:
    return Facts(**({name: getattr(FACTS, name) for name in FACTS.__slots__} | {"kind": kind}))


@pytest.mark.parametrize(
    ("spoilt", "wrong"),
    [((b"", leaf_bytes(MINE)), (0,)), ((leaf_bytes(MINE), b"x"), (1,)), ((b"", b"x"), (0, 1))],
)
def test_a_leaf_that_is_none_has_lost(spoilt: tuple[bytes, bytes], wrong: tuple[int, ...]) -> None:
    assert question(Dispute(4, leaf_bytes(BEFORE), spoilt), FACTS) == Settled(wrong, "bad_leaf")


def test_a_leaf_with_another_index_or_a_last_one_that_says_more() -> None:
    assert ask(MINE, replace(MINE, state=b"t" * 32), BEFORE) != Settled((1,), "bad_leaf")
    moved = Dispute(4, leaf_bytes(BEFORE), (leaf_bytes(MINE), leaf_bytes(replace(MINE, index=5))))
    assert question(moved, FACTS) == Settled((1,), "bad_leaf")
    last = Leaf(10, b"s" * 32, 10, ZERO_DIGEST, ZERO_DIGEST, 0)
    assert ask(last, replace(last, aux=b"x" * 32), replace(BEFORE, index=9)) == Settled((1,), "bad_leaf")


def test_claimed_effects_alone_are_no_difference() -> None:
    assert question(Dispute(11, b"", (b"a", b"b")), FACTS) == Settled((1,), "no_difference")
