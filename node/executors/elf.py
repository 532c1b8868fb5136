"""What a program or shared library says of itself that decides which libraries the loader finds for it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, Final

Wants = tuple[bytes, ...]
"""Equal for two files of which the loader needs the same libraries and looks for them in the same places."""

_MAGIC: Final = b"\x7fELF\x02\x01"
"""64 bits, little-endian: every machine that has a tier with an image."""
_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_STRINGS, _FLAGS, _NO_DEFAULT = 5, 0x6FFFFFFB, 0x800
_NAMED: Final = {1, 15, 29, 0x6FFFFEFB, 0x6FFFFEFC, 0x7FFFFFFD, 0x7FFFFFFF}
"""DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_DEPAUDIT, DT_AUDIT, DT_AUXILIARY, DT_FILTER (gABI, chapter 5; glibc's elf.h)."""
_ORIGIN: Final = (b"$ORIGIN", b"${ORIGIN}")
BYTES_MAX: Final = 1 << 20
"""Of one part that is read; a table of names is tens of kilobytes."""


def wants(path: Path) -> Wants | None:
    """None for what is no dynamic ELF file of this kind, or cannot be read as one."""
    try:
        with path.open("rb") as file:
            return _wants(file, bytes(path.parent))
    except (OSError, struct.error, ValueError):
        return None


def _wants(file: BinaryIO, folder: bytes) -> Wants | None:
    head = file.read(64)
    if head[:6] != _MAGIC:
        return None
    machine, start, size, count = (*struct.unpack_from("<H", head, 18), *struct.unpack_from("<Q", head, 32),
                                   *struct.unpack_from("<HH", head, 54))  # fmt: skip
    table = _part(file, start, size * count)
    # Of each: kind, place in the file, place in memory, bytes in the file.
    parts = [struct.unpack_from("<I4xQQ8xQ", table, at) for at in range(0, size * count, size)]
    dynamic = next((_part(file, place, length) for kind, place, _, length in parts if kind == _DYNAMIC), b"")
    entries = list(struct.iter_unpack("<qQ", dynamic))
    strings = next((value for tag, value in entries if tag == _STRINGS), -1)
    held = [part for part in parts if part[0] == _LOAD and part[2] <= strings < part[2] + part[3]]
    if not held:
        return None
    _, place, memory, length = held[0]
    names = _part(file, place + strings - memory, min(memory + length - strings, BYTES_MAX))
    found = [struct.pack("<q", tag) + names[at : names.index(b"\0", at)] for tag, at in entries if tag in _NAMED]
    found += [b"alone" for tag, flags in entries if tag == _FLAGS and flags & _NO_DEFAULT]
    found += [_part(file, place, length) for kind, place, _, length in parts if kind == _INTERPRETER]
    if any(word in one for word in _ORIGIN for one in found):
        found.append(folder)
    return (machine.to_bytes(2, "little"), *found)


def _part(file: BinaryIO, start: int, length: int) -> bytes:
    if not 0 <= length <= BYTES_MAX:
        raise ValueError(length)
    file.seek(start)
    return file.read(length)
