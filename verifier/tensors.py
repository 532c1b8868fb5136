"""The strict reading of states and aux that strangers made: canonical safetensors, or Refused with `malformed_proof`.

A second codec beside the one that programs use in their sandbox (`node/guest/work/tensors.py`): it believes nothing,
and writes the same bytes for the same values. Nothing is ever unpickled. Spec: specs/31-units.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from protocol.errors import Refused

Array = npt.NDArray[np.generic]
Tensors = Mapping[str, Array]

MALFORMED: Final = "malformed_proof"
"""The code of everything here: whoever made the bytes is at fault."""

STATE_BYTES_MAX: Final = 256 << 20
"""Bytes of one state, header included: a comparison holds a few of them in memory."""

HEADER_BYTES_MAX: Final = 1 << 20
"""Bytes of JSON: enough for TENSORS_MAX names of ordinary length, parsed in tens of milliseconds."""

TENSORS_MAX: Final = 4096
"""Tensors of one state: a network of a thousand layers with its optimizer."""

RANK_MAX: Final = 8
"""Dimensions of one tensor."""

NAME: Final = re.compile(r"[A-Za-z0-9_./:\[\]-]{1,192}")
"""What frameworks call parameters, and nothing that JSON would escape."""

BYTES: Final = "bytes"
"""The only tensor, of type U8, of a state that is plain bytes."""

DTYPES: Final = {
    "BOOL": "|b1", "F16": "<f2", "F32": "<f4", "F64": "<f8", "I16": "<i2", "I32": "<i4", "I64": "<i8", "I8": "|i1",
    "U16": "<u2", "U32": "<u4", "U64": "<u8", "U8": "|u1",
}  # fmt: skip
"""Element types, and NumPy's little-endian form of each."""

_NAMES: Final = {np.dtype(form): name for name, form in DTYPES.items()}
_LENGTH_BYTES: Final = 8
_ENTRY: Final = {"data_offsets", "dtype", "shape"}


def malformed(detail: str) -> Refused:
    """Bytes that no honest program writes."""
    return Refused(detail, code=MALFORMED)


def decode(data: bytes | memoryview, size_max: int = STATE_BYTES_MAX) -> dict[str, Array]:
    """The tensors, as read-only views of `data`. Refused (`malformed_proof`) unless these are the only bytes that say
    this, at most `size_max` of them."""
    if not _LENGTH_BYTES <= len(data) <= size_max:
        raise malformed(f"{len(data)} bytes are no tensors: {_LENGTH_BYTES} to {size_max} are")
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    start = _LENGTH_BYTES + length
    if length > min(HEADER_BYTES_MAX, len(data) - _LENGTH_BYTES):
        raise malformed(f"a header of {length} bytes does not fit")
    found: dict[str, Array] = {}
    at = start
    for name, entry in _header(bytes(data[_LENGTH_BYTES:start])).items():
        array = _tensor(data, name, entry, at)
        found[name] = array
        at += array.nbytes
    if at != len(data):
        raise malformed(f"{len(data) - at} bytes belong to no tensor")
    if header_of(found) != data[:start]:
        raise malformed("the header is not written in the canonical way")
    for name, array in found.items():
        if not _is_canonical(array):
            raise malformed(f"{name} has a negative zero or a second kind of NaN")
    if BYTES in found and (len(found) > 1 or found[BYTES].dtype != np.uint8 or found[BYTES].ndim != 1):
        raise malformed(f"a tensor called {BYTES} is alone, U8 and of one dimension")
    return found


def encode(tensors: Tensors) -> bytes:
    """The canonical bytes. Refused (`malformed_proof`) for what `decode` would refuse."""
    plain: dict[str, Array] = {}
    for name in sorted(tensors):
        array = np.asarray(tensors[name])
        kind = _NAMES.get(array.dtype.newbyteorder("<"))
        if kind is None or not NAME.fullmatch(name):
            raise malformed(f"{name!r:.80} of type {array.dtype} cannot be written")
        plain[name] = _canonical(np.asarray(array, dtype=DTYPES[kind], order="C"))
    data = b"".join([header_of(plain), *(array.tobytes() for array in plain.values())])
    if len(data) > STATE_BYTES_MAX:
        raise malformed(f"{len(data)} bytes, {STATE_BYTES_MAX} are allowed")
    return data


def header_of(tensors: Tensors) -> bytes:
    """Length and JSON for tensors in this order. Refused (`malformed_proof`) beyond the limits, or out of order."""
    if len(tensors) > TENSORS_MAX or list(tensors) != sorted(tensors):
        raise malformed(f"{len(tensors)} tensors: at most {TENSORS_MAX}, sorted by name")
    header: dict[str, object] = {}
    at = 0
    for name, array in tensors.items():
        if array.ndim > RANK_MAX:
            raise malformed(f"{name} has {array.ndim} dimensions, {RANK_MAX} are allowed")
        offsets = [at, at + array.nbytes]
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": offsets}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > HEADER_BYTES_MAX:
        raise malformed(f"a header of {len(text)} bytes, {HEADER_BYTES_MAX} are allowed")
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def check_finite(tensors: Tensors, whose: str) -> None:
    """Refused (`malformed_proof`) when any number is NaN or infinite: to be called before any comparison, since
    `nan > tolerance` is false."""
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise malformed(f"{whose}: {name} has numbers that are not finite")


def check_alike(tensors: Tensors, others: Tensors, whose: str) -> None:
    """Refused (`malformed_proof`) unless both have the same names, types and shapes."""
    if tensors.keys() != others.keys():
        raise malformed(f"{whose}: the tensors have other names")
    for name, array in tensors.items():
        other = others[name]
        if array.dtype != other.dtype or array.shape != other.shape:
            raise malformed(f"{whose}: {name} is {array.dtype} {array.shape}, not {other.dtype} {other.shape}")


def _header(text: bytes) -> dict[str, dict[str, object]]:
    try:
        header = json.loads(text.decode("ascii"))
    except (ValueError, RecursionError):
        raise malformed("the header is no JSON") from None
    if not isinstance(header, dict) or len(header) > TENSORS_MAX:
        raise malformed(f"the header is no object of at most {TENSORS_MAX} tensors")
    if any(not isinstance(entry, dict) or entry.keys() != _ENTRY for entry in header.values()):
        raise malformed("an entry of the header lacks a field, or has one too many")
    return header


def _tensor(data: bytes | memoryview, name: str, entry: dict[str, object], at: int) -> Array:
    """One tensor, which begins at byte `at`. What the header says is compared as a whole later: only what is used
    before is checked here."""
    kind, shape = entry["dtype"], entry["shape"]
    if not NAME.fullmatch(name) or not isinstance(kind, str) or kind not in DTYPES:
        raise malformed(f"{name!r:.80} is no tensor")
    if not isinstance(shape, list) or len(shape) > RANK_MAX:
        raise malformed(f"{name} has no shape")
    count = 1
    for size in shape:
        if type(size) is not int or not 0 <= size <= STATE_BYTES_MAX:
            raise malformed(f"{name} has no shape")
        count *= size
    form = np.dtype(DTYPES[kind])
    if count * form.itemsize > len(data) - at:
        raise malformed(f"{name} is larger than the file")
    if not count:  # frombuffer takes no empty slice.
        return np.empty(shape, form)
    if kind == "BOOL" and np.frombuffer(data, np.uint8, count, at).max() > 1:
        raise malformed(f"{name} has truths other than 0 and 1")
    array: Array = np.frombuffer(data, form, count, at).reshape(shape)
    return array


def _canonical(array: Array) -> Array:
    """One NaN, no negative zero."""
    if array.dtype.kind != "f":
        return array
    plain = array.copy()
    plain[np.isnan(plain)] = np.nan
    plain[plain == 0] = 0
    return plain


def _is_canonical(array: Array) -> bool:
    if array.dtype.kind != "f" or not array.size:
        return True
    words = array.reshape(-1).view(f"<u{array.dtype.itemsize}")
    sign = words.dtype.type(1 << (8 * array.dtype.itemsize - 1))
    is_nan = np.isnan(array.reshape(-1))
    one = np.array([np.nan], array.dtype).view(words.dtype)[0]
    return not bool((words == sign).any() or (is_nan & (words != one)).any())
