"""What a job asks of others while it lives: work for its chunks, and their outputs. Spec: specs/14-steward.md."""

from __future__ import annotations

from typing import Final

from protocol import wire
from protocol.desk import Desk
from protocol.effects import Compute, Fetch, Publish
from protocol.job_record import ChunkRecord, JobRecord
from protocol.messages import JobNotice
from protocol.units import MIB, MINUTE, Digest, Micros, PeerId

OUTPUT_BYTES_MAX: Final = 1024 * MIB
"""Bytes of one chunk's output that a steward fetches."""


def published(record: JobRecord, desk: Desk, now: Micros) -> Publish:
    """To every provider: here is work. Where no chunk is open, a standby is wanted."""
    spec = record.spec
    notice = JobNotice(
        now,
        now,
        now + MINUTE,
        record.job,
        record.renter,
        record.spec_digest,
        record.spec_size,
        record.escrow,
        spec.name,
        spec.runtime,
        spec.resources,
        spec.price_per_hour_max,
        max(1, len(record.open_chunks())),
    )
    return Publish("jobs", wire.sign(desk.identity, desk.network, "notice", notice))


class Wanted:
    """Chunks by the output that is on its way here: a job may have thousands."""

    def __init__(self) -> None:
        self._chunks: dict[bytes, list[ChunkRecord]] = {}

    def fetch(self, chunk: ChunkRecord, validators: tuple[PeerId, ...]) -> Compute:
        """Bring a chunk's output here."""
        self._chunks.setdefault(chunk.output, []).append(chunk)
        return bring(chunk.output, chunk.provider, validators)

    def come(self, output: bytes) -> list[ChunkRecord]:
        """The chunks for which it was fetched, whatever came of that."""
        return self._chunks.pop(output, [])


def bring(output: bytes, provider: bytes, validators: tuple[PeerId, ...]) -> Compute:
    """Bring an output here: from who made it, or from who checked it."""
    holders = (PeerId(provider), *validators)
    return Compute(Fetch(Digest(output), OUTPUT_BYTES_MAX, holders, is_output=True))
