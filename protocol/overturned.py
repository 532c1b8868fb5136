"""Results that a ruling turned: what their steward makes of it. Spec: specs/14-steward.md, specs/32-economics.md.

An accepted chunk that is finally bad is free again, and its price the renter's. A refused one that was good after all
is paid, so its output is taken where it can still be had, instead of leasing the chunk to somebody else.
"""

from __future__ import annotations

from typing import Final

from protocol.effects import Effect, Send
from protocol.escrow_state import ChunkLease
from protocol.job_notice import bring
from protocol.job_record import ChunkRecord, JobRecord
from protocol.ledger import Ledger
from protocol.messages import CancelChunk
from protocol.operations import Verdict
from protocol.units import MINUTE, Digest, Micros, PeerId

CHECK_FAILED: Final = "check_failed"
"""How an attempt ended whose result the job's own check refuses: the provider's fault, or on two of them the job's."""

BARRED: Final = frozenset({"wrong", "fraud", "severe", "rejected", "withheld", CHECK_FAILED})
"""Ends of an attempt after which a provider gets no more of the job."""


RESCUE_TIME: Final = Micros(2 * MINUTE)
"""Microseconds that the chunk of a result which was good after all is kept back while its output is fetched."""


def end_of(outcome: str, code: str) -> str:
    """How an attempt ended that was judged."""
    return CHECK_FAILED if code == CHECK_FAILED and outcome in BARRED else outcome


def judged(record: JobRecord, chunk: ChunkRecord, verdict: Verdict) -> str:
    """The same of a verdict; where it blames an earlier lease, its provider gets no more of the job, and the attempt
    itself is void."""
    why = end_of(verdict.outcome, verdict.code)
    if not isinstance(verdict.blamed, int):
        return why
    made = {attempt.provider for attempt in chunk.attempts if attempt.epoch == verdict.blamed}
    record.barred += sorted(made - set(record.barred)) if why in BARRED else []
    return "void"


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


class Rescue:
    """Brings results here that judges refused by mistake. Nobody is given the chunk meanwhile."""

    def __init__(self, record: JobRecord, withheld: set[int]) -> None:
        """`withheld`: chunks that are not to be leased; written here only."""
        self._record = record
        self._withheld = withheld
        self._asked: dict[int, tuple[bytes, Micros]] = {}
        """Chunk -> the output that is on its way, and until when that may take."""
        self._gone: set[tuple[int, int]] = set()
        """(chunk, epoch) of what could not be had."""

    def look(self, chunk: ChunkRecord, known: ChunkLease, validators: tuple[PeerId, ...], now: Micros) -> list[Effect]:
        """Ask for the output of a waiting chunk's newest lease, if that is right after all; give up in time."""
        if chunk.index in self._asked:
            if now > self._asked[chunk.index][1]:
                self._give_up(chunk.index, known.epoch)
            return []
        is_good = known.outcome == "accept" and chunk.state == "waiting" and self._record.is_open
        if not is_good or (chunk.index, known.epoch) in self._gone:
            return []
        self._asked[chunk.index] = (known.output, Micros(now + RESCUE_TIME))
        self._withheld.add(chunk.index)
        return [bring(known.output, known.provider, validators)]

    def fetched(self, digest: Digest, is_here: bool, ledger: Ledger) -> list[ChunkRecord]:
        """The chunks that have their result by this."""
        found = []
        for index in [index for index, (output, _) in self._asked.items() if output == digest]:
            escrow = ledger.escrows.get(self._record.escrow)
            if escrow is None:  # Closed, and so long ago that nothing of it is kept.
                continue
            chunk, known = self._record.chunks[index], escrow.chunks[index]
            is_good = known.epoch == chunk.epoch and known.state == "free" and known.outcome == "accept"
            if is_here and is_good and chunk.state == "waiting" and self._record.is_open:
                self._take(chunk, known)
                found.append(chunk)
            self._give_up(index, known.epoch)
        return found

    def _take(self, chunk: ChunkRecord, known: ChunkLease) -> None:
        """As if the verdict had said so. Its provider is as good as before, unless another of its results was bad."""
        chunk.state, chunk.output, chunk.is_fetched, chunk.fruitless = "accepted", known.output, True, 0
        chunk.provider, chunk.price, chunk.outcome, chunk.code = known.provider, known.price, "accept", known.code
        if chunk.attempts:
            chunk.attempts[-1].end = "accepted"
        attempts = (attempt for one in self._record.chunks for attempt in one.attempts)
        is_bad = any(attempt.provider == known.provider and attempt.end in BARRED for attempt in attempts)
        if known.provider in self._record.barred and not is_bad:
            self._record.barred.remove(known.provider)

    def _give_up(self, index: int, epoch: int) -> None:
        del self._asked[index]
        self._withheld.discard(index)
        self._gone.add((index, epoch))
