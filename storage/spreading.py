"""One snapshot on its way to those who keep it: the standby first, which makes the parity, then the holders.

    standby ── SpreadDone ──> keeping ──> settled          a standby that fails, or serves what does not hash to what
       └── failed, late ──> encoding ──> keeping           the worker signed, is left out: the worker does it itself

More holders are asked than are needed, so that the slowest fifth delays nobody (Storj uploads 110 and stops at 80).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.effects import Compute, Effect, Emit, Encode, LeaseKey, Send
from protocol.identity import peer_text
from protocol.snapshots import Keep, Kept, NotKept, Purpose, Release, Spread, SpreadDone
from protocol.units import HOUR, PPM, SECOND, Digest, Micros, PeerId
from storage import placement
from storage.erasure import Code
from storage.neighbourhood import Around
from storage.parcel import Parcel
from storage.placement import Placement
from storage.receipts import Custody

EXTRA_PPM: Final = 200_000
"""Share of the shards that are asked of a second holder at once."""

STANDBY_PATIENCE: Final = Micros(20 * SECOND)
"""Microseconds that the standby has at least for a pack before the worker does it itself."""

HOLDER_PATIENCE: Final = Micros(10 * SECOND)
"""Microseconds that a holder has at least for a shard before another one is asked."""

PATIENCE_FACTOR: Final = 4
"""Times that a transfer may take longer than the measured uplink lets expect."""

STRAGGLER_FACTOR: Final = 3
"""Times as long as the slowest of the faster half: who takes longer is a straggler."""

STRAGGLER_MIN: Final = Micros(2 * SECOND)
"""Microseconds below which nobody is a straggler."""

HOT_SPAN: Final = Micros(1 * HOUR)
"""Microseconds of the standby's leases, at most; they are renewed while the chunk runs."""

DOUBTS_MAX: Final = 2
"""Holders that could not fetch from the standby before it is taken to serve something else."""


@dataclass(frozen=True, slots=True)
class Order:
    """How a snapshot is to be kept."""

    lease: LeaseKey
    until: Micros
    purpose: Purpose
    standby: PeerId | None
    uplink: int
    """Bytes per second, as far as known."""
    first: tuple[PeerId, ...] = ()
    """Holders of the snapshot before."""


class Spreading:
    """All packs of one snapshot that are not kept yet."""

    def __init__(self, around: Around, order: Order, packs: Sequence[Custody], now: Micros) -> None:
        self._around = around
        self._order = order
        self.custodies = tuple(packs)
        """Of the whole snapshot, those that were kept before among them."""
        self._parcels = {one.name: Parcel(one, now) for one in packs if one.missing}
        self._placements: dict[Code, Placement] = {}
        self._began = now
        self.uplink: int | None = None
        """Bytes per second, measured: when the standby has everything, or enough holders have."""
        self.failure = ""

    # ── how far it is ────────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def is_durable(self) -> bool:
        """Every pack has receipts from enough distinct failure domains."""
        return all(one.is_durable(self._around.neighbourhood.domain) for one in self.custodies)

    @property
    def is_settled(self) -> bool:
        """Nothing more will come."""
        return all(parcel.phase in ("settled", "failed") for parcel in self._parcels.values())

    @property
    def wire_bytes(self) -> int:
        """Bytes of data shards that have to leave."""
        return sum(parcel.data_bytes for parcel in self._parcels.values())

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────────────────
    def start(self, now: Micros) -> list[Effect]:
        """Ask the standby, or make the parity here."""
        effects: list[Effect] = []
        for parcel in self._parcels.values():
            standby = self._order.standby
            if standby is None or standby == self._around.me:
                effects += self._encode(parcel, now)
            else:
                parcel.phase = "standby"
                until = min(self._order.until, now + HOT_SPAN)
                effects.append(Send(standby, Spread(*self._order.lease, parcel.custody.pack, until)))
        return effects

    def spread_done(self, sender: PeerId, message: SpreadDone, now: Micros) -> list[Effect]:
        """The standby has all of a pack, or says why not."""
        parcel = self._parcels.get(Digest(message.shard))
        if parcel is None or sender != self._order.standby or parcel.phase != "standby":
            return []
        if message.code:
            return [self._no_help(message.code), *self._encode(parcel, now)]
        parcel.custody.hot.add(sender)
        parcel.is_by_standby = True
        self._around.neighbourhood.standings.kept(sender, now)
        if all(one.phase != "standby" for one in self._parcels.values() if one is not parcel):
            self.uplink = self.wire_bytes * SECOND // max(1, now - self._began)
        return self._keep(parcel, now)

    def encoded(self, name: Digest, code: str, now: Micros) -> list[Effect]:
        """The parity was made here."""
        parcel = self._parcels.get(name)
        if parcel is None or parcel.phase != "encoding":
            return []
        if code:
            parcel.phase, self.failure = "failed", code
            return self._around.pins.unpin(parcel.parity, parcel.parity_user)
        return self._keep(parcel, now)

    def kept(self, sender: PeerId, kept: Kept, now: Micros) -> list[Effect]:
        """A receipt, verified here. RemoteViolation when it is forged; the holder is scored for it."""
        parcel = self._of(kept.shard)
        asked = parcel.index(sender, kept.shard) if parcel else None
        if parcel is None or asked is None:
            return []
        index = parcel.custody.add(self._around.network, sender, kept, now, asked)
        self._around.neighbourhood.standings.kept(sender, now)
        shard = parcel.custody.shard(index)
        others = parcel.answered(index, sender, now)
        cancelled: list[Effect] = [Send(peer, Release((shard,))) for peer in sorted(others)]
        if self.uplink is None and parcel.custody.is_durable(self._around.neighbourhood.domain):
            sent = len(parcel.custody.holders) * parcel.custody.pack.shard_size
            self.uplink = sent * SECOND // max(1, now - parcel.since)
        return [*cancelled, *self._go_on(parcel, now)]

    def not_kept(self, sender: PeerId, message: NotKept, now: Micros) -> list[Effect]:
        """A holder will not, or could not fetch it."""
        parcel = self._of(message.shard)
        if parcel is None or parcel.index(sender, message.shard) is None:
            return []
        self._around.neighbourhood.standings.refused(sender, message.code, now)
        parcel.refused.add(sender)
        parcel.forget(sender)
        if message.code == "fetch_failed" and parcel.is_by_standby:
            parcel.doubts.add(sender)
            asked = len(self._placement(parcel).holders)
            if len(parcel.doubts) >= min(DOUBTS_MAX, asked):
                return self._distrust(parcel, now)
        return self._go_on(parcel, now)

    def tick(self, now: Micros) -> list[Effect]:
        """Patience ends: of the standby, of holders."""
        effects: list[Effect] = []
        for parcel in self._parcels.values():
            if parcel.phase == "standby" and now - parcel.since >= self._standby_patience():
                effects += [self._no_help("late"), *self._encode(parcel, now)]
            elif parcel.phase == "keeping":
                for peer in parcel.note_late(self._holder_patience(parcel), now):
                    self._around.neighbourhood.standings.silent(peer)
                effects += self._go_on(parcel, now)
        return effects

    def abandon(self) -> list[Effect]:
        """Nobody waits for it any more: whatever is still under way is cancelled, receipts stay."""
        effects: list[Effect] = []
        for parcel in self._parcels.values():
            for index in {*parcel.asked, *parcel.late}:
                shard = parcel.custody.shard(index)
                effects += [Send(peer, Release((shard,))) for peer in sorted(parcel.waits_for(index))]
            if parcel.phase in ("encoding", "keeping"):
                effects += self._settle(parcel)
            parcel.phase, parcel.asked, parcel.late = "settled", {}, {}
        return effects

    # ── making the parity ────────────────────────────────────────────────────────────────────────────────────────────
    def _encode(self, parcel: Parcel, now: Micros) -> list[Effect]:
        parcel.since, parcel.is_by_standby = now, False
        if parcel.custody.pack.code == "copy":
            return self._keep(parcel, now)
        parcel.phase = "encoding"
        for shard in parcel.parity:
            self._around.pins.pin(shard, parcel.parity_user, is_ours=True)
        return [Compute(Encode(parcel.custody.pack))]

    def _distrust(self, parcel: Parcel, now: Micros) -> list[Effect]:
        """Holders cannot get from the standby what the worker signed: it lies, or it is as good as gone."""
        standby = self._order.standby
        if standby is not None:
            self._around.neighbourhood.standings.lied(standby, now)
            parcel.custody.hot.discard(standby)
        parcel.refused -= parcel.doubts
        parcel.doubts.clear()
        return [self._no_help("not_served"), *self._encode(parcel, now)]

    def _no_help(self, code: str) -> Emit:
        who = peer_text(self._order.standby) if self._order.standby else ""
        return Emit("standby_no_help", {"peer": who, "code": code})

    def _standby_patience(self) -> int:
        return max(STANDBY_PATIENCE, PATIENCE_FACTOR * SECOND * self.wire_bytes // max(1, self._order.uplink))

    # ── asking holders ───────────────────────────────────────────────────────────────────────────────────────────────
    def _keep(self, parcel: Parcel, now: Micros) -> list[Effect]:
        """The first round: every shard, and a fifth of them twice."""
        parcel.phase, parcel.since = "keeping", now
        parcel.asked, parcel.late = {}, {}
        effects = self._go_on(parcel, now)
        extra = parcel.custody.pack.n * EXTRA_PPM // PPM + 1 if parcel.custody.pack.k > 1 else 0
        for index in sorted(parcel.asked)[:extra]:
            for peer in self._free(parcel, index):
                effects.append(self._ask(parcel, index, peer, now))
                break
        return effects

    def _go_on(self, parcel: Parcel, now: Micros) -> list[Effect]:
        """Ask somebody for every shard that nobody has or is getting; settle when there is nobody left."""
        if parcel.phase != "keeping":
            return []
        effects: list[Effect] = []
        for index in parcel.custody.missing:
            if parcel.asked.get(index):
                continue
            late = sorted(parcel.late.get(index, ()))
            peer = next(self._free(parcel, index), late[0] if late else None)
            if peer is not None:
                parcel.late.get(index, set()).discard(peer)
                effects.append(self._ask(parcel, index, peer, now))
        return effects if parcel.custody.missing and parcel.waiting else [*effects, *self._settle(parcel)]

    def _free(self, parcel: Parcel, index: int) -> Iterator[PeerId]:
        """Who may be asked for a shard: nobody who refused, and nobody from a domain that has a shard of the pack."""
        domain = self._around.neighbourhood.domain
        placed = self._placement(parcel)
        used = {domain(peer) for peer in parcel.waiting | parcel.custody.holders}
        own = placed.holders[index : index + 1]
        for peer in (*own, *placed.spares, *placed.holders):
            if peer not in parcel.refused and domain(peer) not in used:
                yield peer

    def _placement(self, parcel: Parcel) -> Placement:
        """One holder set for all packs of a snapshot: each further one would be one more way to lose it."""
        code = parcel.custody.code
        if code not in self._placements:
            hood = self._around.neighbourhood
            standby = self._order.standby
            first = (*((standby,) if standby else ()), *self._order.first)
            self._placements[code] = placement.place(code, hood.candidates(), self._around.dice, first)
        return self._placements[code]

    def _ask(self, parcel: Parcel, index: int, peer: PeerId, now: Micros) -> Send:
        parcel.asked.setdefault(index, {})[peer] = now
        me, standby = self._around.me, self._order.standby
        sources: tuple[PeerId, ...] = (me,)
        if parcel.is_by_standby and standby is not None:
            sources = (standby, me) if index < parcel.custody.pack.k else (standby,)
        order = self._order
        size = parcel.custody.pack.shard_size
        return Send(peer, Keep(parcel.custody.shard(index), size, order.until, order.purpose, sources))

    def _holder_patience(self, parcel: Parcel) -> int:
        pack = parcel.custody.pack
        if len(parcel.took) * 2 >= pack.n:
            faster = sorted(parcel.took)[: (pack.n + 1) // 2]
            return max(STRAGGLER_MIN, STRAGGLER_FACTOR * faster[-1])
        sent = pack.n * pack.shard_size
        return max(HOLDER_PATIENCE, PATIENCE_FACTOR * SECOND * sent // max(1, self._order.uplink))

    def _settle(self, parcel: Parcel) -> list[Effect]:
        """The parity has served: here, and at the standby, which keeps the data and what it gave a receipt for."""
        parcel.phase = "settled"
        effects = self._around.pins.unpin(parcel.parity, parcel.parity_user)
        pack = parcel.custody.pack
        for peer in sorted(parcel.custody.hot):
            mine = {parcel.custody.shard(index) for index in parcel.custody.kept_by(peer)}
            rest = tuple(shard for shard in parcel.parity if shard not in mine)
            if rest and pack.code == "rs":
                effects.append(Send(peer, Release(rest)))
        return effects

    def _of(self, shard: bytes) -> Parcel | None:
        return next((one for one in self._parcels.values() if shard in one.custody.pack.shards), None)
