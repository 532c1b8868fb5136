"""How often a running chunk is saved, and what is lost at worst. Pure. Spec: specs/28-recovery.md.

Shorter is not always better: each snapshot costs the job its stall, and the next must not begin before the last one is
durable. What limits the interval is nearly always the host's uplink, so the renter is told before the start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from protocol.units import HOUR, MINUTE, PPM, SECOND, Micros
from storage.hazard import Hazard

Profile = Literal["min-loss", "max-efficiency"]
Reason = Literal["least", "stall", "hazard", "uplink", "step", "limit", "asked"]

INTERVAL_MIN: Final = Micros(10 * SECOND)
"""Shortest interval that the platform chooses, µs: recovery itself takes as long, so that less saves nothing."""

INTERVAL_MAX: Final = Micros(5 * MINUTE)
"""Longest interval where the uplink allows it, µs: at most five minutes of work may be lost (features S1)."""

UPLINK_PPM: Final = 600_000
"""Share of the uplink that snapshots may take; the rest is the owner's, and other transfers'."""

STALL_PPM: Final = 10_000
"""Share of run time that snapshots may cost under `min-loss`: one percent (issue figures)."""

STALL_GUESS: Final = Micros(100_000)
"""Stall of a snapshot before one was measured, µs."""

UPLINK_GUESS: Final = 1_250_000
"""Uplink before it was measured, bytes per second: 10 Mbit/s, what the slowest ordinary home line sends."""

EXPECTED_GUESS: Final = Micros(4 * HOUR)
"""Mean time to failure of a host that nobody knows, µs: the prior of a home computer (storage.hazard)."""

NONE: Final = Micros(0)
"""No span: not measured, or not asked for."""

SMOOTHING: Final = 4
"""A new measurement counts for one part in so many."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How often, and what decided it."""

    interval: Micros
    reason: Reason
    keeps_limit: bool = True
    """False: the uplink or one step alone takes longer than INTERVAL_MAX."""


def young_daly(stall: Micros, expected: Micros) -> Micros:
    """The interval that wastes least, for a stall and a mean time to failure (Young 1974). Daly's higher terms matter
    only where the stall is more than a hundredth of the mean time to failure.

    >>> young_daly(Micros(200_000), Micros(4 * HOUR)) // SECOND
    75
    """
    return Micros(math.isqrt(2 * stall * expected))


def upload_time(wire_bytes: int, uplink: int) -> Micros:
    """How long a snapshot is on its way within its share of the uplink (bytes per second).

    >>> upload_time(480_000_000, 5_000_000) // SECOND
    160
    """
    return Micros(wire_bytes * SECOND * PPM // (max(1, uplink) * UPLINK_PPM))


def plan(
    profile: Profile,
    stall: Micros,
    upload: Micros,
    step: Micros = NONE,
    expected: Micros = EXPECTED_GUESS,
    every: Micros = NONE,
) -> Plan:
    """The interval for measured spans, µs. `every`: what the job file asks for, 0 = the platform chooses.

    A snapshot never begins before the last one is durable, so `upload` and one step bound it from below in any case."""
    bounds: list[tuple[int, Reason]] = [(upload, "uplink"), (step, "step")]
    if every:
        bounds.append((every, "asked"))
        longest: tuple[int, Reason] = max(bounds)
        return Plan(Micros(longest[0]), longest[1], longest[0] <= max(every, INTERVAL_MAX))
    bounds.append((INTERVAL_MIN, "least"))
    bound: tuple[int, Reason] = max(bounds)
    wanted: tuple[int, Reason]
    if profile == "min-loss":
        wanted = (stall * PPM // STALL_PPM, "stall")
    else:
        wanted = (young_daly(stall, expected), "hazard")
    if wanted[0] > bound[0]:
        bound = wanted if wanted[0] <= INTERVAL_MAX else (max(bound[0], INTERVAL_MAX), "limit")
    return Plan(Micros(bound[0]), bound[1], bound[0] <= INTERVAL_MAX)


def worst_case_loss(
    state_bytes: int, uplink: int, profile: Profile, every: Micros = NONE, stall: Micros = STALL_GUESS
) -> Micros:
    """The most work that a dying host takes with it, µs: one interval, and the upload of the snapshot that had just not
    become durable. `uplink` in bytes per second; 0 = not measured. Nothing is assumed of compression or of what
    consecutive snapshots share: what is told before the start must hold."""
    upload = upload_time(state_bytes, uplink or UPLINK_GUESS)
    return Micros(plan(profile, stall, upload, every=every).interval + upload)


def loss_words(state_bytes: int, uplink: int, profile: Profile, every: Micros = NONE) -> str:
    """`worst_case_loss` for the renter, before the start.

    >>> loss_words(240_000_000, 12_500_000, "min-loss")
    'at most 64 s of work is lost if this host dies: 240 MB of state at 100 Mbit/s are safe 32 s after each snapshot'
    """
    loss = worst_case_loss(state_bytes, uplink, profile, every)
    upload = upload_time(state_bytes, uplink or UPLINK_GUESS)
    rate = f"{(uplink or UPLINK_GUESS) * 8 / 1e6:.0f} Mbit/s" + ("" if uplink else " (not measured yet)")
    words = (
        f"at most {_span(loss)} of work is lost if this host dies: "
        f"{_size(state_bytes)} of state at {rate} are safe {_span(upload)} after each snapshot"
    )
    if loss > 2 * INTERVAL_MAX:
        words += "; choose a host with a faster uplink, or save less"
    return words


def efficiency(interval: Micros, stall: Micros, recovery: Micros, mean: Micros) -> float:
    """Share of wall time that ends up in the result, first order (specs/28-recovery.md)."""
    return 1 - stall / interval - (interval / 2 + recovery) / mean


class Cadence:
    """When the next snapshot of one running chunk is due. Fed with what its snapshots cost; one per lease."""

    def __init__(
        self,
        profile: Profile,
        every: Micros,
        hazard: Hazard,
        up_since: Micros,
        now: Micros,
        uplink: int = 0,
    ) -> None:
        """`up_since`: when the host was started; `uplink`: bytes per second, 0 = not measured."""
        self._profile: Profile = profile
        self._every = every
        self._hazard = hazard
        self._up_since = up_since
        self._stall = 0
        self._wire_bytes = 0
        self._uplink = uplink
        self._step = 0
        self._cut_at = now
        self._sealed: tuple[int, Micros] | None = None
        """Bytes under way and since when."""
        self._is_cutting = False
        self._is_first = True
        self._is_urgent = False

    # ── what was measured ────────────────────────────────────────────────────────────────────────────────────────────
    def stepped(self, span: Micros) -> None:
        """One step of the job took so long."""
        self._step = _smooth(self._step, span)

    def cut(self, now: Micros) -> None:
        """A snapshot was asked for."""
        self._cut_at, self._is_cutting, self._is_urgent, self._is_first = now, True, False, False

    def sealed(self, stall: Micros, wire_bytes: int, now: Micros) -> None:
        """It was cut: how long the job stood still, and how many bytes have to leave."""
        self._is_cutting, self._sealed = False, (wire_bytes, now)
        self._stall, self._wire_bytes = _smooth(self._stall, stall), _smooth(self._wire_bytes, wire_bytes)

    def failed(self) -> None:
        """No snapshot came of it, or it never became durable: the next is due after another interval."""
        self._is_cutting, self._sealed = False, None

    def durable(self, now: Micros) -> None:
        """It is durable: so fast is the uplink, as far as snapshots get it."""
        if self._sealed is None:
            return
        size, since = self._sealed
        self._sealed = None
        if size and now > since:
            self._uplink = _smooth(self._uplink, size * SECOND * PPM // ((now - since) * UPLINK_PPM))

    # ── what follows ─────────────────────────────────────────────────────────────────────────────────────────────────
    def plan(self, now: Micros) -> Plan:
        """The interval as of now, and why."""
        return plan(
            self._profile,
            Micros(self._stall or STALL_GUESS),
            upload_time(self._wire_bytes, self._uplink or UPLINK_GUESS),
            Micros(self._step),
            self._hazard.expected(Micros(now - self._up_since), now),
            self._every,
        )

    def urge(self) -> None:
        """Something threatens the host (an event trigger): the next look finds a snapshot due."""
        self._is_urgent = True

    @property
    def is_urgent(self) -> bool:
        """Whether a snapshot is wanted outside its turn."""
        return self._is_urgent

    def due_at(self, now: Micros) -> Micros:
        """When to look again: the next snapshot is due then, unless the last one is still on its way."""
        if self._is_urgent:
            return now
        first = min(INTERVAL_MIN, self._every or INTERVAL_MIN)
        return Micros(self._cut_at + (first if self._is_first else self.plan(now).interval))

    def is_due(self, now: Micros) -> bool:
        """Whether to cut now: never two at once, and none before the last is durable, except in an emergency."""
        if self._is_cutting:
            return False
        return self._is_urgent or (self._sealed is None and now >= self.due_at(now))


def _smooth(known: int, measured: int) -> int:
    """The first measurement counts whole, later ones a part."""
    return known + (measured - known) // SMOOTHING if known else measured


def _span(span: Micros) -> str:
    seconds = -(-span // SECOND)
    return f"{seconds} s" if seconds < 120 else f"{-(-seconds // 60)} min"


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1_000_000_000 else f"{size / 1e6:.0f} MB"
