"""The custodian: at the owner of anchors and volumes, sees to it that they stay. Spec: specs/27-custody.md.

It audits holders, renews leases, makes lost shards again before it is too late, and sweeps what is dropped. A pack
whose shards nobody holds yet is placed by the same rules: it is the most endangered of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from protocol.completions import Completion, Encoded, Fetched, FetchFailed, Proved
from protocol.effects import Effect, Emit, Send, Store, Wake
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.messages import Message
from protocol.snapshots import SHARDS_PER_MESSAGE, ChallengeAnswer, Kept, NotKept, Purpose, Renew
from protocol.units import HOUR, MINUTE, SECOND, Digest, Micros, PeerId
from storage import durability, guarded
from storage.audits import Probe
from storage.durability import Verdict
from storage.guarded import Guarded
from storage.leases import GRACE
from storage.mending import SPAN, Mending
from storage.neighbourhood import Around
from storage.patrol import Patrol, lost
from storage.placement import UPLINK_UNKNOWN
from storage.protected import everything
from storage.receipts import Custody
from storage.repairs import Budget, in_order
from storage.sweeping import Sweep

LOOK_INTERVAL: Final = Micros(30 * SECOND)
"""Microseconds between looks at everything that is guarded."""

MEND_INTERVAL: Final = Micros(2 * SECOND)
"""The same while something is being repaired."""

RENEW_INTERVAL: Final = Micros(1 * HOUR)
"""Microseconds between renewals: a day's lease survives twenty lost ones."""

REPAIRS_MAX: Final = 4
"""Packs that are repaired at once."""

UNREACHABLE_AGAIN: Final = Micros(10 * MINUTE)
"""Microseconds until a pack of which fewer than k shards answer is tried again."""

MEND_PAUSE: Final = Micros(1 * MINUTE)
"""Microseconds between two repairs of one pack."""

PACKS_MAX: Final = 65_536
"""Packs under guard at one owner."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a guarded pack is."""

    verdict: Verdict
    alive: int
    holders: int
    is_being_repaired: bool


class Custodian:
    """Looks after packs, each by the name of its first shard, for as long as somebody here uses them."""

    accepts: tuple[type, ...] = (Kept, NotKept, ChallengeAnswer, Proved, Encoded, Fetched, FetchFailed)

    def __init__(self, around: Around) -> None:
        self._around = around
        self._packs: dict[Digest, Guarded] = {}
        self._mending: dict[Digest, Mending] = {}
        self._not_before: dict[Digest, Micros] = {}
        self._patrol = Patrol(around)
        self._sweep = Sweep()
        self._budget = Budget(UPLINK_UNKNOWN, Micros(0))
        self._look_at = Micros(0)

    # ── what its owner calls ─────────────────────────────────────────────────────────────────────────────────────────
    def guard(self, pack: Custody, purpose: Purpose, user: str, now: Micros) -> list[Effect]:
        """Look after a pack for `user`. With too few receipts for it to be durable, its shards are placed first, from
        the blobs of this node."""
        known = self._packs.get(pack.name)
        if known is None and len(self._packs) >= PACKS_MAX:
            raise Refused(f"{PACKS_MAX} packs are guarded", code="guards_full", numbers={"packs_max": PACKS_MAX})
        if known is None:
            known = self._packs[pack.name] = Guarded(pack, purpose, renew_at=Micros(now + RENEW_INTERVAL))
            known.was_whole = pack.is_durable(self._around.neighbourhood.domain)
        known.users.add(user)
        prepared = self._patrol.prepare(known, now) if purpose == "volume" else []
        self._look_at = now
        return [Store(*known.stored()), *prepared, Wake(now, self)]

    def drop(self, name: Digest, user: str, is_needed: bool, now: Micros) -> list[Effect]:
        """`user` needs the pack no more; when nobody does, its shards are released. `is_needed`: the same owner needs
        them elsewhere, and only the guard ends."""
        known = self._packs.get(name)
        if known is None or user not in known.users:
            return []
        known.users.discard(user)
        if known.users:
            return [Store(*known.stored())]
        del self._packs[name]
        mending = self._mending.pop(name, None)
        effects: list[Effect] = mending.finish() if mending else []
        if not is_needed:
            for peer, shards in everything([known.custody]).items():
                self._sweep.add(peer, shards, Micros(now + SPAN[known.purpose]))
            effects += self._sweep.tick(now, self._around.neighbourhood.is_here)
        return [*effects, Store(guarded.key(name), None)]

    def status(self, name: Digest, now: Micros) -> Status | None:
        """How a pack is; None when it is not guarded."""
        known = self._packs.get(name)
        if known is None:
            return None
        hood = self._around.neighbourhood
        unfit = guarded.unfit(known.custody.holders, hood, now)
        alive = known.custody.spread(hood.domain, unfit)
        fit = known.custody.holders - unfit
        verdict = durability.verdict(
            known.custody.code, len(fit), alive, hood.standings.gone_at_most(fit), known.purpose
        )
        return Status(verdict, alive, len(known.custody.holders), name in self._mending)

    def custody(self, name: Digest) -> Custody | None:
        """A guarded pack and its receipts."""
        known = self._packs.get(name)
        return known.custody if known else None

    def restore(self, records: Iterable[tuple[str, bytes]], now: Micros) -> list[Effect]:
        """Packs of an earlier run, from records under `guard/`. Anchors of chunks that ran then are left to whoever
        goes on from them, until their leases end."""
        effects: list[Effect] = []
        for key, value in records:
            known = guarded.opened(value, self._around.me)
            if known.purpose != "volume":
                effects.append(Store(key, None))
                continue
            known.renew_at = now
            self._packs[known.name] = known
        self._look_at = now
        return [*effects, Wake(now, self)]

    # ── messages and time ────────────────────────────────────────────────────────────────────────────────────────────
    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        match message:
            case Kept() | NotKept():
                return self._answered(sender, message, now)
            case ChallengeAnswer():
                return self._decided(self._patrol.answered(sender, message, now))
            case Proved():
                return [
                    *self._patrol.prepared(message, self._packs),
                    *self._decided(self._patrol.proved(message, now)),
                ]
            case Encoded(shard=shard, code=code):
                return self._run(shard, lambda mending: mending.encoded(shard, code, now), now)
            case Fetched(digest=digest, size=size):
                effects = self._patrol.fetched(digest, size, self._packs, now)
                for name in list(self._mending):
                    effects += self._run(name, lambda mending: mending.fetched(digest, now), now)
                return effects
            case FetchFailed(digest=digest):
                effects = self._patrol.fetch_failed(digest, now)
                for name in list(self._mending):
                    effects += self._run(name, lambda mending: mending.fetch_failed(digest, now), now)
                return effects
            case _:
                raise LocalError(f"{type(message).__name__} is not for the custodian", code="not_accepted")

    def tick(self, now: Micros) -> list[Effect]:
        """Look at everything: who is there, what is due."""
        if not self._packs and not self._sweep:
            return []
        if now < self._look_at:
            return [Wake(self._look_at)]
        self._look_at = Micros(now + LOOK_INTERVAL)
        hood = self._around.neighbourhood
        hood.look(now)
        self._budget.measured(hood.standings.of(self._around.me).uplink or UPLINK_UNKNOWN)
        self._patrol.look(now)
        effects = [*self._repair(now), *self._renew(now), *self._patrol.audit(self._packs.values(), now)]
        if self._mending:
            self._look_at = Micros(now + MEND_INTERVAL)
        return [*effects, *self._sweep.tick(now, hood.is_here), Wake(self._look_at)]

    def _answered(self, sender: PeerId, message: Kept | NotKept, now: Micros) -> list[Effect]:
        """About a repair, or a renewal."""
        effects: list[Effect] = []
        for known in [known for known in self._packs.values() if message.shard in known.custody.pack.shards]:
            try:
                if isinstance(message, NotKept):
                    effects += self._run(known.name, lambda mending: mending.not_kept(sender, message, now), now)
                    self._withdraw(known, sender, message)
                else:
                    effects += self._run(known.name, lambda mending: mending.kept(sender, message, now), now)
                    if sender in known.custody.holders:
                        known.custody.add(self._around.network, sender, message, now)
            except RemoteViolation:
                self._around.neighbourhood.standings.lied(sender, now)
                raise
        return effects

    def _withdraw(self, known: Guarded, sender: PeerId, message: NotKept) -> None:
        if message.code == "gone":
            for index in [at for at in known.custody.kept_by(sender) if known.custody.shard(at) == message.shard]:
                known.custody.drop(sender, index)

    def _decided(self, probe: Probe | None) -> list[Effect]:
        """A holder without its shard holds nothing: the receipt counts no more."""
        if probe is None or probe.outcome == "true":
            return []
        effects: list[Effect] = [lost(probe)]
        for known in self._packs.values():
            for index in [at for at in known.custody.kept_by(probe.peer) if known.custody.shard(at) == probe.shard]:
                known.custody.drop(probe.peer, index)
                effects.append(Store(*known.stored()))
        return effects

    # ── repairs and leases ───────────────────────────────────────────────────────────────────────────────────────────
    def _repair(self, now: Micros) -> list[Effect]:
        effects: list[Effect] = []
        for name in list(self._mending):
            effects += self._run(name, lambda mending: mending.tick(now), now)
        hood = self._around.neighbourhood
        waiting = [
            known.health(hood, now)
            for name, known in self._packs.items()
            if name not in self._mending and self._not_before.get(name, Micros(0)) <= now
        ]
        for health in in_order(waiting):
            if len(self._mending) >= REPAIRS_MAX:
                break
            cost = health.size * health.missing
            if health.is_critical:
                self._budget.force(0 if health.is_new else cost)
            elif not self._budget.take(cost, now):
                continue
            self._mending[health.pack] = Mending(self._around, self._packs[health.pack], now)
            effects += self._run(health.pack, lambda mending: mending.start(now), now)
        return effects

    def _run(self, name: Digest, act: Callable[[Mending], list[Effect]], now: Micros) -> list[Effect]:
        """One step of a repair, if there is one, and what its end means."""
        mending = self._mending.get(name)
        if mending is None:
            return []
        pause = MEND_PAUSE
        try:
            effects = act(mending)
        except Refused as refusal:
            why: dict[str, str | int] = {"pack": name.hex(), "code": refusal.code, "detail": refusal.detail}
            effects = [*mending.finish(), Emit("pack_unreachable", why)]
            pause = UNREACHABLE_AGAIN
        if mending.phase != "done":
            return effects
        del self._mending[name]
        self._not_before = {pack: at for pack, at in self._not_before.items() if at > now}
        self._not_before[name] = Micros(now + pause)
        return [*effects, *self._whole(self._packs[name], mending.placed, now)]

    def _whole(self, known: Guarded, placed: int, now: Micros) -> list[Effect]:
        """After a repair: who was replaced need not keep its shard, should it come back."""
        hood = self._around.neighbourhood
        unfit = guarded.unfit(known.custody.holders, hood, now)
        for index, peers in known.custody.receipts.items():
            for peer in [peer for peer in peers if peer in unfit and len(peers.keys() - unfit)]:
                self._sweep.add(peer, [known.custody.shard(index)], Micros(now + SPAN[known.purpose]))
                known.custody.drop(peer, index)
        for peer in known.custody.holders:
            for index in known.custody.kept_by(peer):
                self._sweep.forget(peer, known.custody.shard(index))
        known.was_whole = known.was_whole or known.custody.is_durable(hood.domain)
        alive = known.custody.spread(hood.domain, guarded.unfit(known.custody.holders, hood, now))
        fields: dict[str, str | int] = {"pack": known.name.hex(), "placed": placed, "alive": alive}
        return [Store(*known.stored()), Emit("pack_mended", fields)]

    def _renew(self, now: Micros) -> list[Effect]:
        effects: list[Effect] = []
        for known in self._packs.values():
            if now < known.renew_at:
                continue
            known.renew_at = Micros(now + RENEW_INTERVAL)
            known.custody.lapse(Micros(now - GRACE[known.purpose]))
            until = Micros(now + SPAN[known.purpose])
            for peer, shards in everything([known.custody]).items():
                parts = (shards[at : at + SHARDS_PER_MESSAGE] for at in range(0, len(shards), SHARDS_PER_MESSAGE))
                effects += [Send(peer, Renew(tuple(part), until)) for part in parts]
            effects.append(Store(*known.stored()))
        return effects
