"""Snapshots: what is called durable can be had, and whoever goes on does so from the newest one that is known.

`Custody` knows from outside which host has which shard. More losses than a code bears are no fault of the machines:
they are counted as exposures, with their cause. Everything else is a violation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from protocol import wire
from protocol.completions import RunDone
from protocol.effects import Compute, Effect, Emit, Forget, Send
from protocol.messages import Grant
from protocol.snapshots import Manifest, Pack, SnapshotNotice
from protocol.units import PPM, Digest, PeerId
from simulations.checkers import worth
from simulations.checkers.checker import Checker
from simulations.scenario import NS, Check, Injection
from simulations.subject import Subject, is_honest
from simulations.tasks import Task
from storage.spreading import EXTRA_PPM

if TYPE_CHECKING:
    from simulations.world import World

SNAPSHOTS_MAX: Final = 7
"""Snapshots of one lease that may be on disks at once: two rolling ones that are kept, an anchor and the one before it,
one that is being filled, one on its way, and one whose release is on its way."""

REST: Final = 8
"""Copies of shards that are no snapshot: hosts that were down when it was let go keep theirs until the lease ends."""

COUNT_NS: Final = 30 * NS
"""Between two counts of what lies on disks, ns."""

Place = tuple[bytes, int]
"""Escrow and chunk."""

_manifests: Final = wire.decoder(Manifest)


@dataclass(slots=True)
class Known:
    """The newest durable snapshot that a chunk's steward knows."""

    manifest: Manifest
    holders: tuple[dict[int, set[PeerId]], ...]
    """By pack: shard index -> who gave a receipt."""
    until: Mapping[tuple[PeerId, bytes], int]
    """(holder, shard) -> promised until then, µs of the holder's clock."""
    since: int
    """When the steward heard of it, ns."""

    @property
    def place(self) -> tuple[int, int]:
        return self.manifest.epoch, self.manifest.number


@dataclass(slots=True)
class Exposure:
    """A time in which the newest durable snapshot could not be had, because more was lost than its code bears."""

    began: int
    ended: int
    lost: int
    """Shards of its weakest pack whose holders were all gone."""
    spare: int
    """Shards that its holders could have lost."""
    wiped: int
    """Holders among them whose disks had died."""


@dataclass(slots=True)
class Failure:
    """A snapshot that was called durable and did not come back when it was needed."""

    at: int
    why: str
    reachable: int
    """Shards of its weakest pack that could be had then."""
    needed: int
    is_handed: bool


@dataclass(slots=True)
class Findings:
    """What was no violation."""

    exposures: list[Exposure] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    handed: int = 0
    """Chunks that went on from the step at which they were handed over."""
    copies_max: int = 0
    """Most copies of shards that one snapshot had."""
    snapshots_max: int = 0


class Custody(Checker):
    """Watches every snapshot of every chunk. In a world whose jobs take none it does nothing."""

    name: ClassVar[Check] = "custody"

    def __init__(self) -> None:
        super().__init__()
        self.findings = Findings()
        self._is_on = False
        self._newest: dict[Place, Known] = {}
        self._durable: dict[Place, tuple[int, int]] = {}
        """The newest that its worker called durable; its word may still be on the way."""
        self._done: set[Place] = set()
        """Chunks that some worker has finished: nobody needs their snapshots."""
        self._handed: dict[tuple[str, int, int], int] = {}
        """(job, chunk, epoch) that was handed over -> the step."""
        self._open: dict[Place, Exposure] = {}
        self._wiped: dict[int, int] = {}
        """When a disk died last, ns."""
        self._down = False
        """Somebody went since the last look."""

    def started(self, world: World) -> None:
        super().started(world)
        self._world = world
        load = world.scenario.workload.jobs
        self._is_on = load is not None and bool(load.state)
        self._index = {bytes(peer.identity.peer): peer.index for peer in self.peers}

    # ── what machines say ────────────────────────────────────────────────────────────────────────────────────────────
    def handled(self, peer: Subject, cause: object, effects: list[Effect], now: int) -> None:
        if not self._is_on:
            return
        is_bound = is_honest(peer)  # What a cheat lets go of is let go of; what it keeps is its own business.
        if type(cause) is RunDone:
            assert isinstance(cause, RunDone)
            task = self._world.driver.worker.protecting.tasks.get(cause.task)
            if cause.reason == "ok" and task is not None:
                self._done.add(_place(task))
        for effect in effects:
            match effect:
                case Emit("snapshot") if isinstance(cause, SnapshotNotice) and is_bound:
                    self._noticed(cause, now)
                case Emit("snapshot_durable", fields):
                    self._said(peer, fields)
                case Emit("handover", {"phase": "handed", "job": str(job), "chunk": int(chunk), **rest}):
                    epoch, step = rest["epoch"], rest["step"]
                    self._handed[job, chunk, int(epoch)] = int(step)
                case Send(_, Grant() as grant) if is_bound:
                    self._granted(peer, grant, now)
                case Compute(Forget(digest)) if is_bound:
                    self._forgotten(peer, digest, now)
                case _:
                    pass

    def _said(self, peer: Subject, fields: Mapping[str, str | int]) -> None:
        for lease in peer.machines.provider.leases.values():
            if (lease.job.hex(), lease.assign.chunk, lease.assign.epoch) == tuple(
                fields[name] for name in ("job", "chunk", "epoch")
            ):
                place = (lease.assign.escrow, lease.assign.chunk)
                said = (lease.assign.epoch, int(fields["number"]))
                self._durable[place] = max(said, self._durable.get(place, said))

    def _noticed(self, notice: SnapshotNotice, now: int) -> None:
        manifest = wire.decode(notice.body, _manifests, PeerId(notice.signature.signer), 32_768)
        holders: list[dict[int, set[PeerId]]] = []
        until: dict[tuple[PeerId, bytes], int] = {}
        for pack in notice.holders:
            held: dict[int, set[PeerId]] = {}
            for index, kept in pack.receipts:
                signer = PeerId(kept.signature.signer)
                held.setdefault(index, set()).add(signer)
                until[signer, kept.shard] = kept.until
            holders.append(held)
        place = (manifest.escrow, manifest.chunk)
        self._newest[place] = Known(manifest, tuple(holders), until, now)
        self._look(place, now)

    def _granted(self, steward: Subject, grant: Grant, now: int) -> None:
        """Whoever is granted a chunk is told of the newest durable snapshot that its steward knows."""
        record = next(
            (one.record for one in steward.machines.steward.jobs.values() if one.record.job == grant.job), None
        )
        if record is None:
            return
        target = _target(grant)
        for (escrow, chunk), known in self._newest.items():
            state = record.chunks[chunk] if escrow == record.escrow and chunk < len(record.chunks) else None
            if state is None or (bytes(state.provider), chunk) != target or state.state != "granted":
                continue
            told = (
                wire.decode(grant.resume[0].body, _manifests, PeerId(known.manifest.escrow)) if grant.resume else None
            )
            is_wiped = not state.snapshot  # Distrusted: its worker gave a wrong result.
            if told is not None and (told.escrow, told.chunk) != (escrow, chunk):
                continue
            if not is_wiped and (told is None or told.step < known.manifest.step):
                what = "nothing" if told is None else f"step {told.step}"
                detail = f"chunk {chunk} is granted from {what}, step {known.manifest.step} is durable"
                self.fail(detail, steward.index, now, escrow)

    def _forgotten(self, peer: Subject, digest: Digest, now: int) -> None:
        """A holder keeps what it gave a receipt for, as long as it promised and nothing newer is durable."""
        made = self._world.driver.worker.protecting.shards.get(digest)
        if made is None:
            return
        task = self._world.driver.worker.protecting.tasks[made[0]]
        place = _place(task)
        known = self._newest.get(place)
        if known is None or place in self._done or self._durable.get(place, known.place) > known.place:
            return
        until = known.until.get((PeerId(peer.identity.peer), digest))
        if until is not None and peer.clock.read(now) < until:
            detail = f"forgets a shard of snapshot {known.manifest.number} of chunk {place[1]} before its promise ends"
            self.fail(detail, peer.index, now, place[0])

    # ── what can be had ──────────────────────────────────────────────────────────────────────────────────────────────
    def injected(self, injection: Injection, now: int) -> None:
        if injection.disk == "dead" and injection.kind == "disk":
            self._wiped.update(dict.fromkeys(injection.peers, now))

    def moved(self, peer: Subject, is_up: bool, now: int) -> None:
        if self._is_on:
            if not is_up:
                self._down = True
            for place in [*self._open]:
                self._look(place, now)

    def _look(self, place: Place, now: int) -> None:
        """Are there k shards of every pack, if its holders have not lost more than it bears?"""
        known = self._newest[place]
        if place in self._done or self._durable.get(place, known.place) > known.place:
            self._close(place, now)  # Not needed, or the word of a newer one is on its way to the steward.
            return
        worst: Exposure | None = None
        for pack, held in zip(known.manifest.packs, known.holders, strict=True):
            there = self._shards(pack)
            lost = [index for index, peers in held.items() if all(self._is_lost(peer, known) for peer in peers)]
            spare = len(held) - pack.k
            if pack.k == 1:
                spare = len({peer for peers in held.values() for peer in peers}) - 1
                lost = [0] * sum(self._is_lost(peer, known) for peers in held.values() for peer in peers)
            if there >= pack.k:
                continue
            if len(lost) <= spare:
                detail = (
                    f"{there} shards of chunk {place[1]} can be had, {pack.k} are needed, {len(lost)} holders are lost"
                )
                self.fail(detail, -1, now, place[0])
            gone = {self._index[peer] for peers in held.values() for peer in peers}
            worst = Exposure(now, -1, len(lost), spare, len(gone & set(self._wiped)))
        if worst is None:
            self._close(place, now)
        elif place not in self._open:
            self._open[place] = worst
            self.findings.exposures.append(worst)

    def _there(self, known: Known) -> int:
        """Shards of the weakest pack on hosts that are up."""
        return min(map(self._shards, known.manifest.packs))

    def _shards(self, pack: Pack) -> int:
        """Shards of a pack on hosts that are up."""
        held, peers = self._world.library.holders, self.peers
        return sum(any(peers[peer].is_up for peer in held(Digest(shard))) for shard in pack.shards)

    def _is_lost(self, peer: PeerId, known: Known) -> bool:
        """Whether a holder is gone, or its disk has died since it gave its receipt."""
        index = self._index[peer]
        return not self.peers[index].is_up or self._wiped.get(index, -1) >= known.since

    def _close(self, place: Place, now: int) -> None:
        spell = self._open.pop(place, None)
        if spell is not None:
            spell.ended = now

    # ── going on ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def resumed(self, task: Task, why: str, waited: int, brought: int, now: int) -> None:
        if not self._is_on:
            return
        place, lease = _place(task), task.run.lease
        assert lease is not None
        known = self._newest.get(place)
        job = known.manifest.job.hex() if known is not None else ""
        step = self._handed.get((job, lease[1], lease[2] - 1))
        if why and why != "none" and known is not None:
            there = self._there(known)
            self.findings.failures.append(Failure(now, why, there, known.manifest.packs[0].k, step is not None))
        elif step is not None and not why:
            if task.first != step:
                detail = f"chunk {lease[1]} was handed over at step {step} and goes on from {task.first}"
                self.fail(detail, task.peer.index, now, lease[0])
            self.findings.handed += 1
        if not why and task.run.resume is not None and task.first != task.run.resume.manifest.step:
            self.fail(f"goes on from step {task.first}, not from its snapshot's", task.peer.index, now, lease[0])

    # ── what lies on disks ───────────────────────────────────────────────────────────────────────────────────────────
    def second(self, now: int) -> None:
        if self._is_on and self._down:
            self._down = False
            for place in self._newest:
                self._look(place, now)
        if self._is_on and now % COUNT_NS == 0:
            self._count(now)

    def _count(self, now: int) -> None:
        """A lease leaves no more on other people's disks than its newest snapshots need."""
        protecting = self._world.driver.worker.protecting
        copies: Counter[tuple[str, int, int]] = Counter()
        for peer in self.peers:
            copies.update(self._world.library.those(peer.index, protecting.shards))
        numbers: dict[str, set[int]] = {}
        for (task, number, _place_of), count in copies.items():
            if protecting.tasks[task].is_running() and count >= REST:
                numbers.setdefault(task, set()).add(number)
                self.findings.copies_max = max(self.findings.copies_max, count)
        for task, found in numbers.items():
            self.findings.snapshots_max = max(self.findings.snapshots_max, len(found))
            if len(found) > SNAPSHOTS_MAX:
                one = protecting.tasks[task]
                detail = f"{len(found)} snapshots of {task} lie on disks, {SNAPSHOTS_MAX} are the most"
                self.fail(detail, one.peer.index, now, _place(one)[0])
        most = max(copies.values(), default=0)
        if most > self._copies_max():
            self.fail(f"{most} copies of the shards of one pack, {self._copies_max()} are the most", -1, now)

    def _copies_max(self) -> int:
        """Every shard once, a fifth of them twice, everything at the standby and at the one before, and what the worker
        and whoever restores have of their own."""
        n = 32
        return n + n * EXTRA_PPM // PPM + 1 + 4 * n

    def finished(self, now: int) -> None:
        """What was paid for a chunk is what it was worth, however many hosts worked on it; all else went back."""
        for peer in self.peers:
            if not self._is_on or peer.role != "validator" or not is_honest(peer) or not peer.is_up:
                continue
            for detail, escrow in worth.mistakes(peer.machines.ledger):
                self.fail(detail, peer.index, now, escrow)


def _place(task: Task) -> Place:
    assert task.run.lease is not None
    return task.run.lease[0], task.run.lease[1]


def _target(grant: Grant) -> tuple[bytes, int]:
    """To whom which chunk is granted."""
    from protocol.ledger import operation_decoder

    operation = wire.decode(grant.assign.body, operation_decoder, PeerId(grant.job))
    return bytes(getattr(operation, "provider", b"")), int(getattr(operation, "chunk", -1))
