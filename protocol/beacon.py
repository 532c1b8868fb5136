"""A number that nobody knew when a claim was sealed: parts that validators seal first and open later.

Spec: specs/32-economics.md. The record, and how its value comes about; `protocol.beacons` has the operations.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from msgspec import Struct, field

from protocol.units import Digest


class Beacon(Struct):
    """One beacon. Parts are sealed until the first is opened; then no more are taken."""

    number: int
    opened_at: int
    """Ledger time of its first part, µs."""
    covers: list[tuple[bytes, int, int]]
    """(escrow, chunk, epoch) of every claim that was ordered before its first part."""
    opened_in: bytes = b""
    """Hash of the header of that part's block; empty until the block is complete."""
    sealed: dict[bytes, bytes] = field(default_factory=dict)
    """Validator -> what it sealed."""
    secrets: dict[bytes, bytes] = field(default_factory=dict)
    """Validator -> what it opened."""
    state: Literal["open", "done", "failed"] = "open"
    value: bytes = b""


def seal_part(validator: bytes, number: int, secret: bytes) -> Digest:
    """`BeaconCommit.sealed`: binds a secret to who keeps it and to one beacon."""
    return Digest(hashlib.sha256(b"shoal/1\0beacon\0" + validator + number.to_bytes(8, "big") + secret).digest())


def value_of(number: int, opened_in: bytes, secrets: dict[bytes, bytes]) -> Digest:
    """The beacon from the parts that were opened, in the order of their keepers' keys.

    The block is the one in which the first part was sealed: whoever makes the last block cannot try several."""
    data = b"shoal/1\0beacon value\0" + number.to_bytes(8, "big") + opened_in
    return Digest(hashlib.sha256(data + b"".join(key + secrets[key] for key in sorted(secrets))).digest())
