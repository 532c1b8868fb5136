"""Compression where it pays: byte shuffle and zstd at level 1, or nothing at all. Spec: specs/26-shards.md.

Level 3 gave less and took twice as long on shuffled weights. What comes from a peer is expanded only after its frame
has said how large it becomes and how much memory that takes.
"""

from __future__ import annotations

from typing import Final

import zstandard

from protocol.units import KIB, MIB
from storage.filters import shuffle, unshuffle
from storage.records import damaged

LEVEL: Final = 1
"""Of zstd."""

RATIO_LEAST_PERCENT: Final = 105
"""Bytes that become less than five percent smaller are stored as they are: opening them is then a memcpy."""

SAMPLE_BYTES: Final = 64 * KIB
"""From the middle of a chunk: two per mille of the time that compressing all of it takes."""

ZSTD_BYTES_PER_S: Final = 400 * MIB
"""What one slow core compresses; an uplink that is faster than the bytes saved are computed gets them raw."""

WINDOW_BYTES_MAX: Final = 8 * MIB
"""Memory that a frame may ask for while it is expanded; level 1 asks for 512 KiB."""


def pays(size: int, small: int, uplink_bytes_per_s: int | None) -> bool:
    """Whether storing `small` instead of `size` bytes is worth the time: (1 - 1/r) / uplink > 1 / compressor."""
    if small * RATIO_LEAST_PERCENT > size * 100:
        return False
    return uplink_bytes_per_s is None or (size - small) * ZSTD_BYTES_PER_S > size * uplink_bytes_per_s


def shrink(content: memoryview, itemsize: int, uplink_bytes_per_s: int | None = None) -> bytes | None:
    """The content shuffled and compressed, or None when it should be stored as it is."""
    compressor = zstandard.ZstdCompressor(level=LEVEL)
    if len(content) > 2 * SAMPLE_BYTES:
        start = (len(content) - SAMPLE_BYTES) // 2
        start -= start % itemsize
        sample = compressor.compress(shuffle(content[start : start + SAMPLE_BYTES], itemsize))
        if not pays(SAMPLE_BYTES, len(sample), uplink_bytes_per_s):
            return None
    small = compressor.compress(shuffle(content, itemsize))
    return small if pays(len(content), len(small), uplink_bytes_per_s) else None


def expand(stored: memoryview | bytes, size: int, itemsize: int) -> memoryview:
    """The inverse of `shrink`, exactly `size` bytes; `snapshot_damaged` before anything larger is allocated."""
    try:
        frame = zstandard.get_frame_parameters(stored)
        if frame.content_size != size or frame.window_size > WINDOW_BYTES_MAX:
            raise damaged("a compressed chunk announces another size", size=size, announced=frame.content_size)
        found = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX).decompress(
            stored, max_output_size=size, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise damaged(f"a compressed chunk does not expand ({error})", size=size) from error
    if len(found) != size:
        raise damaged("a compressed chunk has another size", size=size, found=len(found))
    return unshuffle(memoryview(found), itemsize)
