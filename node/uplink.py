"""How fast this host sends, as it was seen to: what snapshots and bulk transfers took, within what its owner allows.

Nothing is sent for the measurement's sake. Bytes are counted over spans of a few seconds; the best span of late counts,
because a transfer that was slow may have had a slow receiver.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from node.store import RecordStore
from protocol.units import HOUR, SECOND, Micros

SPAN: Final = Micros(5 * SECOND)
"""Microseconds over which bytes are counted: shorter, and the system's send buffers look like speed."""

SPAN_BYTES_MIN: Final = 4_000_000
"""Bytes from which a span tells anything: less fits into buffers, or was all that there was to send."""

REMEMBERED: Final = Micros(6 * HOUR)
"""Microseconds that a measurement holds: a line may get slower, and other receivers come."""

DIGITS: Final = 2
"""Significant digits that are told: an offer is signed anew for each change."""

KEY: Final = "uplink"
"""The record that outlives a restart."""


class Uplink:
    """Bytes per second; one per node."""

    def __init__(self, records: RecordStore, sent: Callable[[], int], snapshots: Callable[[], int], cap: int) -> None:
        """`sent`: bytes of blobs that left so far; `snapshots`: what their spreading measured, bytes per second, 0 =
        nothing yet; `cap`: what the owner allows, 0 = no limit."""
        self._records = records
        self._sent = sent
        self._snapshots = snapshots
        self._cap = cap
        self._began: tuple[Micros, int] | None = None
        self._seen: deque[tuple[Micros, int]] = deque()
        saved = records.get(KEY)
        self._saved = int(saved) if saved else 0

    def look(self, now: Micros) -> int:
        """Called about once a second; bytes per second as they are told to others, 0 = not measured."""
        sent = self._sent()
        began, before = self._began or (now, sent)
        if self._began is None or now - began >= SPAN:
            self._began = (now, sent)
            if sent - before >= SPAN_BYTES_MIN:
                self._note((sent - before) * SECOND // (now - began), now)
        if measured := self._snapshots():
            self._note(measured, now)
        while self._seen and now - self._seen[0][0] > REMEMBERED:
            self._seen.popleft()
        return self.told

    @property
    def told(self) -> int:
        """The figure, rounded down: what is promised before the start must hold."""
        best = max((rate for _, rate in self._seen), default=self._saved)
        if self._cap:
            best = min(best or self._cap, self._cap)
        return rounded(best)

    @property
    def words(self) -> str:
        """For the owner."""
        if not self.told:
            return "not measured yet"
        rate = f"{self.told * 8 / 1e6:.3g} Mbit/s"
        return rate if self._seen or self._saved else f"{rate}, as set; not measured yet"

    def _note(self, rate: int, now: Micros) -> None:
        """Of measurements that are no better than a newer one, none counts any more."""
        while self._seen and self._seen[-1][1] <= rate:
            self._seen.pop()
        best = rounded(self._seen[0][1] if self._seen else 0)
        self._seen.append((now, rate))
        if rounded(self._seen[0][1]) not in (best, self._saved):
            self._saved = rounded(self._seen[0][1])
            self._records.put(KEY, str(self._saved).encode())


def rounded(rate: int) -> int:
    """Down to DIGITS significant digits.

    >>> rounded(12_783_112)
    12000000
    """
    if rate <= 0:
        return 0
    unit: int = 10 ** max(0, len(str(rate)) - DIGITS)
    return rate // unit * unit
