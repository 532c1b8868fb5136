"""Which piece of which snapshot: its place, the id of its content, the keys that follow from both.

Every key comes from the job's secret by BLAKE3, so whoever has the secret and the place needs nothing else to open a
snapshot. Spec: specs/26-shards.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from protocol.errors import LocalError

SECRET_BYTES: Final = 32
"""A job's secret, from its steward."""

ID_BYTES: Final = 32
"""The keyed BLAKE3 of a chunk's content."""

ESCROW_BYTES: Final = 32
"""The name of an escrow, as in the ledger."""

ID_CONTEXT: Final = "shoal/1 chunk id"
"""Ids are keyed: who does not know the job cannot test whether it holds a certain file."""

SNAPSHOT_CONTEXT: Final = "shoal/1 snapshot"
"""One key per snapshot; another epoch, another key."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which snapshot: the `number`th that epoch `epoch` took of one chunk of one job."""

    escrow: bytes
    chunk: int
    epoch: int
    number: int

    def __post_init__(self) -> None:
        if len(self.escrow) != ESCROW_BYTES:
            raise LocalError(f"an escrow has {ESCROW_BYTES} bytes, not {len(self.escrow)}", code="bad_place")

    @property
    def encoded(self) -> bytes:
        """56 bytes, of fixed widths: no two places are alike."""
        return self.binding + self.number.to_bytes(8, "big")

    @property
    def binding(self) -> bytes:
        """Escrow, chunk and epoch: what every record of the snapshot is bound to."""
        return self.escrow + self.chunk.to_bytes(8, "big") + self.epoch.to_bytes(8, "big")


def id_key(secret: bytes) -> bytes:
    """The key of all chunk ids of a job. LocalError when the secret has the wrong length."""
    return blake3(_checked(secret), derive_key_context=ID_CONTEXT).digest()


def snapshot_key(secret: bytes, place: Place) -> bytes:
    """The key of one snapshot, from which those of its chunks and of its index follow."""
    return blake3(_checked(secret) + place.encoded, derive_key_context=SNAPSHOT_CONTEXT).digest()


def chunk_key(key: bytes, chunk_id: bytes, codec: int, itemsize: int) -> bytes:
    """The key of one stored chunk. It depends on what is encrypted, so a place used twice by mistake, as after a crash,
    still encrypts different bytes under different keys."""
    return blake3(b"chunk" + bytes((codec, itemsize)) + chunk_id, key=key).digest()


def index_key(key: bytes, salt: bytes) -> bytes:
    """The key of an index, whose salt depends on its content."""
    return blake3(b"index" + salt, key=key).digest()


def chunk_id(content: Iterable[memoryview | bytes], key: bytes) -> bytes:
    """The id of a chunk whose bytes come in one or more pieces."""
    hasher = blake3(key=key)
    for piece in content:
        hasher.update(piece)
    return hasher.digest()


def _checked(secret: bytes) -> bytes:
    if len(secret) != SECRET_BYTES:
        raise LocalError(f"a secret has {SECRET_BYTES} bytes, not {len(secret)}", code="bad_secret")
    return secret
