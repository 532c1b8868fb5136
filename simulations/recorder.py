"""What a run measures: counts, samples kept row by row, and histograms of what happens millions of times."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final

from protocol.errors import LocalError

BATCH: Final = 4_096
"""Values gathered before they are sorted into buckets: one at a time would cost twice as much."""

MANTISSA_BITS: Final = 8
"""Bits of a value that its bucket keeps: a bucket is at most 1/128 = 0.8 % wide, and values below 256 are exact."""

_EXACT: Final = 1 << MANTISSA_BITS

Row = tuple[str, int, int, float]
"""(name, at in ns, peer or -1, value)."""


class Histogram:
    """Counts of non-negative integers in buckets of one width in relation to their value. Integers only: exact."""

    __slots__ = ("_buckets", "_count", "_least", "_most", "_sum", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[int] = []
        self._buckets: dict[int, int] = {}
        self._count = 0
        self._sum = 0
        self._least = -1
        self._most = -1

    @property
    def count(self) -> int:
        """Values seen."""
        return self._count + len(self._waiting)

    @property
    def sum(self) -> int:
        """Sum of all values, exact."""
        self.settle()
        return self._sum

    @property
    def minimum(self) -> int:
        """Least value, exact; -1 when there is none."""
        self.settle()
        return self._least

    @property
    def maximum(self) -> int:
        """Greatest value, exact; -1 when there is none."""
        self.settle()
        return self._most

    def settle(self) -> None:
        """Sort what waits into buckets. Raises `LocalError` for a negative value."""
        waiting = self._waiting
        if not waiting:
            return
        low, high = min(waiting), max(waiting)
        if low < 0:
            raise LocalError(f"a histogram holds values from 0 on, not {low}", code="bad_value")
        self._count += len(waiting)
        self._sum += sum(waiting)
        self._least = low if self._least < 0 else min(self._least, low)
        self._most = max(self._most, high)
        buckets = self._buckets
        for value in waiting:
            shift = value.bit_length() - MANTISSA_BITS
            key = value if shift <= 0 else (shift << MANTISSA_BITS) + (value >> shift)
            if key in buckets:
                buckets[key] += 1
            else:
                buckets[key] = 1
        waiting.clear()

    def buckets(self) -> list[tuple[int, int, int]]:
        """(least, greatest value that falls into it, count) of every bucket that holds something, in order."""
        self.settle()
        return [(*bounds(key), self._buckets[key]) for key in sorted(self._buckets)]

    def quantile(self, q: float) -> int:
        """The value below which a share `q` (0..1) lies, within half a bucket. Raises `LocalError` when empty."""
        if not self.count or not 0.0 <= q <= 1.0:
            raise LocalError(f"no quantile {q} of {self.count} values", code="bad_quantile")
        self.settle()
        wanted = max(1, -int(-q * self._count // 1))
        seen = 0
        for low, high, count in self.buckets():
            seen += count
            if seen >= wanted:
                return min(max((low + high) // 2, self._least), self._most)
        return self._most

    def waiting(self) -> list[int]:
        """Where `Recorder.observe` puts values."""
        return self._waiting


def bounds(key: int) -> tuple[int, int]:
    """The least and the greatest value of a bucket."""
    shift = key >> MANTISSA_BITS
    low = (key & (_EXACT - 1)) << shift
    return low, low + (1 << shift) - 1


class Recorder:
    """One run's measurements. Depends on nothing but the order of its calls."""

    __slots__ = ("_at", "_histograms", "_index", "_names", "_peers", "_values", "_waiting", "_which", "counts")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        """Totals by name, in the order in which they were first counted."""
        self._names: list[str] = []
        self._index: dict[str, int] = {}
        self._which = array("H")
        self._at = array("q")
        self._peers = array("i")
        self._values = array("d")
        self._histograms: dict[str, Histogram] = {}
        self._waiting: dict[str, list[int]] = {}

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a total."""
        counts = self.counts
        if name in counts:
            counts[name] += amount
        else:
            counts[name] = amount

    def sample(self, name: str, value: float, at: int, peer: int = -1) -> None:
        """One row: a value in the unit that the name stands for, when (ns), and of which peer (-1: of the world)."""
        index = self._index.get(name)
        if index is None:
            index = self._index[name] = len(self._names)
            self._names.append(name)
        self._which.append(index)
        self._at.append(at)
        self._peers.append(peer)
        self._values.append(value)

    def observe(self, name: str, value: int) -> None:
        """One value into the histogram of this name."""
        try:
            waiting = self._waiting[name]
        except KeyError:
            waiting = self._start(name)
        waiting.append(value)
        if len(waiting) >= BATCH:
            self._histograms[name].settle()

    def rows(self) -> Iterator[Row]:
        """Every sample in the order of recording."""
        names = self._names
        for which, at, peer, value in zip(self._which, self._at, self._peers, self._values, strict=True):
            yield names[which], at, peer, value

    def columns(self) -> tuple[list[str], array[int], array[int], array[int], array[float]]:
        """The samples as they are kept: names, and by row the index of the name, time (ns), peer, value."""
        return self._names, self._which, self._at, self._peers, self._values

    def histograms(self) -> dict[str, Histogram]:
        """By name, in order of the name."""
        return {name: self._histograms[name] for name in sorted(self._histograms)}

    def values(self, name: str) -> list[float]:
        """The samples of one name, in order."""
        index = self._index.get(name, -1)
        return [value for which, value in zip(self._which, self._values, strict=True) if which == index]

    def __len__(self) -> int:
        return len(self._values)

    def _start(self, name: str) -> list[int]:
        self._histograms[name] = histogram = Histogram()
        self._waiting[name] = histogram.waiting()
        return self._waiting[name]
