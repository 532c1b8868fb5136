"""A peer's signed word about itself: addresses, roles, capabilities, place. Spec: specs/23-discovery.md.

Only its signer can make or replace a record, so it does not matter who hands it on. The higher sequence wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Final, Literal

from blake3 import blake3
from msgspec import Meta, Struct

from protocol import wire
from protocol.errors import Refused, RemoteViolation
from protocol.identity import Identity
from protocol.jobspec import Bytes32, NonNegative
from protocol.overlay.place import NOWHERE, Place
from protocol.overlay.subnets import subnets_of, usable
from protocol.units import HOUR, MINUTE, Digest, Micros, PeerId
from protocol.wire import Signed

RECORD_KIND: Final = "peer"
"""Under which a record is signed."""

RECORD_LIFE: Final = Micros(1 * HOUR)
"""Microseconds from issue to expiry; its owner signs a new one at half of it."""

RECORD_LIFE_MAX: Final = Micros(2 * HOUR)
"""Microseconds that anybody's record may last: an address that is older than this is worth little."""

RECORD_SKEW_MAX: Final = Micros(5 * MINUTE)
"""Microseconds that the clock of a signer may be ahead: a record is no lease, and home clocks are bad."""

RECORD_BYTES_MAX: Final = 2_048
"""Bytes of one record: eight circuits take 900."""

TOPICS_MAX: Final = 4
"""Keys besides its own under which a peer may be found."""

ADDRESSES_MAX: Final = 8
"""Addresses of one record, direct ones and circuits."""

Capability = Annotated[str, Meta(min_length=1, max_length=32)]


class PeerRecord(Struct, frozen=True, forbid_unknown_fields=True, tag="peer"):
    """What a peer says about itself. Kind `peer`; the signer is the peer."""

    sequence: NonNegative
    issued: NonNegative
    expires: NonNegative
    addresses: Annotated[tuple[Annotated[str, Meta(max_length=256)], ...], Meta(max_length=ADDRESSES_MAX)]
    """Direct (`/ip4/…/tcp/…`) and circuits (`…/p2p/<relay>/p2p-circuit`), best first."""
    roles: Annotated[tuple[Literal["provider", "validator", "steward"], ...], Meta(max_length=3)] = ()
    capabilities: Annotated[tuple[Capability, ...], Meta(max_length=16)] = ()
    """As in Hello: `bulk/1`, `relay/1`."""
    topics: Annotated[tuple[Bytes32, ...], Meta(max_length=TOPICS_MAX)] = ()
    """Where it may be kept besides under its own position: see `topic_key`."""
    place: Place = NOWHERE


_decoder: Final = wire.decoder(PeerRecord)


@dataclass(frozen=True, slots=True)
class Contact:
    """Somebody whose record was verified: who, where in the key space, what it said, and the words themselves."""

    peer: PeerId
    position: int
    record: PeerRecord
    signed: Signed
    addresses: tuple[str, ...]
    """Those worth dialling."""
    subnets: frozenset[str]


def position(peer: PeerId) -> int:
    """Where a peer is in the key space: BLAKE3 of its id, so that nobody chooses its place without work."""
    return int.from_bytes(key_of(peer), "big")


@lru_cache(maxsize=8_192)
def key_of(peer: PeerId) -> Digest:
    """The key under which a peer's record is kept."""
    return Digest(blake3(peer).digest())


def topic_key(network: str, topic: str) -> Digest:
    """The key under which peers of a network with something in common find each other: `members`, `relay/1` …"""
    return Digest(blake3(b"\0".join((b"shoal/1", b"topic", network.encode(), topic.encode()))).digest())


def sign_record(identity: Identity, network: str, record: PeerRecord) -> Signed:
    """The record under its owner's signature; Refused when nobody would take it."""
    signed = wire.sign(identity, network, RECORD_KIND, record)
    if len(signed.body) > RECORD_BYTES_MAX:
        raise Refused(
            f"a peer record of {len(signed.body)} bytes, at most {RECORD_BYTES_MAX} are kept",
            code="over_limit",
            fix="Announce fewer or shorter addresses.",
            numbers={"bytes": len(signed.body), "bytes_max": RECORD_BYTES_MAX},
        )
    return signed


def open_record(signed: Signed, network: str, now: Micros, sender: PeerId) -> Contact:
    """The record inside. RemoteViolation of the *sender* for what it could have checked: size, signature, bounds, life.

    Refused (`expired`, `clock_skew`) for what depends on clocks."""
    if len(signed.body) > RECORD_BYTES_MAX:
        raise RemoteViolation(sender, f"peer record of {len(signed.body)} bytes", code="over_limit")
    try:
        contact = _opened(signed, network)
    except RemoteViolation as violation:
        raise RemoteViolation(sender, violation.rule, code=violation.code) from None
    record = contact.record
    if not 0 <= record.expires - record.issued <= RECORD_LIFE_MAX:
        raise RemoteViolation(sender, f"record lasts {record.expires - record.issued} µs", code="bad_life")
    if record.issued > now + RECORD_SKEW_MAX:
        raise Refused(
            f"record issued {record.issued - now} µs ahead of our clock",
            code="clock_skew",
            fix="Set the clocks of both hosts.",
        )
    if record.expires <= now:
        raise Refused(f"record expired {now - record.expires} µs ago", code="expired")
    return contact


@lru_cache(maxsize=8_192)
def _opened(signed: Signed, network: str) -> Contact:
    """What does not depend on time, checked once per record."""
    peer = PeerId(signed.signer)
    record = wire.open_signed(signed, network, RECORD_KIND, _decoder, peer)
    addresses = usable(record.addresses)
    return Contact(peer, position(peer), record, signed, addresses, subnets_of(addresses))
