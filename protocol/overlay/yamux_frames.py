"""What two muxers say to each other: a header of twelve bytes, and data behind some of them.

The wire is hashicorp's yamux as libp2p uses it (`/yamux/1.0.0`). Spec: specs/18-multiplexer.md.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final

HEADER: Final = Struct("!BBHII")
"""Version, type, flags, stream, and length (of data), credit, ping number or reason."""

HEADER_BYTES: Final = HEADER.size

WIRE_VERSION: Final = 0
"""yamux's own version byte."""

RECORD_BYTES: Final = 65_519
"""Plain bytes of one Noise message: 65535 less the tag of 16."""

FRAME_BYTES: Final = RECORD_BYTES - HEADER_BYTES
"""Data of a frame that fits one Noise message with its header; one byte more would cost a second message."""

CREDIT_MAX: Final = 0xFFFF_FFFF
"""Bytes; credit is counted in 32 bits, and a peer that gives more breaks the count."""


class Kind(IntEnum):
    """The type of a frame."""

    DATA = 0
    CREDIT = 1
    PING = 2
    LEAVE = 3


class Flag(IntFlag):
    """What a frame says about its stream besides; a ping asks with OPEN and answers with ACCEPT."""

    OPEN = 1
    ACCEPT = 2
    FINISH = 4
    RESET = 8


class Reason(IntEnum):
    """Why a side leaves."""

    NORMAL = 0
    PROTOCOL = 1
    INTERNAL = 2


def header(kind: Kind, flags: int, stream: int, value: int) -> bytes:
    """The twelve bytes.

    >>> header(Kind.PING, Flag.OPEN, 0, 7).hex()
    '000200010000000000000007'
    """
    return HEADER.pack(WIRE_VERSION, kind, flags, stream, value)
