"""Where a stream of bytes is cut into pieces: where its content says so, so that an insertion moves no cut behind it.

A gear hash over the last 32 bytes decides (FastCDC's idea); numpy computes it for a block at a time by doubling.
Spec: specs/29-volumes.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Final

from blake3 import blake3

from protocol.units import KIB, MIB

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PIECE_BYTES_MIN: Final = 256 * KIB
"""No piece but the last is smaller: each costs a line in its tree and a transfer."""

PIECE_BYTES_MAX: Final = 4 * MIB
"""No piece is larger: one part of an upload, and one chunk of the data plane."""

CUT_BITS: Final = 20
"""Bits of the hash that are zero at a cut: 1 MiB between cuts on average, behind the smallest piece."""

WINDOW: Final = 32
"""Bytes that decide about a cut."""

GEAR_NAME: Final = b"shoal/1 gear"
"""What the table of 256 random numbers is made of: BLAKE3's long output, little-endian."""

BLOCK_BYTES: Final = 256 * KIB
"""Hashed at a time: what lies in the cache."""


def cut(data: memoryview) -> int:
    """Bytes of the first piece. `data` must hold at least `PIECE_BYTES_MAX` bytes, or all that are left."""
    end = min(len(data), PIECE_BYTES_MAX)
    start = PIECE_BYTES_MIN
    while start < end:
        stop = min(start + BLOCK_BYTES, end)
        found = _first(data[start - WINDOW : stop])
        if found is not None:
            return start + found
        start = stop
    return end


def pieces(stream: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces of a stream that comes in parts of any size; holds little more than one piece and one part."""
    held = bytearray()
    for part in stream:
        held += part
        while len(held) >= PIECE_BYTES_MAX:
            yield _taken(held)
    while held:
        yield _taken(held)


def _taken(held: bytearray) -> bytes:
    with memoryview(held) as view:
        size = cut(view)
        piece = bytes(view[:size])
    del held[:size]
    return piece


def _first(data: memoryview) -> int | None:
    """The first place behind a window at which to cut, counted from the end of the first window."""
    import numpy as np

    table = _gear()
    hashes = table[np.frombuffer(data, dtype=np.uint8)]
    width = 1
    while width < WINDOW:
        shifted = hashes[:-width] << np.uint32(width)
        hashes = hashes[width:] + shifted
        width *= 2
    found = np.flatnonzero(hashes[: len(data) - WINDOW] >> np.uint32(32 - CUT_BITS) == 0)
    return int(found[0]) if len(found) else None


@cache
def _gear() -> NDArray[np.uint32]:
    import numpy as np

    return np.frombuffer(blake3(GEAR_NAME).digest(length=1024), dtype="<u4").astype(np.uint32)
