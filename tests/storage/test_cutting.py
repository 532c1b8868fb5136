"""storage/cutting.py: chunks tile the parts, and the same bytes are cut the same way wherever they stand."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import LocalError, Refused
from protocol.units import KIB, MIB
from storage.cutting import (
    CHUNK_BYTES_MAX,
    NAME_CHARS_MAX,
    OPAQUE_BYTES_LEAST,
    OPAQUE_BYTES_MAX,
    PARTS_MAX,
    SMALL_BYTES,
    Part,
    boundaries,
    check_name,
    cut,
    in_order,
)

NOISE = random.Random(1).randbytes(6 * MIB)
SIZES = st.sampled_from(
    [0, 1, 100, 70 * KIB, SMALL_BYTES - 1, SMALL_BYTES, 700 * KIB, CHUNK_BYTES_MAX, CHUNK_BYTES_MAX + 4, 6 * MIB]
)


def part(name: str, size: int, itemsize: int = 4, start: int = 0) -> Part:
    return Part(name, itemsize, memoryview(NOISE)[start : start + size])


@settings(max_examples=40)
@given(st.lists(st.tuples(SIZES, st.sampled_from([1, 2, 4, 16])), max_size=12), st.booleans())
def test_chunks_are_the_parts_in_order(shapes: list[tuple[int, int]], by_content: bool) -> None:
    parts = in_order([part(f"p{index}", size, itemsize) for index, (size, itemsize) in enumerate(shapes)])
    cuts = list(cut(parts, by_content))
    assert b"".join(cut.content for cut in cuts) == b"".join(one.data for one in parts)
    assert all(0 < one.size <= CHUNK_BYTES_MAX for one in cuts)
    assert all(one.size == len(one.content) == sum(map(len, one.pieces)) for one in cuts)


def test_a_large_tensor_begins_a_chunk_of_its_own() -> None:
    cuts = list(cut(in_order([part("a", 5 * MIB), part("b", 300 * KIB), part("c", 10), part("d", 20)]), True))
    assert [one.size for one in cuts] == [30, 4 * MIB, 1 * MIB, 300 * KIB]


def test_what_is_inserted_moves_no_boundary_of_another_tensor() -> None:
    before = list(cut(in_order([part("b", 5 * MIB), part("c", 300 * KIB)]), True))
    after = list(cut(in_order([part("a", 900 * KIB, start=7), part("b", 5 * MIB), part("c", 300 * KIB)]), True))
    assert {bytes(one.content) for one in before} <= {bytes(one.content) for one in after}


def test_small_parts_share_chunks_by_element_size_and_name() -> None:
    parts = [part(f"p{index:03}", 200 * KIB, 4 if index % 2 else 2) for index in range(60)]
    random.Random(3).shuffle(parts)
    cuts = list(cut(in_order(parts), True))
    assert [(one.itemsize, len(one.pieces)) for one in cuts] == [(2, 20), (2, 10), (4, 20), (4, 10)]


def test_opaque_bytes_are_cut_where_their_content_says() -> None:
    ends = list(boundaries(memoryview(NOISE)))
    assert ends[-1] == len(NOISE)
    sizes = [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    assert all(OPAQUE_BYTES_LEAST <= size <= OPAQUE_BYTES_MAX for size in sizes[:-1])
    assert 128 * KIB < sum(sizes) / len(sizes) < 512 * KIB
    assert len(set(sizes)) > len(sizes) // 2


@settings(max_examples=15)
@given(st.integers(0, 3 * MIB), st.binary(min_size=1, max_size=300))
def test_an_insertion_changes_few_chunks(at: int, new: bytes) -> None:
    def chunks(data: bytes) -> set[bytes]:
        return {bytes(one.content) for one in cut([Part("f", 1, memoryview(data))], True)}

    before, after = chunks(NOISE), chunks(NOISE[:at] + new + NOISE[at:])
    assert len(after - before) <= 4
    fixed = {bytes(one.content) for one in cut([Part("f", 1, memoryview(NOISE))], False)}
    assert {len(chunk) for chunk in fixed} == {4 * MIB, 2 * MIB}


def test_bytes_without_any_boundary_are_cut_at_the_latest() -> None:
    assert list(boundaries(memoryview(bytes(5 * MIB // 2)))) in (
        [OPAQUE_BYTES_MAX, 2 * OPAQUE_BYTES_MAX, 5 * MIB // 2],
        list(range(OPAQUE_BYTES_LEAST, 5 * MIB // 2 + 1, OPAQUE_BYTES_LEAST)),
    )
    assert list(boundaries(memoryview(b""))) == []
    assert list(boundaries(memoryview(b"x"))) == [1]


def test_views_of_other_elements_are_taken_as_bytes() -> None:
    words = memoryview(struct.pack("<4q", 1, 2, 3, 4)).cast("q")
    assert bytes(in_order([Part("x", 8, words)])[0].data) == words.tobytes()
    with pytest.raises(LocalError):
        in_order([Part("x", 3, memoryview(b"abc"))])


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "..", "a/../b", "a//b", "a/", "./a", "a\0b", "x" * (NAME_CHARS_MAX + 1), "a/."]
)
def test_names_that_leave_their_folder_are_refused(name: str) -> None:
    with pytest.raises(Refused) as caught:
        check_name(name)
    assert caught.value.code == "bad_part_name"


@pytest.mark.parametrize("name", ["a", "a/b.c", "...", "model..weight", "x" * NAME_CHARS_MAX, "é/ü", "tensors@12"])
def test_other_names_are_not(name: str) -> None:
    check_name(name)


def test_names_occur_once_and_not_too_often() -> None:
    with pytest.raises(Refused) as caught:
        in_order([part("a", 1), part("a", 2)])
    assert caught.value.code == "bad_part_name"
    with pytest.raises(Refused) as caught:
        in_order(part(str(index), 0) for index in range(PARTS_MAX + 1))
    assert caught.value.code == "too_many_parts"
