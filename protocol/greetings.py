"""How two peers begin, keep count and end: the messages of a session itself. Spec: specs/12-transport.md."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from protocol.jobspec import NonNegative, Text
from protocol.operations import Reason

Capable = Annotated[str, Meta(max_length=32)]


class Hello(Struct, frozen=True, forbid_unknown_fields=True, tag="hello"):
    """First message on a stream: same network, same protocol version, or goodbye. What follows belongs to `session`."""

    network: Annotated[str, Meta(max_length=64)]
    version: Annotated[int, Meta(ge=1, le=1_000)]
    software: Text
    roles: Annotated[tuple[Literal["provider", "validator", "steward"], ...], Meta(max_length=3)]
    capabilities: Annotated[tuple[Capable, ...], Meta(max_length=16)] = ()
    """What else this peer can do for others, like `relay/1`."""
    observed: Annotated[str, Meta(max_length=256)] = ""
    """Where the receiver's end of this connection is, seen from here; empty through a relay."""
    session: Annotated[bytes, Meta(min_length=16, max_length=16)] = bytes(16)
    """Name of the sender's direction; a new one when the sender remembers nothing of an earlier one."""
    first: Annotated[int, Meta(ge=1, le=2**62)] = 1
    """Number of the first message that follows."""


class Ack(Struct, frozen=True, forbid_unknown_fields=True, tag="ack"):
    """Everything of your session up to this number has been heard. Acks are not numbered themselves."""

    session: Annotated[bytes, Meta(min_length=16, max_length=16)]
    count: NonNegative


class Skip(Struct, frozen=True, forbid_unknown_fields=True, tag="skip"):
    """The next message on this stream has this number: those before it were given up. Not numbered itself."""

    number: Annotated[int, Meta(ge=1, le=2**62)]


class Goodbye(Struct, frozen=True, forbid_unknown_fields=True, tag="goodbye"):
    """A clean end, so that nobody has to wait for a timeout."""

    reason: Reason
