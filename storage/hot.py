"""Packs of which a standby is getting everything: data shards from the worker, parity of its own making.

Encoding at the standby halves what the worker uploads. The worker has signed every digest, so a standby that makes
other parity than it should can serve none of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from protocol.effects import Compute, Effect, Encode, Fetch, Send
from protocol.snapshots import Pack, SpreadDone
from protocol.units import Digest, Micros, PeerId
from storage.pins import Pins


@dataclass(slots=True)
class Hot:
    """One pack on its way."""

    owner: PeerId
    pack: Pack
    until: Micros
    missing: set[Digest] = field(default_factory=set)
    """Data shards that are not here yet."""

    @property
    def name(self) -> Digest:
        """The first shard's digest names the pack."""
        return Digest(self.pack.shards[0])

    @property
    def shards(self) -> list[Digest]:
        """All of them, each once."""
        return [Digest(shard) for shard in self.pack.shards]

    @property
    def bytes(self) -> int:
        """What it takes on this disk when it is complete."""
        return self.pack.shard_size * len(self.pack.shards)

    @property
    def user(self) -> str:
        """For whom its blobs are pinned until leases take over."""
        return f"spread/{self.owner.hex()}/{self.name.hex()}"


class HotPacks:
    """All packs on their way here, by owner and name."""

    def __init__(self, pins: Pins) -> None:
        self._pins = pins
        self._packs: dict[tuple[PeerId, Digest], Hot] = {}

    def waiting(self, owner: PeerId | None = None) -> int:
        """Bytes that are promised to packs, of one owner or of all."""
        return sum(hot.bytes for hot in self._packs.values() if owner in (None, hot.owner))

    def has(self, owner: PeerId, name: Digest) -> bool:
        """Whether it is on its way already."""
        return (owner, name) in self._packs

    def add(self, hot: Hot) -> list[Effect]:
        """Fetch what is missing; when nothing is, go on to the parity."""
        self._packs[hot.owner, hot.name] = hot
        data = hot.shards[: hot.pack.k]
        hot.missing = {digest for digest in data if not self._pins.has(digest)}
        for digest in hot.shards:
            self._pins.pin(digest, hot.user)
        if not hot.missing:
            return [Compute(Encode(hot.pack))]
        return [Compute(Fetch(digest, hot.pack.shard_size, (hot.owner,))) for digest in data if digest in hot.missing]

    def arrived(self, digest: Digest) -> list[Effect]:
        """A blob is here; packs whose data is complete are encoded."""
        effects: list[Effect] = []
        for hot in [hot for hot in self._packs.values() if digest in hot.missing]:
            hot.missing.discard(digest)
            if not hot.missing:
                effects.append(Compute(Encode(hot.pack)))
        return effects

    def failed(self, digest: Digest) -> list[Effect]:
        """A data shard cannot be had: its packs are given up, and the owner is told."""
        keys = [key for key, hot in self._packs.items() if digest in hot.missing]
        return [effect for key in keys for effect in self._given_up(self._packs.pop(key), "fetch_failed")]

    def encoded(self, name: Digest, code: str) -> tuple[list[Hot], list[Effect]]:
        """(packs that are complete, to be leased and then `done`; effects for those that are not)."""
        keys = [key for key, hot in self._packs.items() if hot.name == name and not hot.missing]
        found = [self._packs.pop(key) for key in keys]
        return ([], [one for hot in found for one in self._given_up(hot, code)]) if code else (found, [])

    def done(self, hot: Hot) -> list[Effect]:
        """Leases hold its blobs now."""
        return [*self._pins.unpin(hot.shards, hot.user), Send(hot.owner, SpreadDone(hot.name, ""))]

    def released(self, owner: PeerId, shards: Iterable[Digest]) -> list[Effect]:
        """The owner wants a pack no more."""
        ended = set(shards)
        effects: list[Effect] = []
        for key in [key for key, hot in self._packs.items() if key[0] == owner and ended.issuperset(hot.shards)]:
            hot = self._packs.pop(key)
            effects += self._pins.unpin(hot.shards, hot.user)
        return effects

    def _given_up(self, hot: Hot, code: str) -> list[Effect]:
        return [*self._pins.unpin(hot.shards, hot.user), Send(hot.owner, SpreadDone(hot.name, code[:128]))]
