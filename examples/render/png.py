"""PNG written and read with the standard library: 8-bit RGB, no metadata, the same bytes for the same pixels."""

from __future__ import annotations

import struct
import zlib
from typing import Final

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


def encoded(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG of `width * height * 3` bytes of RGB, rows from the top; each row is stored as differences to the left."""
    row = width * 3
    lines = bytearray()
    for start in range(0, row * height, row):
        line = pixels[start : start + row]
        lines += b"\x01" + line[:3] + bytes((line[k] - line[k - 3]) & 255 for k in range(3, row))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return SIGNATURE + _part(b"IHDR", header) + _part(b"IDAT", zlib.compress(bytes(lines), 9)) + _part(b"IEND", b"")


def decoded(data: bytes) -> tuple[int, int, bytes]:
    """Width, height and RGB bytes of a PNG that `encoded` wrote."""
    width, height = struct.unpack(">II", data[16:24])
    size = struct.unpack(">I", data[33:37])[0]
    lines = zlib.decompress(data[41 : 41 + size])
    row = width * 3
    pixels = bytearray()
    for start in range(0, (row + 1) * height, row + 1):
        line = bytearray(lines[start + 1 : start + 1 + row])
        for k in range(3, row):
            line[k] = (line[k] + line[k - 3]) & 255
        pixels += line
    return width, height, bytes(pixels)


def _part(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
