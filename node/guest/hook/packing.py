"""MessagePack in pure Python: the part that a snapshot's `state.msgpack` needs, with two extension types of its own.

A guest has the standard library only. Extension 1 is a reference to an object of the heap (`Ref`), 2 an integer beyond
64 bits, 3 a complex number. Reading is for hostile bytes: every length is checked against what is left.
"""

from __future__ import annotations

import struct
import sys

DEPTH_MAX = 24
"""Levels of nesting; the heap of a snapshot is flat."""

REF, BIG, COMPLEX = 1, 2, 3


class Ref(int):
    """The index of an object in a snapshot's heap."""

    __slots__ = ()


class Damaged(ValueError):
    """Bytes that are not a snapshot's."""


def pack(value: object) -> bytes:
    """The bytes of None, bool, int, float, complex, str, bytes, Ref, and lists and dicts of these. Raises TypeError."""
    out = bytearray()
    _pack(value, out)
    return bytes(out)


def _pack(value: object, out: bytearray) -> None:
    kind = type(value)
    if kind is list or kind is tuple:
        assert isinstance(value, (list, tuple))
        out += _head(len(value), 0x90, 0xDC, 15)
        for item in value:
            _pack(item, out)
    elif kind is dict:
        assert isinstance(value, dict)
        out += _head(len(value), 0x80, 0xDE, 15)
        for key, item in value.items():
            _pack(key, out)
            _pack(item, out)
    else:
        out += _scalar(value, kind)


def _scalar(value: object, kind: type) -> bytes:
    if value is None:
        return b"\xc0"
    if kind is bool:
        return b"\xc3" if value else b"\xc2"
    if kind is int:
        assert isinstance(value, int)
        return _integer(value)
    if kind is float:
        return struct.pack(">Bd", 0xCB, value)
    if kind is str:
        assert isinstance(value, str)
        data = value.encode("utf-8", "surrogatepass")
        if 31 < len(data) < 256:
            return struct.pack(">BB", 0xD9, len(data)) + data
        return _head(len(data), 0xA0, 0xDA, 31) + data
    if isinstance(value, (bytes, bytearray)):
        size = len(value)
        form, code = (">BB", 0xC4) if size < 256 else (">BH", 0xC5) if size < 65536 else (">BI", 0xC6)
        return struct.pack(form, code, size) + bytes(value)
    if kind is Ref:
        assert isinstance(value, int)
        return struct.pack(">BBI", 0xD6, REF, value)
    if isinstance(value, complex):
        return struct.pack(">BBBdd", 0xC7, 16, COMPLEX, value.real, value.imag)
    raise TypeError("cannot pack " + kind.__name__)


def _integer(value: int) -> bytes:
    if 0 <= value < 128:
        return bytes((value,))
    if -32 <= value < 0:
        return struct.pack(">b", value)
    if 0 <= value < 2**64:
        return struct.pack(">BQ", 0xCF, value)
    if -(2**63) <= value < 0:
        return struct.pack(">Bq", 0xD3, value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
    return struct.pack(">BIB", 0xC9, len(data), BIG) + data


def _head(size: int, short: int, long: int, short_max: int) -> bytes:
    if size <= short_max:
        return bytes((short | size,))
    if size < 65536:
        return struct.pack(">BH", long, size)
    return struct.pack(">BI", long + 1, size)


def unpack(data: bytes) -> object:
    """The value of exactly these bytes. Raises Damaged."""
    reader = _Reader(data)
    try:
        value = reader.value(0)
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise Damaged("the state is cut short or garbled: " + str(error)) from None
    if reader.at != len(data):
        raise Damaged("bytes behind the end of the state")
    return value


FIXED = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
SIZED = {
    0xC4: (">B", "bin"), 0xC5: (">H", "bin"), 0xC6: (">I", "bin"),
    0xD9: (">B", "str"), 0xDA: (">H", "str"), 0xDB: (">I", "str"),
    0xDC: (">H", "list"), 0xDD: (">I", "list"), 0xDE: (">H", "map"), 0xDF: (">I", "map"),
    0xC7: (">B", "ext"), 0xC8: (">H", "ext"), 0xC9: (">I", "ext"),
}  # fmt: skip
CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise Damaged("a length of %d where %d bytes are left" % (size, len(self.data) - self.at))
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def value(self, depth: int) -> object:
        if depth > DEPTH_MAX:
            raise Damaged("nested too deeply")
        code = self.take(1)[0]
        if code < 0x80:
            return code
        if code >= 0xE0:
            return code - 256
        if code in CONSTANTS:
            return CONSTANTS[code]
        if code in FIXED:
            return struct.unpack(FIXED[code], self.take(struct.calcsize(FIXED[code])))[0]
        if code in SIZED:
            form, kind = SIZED[code]
            return self.sized(kind, self.number(form), depth)
        if code < 0x90:
            return self.sized("map", code & 15, depth)
        if code < 0xA0:
            return self.sized("list", code & 15, depth)
        if code < 0xC0:
            return self.sized("str", code & 31, depth)
        if 0xD4 <= code <= 0xD8:
            return self.sized("ext", 1 << (code - 0xD4), depth)
        raise Damaged("unknown byte 0x%02x" % code)

    def sized(self, kind: str, size: int, depth: int) -> object:
        if kind == "bin":
            return self.take(size)
        if kind == "str":
            text = self.take(size).decode("utf-8", "surrogatepass")
            return sys.intern(text) if text.isidentifier() else text  # As the compiler does with literals.
        if kind == "ext":
            return self.extension(self.take(1)[0], size)
        if size * (2 if kind == "map" else 1) > len(self.data) - self.at:
            raise Damaged("a count of %d where %d bytes are left" % (size, len(self.data) - self.at))
        if kind == "list":
            return [self.value(depth + 1) for _ in range(size)]
        found = {}
        for _ in range(size):
            key = self.value(depth + 1)
            if isinstance(key, (list, dict)):
                raise Damaged("a key that is a list or a map")
            found[key] = self.value(depth + 1)
        return found

    def extension(self, code: int, size: int) -> object:
        data = self.take(size)
        if code == REF and size == 4:
            return Ref(struct.unpack(">I", data)[0])
        if code == BIG and size <= 1 << 20:
            return int.from_bytes(data, "big", signed=True)
        if code == COMPLEX and size == 16:
            return complex(*struct.unpack(">dd", data))
        raise Damaged("unknown extension %d" % code)
