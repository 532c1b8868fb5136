"""The plan of one transfer: which chunk is asked of which source next. Spec: specs/19-bulk.md.

Sources hold a blob completely or not at all, so no chunk is rarer than another: chunks are given out in order, more at
a time to fast sources, and at the end a source that has nothing left to do takes over chunks of slower ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from protocol.errors import LocalError
from protocol.units import MIB, SECOND, Micros

DEPTH_MAX: Final = 4
"""Chunks under way from one source: the next ones are on their way while one is checked and written."""

AHEAD_US: Final = Micros(200_000)
"""A source is given as many chunks ahead as it delivers in this time, µs, and always one."""

RACERS_MAX: Final = 2
"""Sources that may be asked for one chunk at the same time, at the end."""

STALL_US: Final = Micros(120 * SECOND)
"""A source that has chunks under way and delivers none for so long is given up, µs: 35 kB/s for a large chunk."""

RATE_UNKNOWN: Final = 8 * MIB
"""Bytes per second that a source is taken for before it delivered anything."""


@dataclass(slots=True)
class _Source:
    """What is known about one source; chunks under way by the time when they were asked for."""

    heard: Micros
    rate: float = float(RATE_UNKNOWN)
    under_way: dict[int, Micros] = field(default_factory=dict)


class ChunkPlan:
    """Chunks 0 … count - 1 of `chunk_size` bytes, some of which may be here already. Names of sources are numbers."""

    def __init__(self, count: int, chunk_size: int, have: frozenset[int] = frozenset()) -> None:
        self._chunk_size = max(1, chunk_size)
        self._have = set(have)
        self._count = count
        self._free = [index for index in range(count - 1, -1, -1) if index not in have]
        """Given to nobody; the next one last."""
        self._sources: dict[int, _Source] = {}
        self._asked: dict[int, set[int]] = {}
        """Sources asked for each chunk that is under way."""

    @property
    def is_complete(self) -> bool:
        """Every chunk is here."""
        return len(self._have) == self._count

    @property
    def missing(self) -> int:
        """Chunks that are not here."""
        return self._count - len(self._have)

    def has(self, index: int) -> bool:
        """Whether a chunk is here."""
        return index in self._have

    def join(self, source: int, now: Micros) -> None:
        """A source is ready to be asked; LocalError when it is in the plan."""
        if source in self._sources:
            raise LocalError(f"source {source} joins twice", code="plan_order")
        self._sources[source] = _Source(now)

    def leave(self, source: int) -> None:
        """A source is lost: its chunks are free again, those that nobody else is fetching."""
        lost = self._sources.pop(source, None)
        for index in sorted(lost.under_way, reverse=True) if lost else ():
            self._asked[index].discard(source)
            if not self._asked[index]:
                del self._asked[index]
                self._free.append(index)

    def next(self, source: int, now: Micros) -> int | None:
        """The chunk to ask this source for now, or None when it has enough or there is nothing left for it."""
        one = self._sources[source]
        if len(one.under_way) >= self._depth(one):
            return None
        index = self._free.pop() if self._free else self._stolen(source, now)
        if index is not None:
            if not one.under_way:
                one.heard = now
            one.under_way[index] = now
            self._asked.setdefault(index, set()).add(source)
        return index

    def got(self, source: int, index: int, now: Micros) -> bool:
        """A chunk came from a source and is right; False when another one was faster."""
        one = self._sources[source]
        asked = one.under_way.pop(index)
        since = max(asked, one.heard)
        sample = self._chunk_size * SECOND / max(1, now - since)
        one.rate = sample if one.rate == RATE_UNKNOWN else 0.7 * one.rate + 0.3 * sample
        one.heard = now
        self._asked[index].discard(source)
        if not self._asked[index]:
            del self._asked[index]
        is_new = index not in self._have
        self._have.add(index)
        return is_new

    def stalled(self, now: Micros) -> list[int]:
        """Sources that have been asked and have delivered nothing for `STALL_US`."""
        return [name for name, one in self._sources.items() if one.under_way and now - one.heard >= STALL_US]

    def rate(self, source: int) -> float:
        """Bytes per second that a source delivered lately."""
        return self._sources[source].rate

    def _depth(self, one: _Source) -> int:
        """How many chunks a source may have under way."""
        return max(1, min(DEPTH_MAX, 1 + int(one.rate * AHEAD_US / SECOND / self._chunk_size)))

    def _stolen(self, thief: int, now: Micros) -> int | None:
        """The chunk whose source needs longest, when the thief is faster at it."""
        best: tuple[float, int] | None = None
        own = self._sources[thief]
        for name, other in self._sources.items():
            for place, (index, since) in enumerate(other.under_way.items(), start=1):
                if index in self._have or thief in self._asked[index] or len(self._asked[index]) >= RACERS_MAX:
                    continue
                need = self._chunk_size / other.rate
                left = max(place * need - (now - other.heard) / SECOND, (now - since) / SECOND - place * need)
                if name != thief and left > 2 * self._chunk_size / own.rate and (best is None or left > best[0]):
                    best = left, index
        return None if best is None else best[1]
