"""The units of the protocol: every number and identity that crosses a wire has one of these types."""

from __future__ import annotations

from typing import Final, NewType

Micros = NewType("Micros", int)
"""Integer microseconds since the Unix epoch for instants, plain microseconds for spans."""

Credits = NewType("Credits", int)
"""Money in its smallest unit: one credit is 1_000_000 of them. Never a float."""

PeerId = NewType("PeerId", bytes)
"""A raw Ed25519 public key, 32 bytes. `protocol.identity.peer_text` gives the libp2p text form."""

Digest = NewType("Digest", bytes)
"""32 bytes: BLAKE3 of a blob's content, or SHA-256 of ledger structures."""

JobId = NewType("JobId", bytes)
"""16 bytes, derived from the renter and the renter's own key for the job, so that a retry names the same job."""

SECOND: Final = Micros(1_000_000)
MINUTE: Final = Micros(60 * SECOND)
HOUR: Final = Micros(60 * MINUTE)
DAY: Final = Micros(24 * HOUR)

CREDIT: Final = Credits(1_000_000)
"""One whole credit in smallest units, the scale that people read prices in."""

PPM: Final = 1_000_000
"""Shares and probabilities are integers in parts per million."""

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
