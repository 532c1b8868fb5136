"""Network coordinates: every peer finds its own place from a few round trips, and distances to all others follow.

After Vivaldi (Dabek, Cox, Kaashoek, Morris 2004), two dimensions and a height for the last mile, with what liars and
noise need: a median per neighbour, a floor under the errors that others claim, residuals clipped at a multiple of
what is usual, and a bound on every step. Spec: specs/23-discovery.md.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from statistics import median
from typing import Final

from protocol.overlay.place import SPAN_MAX, UNKNOWN_PPM, Coordinate, estimate
from protocol.units import PPM, Micros, PeerId

RTT_MIN: Final = Micros(50)
"""Microseconds: shorter round trips are on one host, and as good as this."""

RTT_MAX: Final = Micros(2_000_000)
"""Microseconds: a longer round trip says something about a loaded host, nothing about distance, and is left out."""

WINDOW: Final = 5
"""Samples per neighbour whose median counts: two may be anything."""

NEIGHBOURS_MAX: Final = 64
"""Neighbours whose samples are kept; the one unheard for longest goes."""

ERROR_FLOOR_PPM: Final = 50_000
"""The error that anybody is taken to have at least: a liar that claims to be certain counts no more than 20 to 1."""

STEP_SHARE: Final = 0.25
"""Vivaldi's c_c: share of the weighted residual by which one sample moves us."""

ERROR_SHARE: Final = 0.25
"""Vivaldi's c_e: share of the weighted error that one sample replaces."""

STEP_MAX: Final = 50_000.0
"""Microseconds by which one sample may move us: crossing the world takes a few of them."""

HEIGHT_MIN: Final = 100.0
"""Microseconds: a last mile is never nothing, and a height of zero would stay there."""

USUAL_MIN: Final = 8
"""Neighbours without which nobody knows what a usual residual is."""

OUTLIER_FACTOR: Final = 3.0
"""Times the median residual of all neighbours beyond which a residual is clipped."""

OUTLIER_FLOOR: Final = 5_000.0
"""Microseconds: a residual of less is never an outlier, or jitter would be one on a quiet network."""

WARM_SAMPLES: Final = 8
"""Samples before our coordinate is worth telling."""


@dataclass(slots=True)
class _Neighbour:
    samples: deque[int] = field(default_factory=lambda: deque(maxlen=WINDOW))
    residual: float = 0.0
    coordinate: Coordinate = Coordinate()


class LatencyMap:
    """Our own coordinate, made from samples."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self._x = self._y = 0.0
        self._height = HEIGHT_MIN
        self._error = 1.0
        self._neighbours: dict[PeerId, _Neighbour] = {}
        self.samples = 0

    @property
    def coordinate(self) -> Coordinate:
        """Where we are, for others; it knows nothing before `WARM_SAMPLES` samples."""
        error = UNKNOWN_PPM if self.samples < WARM_SAMPLES else min(UNKNOWN_PPM - 1, round(self._error * PPM))
        return Coordinate(round(self._x), round(self._y), round(self._height), error)

    def sample(self, peer: PeerId, rtt: Micros, theirs: Coordinate) -> None:
        """A round trip of `rtt` microseconds to a peer that says it is at `theirs`."""
        if rtt > RTT_MAX or rtt < 0:
            return
        known = self._neighbours.pop(peer, None) or _Neighbour()
        self._neighbours[peer] = known
        if len(self._neighbours) > NEIGHBOURS_MAX:
            del self._neighbours[next(iter(self._neighbours))]
        known.samples.append(max(RTT_MIN, rtt))
        known.coordinate = theirs
        self.samples += 1
        self._move(known, float(median(known.samples)))

    def rtt(self, peer: PeerId) -> Micros | None:
        """The median of what was measured to a neighbour, microseconds; None for others."""
        known = self._neighbours.get(peer)
        return Micros(int(median(known.samples))) if known is not None else None

    def estimate(self, peer: PeerId, theirs: Coordinate) -> Micros | None:
        """The measured round trip where there is one, else what the coordinates say; None when neither is known."""
        measured = self.rtt(peer)
        return measured if measured is not None else estimate(self.coordinate, theirs)

    def forget(self, peer: PeerId) -> None:
        """It is gone, or it lied."""
        self._neighbours.pop(peer, None)

    def nearest(self, peers: Iterable[PeerId]) -> list[PeerId]:
        """Those that were measured, the nearest first; then the others."""
        return sorted(peers, key=lambda peer: (self.rtt(peer) is None, self.rtt(peer) or 0, peer))

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _move(self, neighbour: _Neighbour, rtt: float) -> None:
        theirs = neighbour.coordinate
        dx, dy = self._x - theirs.x, self._y - theirs.y
        flat = math.hypot(dx, dy)
        residual = rtt - (flat + self._height + theirs.height)
        relative = min(1.0, abs(residual) / rtt)
        residual = self._clipped(neighbour, residual)
        their_error = max(ERROR_FLOOR_PPM, theirs.error_ppm) / PPM
        weight = self._error / (self._error + their_error)
        self._error += ERROR_SHARE * weight * (relative - self._error)
        self._error = min(1.0, max(ERROR_FLOOR_PPM / PPM, self._error))
        step = max(-STEP_MAX, min(STEP_MAX, STEP_SHARE * weight * residual))
        if flat < 1.0:
            angle = self._dice.uniform(0.0, 2.0 * math.pi)
            dx, dy, flat = math.cos(angle), math.sin(angle), 1.0
        whole = flat + self._height + theirs.height
        self._x = _bounded(self._x + step * dx / flat)
        self._y = _bounded(self._y + step * dy / flat)
        self._height = max(
            HEIGHT_MIN, min(float(SPAN_MAX), self._height + step * (self._height + theirs.height) / whole)
        )

    def _clipped(self, neighbour: _Neighbour, residual: float) -> float:
        """The residual, cut to a multiple of what is usual once enough neighbours say what that is."""
        neighbour.residual = abs(residual)
        if len(self._neighbours) < USUAL_MIN:
            return residual
        usual = median(known.residual for known in self._neighbours.values())
        limit = max(OUTLIER_FLOOR, OUTLIER_FACTOR * usual)
        return max(-limit, min(limit, residual))


def _bounded(value: float) -> float:
    return max(-float(SPAN_MAX), min(float(SPAN_MAX), value))
