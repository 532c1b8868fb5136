"""Bringing a pack back: which shards to ask of whom, until k are here. Pure; the caller fetches.

The k fastest of n: data shards first, because they need no decoding; a few more than k at once, so that one slow holder
delays nobody; another holder or another shard for whatever fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from protocol.errors import Refused
from protocol.snapshots import Pack, shard_of
from protocol.units import SECOND, Digest, Micros, PeerId

HEDGE: Final = 2
"""Shards asked for beyond the k that are needed, where k > 1."""

SLOW_MIN: Final = Micros(3 * SECOND)
"""Microseconds after which a shard may be called slow at the earliest."""

SLOW_RATE: Final = 256 * 1024
"""Bytes per second that even a bad line brings; slower is slow."""

Weight = Callable[[PeerId], float]
"""How fast a holder is expected to be; any unit."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Fetch this shard from these peers, the best first."""

    index: int
    shard: Digest
    size: int
    sources: tuple[PeerId, ...]


class Restoring:
    """One pack on its way back."""

    def __init__(self, pack: Pack, holders: Iterable[tuple[int, PeerId]], local: Iterable[int], weight: Weight) -> None:
        self.pack = pack
        self.have: set[int] = {index for index in local if index < pack.n}
        self._weight = weight
        self._sources: dict[int, list[PeerId]] = {}
        for index, peer in holders:
            if index < pack.n and peer not in self._sources.setdefault(index, []):
                self._sources[index].append(peer)
        self._asked: dict[int, Micros] = {}
        self._slow: set[int] = set()

    @property
    def is_done(self) -> bool:
        """k shards are here."""
        return len(self.have) >= self.pack.k

    @property
    def reachable(self) -> int:
        """Shards that are here or still have a holder that has not failed."""
        return len(self.have | {index for index, peers in self._sources.items() if peers})

    def asks(self, now: Micros) -> list[Ask]:
        """What to fetch now beside what is under way. Refused when fewer than k shards can be had at all."""
        if self.is_done:
            return []
        if self.reachable < self.pack.k:
            raise Refused(
                f"{self.reachable} of {self.pack.n} shards answer, {self.pack.k} are needed",
                code="too_few_shards",
                fix="Wait until more holders are back, or go on from an older snapshot.",
                numbers={"reachable": self.reachable, "shards": self.pack.n, "needed": self.pack.k},
            )
        hedge = HEDGE if self.pack.k > 1 else 1
        wanted = self.pack.k + hedge + len(self._slow - self.have) - len(self.have) - len(self._asked)
        made = [self._ask(index, now) for index in self._ranked()[: max(0, wanted)]]
        self._asked.update((one.index, now) for one in made)
        return made

    def arrived(self, index: int) -> list[int]:
        """A shard is here; the indices whose fetches are not needed any more, if that was the last one."""
        self._asked.pop(index, None)
        self._slow.discard(index)
        self.have.add(index)
        return sorted(self._asked) if self.is_done else []

    def failed(self, index: int, peer: PeerId | None = None) -> None:
        """A holder did not deliver (None: nobody did); the shard may come from another one."""
        self._asked.pop(index, None)
        self._slow.discard(index)
        self._sources[index] = [] if peer is None else [one for one in self._sources.get(index, []) if one != peer]

    def look(self, now: Micros) -> None:
        """Shards that take too long make room for others; they may still arrive."""
        patience = max(SLOW_MIN, SECOND * self.pack.shard_size // SLOW_RATE)
        self._slow |= {index for index, since in self._asked.items() if now - since >= patience}

    def _ranked(self) -> list[int]:
        """Shards that are not under way: data first where holders are alike, fast holders first."""
        open_ = [index for index, peers in self._sources.items() if peers and index not in self._asked]
        return sorted(
            (index for index in open_ if index not in self.have),
            key=lambda index: (-self._best(index) * (2.0 if index < self.pack.k else 1.0), index),
        )

    def _best(self, index: int) -> float:
        return max(self._weight(peer) for peer in self._sources[index])

    def _ask(self, index: int, now: Micros) -> Ask:
        sources = sorted(self._sources[index], key=lambda peer: (-self._weight(peer), peer))
        return Ask(index, Digest(shard_of(self.pack, index)), self.pack.shard_size, tuple(sources))
