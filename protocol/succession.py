"""Who goes on when a worker is lost: snapshots that are known to be durable, and the peer that stands by.

One `Succession` per job, at its steward. Spec: specs/28-recovery.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from blake3 import blake3

from protocol import examination, secret_box, wire
from protocol.effects import Effect, Emit, Resume, Send
from protocol.errors import RemoteViolation
from protocol.identity import Identity, is_signed_by
from protocol.job_record import ChunkRecord, JobRecord
from protocol.jobspec import JobSpec
from protocol.messages import Grant
from protocol.operations import Assign
from protocol.prefix import is_prefix_of
from protocol.snapshots import (
    Manifest,
    PackHolders,
    SnapshotNotice,
    StandBy,
    StandbyChange,
    StandDown,
    is_receipt,
    shard_of,
)
from protocol.units import KIB, SECOND, Digest, JobId, Micros, PeerId

STANDBY_AFTER: Final = Micros(1 * SECOND)
"""Microseconds that a lease lives before a standby gets ready for it: what is shorter is faster begun again."""

TOLD_AGAIN: Final = Micros(15 * SECOND)
"""Microseconds until a standby is told again: it may have been restarted, or never have heard."""

NOTICE_BYTES_MAX: Final = 64 * KIB
"""Bytes of an encoded notice: what one message holds."""

Live = Mapping[int, tuple[Assign, Micros, Callable[[PeerId], bool]]]
"""Chunk -> its lease, when it began, and whether a peer can no longer be reached."""

_SECRETS: Final = "shoal/1 the secret of a job's snapshots"
_manifests: Final = wire.decoder(Manifest)
_notices: Final = wire.decoder(SnapshotNotice)


def job_secret(steward: Identity, job: bytes) -> bytes:
    """32 bytes, the same after a restart of the steward: derived, never stored."""
    return blake3(steward.seed + job, derive_key_context=_SECRETS).digest()


def sealed_secret(steward: Identity, job: bytes, spec: JobSpec, provider: PeerId, op: Digest) -> bytes:
    """The job's secret for one provider, bound to one lease; empty when the job wants no snapshots."""
    if not spec.is_protected:
        return b""
    return secret_box.seal(steward, provider, op, job_secret(steward, job))


def check_notice(network: str, worker: PeerId, notice: SnapshotNotice) -> Manifest:
    """The manifest, signed by `worker`, with receipts enough to give every pack back; else RemoteViolation."""
    data = wire.signing_bytes(network, "snapshot", notice.body)
    if notice.signature.signer != worker or not is_signed_by(worker, data, notice.signature.signature):
        raise RemoteViolation(worker, "a manifest is signed by the worker of its lease", code="bad_signature")
    manifest = wire.decode(notice.body, _manifests, worker, 32_768)
    if len(notice.holders) != len(manifest.packs):
        raise RemoteViolation(worker, "a notice names holders for every pack", code="malformed")
    for pack, holders in zip(manifest.packs, notice.holders, strict=True):
        named = [(index, kept) for index, kept in holders.receipts if index < pack.n]
        held = {
            index for index, kept in named if kept.shard == shard_of(pack, index) and is_receipt(network, kept, pack)
        }
        if len(held) < pack.k:
            raise RemoteViolation(
                worker, f"{len(held)} shards of a pack have receipts, {pack.k} are needed", code="not_durable"
            )
    return manifest


def job_of(worker: PeerId, notice: SnapshotNotice) -> JobId:
    """Which job a notice is about; nothing of it is checked yet."""
    return JobId(wire.decode(notice.body, _manifests, worker, 32_768).job)


def resume_of(steward: PeerId, grant: Grant) -> Resume | None:
    """Where a grant says to go on. The steward answers for it, as it does for the other inputs."""
    if not grant.resume:
        return None
    notice = grant.resume[0]
    manifest = wire.decode(notice.body, _manifests, steward, 32_768)
    if len(notice.holders) != len(manifest.packs):
        raise RemoteViolation(steward, "a grant names holders for every pack", code="malformed")
    return Resume(manifest, tuple(_held(holders) for holders in notice.holders))


def _held(holders: PackHolders) -> tuple[tuple[int, PeerId], ...]:
    return tuple((index, PeerId(receipt.signature.signer)) for index, receipt in holders.receipts)


def _receipts(notice: SnapshotNotice) -> int:
    return sum(len(pack.receipts) for pack in notice.holders)


class Succession:
    """Snapshots and standbys of one job's chunks."""

    def __init__(self, record: JobRecord, identity: Identity, network: str) -> None:
        self._record = record
        self._identity = identity
        self._network = network
        self._standbys: dict[int, PeerId] = {}
        self._told: dict[int, Micros] = {}
        """When the standby of a chunk was last told to get ready."""

    def standby(self, chunk: int) -> PeerId | None:
        """Who stands by for a chunk: its next lease goes there."""
        return self._standbys.get(chunk)

    def choose(self, chunk: int, standby: PeerId | None, provider: PeerId) -> list[Effect]:
        """The steward chose while it offered a lease to `provider`; who else was chosen need not wait."""
        before = self._standbys.pop(chunk, None)
        if standby is not None:
            self._standbys[chunk] = standby
        if before == provider:
            self._told.pop(chunk, None)
            return []
        return self._stand_down(chunk, before) if before != standby else []

    def fill(self, chunk: ChunkRecord, grant: Grant, provider: PeerId) -> Grant:
        """The grant with the secret for the provider's eyes alone, and where to go on."""
        secret = sealed_secret(self._identity, self._record.job, self._record.spec, provider, grant.assign.op_id)
        if not secret or not chunk.snapshot:
            return msgspec.structs.replace(grant, secret=secret)
        notice = wire.decode(chunk.snapshot, _notices, self._identity.peer, NOTICE_BYTES_MAX)
        newest = self.newest(chunk)
        if chunk.opened and newest is not None:
            where = (self._identity, self._network, chunk.opened, self._record.deadline)
            notice = examination.held_here(notice, newest[1], *where)
        return msgspec.structs.replace(grant, secret=secret, resume=(notice,))

    def resume(self, chunk: ChunkRecord) -> Resume:
        """Where one would go on from the newest durable snapshot, which there is."""
        notice = wire.decode(chunk.snapshot, _notices, self._identity.peer, NOTICE_BYTES_MAX)
        manifest = wire.decode(notice.body, _manifests, self._identity.peer, 32_768)
        return Resume(manifest, tuple(_held(holders) for holders in notice.holders))

    # ── snapshots ────────────────────────────────────────────────────────────────────────────────────────────────────
    def noticed(self, worker: PeerId, notice: SnapshotNotice) -> list[Effect]:
        """A durable snapshot of a running chunk: the newest one is where the next epoch goes on."""
        manifest = check_notice(self._network, worker, notice)
        if manifest.chunk >= len(self._record.chunks):
            raise RemoteViolation(worker, "the job has no such chunk", code="malformed")
        chunk = self._record.chunks[manifest.chunk]
        is_its = chunk.provider == worker and chunk.epoch == manifest.epoch and manifest.escrow == self._record.escrow
        place, known = (manifest.epoch, manifest.number), (chunk.snapshot_epoch, chunk.snapshot_number)
        is_back = manifest.epoch == chunk.snapshot_epoch and manifest.step < chunk.step
        if not is_its or place < known or is_back:
            return []  # Late, or further back than what its own worker has said before.
        if place == known:
            return self._held_by_more(chunk, notice)
        if self._record.spec.units_of(chunk.index):
            self._check_inherited(worker, chunk, manifest)
        chunk.snapshot = wire.encode(notice)
        chunk.snapshot_epoch, chunk.snapshot_number = place
        chunk.step, chunk.progress_ppm = manifest.step, manifest.progress_ppm
        chunk.snapshot_bytes = manifest.size
        chunk.is_protected = chunk.is_protected or notice.is_rehearsed
        fields = {"number": manifest.number, "step": manifest.step, "bytes": manifest.size}
        fields["receipts"] = _receipts(notice)
        told = {**self._record.fields(chunk), **fields, "tier": manifest.tier, "rehearsed": int(notice.is_rehearsed)}
        return [Emit("snapshot", told)]

    def _check_inherited(self, worker: PeerId, chunk: ChunkRecord, manifest: Manifest) -> None:
        """Of a chunk with units: the worker has signed for those in the snapshot, and names who signed for those that
        it began with. RemoteViolation otherwise."""
        inherited = manifest.inherited or ()
        own, earlier = next(reversed(inherited), None), inherited[:-1]
        where = (self._network, worker, manifest.escrow, manifest.chunk)
        is_own = own is not None and (own.epoch, own.units) == (manifest.epoch, manifest.step)
        if own is None or not is_own or not is_prefix_of(*where, own, earlier):
            raise RemoteViolation(worker, "a worker signs for the units in its snapshot", code="bad_inheritance")
        newest = self.newest(chunk)
        before = (newest[1].inherited or ()) if newest is not None else ()
        if newest is not None and newest[1].epoch == manifest.epoch:
            before = before[:-1]
        if earlier not in ((), before):
            raise RemoteViolation(worker, "a snapshot names others than its lease began with", code="bad_inheritance")

    def _held_by_more(self, chunk: ChunkRecord, notice: SnapshotNotice) -> list[Effect]:
        """The same snapshot once more: its shards have reached further holders, or it was rehearsed meanwhile."""
        before = wire.decode(chunk.snapshot, _notices, self._identity.peer, NOTICE_BYTES_MAX)
        is_more = _receipts(notice) > _receipts(before) or (notice.is_rehearsed and not chunk.is_protected)
        if notice.body != before.body or not is_more:
            return []
        chunk.snapshot = wire.encode(notice)
        chunk.is_protected = chunk.is_protected or notice.is_rehearsed
        fields: dict[str, str | int] = {"number": chunk.snapshot_number, "receipts": _receipts(notice)}
        return [Emit("snapshot_held", {**self._record.fields(chunk), **fields})]

    def newest(self, chunk: ChunkRecord) -> tuple[bytes, Manifest] | None:
        """Body and content of the newest durable manifest."""
        if not chunk.snapshot:
            return None
        body = wire.decode(chunk.snapshot, _notices, self._identity.peer, NOTICE_BYTES_MAX).body
        return body, wire.decode(body, _manifests, PeerId(chunk.provider), 32_768)

    def distrust(self, chunk: ChunkRecord) -> None:
        """Its worker gave a wrong result: what it left behind is not built upon."""
        chunk.snapshot, chunk.snapshot_bytes, chunk.step = b"", 0, 0
        chunk.progress_ppm, chunk.is_protected = 0, False

    # ── standbys ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def tick(self, live: Live, spare: Callable[[Assign], PeerId | None], now: Micros) -> list[Effect]:
        """Tell the standby of a lease that has lived for a while; find another where there is none, or it is gone.

        `spare` names a free bidder, for a lease whose standby cannot be reached."""
        if not self._record.spec.is_protected:
            return []
        effects: list[Effect] = []
        for index, (assign, since, is_gone) in live.items():
            if now < since + STANDBY_AFTER:
                continue
            if index not in self._standbys or is_gone(self._standbys[index]):
                effects += self._replace(index, assign, spare(assign))
            if index in self._standbys and now >= self._told.get(index, -TOLD_AGAIN) + TOLD_AGAIN:
                self._told[index] = now
                effects.append(Send(self._standbys[index], self._order(assign)))
        return effects

    def ended(self, chunk: int) -> list[Effect]:
        """The chunk has its result: nobody needs to stand by."""
        return self._stand_down(chunk, self._standbys.pop(chunk, None))

    def _replace(self, index: int, assign: Assign, standby: PeerId | None) -> list[Effect]:
        before = self._standbys.pop(index, None)
        self._told.pop(index, None)
        if standby is not None:
            self._standbys[index] = standby
        if before == standby:
            return []
        chosen = (standby,) if standby is not None else ()
        change = StandbyChange(self._record.job, index, assign.epoch, chosen)
        return [Send(PeerId(assign.provider), change)]

    def _order(self, assign: Assign) -> StandBy:
        count = len(self._record.spec.chunks)
        outputs = tuple(chunk.output for chunk in self._record.chunks[:count]) if assign.chunk == count else ()
        where = (self._record.job, assign.escrow, assign.chunk, assign.epoch)
        return StandBy(*where, assign.provider, outputs, (self._identity.peer, assign.provider))

    def _stand_down(self, chunk: int, standby: PeerId | None) -> list[Effect]:
        if standby is None or self._told.pop(chunk, None) is None:
            return []
        return [Send(standby, StandDown(self._record.job, chunk, max(1, self._record.chunks[chunk].epoch)))]
