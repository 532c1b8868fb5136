"""Where streams are cut."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.units import KIB, MIB
from storage.pieces import CUT_BITS, PIECE_BYTES_MAX, PIECE_BYTES_MIN, WINDOW, first_piece, gear, pieces

NOISE = Random(1).randbytes(24 * MIB)


def plainly(data: bytes) -> int:
    """The rule of the specification, byte by byte."""
    table = [int(number) for number in gear()]
    for end in range(PIECE_BYTES_MIN, min(len(data), PIECE_BYTES_MAX)):
        value = 0
        for byte in data[end - WINDOW : end]:
            value = (2 * value + table[byte]) % 2**32
        if value >> (32 - CUT_BITS) == 0:
            return end
    return min(len(data), PIECE_BYTES_MAX)


@given(parts=st.lists(st.integers(0, 3 * MIB), max_size=12), start=st.integers(0, 8 * MIB))
def test_pieces_are_the_stream_whatever_its_parts(parts: list[int], start: int) -> None:
    stream, at = [], start
    for size in parts:
        stream.append(NOISE[at : at + size])
        at += size
    whole = b"".join(stream)
    found = list(pieces(stream))
    assert b"".join(found) == whole
    assert found == list(pieces([whole]))
    assert all(PIECE_BYTES_MIN <= len(piece) <= PIECE_BYTES_MAX for piece in found[:-1])


@pytest.mark.parametrize("offset", [0, 5 * MIB])
def test_a_cut_is_where_the_rule_says(offset: int) -> None:
    piece = next(pieces([NOISE[offset:]]))
    near = NOISE[offset : offset + len(piece)]
    assert first_piece(memoryview(NOISE)[offset:]) == len(piece)
    table = [int(number) for number in gear()]
    value = 0
    for byte in near[-WINDOW:]:
        value = (2 * value + table[byte]) % 2**32
    assert len(piece) == PIECE_BYTES_MAX or value >> (32 - CUT_BITS) == 0


def test_no_cut_is_missed() -> None:
    data = NOISE[: PIECE_BYTES_MIN + 96 * KIB]
    assert first_piece(memoryview(data)) == plainly(data)


def test_an_insertion_moves_no_cut_far_behind_it() -> None:
    before = list(pieces([NOISE]))
    after = list(pieces([NOISE[: 3 * MIB], b"something new", NOISE[3 * MIB :]]))
    assert len(set(after) - set(before)) <= 2
    assert len(before) > 10


def test_equal_bytes_are_cut_at_the_largest_piece() -> None:
    assert [len(piece) for piece in pieces([bytes(9 * MIB)])] == [PIECE_BYTES_MAX, PIECE_BYTES_MAX, MIB]
