"""What a muxer's session tells its driver."""

from __future__ import annotations

from msgspec import Struct

from protocol.overlay.yamux_stream import Stream
from protocol.units import Micros


class Opened(Struct, frozen=True, gc=False):
    """The peer opened a stream."""

    stream: Stream


class Readable(Struct, frozen=True, gc=False):
    """Data came, or the peer finished."""

    stream: Stream


class Writable(Struct, frozen=True, gc=False):
    """The peer gave credit."""

    stream: Stream


class Gone(Struct, frozen=True, gc=False):
    """A stream ended, and frees its place: both halves finished, or one side gave it up."""

    stream: Stream


class Answered(Struct, frozen=True, gc=False):
    """A ping came back."""

    round_trip: Micros


class Left(Struct, frozen=True, gc=False):
    """The peer leaves; nothing more comes."""

    reason: int


Event = Opened | Readable | Writable | Gone | Answered | Left
