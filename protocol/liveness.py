"""Alive, unknown or dead: a φ-accrual failure detector. Spec: specs/09-liveness.md.

Missing information is a state of its own: *unknown* costs a warm-up somewhere else and nothing more. After Hayashibara
et al., "The φ accrual failure detector" (2004); the multiplier after Lifeguard (HashiCorp, 2017).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

from protocol.units import SECOND, Micros

BEAT_INTERVAL: Final = Micros(1 * SECOND)
"""Microseconds between two beats of a provider; what a detector expects before it has seen any."""

WINDOW: Final = 200
"""Intervals remembered: somewhat over three minutes of beats."""

SIGMA_MIN: Final = Micros(200_000)
"""Microseconds: a deviation never counts as less, or a very regular peer would be suspected for one lost packet."""

PHI_UNKNOWN: Final = 3.0
"""Suspicion level: one wrong suspicion in a thousand intervals, and it costs nothing."""

SILENCE_UNKNOWN: Final = Micros(2 * SECOND)
"""Microseconds of silence that make a peer unknown whatever its habits."""

PHI_DEAD: Final = 8.0
"""Suspicion level without which nobody is called dead."""

SILENCE_DEAD: Final = Micros(5 * SECOND)
"""Microseconds of silence without which nobody is called dead."""

INTERVAL_MAX: Final = Micros(5 * SECOND)
"""Microseconds: longer gaps are remembered as this, so that a peer cannot teach its watchers to wait for ever."""

PHI_MAX: Final = 100.0
"""What φ is cut at; the tail of the distribution has no digits left there."""

HEALTH_MAX: Final = 8
"""Largest local-health multiplier (Lifeguard)."""

GOODBYE_DEAD: Final = Micros(2 * SECOND)
"""Microseconds of silence after a goodbye that make a peer dead: it said so itself."""


@dataclass(frozen=True, slots=True)
class Alive:
    """It was heard recently."""

    silence: Micros


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may be dead, and it may be the network: prepare, destroy nothing."""

    silence: Micros
    phi: float


@dataclass(frozen=True, slots=True)
class Dead:
    """This observer is sure. Only a majority of observers may act on it."""

    silence: Micros
    phi: float


Liveness = Alive | Unknown | Dead


class Detector:
    """The beats of one peer as one observer hears them."""

    __slots__ = ("_intervals", "_squares", "_sum", "farewell", "last")

    def __init__(self, now: Micros) -> None:
        self._intervals: deque[Micros] = deque()
        self._sum = 0
        self._squares = 0
        self.last = now
        """When it was heard last; a peer that never beats counts from the start."""
        self.farewell: Micros | None = None
        """When it said goodbye; a beat takes that back."""

    def beat(self, now: Micros) -> None:
        """A beat came in."""
        interval = Micros(max(0, min(INTERVAL_MAX, now - self.last)))
        if len(self._intervals) == WINDOW:
            oldest = self._intervals.popleft()
            self._sum -= oldest
            self._squares -= oldest * oldest
        self._intervals.append(interval)
        self._sum += interval
        self._squares += interval * interval
        self.last = Micros(max(self.last, now))
        self.farewell = None

    def goodbye(self, now: Micros) -> None:
        """It announced its end."""
        self.farewell = now

    def excuse(self, span: Micros, now: Micros) -> None:
        """A span in which this observer did not look is no silence of the peer."""
        self.last = Micros(min(now, self.last + span))
        if self.farewell is not None:
            self.farewell = Micros(min(now, self.farewell + span))

    def phi(self, silence: Micros) -> float:
        """−log10 of the probability that an honest beat is later than this, 0 to PHI_MAX."""
        mean, sigma = self._habit()
        tail = 0.5 * math.erfc((silence - mean) / (sigma * math.sqrt(2.0)))
        return min(PHI_MAX, -math.log10(tail)) if tail > 0.0 else PHI_MAX

    def state(self, now: Micros, health: int = 1) -> Liveness:
        """What to think of the peer. `health` is the observer's own lateness, 1 to 8: it slows every judgement."""
        silence = Micros(max(0, now - self.last))
        judged = Micros(silence // max(1, min(HEALTH_MAX, health)))
        if self.farewell is None and judged < SILENCE_UNKNOWN and judged * len(self._intervals) < self._sum:
            return Alive(silence)  # Shorter than its mean: φ is below log10 2, and nearly all looks end here.
        phi = self.phi(judged)
        if self.farewell is not None:
            since = Micros(max(0, now - self.farewell) // max(1, min(HEALTH_MAX, health)))
            return Dead(silence, phi) if since >= GOODBYE_DEAD else Unknown(silence, phi)
        if phi >= PHI_DEAD and judged >= SILENCE_DEAD:
            return Dead(silence, phi)
        if phi >= PHI_UNKNOWN or judged >= SILENCE_UNKNOWN:
            return Unknown(silence, phi)
        return Alive(silence)

    def _habit(self) -> tuple[float, float]:
        """Mean and deviation of the intervals, microseconds; sums are exact integers, so nothing drifts."""
        count = len(self._intervals)
        if count == 0:
            return float(BEAT_INTERVAL), float(SIGMA_MIN)
        variance = (count * self._squares - self._sum * self._sum) / (count * count)
        return self._sum / count, max(float(SIGMA_MIN), math.sqrt(max(0.0, variance)))
