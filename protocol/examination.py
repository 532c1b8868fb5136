"""Snapshots of chunks in units that a steward opens before it signs a handover. Spec: specs/28-recovery.md.

A share is paid even where nobody could go on from the snapshot that it stands for (07-escrow), so the steward looks
first, and keeps what it has seen for whoever goes on: else holders that are one with the provider could be silent from
then on. One `Examinations` per job, one entry per chunk. A restart forgets them: the provider repeats its proposal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from protocol import wire
from protocol.completions import Examined
from protocol.effects import Compute, Effect, Examine, LetGo, Resume, Stop
from protocol.handover import HandoverProposal
from protocol.identity import Identity
from protocol.job_record import ChunkRecord, JobRecord
from protocol.operations import Handover
from protocol.snapshots import Kept, Manifest, Pack, PackHolders, SnapshotNotice, receipt, shard_of
from protocol.units import KIB, MIB, MINUTE, SECOND, Digest, Micros, PeerId

EXAMINED_MAX: Final = 3
"""Times that a snapshot is fetched for one lease: more would be the renter's line for a provider that plays."""

AGAIN: Final = Micros(1 * SECOND)
"""Microseconds until shards that were not to be had are asked for again: their holders may have been busy."""

PATIENCE: Final = Micros(20 * SECOND)
"""Microseconds that the shards of a small snapshot may take to come: twice the usual notice."""

PATIENCE_MAX: Final = Micros(2 * MINUTE)
"""The same of any snapshot: the longest notice that an owner can give."""

RATE_MIN: Final = 1 * MIB
"""Bytes per second that a renter's line is taken to bring: a slow ADSL line."""

GRACE: Final = Micros(1 * MINUTE)
"""Microseconds beyond its patience that an examination without an answer counts as under way: opening takes a core."""

NOTICE_BYTES_MAX: Final = 40 * KIB
"""Bytes of a notice that receipts are added to; in a larger one they take the place of others: a grant is a message."""

EXAMINING: Final = "examining"
"""Why the steward does not sign yet: it is looking."""

NOT_EXAMINED: Final = "not_examined"
"""Why it does not sign: it could not look, or has looked at EXAMINED_MAX others."""


def patience(size: int) -> Micros:
    """How long the shards of so many bytes of state may take to come.

    >>> patience(0), patience(30 * 2**20), patience(2**40)
    (20000000, 50000000, 120000000)
    """
    return Micros(min(PATIENCE + size * SECOND // RATE_MIN, PATIENCE_MAX))


@dataclass(slots=True)
class Examination:
    """The newest snapshot of a lease that was asked for."""

    provider: PeerId
    proposal: HandoverProposal
    """What waits for it."""
    lease: tuple[bytes, int, int]
    snapshot: bytes
    times: int
    """How many were fetched for this lease, this one included."""
    until: Micros
    """When it is given up, or, once it has failed, may be tried again."""
    code: str = EXAMINING

    @property
    def task(self) -> str:
        """Its name among what this machine does: an answer to it is about this snapshot and no other."""
        return f"examine-{self.snapshot.hex()}-{self.times}"


class Examinations:
    """What the steward knows of the snapshots that its job's chunks are to be handed over with."""

    def __init__(self, record: JobRecord, secret: bytes) -> None:
        self._record = record
        self._secret = secret
        self.known: dict[int, Examination] = {}
        """By chunk."""
        self._keeps = any(chunk.opened for chunk in record.chunks)
        """Whether shards may be here: most jobs never have any."""

    def ask(
        self, provider: PeerId, proposal: HandoverProposal, operation: Handover, resume: Resume, now: Micros
    ) -> tuple[str, list[Effect]]:
        """Why the steward does not sign, or not yet; empty once the snapshot was opened and holds what was signed for.
        `resume`: the operation's snapshot."""
        lease = (operation.escrow, operation.chunk, operation.epoch)
        known = self.known.get(operation.chunk)
        if known is not None and known.lease != lease:
            known = None
        if known is not None and known.snapshot == operation.snapshot:
            known.proposal = proposal
            if known.code in ("", "snapshot_bad") or now < known.until:
                return known.code, []
        times = known.times if known is not None else 0
        if times >= EXAMINED_MAX:
            assert known is not None
            is_same = known.snapshot == operation.snapshot and known.code != EXAMINING
            return known.code if is_same else NOT_EXAMINED, []
        waits = patience(_size(resume.manifest))
        until = Micros(now + waits + GRACE)
        fresh = Examination(provider, proposal, lease, operation.snapshot, times + 1, until)
        over = self._stop(operation.chunk)
        self.known[operation.chunk] = fresh
        found = _or_of(provider, resume) if times else resume
        return EXAMINING, [*over, Compute(self._order(fresh, found, waits))]

    def done(self, message: Examined, now: Micros) -> Examination | None:
        """The answer to what is under way, else None."""
        known = self.known.get(message.lease[1])
        if known is None or known.task != message.task or known.code != EXAMINING:
            return None
        known.code, known.until = message.code, Micros(now + AGAIN)
        chunk = self._record.chunks[message.lease[1]]
        self._keeps = True
        chunk.opened += [shard for shard in message.kept if shard not in chunk.opened]
        return known

    def ended(self, chunk: int) -> list[Effect]:
        """The chunk's lease is over: nobody needs to know."""
        effects = self._stop(chunk)
        self.known.pop(chunk, None)
        return effects

    def let_go(self, newest: Callable[[ChunkRecord], tuple[bytes, Manifest] | None]) -> list[Effect]:
        """Those shards kept for the chunks that nobody needs any more go: the chunk has its end, or a newer snapshot.
        `newest`: body and content of a chunk's newest durable manifest."""
        if not self._keeps:
            return []
        effects: list[Effect] = []
        for chunk in self._record.chunks:
            is_over = self._record.is_final or chunk.state in ("accepted", "failed")
            known = newest(chunk) if chunk.opened and not is_over else None
            needed = {shard for pack in known[1].packs for shard in pack.shards} if known is not None else set[bytes]()
            gone = tuple(Digest(shard) for shard in chunk.opened if shard not in needed)
            chunk.opened = [shard for shard in chunk.opened if shard in needed]
            effects += [Compute(LetGo(gone))] if gone else []
        self._keeps = any(chunk.opened for chunk in self._record.chunks)
        return effects

    def _stop(self, chunk: int) -> list[Effect]:
        known = self.known.get(chunk)
        return [Compute(Stop(known.task))] if known is not None and known.code == EXAMINING else []

    def _order(self, one: Examination, resume: Resume, waits: Micros) -> Examine:
        return Examine(one.task, one.lease, resume, self._secret, self._record.spec, waits)


def _or_of(worker: PeerId, resume: Resume) -> Resume:
    """The same, with the worker's own copies: slow to come from a home, but it is connected, or it could not leave."""
    pairs = zip(resume.manifest.packs, resume.holders, strict=True)
    return Resume(resume.manifest, tuple((*held, *((at, worker) for at in range(pack.k))) for pack, held in pairs))


def _size(manifest: Manifest) -> int:
    return sum(pack.size for pack in manifest.packs)


def held_here(
    notice: SnapshotNotice, manifest: Manifest, steward: Identity, network: str, shards: list[bytes], until: int
) -> SnapshotNotice:
    """The notice with the steward's own receipts for the shards that it keeps, so that whoever goes on asks it too."""
    own = [_receipts(pack, steward, network, shards, until) for pack in manifest.packs]
    pairs = list(zip(notice.holders, own, strict=True))
    more = msgspec.structs.replace(notice, holders=tuple(PackHolders((*one.receipts, *mine)) for one, mine in pairs))
    if len(wire.encode(more)) <= NOTICE_BYTES_MAX:
        return more
    instead = (PackHolders((*mine, *one.receipts)[: max(len(mine), len(one.receipts))]) for one, mine in pairs)
    return msgspec.structs.replace(notice, holders=tuple(instead))


def _receipts(
    pack: Pack, steward: Identity, network: str, shards: list[bytes], until: int
) -> tuple[tuple[int, Kept], ...]:
    here = [index for index in range(len(pack.shards)) if shard_of(pack, index) in shards]
    made = (receipt(steward, network, shard_of(pack, index), pack.shard_size, until) for index in here)
    return tuple(zip(here, made, strict=True))
