"""What is done for one running chunk, from one snapshot to the next. `storage.protector` holds one per task."""

from __future__ import annotations

from typing import Final

from protocol import wire
from protocol.completions import CutFailed, Encoded, Sealed
from protocol.effects import Compute, Cut, Effect, Emit, Send, Store
from protocol.provider_lease import Lease
from protocol.snapshots import Kept, NotKept, Purpose, SpreadDone, is_sound
from protocol.units import HOUR, MINUTE, SECOND, Digest, Micros, PeerId
from storage import durability, placement
from storage.durability import Verdict
from storage.placement import UPLINK_UNKNOWN
from storage.protected import Cutting, Pace, Protected, Snapshot, Underway, Waiting, notice
from storage.receipts import Custody
from storage.retention import Office, Retention, data_shards
from storage.spreading import PATIENCE_FACTOR, STANDBY_PATIENCE, Order, Spreading

ANCHOR_INTERVAL: Final = Micros(10 * MINUTE)
"""Microseconds between anchors."""

ANCHOR_SPAN: Final = Micros(24 * HOUR)
"""Microseconds of an anchor's lease; the custodian renews it."""

ROLLING_SPAN_MIN: Final = Micros(10 * MINUTE)
"""Microseconds of a rolling lease, at least."""

ROLLING_SPAN_MAX: Final = Micros(6 * HOUR)
"""Microseconds of a rolling lease, at most: holders promise no more."""

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

STANDBY_SLOWER: Final = 2
"""Times as long as the worker alone would take: a standby that needs more is no help."""

WILLING_SPAN: Final = Micros(10 * MINUTE)
"""Microseconds for which no more holders are counted on than gave receipts when too few did: until the next anchor."""

MANY_PACKS: Final = 8
"""Packs from which the receipts of 16/32 fit no message."""


HELD_REST: Final = Micros(3 * MINUTE)
"""Microseconds for which a job that stands still is not cut again: longer than any notice. Nothing of it is newer, and
its steward is looking at what there is."""


class Protection:
    """One chunk."""

    def __init__(self, office: Office, lease: Lease, pace: Pace, now: Micros) -> None:
        self._office = office
        self._around = office.around
        self.one = Protected(lease, pace, Waiting(pace.due_at(now)), span=ROLLING_SPAN_MIN, anchored=now)
        self.one.renew_at = Micros(now + self.one.span // 3)
        self.retention = Retention(office, self.one)

    # ── cutting ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def cut_now(self, hold: bool, now: Micros) -> list[Effect]:
        """A snapshot at once, whatever is under way; that goes on in the background."""
        one = self.one
        if not hold and one.newest_durable is not None and one.newest_durable.hold:
            return []  # It stands still: there is nothing newer.
        if isinstance(one.state, Cutting):
            one.urgent = hold or None if not one.state.hold else None
            return []
        effects: list[Effect] = []
        if isinstance(one.state, Underway):
            effects, one.filling = self.retention.drop_filling(), one.state
        return [*effects, *self._cut(hold, now)]

    def _cut(self, hold: bool, now: Micros) -> list[Effect]:
        one, hood = self.one, self._around.neighbourhood
        candidates = hood.candidates()
        domains = self._counted_on(placement.domains(candidates), now)
        if not domains:
            one.state, one.urgent = Waiting(Micros(now + RETRY_MIN)), None
            if one.failures and not hold:  # Said before; a handover is told each time.
                return []
            return self._nothing("nobody_there", "no other peer is there to keep a snapshot", now)
        is_anchor = now - one.anchored >= ANCHOR_INTERVAL
        purpose: Purpose = "anchor" if is_anchor else "rolling"
        newest = one.newest_durable
        is_large = newest is not None and len(newest.packs) >= MANY_PACKS
        gone = hood.standings.gone_at_most(candidate.peer for candidate in candidates)
        code = durability.choose(domains, gone, purpose, is_large)
        one.state, one.urgent = Cutting(now, hold, purpose), None
        one.pace.cut(now)
        return [Compute(Cut(one.lease.task, hold, code.k, code.n))]

    def _counted_on(self, domains: int, now: Micros) -> int:
        """Failure domains for the next code: no more than were willing lately, where too few were. Some never are:
        their disks are full, or their clocks wrong. Who keeps nothing at all is no candidate once it has said so."""
        willing = self.one.willing
        return min(domains, max(1, willing[0])) if willing is not None and now < willing[1] else domains

    def failed(self, message: CutFailed, now: Micros) -> list[Effect]:
        """The job could not be cut; it goes on."""
        if not isinstance(self.one.state, Cutting):
            return []
        return self._nothing("cut_failed", message.reason, now)

    def _nothing(self, code: str, reason: str, now: Micros) -> list[Effect]:
        one = self.one
        wait = min(RETRY_MAX, RETRY_MIN << min(one.failures, 8))
        one.failures += 1
        one.lease.words.custody = reason
        one.state = Waiting(Micros(now + wait))
        one.pace.failed()
        fields = {**self._named(), "code": code, "reason": reason[:200]}
        told = [effect for who in self._office.listeners for effect in who.failed(one.lease, reason, now)]
        return [Emit("snapshot_failed", fields), *told]

    # ── spreading ────────────────────────────────────────────────────────────────────────────────────────────────────
    def sealed(self, message: Sealed, now: Micros) -> list[Effect]:
        """The snapshot is in shards: send them out. One that comes too late, or is no snapshot, is dropped."""
        one, cutting = self.one, self.one.state
        known = one.packs
        packs = tuple(known.get(Digest(pack.shards[0])) or Custody(pack) for pack in message.packs)
        if not isinstance(cutting, Cutting) or not packs or not all(is_sound(pack.pack) for pack in packs):
            unknown = [shard for pack in packs if pack.name not in known for shard in data_shards(pack)]
            self.retention.pin(unknown)
            return self._around.pins.unpin(unknown, one.user)
        until = Micros(now + (ANCHOR_SPAN if cutting.purpose == "anchor" else one.span))
        manifest = one.manifest(message, self._around.identity, self._around.network, now)
        snapshot = Snapshot(manifest, packs, cutting.purpose, until, cutting.hold, message.is_rehearsed)
        effects = [*self.retention.drop_filling(), *self.retention.forget_failed(packs)]
        one.snapshots.append(snapshot)
        self.retention.pin(self.retention.data)
        order = Order(
            one.lease.key,
            until,
            cutting.purpose,
            one.helper(self._around.me),
            one.uplink or UPLINK_UNKNOWN,
            self._holders(),
        )
        spreading = Spreading(self._around, order, packs, now)
        one.state = Underway(now, snapshot, spreading)
        one.pace.sealed(Micros(message.stall_us), spreading.wire_bytes, now)
        stored = Store(f"snapshot/{one.lease.task}", wire.encode(tuple(self.retention.data)))
        carried = [pack for pack in packs if not pack.missing]
        effects += [stored, *self.retention.keep_longer(carried, until, cutting.purpose), *spreading.start(now)]
        effects += self._progress(now)
        return effects if one.urgent is None else [*effects, *self.cut_now(one.urgent, now)]

    def told(self, sender: PeerId, message: SpreadDone | Kept | NotKept | Encoded, now: Micros) -> list[Effect]:
        """A word about a shard or a pack that may be one of ours."""
        effects: list[Effect] = []
        state = self.one.state
        for under_way in (state, self.one.filling):
            if not isinstance(under_way, Underway):
                continue
            spreading = under_way.spreading
            match message:
                case SpreadDone():
                    effects += spreading.spread_done(sender, message, now)
                case Kept():
                    effects += spreading.kept(sender, message, now)
                case NotKept():
                    effects += spreading.not_kept(sender, message, now)
                case Encoded(shard=shard, code=code):
                    effects += spreading.encoded(shard, code, now)
        return [*effects, *self.retention.noted(sender, message, now), *self._progress(now)]

    def _progress(self, now: Micros) -> list[Effect]:
        """Durable, settled, or too late?"""
        one, state = self.one, self.one.state
        effects: list[Effect] = []
        if isinstance(state, Underway):
            patience = PATIENCE_FACTOR * 2 * SECOND * state.spreading.wire_bytes // (one.uplink or UPLINK_UNKNOWN)
            if state.spreading.is_durable:
                effects += self._durable(state, now)
            elif state.spreading.is_settled or now - state.since >= max(SPREAD_PATIENCE, patience):
                effects += self._not_durable(state, now)
        filling = one.filling
        if filling is not None and not filling.snapshot.is_durable and filling.spreading.is_durable:
            effects += self._durable(filling, now)
        elif filling is not None and filling.spreading.is_settled:
            one.filling = None
            newest = one.newest_durable
            if newest is not None and newest.receipts > newest.told:
                effects += self._tell(newest)
        return effects

    def _durable(self, state: Underway, now: Micros) -> list[Effect]:
        one, snapshot = self.one, state.snapshot
        snapshot.is_durable, one.failures = True, 0
        one.uplink = state.spreading.uplink or one.uplink
        if one.uplink:
            self._around.neighbourhood.standings.served(self._around.me, 60 * one.uplink, MINUTE)
        if one.state is state:
            self._weigh(state, now)
            one.pace.durable(now)
            due = Micros(now + HELD_REST) if snapshot.hold else one.pace.due_at(now)
            one.filling, one.state = state, Waiting(due)
        one.span = self._span(now)
        one.lease.durable_step = max(one.lease.durable_step, snapshot.manifest.step)
        one.lease.words.custody = ""
        effects = self._tell(snapshot)
        if snapshot.purpose == "anchor":
            one.anchored = now
            for pack in snapshot.packs:
                effects += self._office.guardian.guard(pack, "anchor", self.retention.anchor(snapshot), now)
        manifest = snapshot.manifest
        fields: dict[str, str | int] = {
            **self._named(),
            "number": manifest.number,
            "step": manifest.step,
            "bytes": manifest.size,
            "took_us": now - state.since,
            "verdict": self.verdict(snapshot).text,
        }
        told = [
            effect for who in self._office.listeners for effect in who.durable(one.lease, manifest, snapshot.hold, now)
        ]
        return [*effects, Emit("snapshot_durable", fields), *told, *self._progress(now)]

    def _weigh(self, state: Underway, now: Micros) -> None:
        """A standby whose own line is slow would hold up every snapshot: this host hands them on itself then."""
        one, helper = self.one, self.one.helper(self._around.me)
        if helper is None or not one.uplink:
            return
        alone = 2 * SECOND * state.spreading.wire_bytes // one.uplink
        if now - state.since > STANDBY_PATIENCE + STANDBY_SLOWER * alone:
            one.slow.add(helper)

    def _not_durable(self, state: Underway, now: Micros) -> list[Effect]:
        self._weigh(state, now)
        hood = self._around.neighbourhood
        weakest = min(state.snapshot.packs, key=lambda pack: pack.spread(hood.domain) - pack.required)
        if state.spreading.is_settled and not state.spreading.failure:
            self.one.willing = (weakest.spread(hood.domain), Micros(now + WILLING_SPAN))
        reason = state.spreading.failure or (
            f"receipts from {weakest.spread(hood.domain)} failure domains, {weakest.required} are needed"
        )
        return [*state.spreading.abandon(), *self._nothing("not_durable", reason, now)]

    def _tell(self, snapshot: Snapshot) -> list[Effect]:
        lease = self.one.lease
        snapshot.told = snapshot.receipts
        lease.words.kept = self.verdict(snapshot).text
        made = notice(self._around.identity, self._around.network, snapshot)
        if made is None:
            return [Emit("snapshot_untold", {**self._named(), "packs": len(snapshot.packs)})]
        watchers = (PeerId(peer) for peer in lease.assign.watchers)
        told = dict.fromkeys((lease.steward, *((lease.standby,) if lease.standby else ()), *watchers))
        return [Send(peer, made) for peer in told if peer != self._around.me]

    def verdict(self, snapshot: Snapshot) -> Verdict:
        """What may be said about a snapshot: what holds for its weakest pack."""
        hood = self._around.neighbourhood
        found = [
            durability.verdict(
                pack.code,
                len(pack.holders),
                pack.spread(hood.domain),
                hood.standings.gone_at_most(pack.holders),
                snapshot.purpose,
            )
            for pack in snapshot.packs
        ]
        return max(found, key=lambda one: (not one.is_durable, one.loss))

    # ── keeping ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def look(self, now: Micros) -> list[Effect]:
        """What time brings."""
        one, state = self.one, self.one.state
        effects: list[Effect] = []
        if isinstance(state, Underway):
            effects += state.spreading.tick(now)
        if one.filling is not None:
            effects += one.filling.spreading.tick(now)
        effects += self._progress(now)
        if isinstance(state, Cutting) and now - state.since >= CUT_PATIENCE:
            effects += self._nothing("cut_late", f"the job did not answer within {CUT_PATIENCE // MINUTE} minutes", now)
        elif isinstance(state, Waiting) and (one.urgent is not None or now >= state.due):
            effects += self._cut(bool(one.urgent), now)
        if now >= one.renew_at:
            one.renew_at = Micros(now + one.span // 3)
            effects += self.retention.renewed(now)
        return [*effects, *self.retention.warm(now)]

    def verified(self, number: int, now: Micros) -> list[Effect]:
        """A holder has proved a shard of this snapshot: what came before may be let go."""
        one = self.one
        for snapshot in one.snapshots:
            if snapshot.manifest.number == number:
                snapshot.is_verified = snapshot.is_durable
        return self.retention.let_go(one.retired(), now)

    def stop(self) -> list[Effect]:
        """Nothing more is sent out."""
        state = self.one.state
        effects = state.spreading.abandon() if isinstance(state, Underway) else []
        return [*effects, *self.retention.drop_filling()]

    def finish(self, now: Micros) -> list[Effect]:
        """The chunk is done: nobody will go on from here."""
        data = self.retention.data
        effects = self.retention.let_go(list(self.one.snapshots), now)
        return [*effects, *self._around.pins.unpin(data, self.one.user)]

    def _span(self, now: Micros) -> Micros:
        interval = max(0, self.one.pace.due_at(now) - now)
        return Micros(min(ROLLING_SPAN_MAX, max(ROLLING_SPAN_MIN, ROLLING_INTERVALS * interval)))

    def _holders(self) -> tuple[PeerId, ...]:
        newest = self.one.newest_durable
        return tuple(sorted(newest.packs[-1].holders)) if newest and newest.packs else ()

    def _named(self) -> dict[str, str | int]:
        _, chunk, epoch = self.one.lease.key
        return {"job": self.one.lease.job.hex(), "chunk": chunk, "epoch": epoch}
