"""Cutting: the named parts of a snapshot become chunks of at most 4 MiB, the same ones when the bytes are the same.

A tensor begins a chunk of its own, so what was inserted before it moves no boundary; small parts of one element size
share chunks in the order of their names; opaque bytes are cut where their content says. Spec: specs/26-shards.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from protocol.errors import Refused
from protocol.units import KIB, MIB
from storage.filters import Itemsize, element

CHUNK_BYTES_MAX: Final = 4 * MIB
"""A chunk of a tensor; the last one of a tensor is shorter."""

SMALL_BYTES: Final = 256 * KIB
"""A smaller part shares its chunk with others: what changes beside it is uploaded again with it."""

PARTS_MAX: Final = 100_000
"""Parts of one snapshot."""

NAME_CHARS_MAX: Final = 512
"""Of a part's name."""

OPAQUE_BYTES_LEAST: Final = 64 * KIB
"""No boundary comes sooner in opaque bytes."""

OPAQUE_BYTES_USUAL: Final = 256 * KIB
"""Before it boundaries are rare, behind it frequent, so most chunks are about so large (FastCDC's normalization)."""

OPAQUE_BYTES_MAX: Final = 1 * MIB
"""The latest boundary in opaque bytes."""

WINDOW_BYTES: Final = 32
"""So many bytes before a boundary decide about it."""

RARE_MASK: Final = 0xFFFF_F000
"""A boundary where these bits of the gear sum are 0: one place in 2^20."""

FREQUENT_MASK: Final = 0xFFFF_0000
"""The same at one place in 2^16; every rare boundary is one of these."""

SCAN_BYTES: Final = 256 * KIB
"""Bytes whose sums are computed at once: they stay in the cache."""

GEAR: Final[NDArray[np.uint32]] = np.frombuffer(blake3(b"shoal/1 gear").digest(1024), np.dtype("<u4")).astype(np.uint32)
"""A random number for each byte value."""


@dataclass(frozen=True, slots=True)
class Part:
    """One named run of bytes of a snapshot: a tensor, a file, the state."""

    name: str
    """A relative path of at most 512 characters, `/` between its parts."""
    itemsize: int
    """Bytes of one element, for the byte shuffle; 1 for opaque bytes."""
    data: memoryview


@dataclass(frozen=True, slots=True)
class Cut:
    """The bytes of one chunk, in one or more pieces."""

    pieces: tuple[memoryview, ...]
    itemsize: Itemsize

    @property
    def size(self) -> int:
        return sum(len(piece) for piece in self.pieces)

    @property
    def content(self) -> memoryview:
        """The bytes in one piece, copied where there are several."""
        return self.pieces[0] if len(self.pieces) == 1 else memoryview(b"".join(self.pieces))


def check_name(name: str) -> None:
    """Refused (`bad_part_name`) unless the name is a path below some folder, in its one spelling.

    >>> check_name("files/model.bin")
    >>> check_name("../model.bin")
    Traceback (most recent call last):
    ...
    protocol.errors.Refused: '../model.bin' is no name for a part of a snapshot
    """
    steps = name.split("/")
    if len(name) > NAME_CHARS_MAX or "\0" in name or any(step in ("", ".", "..") for step in steps):
        raise Refused(
            f"{name[:80]!r} is no name for a part of a snapshot",
            code="bad_part_name",
            fix=f"Use a relative path of at most {NAME_CHARS_MAX} characters without `..`.",
        )


def in_order(parts: Iterable[Part]) -> list[Part]:
    """All parts as bytes, the small ones first, then by element size and name.

    Refused (`bad_part_name`, `too_many_parts`) for names that nobody would lay out, or one that occurs twice."""
    found: dict[str, Part] = {}
    for part in parts:
        check_name(part.name)
        element(part.itemsize)
        if part.name in found:
            raise Refused(f"two parts are called {part.name[:80]!r}", code="bad_part_name")
        found[part.name] = replace(part, data=part.data.cast("B"))
        if len(found) > PARTS_MAX:
            raise Refused(
                f"a snapshot has at most {PARTS_MAX} parts",
                code="too_many_parts",
                fix="Put small files into an archive.",
                numbers={"parts_max": PARTS_MAX},
            )
    return sorted(found.values(), key=lambda part: (len(part.data) >= SMALL_BYTES, part.itemsize, part.name))


def cut(parts: Iterable[Part], by_content: bool) -> Iterator[Cut]:
    """The chunks of parts as `in_order` gives them; in this order their bytes are those of the parts.

    Without `by_content`, opaque bytes are cut every 4 MiB."""
    waiting: list[memoryview] = []
    itemsize, size = element(1), 0
    for part in parts:
        if len(part.data) >= SMALL_BYTES:
            if waiting:
                yield Cut(tuple(waiting), itemsize)
                waiting = []
            yield from _large(part, by_content)
        elif len(part.data):
            if waiting and (part.itemsize != itemsize or size + len(part.data) > CHUNK_BYTES_MAX):
                yield Cut(tuple(waiting), itemsize)
                waiting = []
            itemsize, size = element(part.itemsize), len(part.data) + (size if waiting else 0)
            waiting.append(part.data)
    if waiting:
        yield Cut(tuple(waiting), itemsize)


def boundaries(data: memoryview) -> Iterator[int]:
    """Where the chunks of opaque bytes end, the last at the end of the data."""
    rare, frequent = _marks(data)
    start, size = 0, len(data)
    while size - start > OPAQUE_BYTES_LEAST:
        end = _first(rare, start + OPAQUE_BYTES_LEAST, start + OPAQUE_BYTES_USUAL)
        if end is None:
            end = _first(frequent, start + OPAQUE_BYTES_USUAL, start + OPAQUE_BYTES_MAX)
        start = min(start + OPAQUE_BYTES_MAX, size) if end is None else end
        yield start
    if start < size:
        yield size


def _large(part: Part, by_content: bool) -> Iterator[Cut]:
    if part.itemsize == 1 and by_content:
        start = 0
        for end in boundaries(part.data):
            yield Cut((part.data[start:end],), 1)
            start = end
    else:
        for start in range(0, len(part.data), CHUNK_BYTES_MAX):
            yield Cut((part.data[start : start + CHUNK_BYTES_MAX],), element(part.itemsize))


def _marks(data: memoryview) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ends of rare and of frequent places, ascending, by the gear sum of the window before each.

    The sum of G[byte] << age over the window, by doubling: a sum over 2w bytes is that over w bytes, plus that over
    the w bytes before, shifted by w."""
    plain = np.frombuffer(data, np.uint8)
    rare, frequent = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start in range(0, len(plain), SCAN_BYTES):
        first = max(0, start - WINDOW_BYTES + 1)
        sums = GEAR[plain[first : start + SCAN_BYTES]]
        width = 1
        while width < WINDOW_BYTES:
            older = np.left_shift(sums[:-width], width)
            sums[width:] += older
            width *= 2
        fresh = sums[start - first :]
        hits = np.flatnonzero((fresh & np.uint32(FREQUENT_MASK)) == 0)
        frequent.append(hits + start + 1)
        rare.append(hits[(fresh[hits] & np.uint32(RARE_MASK)) == 0] + start + 1)
    return np.concatenate(rare), np.concatenate(frequent)


def _first(marks: NDArray[np.int64], least: int, most: int) -> int | None:
    """The first mark of at least `least`, below `most`."""
    index = int(np.searchsorted(marks, least))
    return int(marks[index]) if index < len(marks) and marks[index] < most else None
