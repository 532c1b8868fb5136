"""The protector: at a worker, sees to it that a running chunk can go on elsewhere. Spec: specs/27-custody.md.

    waiting ── due ──> cutting ── Sealed ──> underway ── receipts from enough domains ──> durable: waiting again
       ^                  └── CutFailed, late            └── too late: the next one is cut anew

A snapshot is durable by receipts that were verified here, from enough distinct failure domains; then steward, standby and
watchers are told. Nothing before it is released until a holder chosen by chance has proved that it has its shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

import msgspec

from protocol import wire
from protocol.completions import Completion, CutFailed, Encoded, Proved, Sealed
from protocol.effects import Compute, Cut, Effect, Emit, Forget, Send, Store, Wake
from protocol.errors import LocalError, RemoteViolation
from protocol.messages import Message
from protocol.provider_lease import Lease
from protocol.snapshots import (
    SHARDS_PER_MESSAGE,
    ChallengeAnswer,
    Keep,
    Kept,
    Manifest,
    NotKept,
    Purpose,
    Release,
    Renew,
    Spread,
    SpreadDone,
    is_sound,
)
from protocol.units import HOUR, MINUTE, SECOND, Digest, Micros, PeerId
from storage import durability, placement
from storage.audits import Probe, Probes
from storage.durability import Code, Verdict
from storage.neighbourhood import Around
from storage.placement import UPLINK_UNKNOWN
from storage.protected import Cutting, Pace, Protected, Snapshot, Underway, Waiting, everything, notice
from storage.receipts import Custody
from storage.spreading import Order, Spreading

LOOK_INTERVAL: Final = Micros(SECOND // 2)
"""Microseconds between looks at a running chunk."""

ANCHOR_INTERVAL: Final = Micros(10 * MINUTE)
"""Microseconds between anchors."""

ANCHOR_SPAN: Final = Micros(24 * HOUR)
"""Microseconds of an anchor's lease; the custodian renews it."""

ROLLING_SPAN_MIN: Final = Micros(10 * MINUTE)
"""Microseconds of a rolling lease, at least."""

ROLLING_INTERVALS: Final = 6
"""Intervals between snapshots that a rolling lease lasts at least."""

CUT_PATIENCE: Final = Micros(5 * MINUTE)
"""Microseconds that a cut may take before it counts as failed."""

SPREAD_PATIENCE: Final = Micros(2 * MINUTE)
"""Microseconds that a snapshot has at least to become durable."""

RETRY_MIN: Final = Micros(10 * SECOND)
"""Microseconds until the next try after a cut of which nothing came; doubled each time, up to RETRY_MAX."""

RETRY_MAX: Final = Micros(5 * MINUTE)
"""Microseconds: a script that cannot be cut is asked no more often."""

MANY_PACKS: Final = 8
"""Packs from which the receipts of `ANCHOR_MANY` fit no message."""

_pins_decoder: Final = msgspec.msgpack.Decoder(tuple[bytes, ...])


class Guardian(Protocol):
    """Who looks after anchors for as long as they are needed (`storage.custodian.Custodian`)."""

    def guard(self, pack: Custody, purpose: Purpose, user: str, now: Micros) -> list[Effect]: ...
    def drop(self, name: Digest, user: str, now: Micros) -> list[Effect]: ...


class Listener(Protocol):
    """Who wants to know what became of a snapshot."""

    def durable(self, lease: Lease, manifest: Manifest, is_held: bool, now: Micros) -> list[Effect]: ...
    def failed(self, lease: Lease, reason: str, now: Micros) -> list[Effect]: ...


class Protector:
    """Protects the running leases of one worker. The provider calls `began` and `ended` (`provider_lease.Guard`)."""

    accepts: tuple[type, ...] = (Sealed, CutFailed, SpreadDone, Kept, NotKept, Encoded, ChallengeAnswer, Proved)

    def __init__(self, around: Around, pace: Callable[[Lease, Micros], Pace], guardian: Guardian) -> None:
        self._around = around
        self._pace = pace
        self._guardian = guardian
        self._tasks: dict[str, Protected] = {}
        self._probes = Probes(around.identity)
        self._checked: dict[bytes, tuple[str, int]] = {}
        self._asked = 0
        self._leaving: list[tuple[Micros, list[Digest], str]] = []
        """Data of leases that ended unfinished: kept here for whoever goes on, until then."""
        self.listeners: list[Listener] = []

    # ── what the node calls ──────────────────────────────────────────────────────────────────────────────────────────
    def began(self, lease: Lease, now: Micros) -> list[Effect]:
        """The chunk runs: protect it from now on. What it was resumed from stays, under new leases."""
        pace = self._pace(lease, now)
        one = Protected(lease, pace, Waiting(pace.due_at(now)), span=ROLLING_SPAN_MIN, anchored=now)
        self._tasks[lease.task] = one
        adopted = self._adopt(one, now) if lease.resume is not None else []
        one.renew_at = Micros(now + one.span // 3)
        return [*adopted, Wake(Micros(now + LOOK_INTERVAL), self)]  # type: ignore[arg-type]

    def ended(self, lease: Lease, now: Micros) -> list[Effect]:
        """The chunk runs no more. Finished: all is released. Else its leases last for whoever goes on from them."""
        one = self._tasks.pop(lease.task, None)
        if one is None:
            return []
        effects = [*self._stop(one), Store(f"snapshot/{lease.task}", None)]
        data = [shard for pack in one.packs.values() for shard in _data(pack)]
        if not lease.output:
            self._leaving.append((Micros(now + one.span), data, one.user))
            return [*effects, Store(f"snapshot/{lease.task}", wire.encode(tuple(data)))]
        effects += self._released(list(one.packs.values()))
        for snapshot in one.snapshots:
            effects += self._unguard(one, snapshot, now)
        return [*effects, *self._around.pins.unpin(data, one.user)]

    def cut_now(self, task: str, hold: bool, now: Micros) -> list[Effect]:
        """Something threatens the host: a snapshot at once. `hold`: the job stands still after it, and loses nothing."""
        one = self._tasks.get(task)
        if one is None:
            return []
        if isinstance(one.state, Cutting) and (one.state.hold or not hold):
            return []
        one.urgent = hold or bool(one.urgent)
        if isinstance(one.state, Cutting):
            return []
        effects = self._give_way(one)
        return [*effects, *self._cut(one, now)]

    def restore(self, records: Iterable[tuple[str, bytes]]) -> list[Effect]:
        """Data shards of an earlier run, from records under `snapshot/`: its leases are given back, so nobody needs
        them here."""
        effects: list[Effect] = []
        for key, value in records:
            shards = [Digest(raw) for raw in _pins_decoder.decode(value)]
            here = [shard for shard in shards if self._around.pins.has(shard) and not self._around.pins.is_pinned(shard)]
            effects += [*(Compute(Forget(shard)) for shard in here), Store(key, None)]
        return effects

    def verdict(self, task: str) -> Verdict | None:
        """What may be said about the newest durable snapshot; None when there is none."""
        one = self._tasks.get(task)
        newest = one.newest_durable if one else None
        return self._verdict(newest) if newest else None

    def uplink(self, task: str) -> int:
        """Bytes per second, measured by what snapshots took; 0 = not yet."""
        one = self._tasks.get(task)
        return one.uplink if one else 0

    def snapshots(self, task: str) -> list[Snapshot]:
        """What is kept of a chunk, oldest first."""
        one = self._tasks.get(task)
        return list(one.snapshots) if one else []

    # ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        match message:
            case Sealed(task=task) | CutFailed(task=task):
                one = self._tasks.get(task)
                if one is None:
                    return []
                return self._sealed(one, message, now) if isinstance(message, Sealed) else self._failed(
                    one, message.reason, now
                )
            case ChallengeAnswer():
                return self._decided(self._probes.answered(sender, message, now), now)
            case Proved():
                return self._decided(self._probes.proved(message), now)
            case SpreadDone() | Kept() | NotKept() | Encoded():
                return [effect for one in list(self._tasks.values()) for effect in self._told(one, sender, message, now)]
            case _:
                raise LocalError(f"{type(message).__name__} is not for the protector", code="not_accepted")

    def tick(self, now: Micros) -> list[Effect]:
        """Cut what is due, hurry what is late, renew what is kept."""
        effects: list[Effect] = []
        for one in list(self._tasks.values()):
            effects += self._look(one, now)
        for probe in self._probes.overdue(now):
            self._around.neighbourhood.standings.silent(probe.peer)
            effects += self._recheck(probe, now)
        for until, data, user in [item for item in self._leaving if item[0] <= now]:
            self._leaving.remove((until, data, user))
            task = user.removeprefix("snapshot/")
            effects += [*self._around.pins.unpin(data, user), Store(f"snapshot/{task}", None)]
        return [*effects, Wake(Micros(now + LOOK_INTERVAL))] if self._tasks or self._leaving else effects
