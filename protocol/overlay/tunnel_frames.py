"""What runs through a tunnel once it is open: bytes, ends, window sizes, exit codes. One codec for every leg.

A frame is a byte that says its kind, three bytes of length, big-endian, and a payload. Spec: specs/24-tunnels.md.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol import wire
from protocol.errors import Refused, RemoteViolation, ShoalError, Unavailable
from protocol.units import KIB, PeerId

HEADER_BYTES: Final = 4
"""Kind and length."""

PAYLOAD_BYTES_MAX: Final = 32 * KIB
"""One frame's payload: several tunnels on one link take turns at least this often."""

SIDE_MAX: Final = 1_000
"""Rows and columns of a terminal, far above any screen."""

_SIZE: Final = struct.Struct(">HH")
_CODE: Final = struct.Struct(">i")
_CREDIT: Final = struct.Struct(">I")


class Kind(IntEnum):
    """The first byte of a frame."""

    DATA = 0
    """Bytes towards the port or the program, or back from it."""
    END = 1
    """No more bytes in this direction; the other one goes on."""
    STDERR = 2
    """A program's error output, apart from its output when it has no terminal."""
    RESIZE = 3
    """Rows and columns of the renter's terminal."""
    EXIT = 4
    """How the program ended: its exit code, or 128 and the signal."""
    FAULT = 5
    """Why the tunnel ends: the last frame."""
    CREDIT = 6
    """So many more bytes may be sent to me; between the two nodes only."""


SIZES: Final = {
    Kind.DATA: (1, PAYLOAD_BYTES_MAX),
    Kind.END: (0, 0),
    Kind.STDERR: (1, PAYLOAD_BYTES_MAX),
    Kind.RESIZE: (4, 4),
    Kind.EXIT: (4, 4),
    Kind.FAULT: (1, 2 * KIB),
    Kind.CREDIT: (4, 4),
}
"""Least and most bytes of a payload."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; its payload has a size that its kind allows."""

    kind: Kind
    payload: bytes = b""

    def pack(self) -> bytes:
        """As it travels."""
        return (self.kind << 24 | len(self.payload)).to_bytes(HEADER_BYTES, "big") + self.payload

    @property
    def number(self) -> int:
        """The payload of EXIT or CREDIT."""
        value: int = (_CODE if self.kind is Kind.EXIT else _CREDIT).unpack(self.payload)[0]
        return value

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of RESIZE, at least one each."""
        rows, columns = _SIZE.unpack(self.payload)
        return min(max(rows, 1), SIDE_MAX), min(max(columns, 1), SIDE_MAX)


class Fault(Struct, frozen=True, forbid_unknown_fields=True, tag="fault"):
    """The payload of FAULT, and the answer to a request that is not granted."""

    code: Annotated[str, Meta(max_length=64)]
    detail: Annotated[str, Meta(max_length=512)]
    fix: Annotated[str, Meta(max_length=512)] = ""
    is_refusal: bool = True
    """True: asking again does not help."""

    def error(self) -> Refused | Unavailable:
        """As the asker gets it."""
        kind = Refused if self.is_refusal else Unavailable
        return kind(self.detail, code=self.code, fix=self.fix)


fault_decoder: Final = wire.decoder(Fault)


def fault_of(error: ShoalError) -> Fault:
    """An error for the other side, shortened to what a frame carries."""
    return Fault(error.code[:64], error.detail[:500], error.fix[:500], is_refusal=not isinstance(error, Unavailable))


def resize(rows: int, columns: int) -> Frame:
    """The terminal has this size now.

    >>> resize(24, 80).size
    (24, 80)
    """
    return Frame(Kind.RESIZE, _SIZE.pack(min(max(rows, 1), SIDE_MAX), min(max(columns, 1), SIDE_MAX)))


def exit_frame(code: int) -> Frame:
    """The program ended.

    >>> exit_frame(-3).number
    -3
    """
    return Frame(Kind.EXIT, _CODE.pack(code))


def credit(count: int) -> Frame:
    """The receiver has room for `count` more bytes."""
    return Frame(Kind.CREDIT, _CREDIT.pack(count))


def fault(error: ShoalError) -> Frame:
    """The last frame of a tunnel that ends early."""
    return Frame(Kind.FAULT, wire.encode(fault_of(error)))


class FrameCutter:
    """Cuts bytes into frames. Holds at most one unfinished frame."""

    def __init__(self, sender: PeerId) -> None:
        self._sender = sender
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. RemoteViolation for a kind or a length that does not exist."""
        self._buffer += data
        found: list[Frame] = []
        start = 0
        while len(self._buffer) - start >= HEADER_BYTES:
            kind, size = self._head(start)
            end = start + HEADER_BYTES + size
            if len(self._buffer) < end:
                break
            found.append(Frame(kind, bytes(self._buffer[start + HEADER_BYTES : end])))
            start = end
        del self._buffer[:start]
        return found

    @property
    def is_between(self) -> bool:
        """Whether nothing of a next frame has come."""
        return not self._buffer

    def _head(self, start: int) -> tuple[Kind, int]:
        number, size = self._buffer[start], int.from_bytes(self._buffer[start + 1 : start + HEADER_BYTES], "big")
        try:
            kind = Kind(number)
        except ValueError:
            raise RemoteViolation(
                self._sender, f"there is no tunnel frame of kind {number}", code="malformed"
            ) from None
        least, most = SIZES[kind]
        if not least <= size <= most:
            rule = f"a tunnel frame {kind.name} of {size} bytes, {least} to {most} are allowed"
            raise RemoteViolation(self._sender, rule, code="over_limit")
        return kind, size
