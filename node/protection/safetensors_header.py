"""The header of a safetensors file that a job wrote, read without trusting it. Format: huggingface/safetensors.

Eight bytes of length (little endian), JSON, then the tensors without a gap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from protocol.errors import Refused
from protocol.units import MIB

HEADER_BYTES_MAX: Final = 16 * MIB
"""The tables of a hundred thousand tensors fit; the reference implementation takes 100 MB."""

TENSORS_MAX: Final = 131_072
"""More than any model has; bounds the memory of the parsed table."""

ITEM_BYTES: Final = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
"""Bytes of one element per dtype name of the format."""

Count = Annotated[int, Meta(ge=0, le=2**62)]


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    dtype: Annotated[str, Meta(max_length=16)]
    shape: Annotated[tuple[Count, ...], Meta(max_length=64)]
    data_offsets: tuple[Count, Count]


@dataclass(frozen=True, slots=True)
class TensorRange:
    """Where one tensor lies in the file."""

    name: str
    itemsize: int
    start: int
    end: int


_raw: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_entry: Final = msgspec.json.Decoder(_Entry)
_notes: Final = msgspec.json.Decoder(dict[str, str])


def header_size(first: bytes, file_size: int) -> int:
    """Bytes of the whole header from the file's first eight; Refused (`snapshot_bad`) when it cannot be."""
    length = int.from_bytes(first[:8], "little")
    if len(first) < 8 or not 2 <= length <= min(HEADER_BYTES_MAX, file_size - 8):
        raise bad(f"the tensor file's header claims {length} bytes")
    return 8 + length


def tensor_ranges(header: bytes, file_size: int) -> list[TensorRange]:
    """Every tensor in the order of its bytes; together with the header they cover the file exactly. Refused
    (`snapshot_bad`) otherwise."""
    try:
        table = _raw.decode(header[8:])
        if "__metadata__" in table:
            _notes.decode(table.pop("__metadata__"))
        if len(table) > TENSORS_MAX:
            raise bad(f"the tensor file names {len(table)} tensors")
        ranges = sorted(
            (_range(name, _entry.decode(raw), len(header)) for name, raw in table.items()),
            key=lambda tensor: (tensor.start, tensor.end),
        )
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bad(f"the tensor file's header is not right: {str(error)[:120]}") from error
    place = len(header)
    for tensor in ranges:
        if tensor.start != place:
            raise bad(f"the tensor {tensor.name[:80]!r} does not follow the one before it")
        place = tensor.end
    if place != file_size:
        raise bad(f"the tensors end at byte {place} of {file_size}")
    return ranges


def bad(why: str) -> Refused:
    """The refusal of a snapshot for what is in it."""
    return Refused(why, code="snapshot_bad", fix="The job goes on; the next snapshot may be better.")


def _range(name: str, entry: _Entry, start: int) -> TensorRange:
    itemsize = ITEM_BYTES.get(entry.dtype)
    first, last = entry.data_offsets
    if itemsize is None or last < first or math.prod(entry.shape) * itemsize != last - first:
        raise bad(f"the tensor {name[:80]!r} does not have the size of its shape")
    return TensorRange(name, itemsize, start + first, start + last)
