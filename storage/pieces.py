"""Where the content of a tree is cut into pieces: where it says so itself, so that an insertion moves no cut behind it.

A gear hash over the last 32 bytes decides (FastCDC's idea), as for the opaque bytes of a snapshot, but for larger
pieces: each is a blob of its own. numpy computes it for a block at a time. Spec: specs/29-volumes.md.
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


def pieces(stream: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces of a stream that comes in parts of any size; holds little more than one piece and one part."""
    held = bytearray()
    for part in stream:
        held += part
        while len(held) >= PIECE_BYTES_MAX:
            yield _taken(held)
    while held:
        yield _taken(held)


def first_piece(data: memoryview) -> int:
    """Bytes of the first piece. `data` must hold at least `PIECE_BYTES_MAX` bytes, or all that are left."""
    end = min(len(data), PIECE_BYTES_MAX)
    start = PIECE_BYTES_MIN
    while start < end:
        stop = min(start + BLOCK_BYTES, end)
        found = _first_cut(data[start - WINDOW : stop])
        if found is not None:
            return start + found
        start = stop
    return end


def _taken(held: bytearray) -> bytes:
    with memoryview(held) as view:
        size = first_piece(view)
        piece = bytes(view[:size])
    del held[:size]
    return piece


def _first_cut(data: memoryview) -> int | None:
    """The first place behind a window at which to cut, counted from the end of the first window.

    The hash is the sum of gear[byte] << age, mod 2^32; that of 2w bytes is made of those of w bytes."""
    import numpy as np  # The command line starts without it.

    hashes = gear()[np.frombuffer(data, dtype=np.uint8)]
    width = 1
    while width < WINDOW:
        hashes = hashes[width:] + (hashes[:-width] << np.uint32(width))
        width *= 2
    found = np.flatnonzero(hashes[: len(data) - WINDOW] >> np.uint32(32 - CUT_BITS) == 0)
    return int(found[0]) if len(found) else None


@cache
def gear() -> NDArray[np.uint32]:
    """A random number for each byte value."""
    import numpy as np

    return np.frombuffer(blake3(GEAR_NAME).digest(length=1024), dtype="<u4").astype(np.uint32)
