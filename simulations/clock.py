"""A host's clock as a node reads it: anchored to the wall when the process starts, monotonic from there.

The same rules as `node/clock.py` on Linux: a step of the wall clock moves nothing until the process starts again; the
monotonic clock stands still while the machine sleeps, the wall does not; a crystal that runs fast moves both. Integers
only, so that every machine reads the same times.
"""

from __future__ import annotations

from typing import Final

from protocol.errors import Refused
from protocol.units import SECOND, Micros

START: Final = Micros(1_800_000_000 * SECOND)
"""True wall time at simulated time 0, µs: a round instant (January 2027) later than every date in the tests' data."""

BILLION: Final = 1_000_000_000
"""Parts of which a drift is counted; also nanoseconds in a second."""

DRIFT_PPM_MAX: Final = 100_000.0
"""Parts per million. Crystals are within 500; beyond a tenth it is no clock but a mistake in the scenario."""


class Clock:
    """Local time over simulated time. `now` arguments are simulated ns and must not decrease from change to change."""

    __slots__ = ("_anchor", "_base", "_rate", "_since", "_wall")

    def __init__(self, offset_ns: int = 0, drift_ppm: float = 0.0) -> None:
        """`offset_ns`: how far the wall clock is ahead of true time when the node starts."""
        self._wall = START * 1_000 + offset_ns
        """Wall time less monotonic time, ns: moves with steps of the wall and with sleep."""
        self._anchor = self._wall
        """The same as it was when the process started."""
        self._base = 0
        """Monotonic time at `_since`, ns."""
        self._since = 0
        self._rate = BILLION + _parts(drift_ppm)
        """Monotonic nanoseconds in a billion simulated ones."""

    def read(self, now: int) -> Micros:
        """What the node's clock shows: µs since the Unix epoch. Never goes back between two restarts."""
        elapsed = now - self._since  # `_monotonic`, written out: every event reads a clock
        shown = self._anchor + self._base
        if elapsed > 0:
            shown += elapsed * self._rate // BILLION
        return Micros(shown // 1_000)

    def when(self, local: Micros) -> int:
        """The earliest simulated time, ns, at which `read` shows at least `local`, as the clock runs now.

        What was already shown at the last change of the clock (or its waking) answers with the time of that change.
        """
        missing = local * 1_000 - self._anchor - self._base
        if missing <= 0:
            return self._since
        return self._since - (-missing * BILLION // self._rate)

    def jump(self, seconds: float, now: int) -> None:
        """Step the wall clock. The running node sees nothing of it: the step counts from the next `restart` on."""
        self._settle(now)
        self._wall += round(seconds * BILLION)

    def drift(self, ppm: float, now: int) -> None:
        """From now on the clock runs fast by `ppm` parts per million (slow when negative)."""
        self._settle(now)
        self._rate = BILLION + _parts(ppm)

    def suspend(self, until: int, now: int) -> None:
        """The machine sleeps until then: monotonic time stands still, the wall goes on, the node falls behind it."""
        self._settle(now)
        asleep = max(0, until - self._since)
        self._since += asleep
        self._wall += asleep * self._rate // BILLION

    def restart(self, now: int) -> None:
        """The process starts again and anchors to the wall as it is now. Only here can local time go back."""
        self._settle(now)
        self._anchor = self._wall

    def ahead(self) -> Micros:
        """How far the wall has moved away since the process started, µs (positive: the wall is ahead)."""
        return Micros((self._wall - self._anchor) // 1_000)

    def _monotonic(self, now: int) -> int:
        elapsed = now - self._since
        return self._base if elapsed <= 0 else self._base + elapsed * self._rate // BILLION

    def _settle(self, now: int) -> None:
        """Begin a new piece of the line at `now`; a sleep that is not over yet goes on."""
        if now > self._since:
            self._base = self._monotonic(now)
            self._since = now


def _parts(ppm: float) -> int:
    if not -DRIFT_PPM_MAX <= ppm <= DRIFT_PPM_MAX:
        raise Refused(
            f"a clock cannot run fast by {ppm} parts per million",
            code="bad_drift",
            fix=f"Set drift_ppm between -{DRIFT_PPM_MAX:.0f} and {DRIFT_PPM_MAX:.0f}.",
        )
    return round(ppm * 1_000)
