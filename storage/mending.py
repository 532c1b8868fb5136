"""One pack being made whole again: k shards brought here, the others made, new holders found.

fetching ── k shards are here ──> encoding ──> placing ──> done        its first placement begins at encoding
"""

from __future__ import annotations

from typing import Final, Literal

from protocol.effects import Compute, Effect, Encode, Fetch, Send
from protocol.snapshots import Keep, Kept, NotKept, Purpose, Release
from protocol.units import DAY, HOUR, MINUTE, Digest, Micros, PeerId
from storage import placement
from storage.guarded import Guarded, unfit
from storage.neighbourhood import Around
from storage.receipts import matched
from storage.restoring import Ask, Restoring

SPAN: Final[dict[Purpose, Micros]] = {
    "rolling": Micros(10 * MINUTE),
    "anchor": Micros(24 * HOUR),
    "volume": Micros(7 * DAY),
}
"""Microseconds that leases of guarded packs last after each renewal."""

PLACE_PATIENCE: Final = Micros(2 * MINUTE)
"""Microseconds that a new holder has for its shard, plus what the transfer takes at the slowest useful rate."""

MEND_MAX: Final = Micros(30 * MINUTE)
"""Microseconds after which a repair is given up and planned anew."""

Phase = Literal["fetching", "encoding", "placing", "done"]


class Mending:
    """One repair, or a first placement."""

    def __init__(self, around: Around, guarded: Guarded, now: Micros) -> None:
        self._around = around
        self._guarded = guarded
        self._began = now
        self._restoring: Restoring | None = None
        self._asked: dict[PeerId, tuple[int, Micros]] = {}
        self._refused: set[PeerId] = set()
        self.phase: Phase = "fetching"
        self.placed = 0
        """Shards that found a new holder."""

    @property
    def _user(self) -> str:
        return f"repair/{self._guarded.name.hex()}"

    @property
    def _shards(self) -> list[Digest]:
        return [Digest(shard) for shard in self._guarded.custody.pack.shards]

    def start(self, now: Micros) -> list[Effect]:
        """From the own copy if there is one; else fetch. Refused when fewer than k shards can be had."""
        pack, pins = self._guarded.custody.pack, self._around.pins
        local = [index for index in range(pack.n) if pins.has(self._guarded.custody.shard(index))]
        hood = self._around.neighbourhood
        lost = unfit(self._guarded.custody.holders, hood, now)
        lost = {peer for peer in lost if hood.standings.of(peer).is_barred or not hood.is_here(peer)}
        holders = [
            (index, peer)
            for index, peers in sorted(self._guarded.custody.receipts.items())
            for peer in sorted(peers)
            if peer not in lost and peer != self._around.me
        ]
        self._restoring = Restoring(pack, holders, local, hood.weight)
        asks = self._restoring.asks(now)
        for shard in self._shards:
            pins.pin(shard, self._user)
        return [*self._fetches(asks), *self._fetched_enough(now)]

    def fetched(self, digest: Digest, now: Micros) -> list[Effect]:
        """A blob is here."""
        index = self._index(digest)
        if index is None or self._restoring is None or self.phase != "fetching":
            return []
        self._restoring.arrived(index)
        return self._fetched_enough(now)

    def fetch_failed(self, digest: Digest, now: Micros) -> list[Effect]:
        """None of its holders delivered a shard; Refused when too few others are left."""
        index = self._index(digest)
        if index is None or self._restoring is None or self.phase != "fetching":
            return []
        self._restoring.failed(index)
        return self._fetches(self._restoring.asks(now))

    def encoded(self, name: Digest, code: str, now: Micros) -> list[Effect]:
        """All shards are here, or cannot be made."""
        if name != self._guarded.name or self.phase != "encoding":
            return []
        return self.finish() if code else self._place(now)

    def kept(self, sender: PeerId, kept: Kept, now: Micros) -> list[Effect]:
        """A new holder has its shard. RemoteViolation when the receipt is forged."""
        index = self._asked.get(sender, (None, 0))[0]
        if index is None or self._guarded.custody.shard(index) != kept.shard:
            return []
        self._guarded.custody.add(self._around.network, sender, kept, now, index)
        self._around.neighbourhood.standings.kept(sender, now)
        del self._asked[sender]
        self.placed += 1
        return self._place(now)

    def not_kept(self, sender: PeerId, message: NotKept, now: Micros) -> list[Effect]:
        """A new holder will not."""
        index = self._asked.get(sender, (None, 0))[0]
        if index is None or self._guarded.custody.shard(index) != message.shard:
            return []
        del self._asked[sender]
        self._refused.add(sender)
        self._around.neighbourhood.standings.refused(sender, message.code, now)
        return self._place(now)

    def tick(self, now: Micros) -> list[Effect]:
        """Slow shards, slow holders, and an end to everything."""
        if self.phase == "done":
            return []
        if now - self._began >= MEND_MAX:
            return self.finish()
        if self.phase == "fetching" and self._restoring is not None:
            self._restoring.look(now)
            return self._fetches(self._restoring.asks(now))
        late = [peer for peer, (_, since) in self._asked.items() if now - since >= self._patience]
        effects: list[Effect] = []
        for peer in late:
            index, _ = self._asked.pop(peer)
            self._refused.add(peer)
            self._around.neighbourhood.standings.silent(peer)
            effects.append(Send(peer, Release((self._guarded.custody.shard(index),))))
        return [*effects, *self._place(now)] if late else []

    def finish(self) -> list[Effect]:
        """What was brought here for it is not needed any more."""
        self.phase = "done"
        return self._around.pins.unpin(self._shards, self._user)

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _fetches(self, asks: list[Ask]) -> list[Effect]:
        return [Compute(Fetch(one.shard, one.size, one.sources)) for one in asks]

    def _fetched_enough(self, now: Micros) -> list[Effect]:
        if self._restoring is None or not self._restoring.is_done:
            return []
        pack = self._guarded.custody.pack
        if pack.code == "copy" or all(self._around.pins.has(shard) for shard in self._shards):
            return self._place(now)
        self.phase = "encoding"
        return [Compute(Encode(pack))]

    def _place(self, now: Micros) -> list[Effect]:
        """Ask somebody for every shard that nobody fit has in a domain of its own; done when nothing more can be."""
        self.phase = "placing"
        guarded, hood = self._guarded, self._around.neighbourhood
        lost = unfit(guarded.custody.holders, hood, now)
        placed = matched(guarded.custody.receipts, hood.domain, lost)
        busy = {index for index, _ in self._asked.values()}
        open_ = [index for index in range(guarded.custody.pack.n) if index not in placed and index not in busy]
        holding = (guarded.custody.holders - lost) | {*self._asked}
        candidates = hood.candidates(holding | self._refused)
        chosen = placement.place(guarded.custody.code, candidates, self._around.dice, taken=hood.known(holding))
        until = Micros(now + SPAN[guarded.purpose])
        effects: list[Effect] = []
        for index, peer in zip(open_, chosen.holders, strict=False):
            self._asked[peer] = (index, now)
            size = guarded.custody.pack.shard_size
            keep = Keep(guarded.custody.shard(index), size, until, guarded.purpose, (self._around.me,))
            effects.append(Send(peer, keep))
        return effects if self._asked else [*effects, *self.finish()]

    @property
    def _patience(self) -> int:
        sent = self._guarded.custody.pack.shard_size * max(1, len(self._asked))
        return PLACE_PATIENCE + sent * 1_000_000 // placement.UPLINK_MIN

    def _index(self, digest: Digest) -> int | None:
        shards = self._guarded.custody.pack.shards
        return shards.index(digest) if digest in shards else None
