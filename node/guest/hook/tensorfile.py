"""Safetensors in pure Python: eight bytes of header size, a JSON header, then the bytes of every tensor.

Reading is for hostile files: every number of the header is checked against the file before a byte is used.
"""

from __future__ import annotations

import json
import mmap
import os
import struct

HEADER_BYTES_MAX = 64 * 1024 * 1024
"""A header of a million tensors; the safetensors library allows 100 MB."""

WRITE_BYTES = 16 * 1024 * 1024
"""One write: short enough that a stopped process leaves soon."""

SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4,
    "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip


class Damaged(ValueError):
    """A file that is not a snapshot's."""


class Entry:
    """One tensor: `dtype` a name of SIZES, `shape`, and its bytes in C order."""

    __slots__ = ("data", "dtype", "shape")

    def __init__(self, dtype: str, shape: list[int], data: memoryview) -> None:
        self.dtype = dtype
        self.shape = shape
        self.data = data


def header_of(entries: dict[str, Entry]) -> bytes:
    """The size and the JSON header, padded to eight bytes."""
    header: dict[str, object] = {}
    at = 0
    for name, entry in entries.items():
        header[name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [at, at + entry.data.nbytes]}
        at += entry.data.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def write(path: str, entries: dict[str, Entry]) -> int:
    """Write and sync the file; its size in bytes. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        total = _put(descriptor, memoryview(header_of(entries)))
        for entry in entries.values():
            total += _put(descriptor, entry.data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return total


def _put(descriptor: int, data: memoryview) -> int:
    at = 0
    while at < data.nbytes:
        at += os.write(descriptor, data[at : at + WRITE_BYTES])
    return at


def read(path: str) -> dict[str, Entry]:
    """The tensors of a file, mapped privately. Raises Damaged, OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        if size < 8:
            raise Damaged("tensors.safetensors is cut short")
        mapped = memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY))
    finally:
        os.close(descriptor)
    (length,) = struct.unpack("<Q", mapped[:8])
    if length > min(HEADER_BYTES_MAX, size - 8):
        raise Damaged("tensors.safetensors says that its header has %d bytes" % length)
    try:
        header = json.loads(bytes(mapped[8 : 8 + length]).decode("utf-8"))
    except (ValueError, RecursionError):
        raise Damaged("the header of tensors.safetensors is garbled") from None
    if not isinstance(header, dict):
        raise Damaged("the header of tensors.safetensors is no object")
    body = mapped[8 + length :]
    return {name: _entry(name, told, body) for name, told in header.items() if name != "__metadata__"}


def _entry(name: str, told: object, body: memoryview) -> Entry:
    if not isinstance(told, dict):
        raise Damaged("no entry: " + name[:80])
    dtype, shape, offsets = told.get("dtype"), told.get("shape"), told.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in SIZES or not _are_sizes(shape) or not _are_sizes(offsets):
        raise Damaged("an entry with wrong fields: " + name[:80])
    assert isinstance(shape, list) and isinstance(offsets, list)
    count = 1
    for size in shape:
        count *= size
    if len(offsets) != 2 or offsets[1] > body.nbytes or offsets[1] - offsets[0] != count * SIZES[dtype]:
        raise Damaged("an entry beyond the file or of the wrong size: " + name[:80])
    return Entry(dtype, shape, body[offsets[0] : offsets[1]])


def _are_sizes(value: object) -> bool:
    """Whether it is a short list of sizes, none negative nor beyond 48 bits."""
    return (
        isinstance(value, list) and len(value) <= 64 and all(type(item) is int and 0 <= item < 2**48 for item in value)
    )
