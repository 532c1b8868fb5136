"""Buffers between the lanes of a transfer and the hash of the whole: what is kept is what came, memory is bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.bulk.buffers import KEPT_MAX, Buffers


def test_what_was_kept_is_handed_over_once_and_its_buffer_used_again() -> None:
    buffers = Buffers(8)
    first = buffers.take()
    first[:3] = b"abc"
    buffers.keep(0, first, 3)
    found = buffers.kept(0)
    assert found is not None
    assert bytes(found[0][: found[1]]) == b"abc"
    assert buffers.kept(0) is None
    buffers.give(found[0])
    assert buffers.take() is first


def test_a_kept_buffer_is_given_to_no_lane() -> None:
    buffers = Buffers(8)
    first = buffers.take()
    buffers.keep(0, first, 8)
    assert buffers.take() is not first


def test_a_chunk_that_comes_twice_does_not_replace_the_first() -> None:
    buffers = Buffers(1)
    for text in (b"a", b"b"):
        buffer = buffers.take()
        buffer[:] = text
        buffers.keep(3, buffer, 1)
    found = buffers.kept(3)
    assert found is not None
    assert bytes(found[0]) == b"a"


def test_what_the_hash_has_passed_is_free_again() -> None:
    buffers = Buffers(1)
    first = buffers.take()
    buffers.keep(2, first, 1)
    buffers.drop_below(2)
    assert buffers.take() is not first
    buffers.drop_below(3)
    assert buffers.kept(2) is None
    assert buffers.take() is first


@given(st.lists(st.integers(0, 40), max_size=80))
def test_kept_chunks_are_bounded_and_right(indices: list[int]) -> None:
    buffers = Buffers(1)
    for index in indices:
        buffer = buffers.take()
        buffer[0] = index
        buffers.keep(index, buffer, 1)
    held = [(index, found) for index in range(41) if (found := buffers.kept(index)) is not None]
    assert len(held) <= KEPT_MAX
    assert all(found[0][0] == index for index, found in held)
