"""What peers ask each other outside the market: who is near a key, keep this, how far are you.

Each is one frame on `/shoal/<network>/<name>/1`, answered by one frame. Spec: specs/23-discovery.md.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol import wire
from protocol.jobspec import Bytes32, NonNegative
from protocol.overlay.place import Place
from protocol.wire import Signed

NAMED_MAX: Final = 10
"""Records of peers near the key in one answer."""

KEPT_MAX: Final = 16
"""Records kept under the key in one answer: with the others at most 57 KiB, which fits one frame."""


class Find(Struct, frozen=True, forbid_unknown_fields=True, tag="find"):
    """Who is near this key, and what is kept under it?"""

    key: Bytes32
    me: Signed
    """The asker's own record: asking is introducing oneself."""


class Found(Struct, frozen=True, forbid_unknown_fields=True, tag="found"):
    """Nothing here is the answerer's word but `me`: every record is signed by whom it is about."""

    me: Signed
    named: Annotated[tuple[Signed, ...], Meta(max_length=NAMED_MAX)] = ()
    """Peers near the key that have answered the answerer."""
    kept: Annotated[tuple[Signed, ...], Meta(max_length=KEPT_MAX)] = ()
    """Records kept under the key."""


class Keep(Struct, frozen=True, forbid_unknown_fields=True, tag="keep"):
    """Keep my record under this key: my own position, or one of its topics."""

    key: Bytes32
    me: Signed


class Kept(Struct, frozen=True, forbid_unknown_fields=True, tag="kept"):
    """Whether there was room."""

    is_kept: bool


class Ping(Struct, frozen=True, forbid_unknown_fields=True, tag="ping"):
    """How far are you, where do you think you are, and what time is it?"""

    sent: NonNegative
    """Microseconds since the epoch on the asker's clock."""
    place: Place


class Pong(Struct, frozen=True, forbid_unknown_fields=True, tag="pong"):
    """The answer's times are those of the answerer's clock."""

    heard: NonNegative
    said: NonNegative
    place: Place


Question = Find | Keep
Reply = Found | Kept

find_decoder: Final = wire.decoder(Find)
found_decoder: Final = wire.decoder(Found)
keep_decoder: Final = wire.decoder(Keep)
kept_decoder: Final = wire.decoder(Kept)
ping_decoder: Final = wire.decoder(Ping)
pong_decoder: Final = wire.decoder(Pong)
