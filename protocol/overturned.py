"""An accepted chunk whose result a ruling found bad, once that is final: what its steward makes of it.

The ledger has the chunk free again and its price is the renter's. Spec: specs/14-steward.md, specs/32-economics.md.
"""

from __future__ import annotations

from typing import Final

from protocol.effects import Effect, Send
from protocol.escrow_state import ChunkLease
from protocol.job_record import ChunkRecord, JobRecord
from protocol.messages import CancelChunk
from protocol.units import PeerId

CHECK_FAILED: Final = "check_failed"
"""How an attempt ended whose result the job's own check refuses: the provider's fault, or on two of them the job's."""

BARRED: Final = frozenset({"wrong", "fraud", "severe", "rejected", "withheld", CHECK_FAILED})
"""Ends of an attempt after which a provider gets no more of the job."""


def end_of(outcome: str, code: str) -> str:
    """How an attempt ended that was judged."""
    return CHECK_FAILED if code == CHECK_FAILED and outcome in BARRED else outcome


def can_be(record: JobRecord) -> bool:
    """Whether the job has a result that a ruling may still find bad, while its escrow is open."""
    return any(chunk.state == "accepted" for chunk in record.chunks)


def is_overturned(chunk: ChunkRecord, known: ChunkLease) -> bool:
    """Whether the ledger no longer has as accepted what the record has. A copy of the ledger that is a block behind the
    verdict's receipt says `claimed`, and that is nothing."""
    if chunk.state != "accepted":
        return False
    return known.epoch > chunk.epoch or (known.state == "free" and known.outcome not in ("", "accept"))


def reopen(record: JobRecord, chunk: ChunkRecord, known: ChunkLease) -> str:
    """Write it into the chunk's record; why its attempt ended. The chunk is then as if that lease were running and
    about to be lost, or `failed` where the job is over, or its last step has used the result already."""
    is_same = known.epoch == chunk.epoch
    why = end_of(known.outcome, known.code) if is_same else "overturned"
    chunk.outcome, chunk.code = (known.outcome, known.code) if is_same else (why, "")
    if chunk.attempts:
        chunk.attempts[-1].end = why
    is_used = record.spec.reduce and chunk is not record.chunks[-1] and record.chunks[-1].state == "accepted"
    if not record.is_open or is_used:
        chunk.state = "failed"
        record.reason = f"chunk {chunk.index} was accepted and is overturned: {why} ({chunk.code})"
        return why
    chunk.state, chunk.output, chunk.output_bytes, chunk.is_fetched = "revealed", b"", 0, False
    return why


def recalled(record: JobRecord) -> list[Effect]:
    """The last step reads all others: whoever is at it reads a result that does not hold any more, and gives up."""
    last = record.chunks[-1]
    if not (record.spec.reduce and record.is_open and last.is_leased and not record.is_reducing):
        return []
    why = "a result that it reads was overturned"
    return [Send(PeerId(last.provider), CancelChunk(record.job, last.index, last.epoch, why))]
