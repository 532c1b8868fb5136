"""A statement too large for gossip, by name: everybody hears of it at once, and fetches the body from the forwarder.

Gossip sends a statement several times to each peer; a body travels once. There is one way to say a thing: what fits is
never announced, and what does not fit is never sent whole.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from protocol import wire
from protocol.jobspec import Bytes32
from protocol.units import KIB, PeerId
from protocol.wire import Signed

INLINE_BYTES_MAX: Final = 2 * KIB
"""A statement of at most so many bytes is gossiped whole: an offer has about 1 kB."""

STATEMENT_BYTES_MAX: Final = 48 * KIB
"""The largest statement; with what surrounds it, it fits one answer."""


class Announcement(Struct, frozen=True, forbid_unknown_fields=True, tag="announced"):
    """Somebody said something that is not in this envelope. Not signed itself: the body is."""

    signer: Bytes32
    digest: Bytes32
    """BLAKE3 of the encoded statement."""
    size: Annotated[int, Meta(ge=INLINE_BYTES_MAX + 1, le=STATEMENT_BYTES_MAX)]


class BodyRequest(Struct, frozen=True, forbid_unknown_fields=True, tag="body_request"):
    """The question `statement`: this body, please."""

    digest: Bytes32


class Body(Struct, frozen=True, forbid_unknown_fields=True, tag="body"):
    """The answer: the encoded statement."""

    data: Annotated[bytes, Meta(min_length=INLINE_BYTES_MAX + 1, max_length=STATEMENT_BYTES_MAX)]


_content: Final[msgspec.msgpack.Decoder[Signed | Announcement]] = msgspec.msgpack.Decoder(Signed | Announcement)


def envelope(signed: Signed) -> tuple[bytes, bytes | None]:
    """(what is gossiped, the body that goes by stream or None)."""
    data = wire.encode(signed)
    if len(data) <= INLINE_BYTES_MAX:
        return data, None
    return wire.encode(Announcement(signed.signer, wire.digest(data), len(data))), data


def content(data: bytes, sender: PeerId) -> Signed | Announcement:
    """What a gossiped message holds. RemoteViolation when it is neither, or a statement that should be announced."""
    return wire.decode(data, _content, sender, INLINE_BYTES_MAX)
