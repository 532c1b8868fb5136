"""The only reader of clocks: integer microseconds, anchored once to the wall and monotonic from there.

A step of the system clock moves nothing here: leases and deadlines are compared with times read from one `Clock`.
"""

from __future__ import annotations

import time

from protocol.units import Micros


class Clock:
    """Wall time at construction plus monotonic time since. Never goes back."""

    __slots__ = ("_anchor",)

    def __init__(self) -> None:
        self._anchor = time.time_ns() - time.monotonic_ns()

    def now(self) -> Micros:
        """Microseconds since the Unix epoch."""
        return Micros((self._anchor + time.monotonic_ns()) // 1_000)

    def drift(self) -> Micros:
        """How far the wall has moved away since construction (positive: the wall is ahead), for the log."""
        return Micros((time.time_ns() - time.monotonic_ns() - self._anchor) // 1_000)
