"""The protector: at a worker, sees to it that a running chunk can go on elsewhere. Spec: specs/27-custody.md.

    waiting ── due ──> cutting ── Sealed ──> underway ── receipts from enough domains ──> durable: waiting again
       ^                  └── CutFailed, late            └── too late: the next one is cut anew

A snapshot is durable by receipts that were verified here, from enough distinct failure domains; then steward, standby
and watchers are told. Nothing before it is released until a holder chosen by chance has proved that it has its shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from protocol import wire
from protocol.completions import Completion, CutFailed, Encoded, Proved, Sealed
from protocol.effects import Compute, Effect, Emit, Forget, Store, Wake
from protocol.errors import LocalError, RemoteViolation
from protocol.identity import peer_text
from protocol.messages import Message
from protocol.provider_lease import Lease
from protocol.snapshots import ChallengeAnswer, Kept, NotKept, SpreadDone
from protocol.units import SECOND, Digest, Micros, PeerId
from storage.audits import Probe, Probes
from storage.durability import Verdict
from storage.neighbourhood import Around
from storage.protected import Cutting, Pace, Snapshot
from storage.protection import Protection
from storage.receipts import Custody
from storage.retention import Guardian, Listener, Office

LOOK_INTERVAL: Final = Micros(SECOND // 2)
"""Microseconds between looks at a running chunk."""

CHECKS_MAX: Final = 5
"""Holders that are tried for one spot check; a snapshot that none of them proves replaces nothing."""

TELLING_BYTES: Final = 4_000_000
"""Bytes of a pack from which its way tells of the uplink: of a smaller one the round trips are most of it."""

_pins_decoder: Final = msgspec.msgpack.Decoder(tuple[bytes, ...])


class Protector:
    """Protects the running leases of one worker. The provider calls `began` and `ended` (`provider_lease.Guard`)."""

    accepts: tuple[type, ...] = (Sealed, CutFailed, SpreadDone, Kept, NotKept, Encoded, ChallengeAnswer, Proved)

    def __init__(self, around: Around, pace: Callable[[Lease, Micros], Pace], guardian: Guardian) -> None:
        self._around = around
        self._pace = pace
        self._office = Office(around, guardian)
        self._tasks: dict[str, Protection] = {}
        self._probes = Probes(around.identity)
        self._checks: dict[bytes, tuple[str, int]] = {}
        """Which snapshot a spot check is for: (task, number) by shard."""
        self._tries: dict[tuple[str, int], int] = {}
        self._asked = 0
        self._leaving: list[tuple[Micros, tuple[Digest, ...], str]] = []
        """Data of leases that ended unfinished: kept here for whoever goes on, until then."""

    @property
    def listeners(self) -> list[Listener]:
        """Who is told what became of snapshots."""
        return self._office.listeners

    # ── what the node calls ──────────────────────────────────────────────────────────────────────────────────────────
    def began(self, lease: Lease, now: Micros) -> list[Effect]:
        """The chunk runs: protect it from now on. What it was resumed from stays, under new leases."""
        one = Protection(self._office, lease, self._pace(lease, now), now)
        self._tasks[lease.task] = one
        return [*one.retention.adopt(now), Wake(Micros(now + LOOK_INTERVAL), self)]

    def ended(self, lease: Lease, now: Micros) -> list[Effect]:
        """The chunk runs no more. Finished: all is released. Else its leases last for whoever goes on from them."""
        one = self._tasks.pop(lease.task, None)
        if one is None:
            return []
        self._tries = {key: count for key, count in self._tries.items() if key[0] != lease.task}
        record = f"snapshot/{lease.task}"
        if lease.output:
            return [*one.stop(), *one.finish(now), Store(record, None)]
        data = tuple(one.retention.data)
        self._leaving.append((Micros(now + one.one.span), data, one.one.user))
        return [*one.stop(), Store(record, wire.encode(data)), Wake(Micros(now + one.one.span), self)]

    def cut_now(self, task: str, hold: bool, now: Micros) -> list[Effect]:
        """Something threatens the host: a snapshot at once. `hold`: the job stands still after it, losing nothing."""
        one = self._tasks.get(task)
        return one.cut_now(hold, now) if one else []

    def restore(self, records: Iterable[tuple[str, bytes]]) -> list[Effect]:
        """Data shards of an earlier run, from records under `snapshot/`, after the holder was restored. The leases of
        that run are given back, so nobody needs them here."""
        effects: list[Effect] = []
        for key, value in records:
            shards, pins = map(Digest, _pins_decoder.decode(value)), self._around.pins
            unused = [shard for shard in shards if pins.has(shard) and not pins.is_pinned(shard)]
            effects += [*(Compute(Forget(shard)) for shard in unused), Store(key, None)]
        return effects

    def is_cutting(self, task: str) -> bool:
        """Whether a snapshot of it was asked for and not answered yet."""
        return task in self._tasks and isinstance(self._tasks[task].one.state, Cutting)

    def verdict(self, task: str) -> Verdict | None:
        """What may be said about the newest durable snapshot; None when there is none."""
        one = self._tasks.get(task)
        newest = one.one.newest_durable if one else None
        return one.verdict(newest) if one and newest else None

    def uplink(self, task: str) -> int:
        """Bytes per second, measured by what snapshots took; 0 = not yet."""
        return self._tasks[task].one.uplink if task in self._tasks else 0

    @property
    def uplink_seen(self) -> int:
        """The best that the snapshots of any running chunk got, bytes per second; 0 = not measured, or only by
        snapshots that are too small to tell."""
        newest = ((one.one.uplink, one.one.newest_durable) for one in self._tasks.values())
        return max((rate for rate, one in newest if one and one.packs[-1].pack.size >= TELLING_BYTES), default=0)

    def snapshots(self, task: str) -> list[Snapshot]:
        """What is kept of a chunk, oldest first."""
        return list(self._tasks[task].one.snapshots) if task in self._tasks else []

    # ── messages and time ────────────────────────────────────────────────────────────────────────────────────────────
    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        match message:
            case Sealed(task=task):
                if task not in self._tasks:
                    return self._dropped(message)
                return self._checked(self._tasks[task].sealed(message, now), now)
            case CutFailed(task=task):
                return self._tasks[task].failed(message, now) if task in self._tasks else []
            case ChallengeAnswer():
                return self._decided(self._probes.answered(sender, message, now), now)
            case Proved():
                return self._decided(self._probes.proved(message), now)
            case SpreadDone() | Kept() | NotKept() | Encoded():
                return self._told(sender, message, now)
            case _:
                raise LocalError(f"{type(message).__name__} is not for the protector", code="not_accepted")

    def tick(self, now: Micros) -> list[Effect]:
        """Cut what is due, hurry what is late, renew what is kept."""
        effects: list[Effect] = []
        for one in list(self._tasks.values()):
            effects += one.look(now)
        for probe in self._probes.overdue(now):
            self._around.neighbourhood.standings.silent(probe.peer)
            self._checks.pop(probe.challenge.nonce, None)
        effects = self._checked(effects, now)
        over = [item for item in self._leaving if item[0] <= now]
        self._leaving = [item for item in self._leaving if item[0] > now]
        for _, data, user in over:
            if user.removeprefix("snapshot/") not in self._tasks:
                effects += [*self._around.pins.unpin(data, user), Store(user, None)]
        if self._tasks:
            return [*effects, Wake(Micros(now + LOOK_INTERVAL))]
        return [*effects, Wake(min(item[0] for item in self._leaving))] if self._leaving else effects

    def _dropped(self, message: Sealed) -> list[Effect]:
        """A snapshot of a chunk that has ended meanwhile."""
        data = [Digest(shard) for pack in message.packs for shard in pack.shards[: pack.k]]
        for shard in data:
            self._around.pins.pin(shard, "dropped", is_ours=True)
        return self._around.pins.unpin(data, "dropped")

    def _told(self, sender: PeerId, message: SpreadDone | Kept | NotKept | Encoded, now: Micros) -> list[Effect]:
        """Shards are encrypted for one chunk each, so there is one task at most that knows this one."""
        one = next((one for one in self._tasks.values() if one.one.knows(message.shard)), None)
        if one is None:
            return []
        try:
            effects = one.told(sender, message, now)
        except RemoteViolation:
            self._around.neighbourhood.standings.lied(sender, now)
            raise
        return self._checked(effects, now)

    # ── spot checks ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _checked(self, effects: list[Effect], now: Micros) -> list[Effect]:
        """Ask a holder, chosen by chance, for a proof of each snapshot that is durable and not verified yet."""
        busy = set(self._checks.values())
        for task, one in self._tasks.items():
            for snapshot in one.one.snapshots:
                key = (task, snapshot.manifest.number)
                if snapshot.is_durable and not snapshot.is_verified and key not in busy:
                    effects = [*effects, *self._check(one, snapshot, key, now)]
        return effects

    def _check(self, one: Protection, snapshot: Snapshot, key: tuple[str, int], now: Micros) -> list[Effect]:
        if self._tries.get(key, 0) >= CHECKS_MAX:
            return []
        choices = [
            (pack, index, peer)
            for pack in snapshot.packs
            for index, peers in pack.receipts.items()
            for peer in sorted(peers)
            if peer != self._around.me and self._around.pins.has(pack.shard(index))
        ]
        if not choices:
            return []
        pack, index, peer = choices[self._around.dice.randrange(len(choices))]
        self._tries[key] = self._tries.get(key, 0) + 1
        self._asked += 1
        effects = self._probes.ask(peer, pack.shard(index), pack.pack.shard_size, self._number(now), None, now)
        nonce = self._probes.newest
        self._checks[nonce] = key
        return effects

    def _number(self, now: Micros) -> int:
        """Never the number of an earlier challenge, not even after a restart."""
        return now * 1_000 + self._asked % 1_000

    def _decided(self, probe: Probe | None, now: Micros) -> list[Effect]:
        if probe is None:
            return []
        task, number = self._checks.pop(probe.challenge.nonce)
        standings = self._around.neighbourhood.standings
        one = self._tasks.get(task)
        if probe.outcome == "true":
            standings.proved(probe.peer, probe.took, now)
            self._tries.pop((task, number), None)
            return one.verified(number, now) if one else []
        standings.lied(probe.peer, now)
        said = Emit("holder_lied", {"peer": peer_text(probe.peer), "shard": probe.shard.hex()})
        for pack in list(one.one.packs.values()) if one else []:
            if probe.shard in pack.pack.shards:
                _withdraw(pack, probe)
        return self._checked([said], now)


def _withdraw(pack: Custody, probe: Probe) -> None:
    """A receipt without a shard behind it counts no more."""
    for index in [at for at in pack.kept_by(probe.peer) if pack.shard(at) == probe.shard]:
        pack.drop(probe.peer, index)
