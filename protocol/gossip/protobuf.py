"""The three wire types of Protocol Buffers that GossipSub uses, read strictly. Source: protobuf.dev, "Encoding".

Unknown fields are passed over, as the format demands; a length beyond the end, an overlong varint, a group or a field
of the wrong type is `Malformed`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5

VARINT_BYTES_MAX: Final = 10
"""Bytes of the longest varint: 64 bits in groups of seven."""

Field = tuple[int, int, int, bytes]
"""Number, wire type, value of a varint, content of a BYTES field."""


class Malformed(ValueError):
    """These bytes are no message of the protocol."""


def varint(value: int) -> bytes:
    """A number of at most 64 bits in groups of seven, lowest first.

    >>> varint(300).hex()
    'ac02'
    """
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """(value, place behind it). IndexError when the data ends inside of it, `Malformed` when it has over 64 bits."""
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    for place in range(at + 1, at + VARINT_BYTES_MAX):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, place + 1
        shift += 7
    raise Malformed("a varint of more than 64 bits")


def field(number: int, content: bytes) -> bytes:
    """A BYTES field: text, bytes or a message."""
    size = len(content)
    if number < 16 and size < 0x80:
        return bytes((number << 3 | BYTES, size)) + content
    return varint(number << 3 | BYTES) + varint(size) + content


def number_field(number: int, value: int) -> bytes:
    """A VARINT field."""
    return varint(number << 3 | VARINT) + varint(value)


def fields(data: bytes) -> Iterator[Field]:
    """Every field in order. `Malformed` where the data breaks off or is of another format."""
    at, end = 0, len(data)
    try:
        while at < end:
            key, at = read_varint(data, at)
            kind, number, value, content = key & 7, key >> 3, 0, b""
            if kind == BYTES:
                size, at = read_varint(data, at)
                content = data[at : at + size]
                at += size
            elif kind == VARINT:
                value, at = read_varint(data, at)
            elif kind == FIXED64:
                at += 8
            elif kind == FIXED32:
                at += 4
            else:
                raise Malformed(f"wire type {kind}")
            if at > end or not number:
                raise Malformed("a field that goes beyond the end" if number else "field number 0")
            yield number, kind, value, content
    except IndexError:
        raise Malformed("a varint that goes beyond the end") from None


def content_of(kind: int, content: bytes) -> bytes:
    """The content, when the field is one of bytes."""
    if kind != BYTES:
        raise Malformed(f"wire type {kind} where bytes belong")
    return content


def text_of(kind: int, content: bytes) -> str:
    """The content as text."""
    try:
        return content_of(kind, content).decode()
    except UnicodeDecodeError:
        raise Malformed("text that is no UTF-8") from None


def number_of(kind: int, value: int) -> int:
    """The value, when the field is a varint."""
    if kind != VARINT:
        raise Malformed(f"wire type {kind} where a number belongs")
    return value
