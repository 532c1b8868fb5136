"""NAT Port Mapping Protocol (RFC 6886), the older sibling of PCP: the bytes, as a client writes and reads them."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final

VERSION: Final = 0
EXTERNAL: Final = 0
MAP_TCP: Final = 2
_RESPONSE: Final = 0x80
_MAP: Final = struct.Struct("!BBHHHI")
_HEAD: Final = struct.Struct("!BBHI")

RESULTS: Final = (
    "success", "unsupported version", "not authorised", "network failure", "out of resources", "unsupported opcode",
)  # fmt: skip
"""Result codes by number (RFC 6886 §3.5)."""


@dataclass(frozen=True, slots=True)
class External:
    """The router's outside address."""

    ip: str


@dataclass(frozen=True, slots=True)
class Mapped:
    """A TCP mapping; `lifetime` in seconds, 0 = deleted."""

    internal_port: int
    external_port: int
    lifetime: int


@dataclass(frozen=True, slots=True)
class Reply:
    """A router's answer; `said` is None for an error. `epoch` = seconds since its table was last empty."""

    opcode: int
    result: int
    epoch: int
    said: External | Mapped | None


def external_request() -> bytes:
    """Ask for the outside address."""
    return bytes((VERSION, EXTERNAL))


def map_request(internal_port: int, external_port: int, lifetime: int) -> bytes:
    """Ask for, renew or (lifetime 0, external port 0) delete a TCP mapping."""
    return _MAP.pack(VERSION, MAP_TCP, 0, internal_port, external_port, lifetime)


def read_reply(data: bytes) -> Reply | None:
    """What a datagram says; None when it is no NAT-PMP reply to us. Never raises."""
    if len(data) < _HEAD.size or data[0] != VERSION or not data[1] & _RESPONSE:
        return None
    _, opcode, result, epoch = _HEAD.unpack_from(data)
    opcode &= ~_RESPONSE
    if result:
        return Reply(opcode, result, epoch, None)
    if opcode == EXTERNAL and len(data) == 12:
        return Reply(opcode, result, epoch, External(str(ipaddress.IPv4Address(data[8:12]))))
    if opcode == MAP_TCP and len(data) == 16:
        internal, external, lifetime = struct.unpack_from("!HHI", data, _HEAD.size)
        return Reply(opcode, result, epoch, Mapped(internal, external, lifetime))
    return None


def result_text(result: int) -> str:
    """A result code in words.

    >>> result_text(2), result_text(99)
    ('not authorised', 'error 99')
    """
    return RESULTS[result] if result < len(RESULTS) else f"error {result}"
