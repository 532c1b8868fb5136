"""Named arrays as bytes in one way only: canonical safetensors.

Names sorted, tensors one behind the other in that order, no metadata, the header's JSON without spaces and padded with
spaces to eight bytes, NaN of one pattern, no negative zero. So equal values are equal bytes and have one digest.
A state that is `bytes` is the single tensor `bytes` of type U8.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from typing import Union

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
State = Union[Mapping[str, Array], bytes]
"""`Union`, because Python 3.9 evaluates this."""

KINDS = {
    "BOOL": "|b1", "F16": "<f2", "F32": "<f4", "F64": "<f8", "I16": "<i2", "I32": "<i4", "I64": "<i8", "I8": "|i1",
    "U16": "<u2", "U32": "<u4", "U64": "<u8", "U8": "|u1",
}  # fmt: skip
"""Element types of safetensors that NumPy has, and NumPy's little-endian form of each."""

NAME = re.compile(r"[A-Za-z0-9_./:\[\]-]{1,192}")
"""A tensor's name: what frameworks call parameters, and nothing that JSON would escape."""

TENSORS_MAX = 4096
"""Tensors of one state: a network of a thousand layers with its optimizer."""

RANK_MAX = 8
"""Dimensions of one tensor."""

HEADER_BYTES_MAX = 1 << 20
"""Enough for TENSORS_MAX names of ordinary length."""

STATE_BYTES_MAX = 256 << 20
"""One state, header included."""

BYTES = "bytes"
"""The name of the only tensor of a state that is plain bytes."""

_NAMES = {np.dtype(form): name for name, form in KINDS.items()}


class Malformed(ValueError):
    """Bytes that are no canonical tensors, or values that cannot be written as such."""


def encode(state: State) -> bytes:
    """The canonical bytes. Raises Malformed for types, names, ranks and sizes that have none."""
    if isinstance(state, (bytes, bytearray, memoryview)):
        return _join({BYTES: np.frombuffer(bytes(state), np.uint8)})
    if BYTES in state:
        raise Malformed(f"the name {BYTES!r} is kept for states that are plain bytes")
    return _join(state)


def decode(data: bytes) -> State:
    """What `encode` was given, as arrays that may be changed. Raises Malformed."""
    found = _split(data)
    only = found.get(BYTES)
    return only.tobytes() if only is not None else found


def canonical(value: Array) -> Array:
    """The same values, little-endian, in C order, with one NaN and no negative zero."""
    array = np.asarray(value)
    kind = _NAMES.get(array.dtype.newbyteorder("<"))
    if kind is None:
        raise Malformed(f"no tensor has the element type {array.dtype}")
    plain: Array = np.ascontiguousarray(array, dtype=KINDS[kind]).reshape(array.shape)
    if plain.dtype.kind == "f":
        plain = plain.copy()
        plain[np.isnan(plain)] = np.nan
        plain[plain == 0] = 0
    return plain


def _join(tensors: Mapping[str, Array]) -> bytes:
    if len(tensors) > TENSORS_MAX:
        raise Malformed(f"{len(tensors)} tensors, {TENSORS_MAX} are allowed")
    plain = {}
    for name in sorted(tensors):
        if not NAME.fullmatch(name):
            raise Malformed(f"no name for a tensor: {name!r:.80}")
        plain[name] = canonical(tensors[name])
        if plain[name].ndim > RANK_MAX:
            raise Malformed(f"{name} has {plain[name].ndim} dimensions, {RANK_MAX} are allowed")
    data = b"".join([header_of(plain), *(array.tobytes() for array in plain.values())])
    if len(data) > STATE_BYTES_MAX:
        raise Malformed(f"{len(data)} bytes, {STATE_BYTES_MAX} are allowed")
    return data


def header_of(tensors: Mapping[str, Array]) -> bytes:
    """Size and JSON of the header for tensors that are canonical and sorted."""
    header: dict[str, object] = {}
    at = 0
    for name, array in tensors.items():
        header[name] = {
            "dtype": _NAMES[array.dtype.newbyteorder("<")],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    if len(text) > HEADER_BYTES_MAX:
        raise Malformed(f"a header of {len(text)} bytes, {HEADER_BYTES_MAX} are allowed")
    return struct.pack("<Q", len(text)) + text


def _split(data: bytes) -> dict[str, Array]:
    """Trusting as far as a damaged file goes: the node has checked the digest of what it hands in."""
    if not 8 <= len(data) <= STATE_BYTES_MAX:
        raise Malformed(f"{len(data)} bytes are no tensors")
    (length,) = struct.unpack("<Q", data[:8])
    if length > min(HEADER_BYTES_MAX, len(data) - 8):
        raise Malformed("the header is cut short")
    try:
        header = json.loads(data[8 : 8 + length])
        found: dict[str, Array] = {}
        for name, entry in header.items():
            start, end = entry["data_offsets"]
            form = np.dtype(KINDS[entry["dtype"]])
            flat = np.frombuffer(data, form, (end - start) // form.itemsize, 8 + length + start)
            found[name] = flat.reshape(entry["shape"]).copy()
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise Malformed(f"the header is garbled: {error}") from None
    if header_of(found) != data[: 8 + length]:
        raise Malformed("the header is not canonical")
    return found
