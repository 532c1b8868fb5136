"""When the machine may work: heat, power, hours and the owner's needs (features N7). Pure: readings in, a level out.

Going up (hotter) acts at once; going down waits until the card is RESUME_MARGIN_C cooler, so that a card at the
threshold does not flap. The owner's wish gets NOTICE: running work has that long to save itself, then the card is his.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from protocol.errors import Refused
from protocol.units import PPM, SECOND, Micros

WARN_C: Final = 75
"""Degrees Celsius from which the owner is told (features N7)."""

THROTTLE_C: Final = 85
"""Degrees Celsius from which no new work starts and power is lowered (features N7)."""

STOP_C: Final = 95
"""Degrees Celsius from which all work ends at once (features N7)."""

RESUME_MARGIN_C: Final = 5
"""Degrees below a threshold before its level ends: more than the sensor's noise and a fan's swing."""

NOTICE: Final = Micros(10 * SECOND)
"""Time that running work gets to save itself when the owner wants the card (features N7)."""

OWNER_QUIET: Final = Micros(60 * SECOND)
"""The owner must have been away this long before the card works for others again."""

POWER_MARGIN_PERCENT: Final = 5
"""Power is back within budget when it is this much below it."""

DAY_MINUTES: Final = 24 * 60


class Level(IntEnum):
    """What the machine may do. A higher level includes the restrictions of the lower ones."""

    RUN = 0
    WARN = 1
    THROTTLE = 2
    """Running work goes on at reduced power; nothing new starts."""
    PAUSE = 3
    """Running work is given back by `Decision.deadline`; nothing new starts."""
    STOP = 4
    """Everything ends now."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The owner's limits. `hours` = spans of local minutes of the day in which the machine works; empty = always."""

    warn_c: int = WARN_C
    throttle_c: int = THROTTLE_C
    stop_c: int = STOP_C
    power_budget_w: int = 0
    """0 = no budget."""
    hours: tuple[tuple[int, int], ...] = ()
    yields_to_owner: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.warn_c < self.throttle_c < self.stop_c:
            raise Refused(
                f"temperatures must rise: warn {self.warn_c}, throttle {self.throttle_c}, stop {self.stop_c} °C",
                code="bad_policy",
                fix=f"The defaults are {WARN_C}, {THROTTLE_C} and {STOP_C} °C.",
            )
        for start, end in self.hours:
            if not (0 <= start < DAY_MINUTES and 0 < end <= DAY_MINUTES and start != end):
                raise Refused(f"hours from minute {start} to {end} are not within a day", code="bad_policy")


@dataclass(frozen=True, slots=True)
class Reading:
    """What the sensors say: the hottest card in °C, the power of all cards in watts, local minute of the day."""

    temperature_c: int
    power_w: int = 0
    minute: int = 0
    owner_needs_gpu: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The level, why, and by when running work must be off the card (PAUSE only). `power_ppm` = share of full power."""

    level: Level
    reason: str = ""
    deadline: Micros | None = None
    power_ppm: int = PPM

    @property
    def takes_work(self) -> bool:
        """True when new chunks may start."""
        return self.level <= Level.WARN


@dataclass(slots=True)
class ThermalMachine:
    """One per node. Feed it a reading every second or so."""

    policy: Policy = field(default_factory=Policy)
    _heat: Level = Level.RUN
    _is_over_budget: bool = False
    _owner_since: Micros | None = None
    _owner_last: Micros | None = None
    _closed_since: Micros | None = None

    def step(self, reading: Reading, now: Micros) -> Decision:
        """The decision for this reading: the strictest of heat, power, hours and owner."""
        return max(
            (
                self._by_heat(reading),
                self._by_power(reading),
                self._by_owner(reading, now),
                self._by_hours(reading, now),
            ),
            key=lambda decision: decision.level,
        )

    def _by_heat(self, reading: Reading) -> Decision:
        policy, degrees = self.policy, reading.temperature_c
        thresholds = {Level.WARN: policy.warn_c, Level.THROTTLE: policy.throttle_c, Level.STOP: policy.stop_c}
        risen = max((level for level, at in thresholds.items() if degrees >= at), default=Level.RUN)
        held = max(
            (level for level, at in thresholds.items() if level <= self._heat and degrees > at - RESUME_MARGIN_C),
            default=Level.RUN,
        )
        self._heat = max(risen, held)
        if self._heat == Level.RUN:
            return Decision(Level.RUN)
        reason = f"{degrees} °C, {self._heat.name.lower()} starts at {thresholds[self._heat]} °C"
        if self._heat < Level.THROTTLE:
            return Decision(self._heat, reason)
        span = policy.stop_c - policy.throttle_c
        share = PPM * max(0, policy.stop_c - max(degrees, policy.throttle_c)) // span
        return Decision(self._heat, reason, power_ppm=share // 2 if self._heat == Level.THROTTLE else 0)

    def _by_power(self, reading: Reading) -> Decision:
        budget = self.policy.power_budget_w
        if not budget:
            return Decision(Level.RUN)
        margin = budget * POWER_MARGIN_PERCENT // 100 if self._is_over_budget else 0
        self._is_over_budget = reading.power_w > budget - margin
        if not self._is_over_budget:
            return Decision(Level.RUN)
        share = min(PPM, PPM * budget // max(1, reading.power_w))
        return Decision(Level.THROTTLE, f"{reading.power_w} W, the budget is {budget} W", power_ppm=share)

    def _by_owner(self, reading: Reading, now: Micros) -> Decision:
        if not self.policy.yields_to_owner:
            return Decision(Level.RUN)
        if reading.owner_needs_gpu:
            if self._owner_since is None:
                self._owner_since = now
            self._owner_last = now
        elif self._owner_last is None or now - self._owner_last >= OWNER_QUIET:
            self._owner_since = self._owner_last = None
        if self._owner_since is None:
            return Decision(Level.RUN)
        return Decision(Level.PAUSE, "the owner needs the GPU", Micros(self._owner_since + NOTICE), power_ppm=0)

    def _by_hours(self, reading: Reading, now: Micros) -> Decision:
        if is_open(self.policy.hours, reading.minute):
            self._closed_since = None
            return Decision(Level.RUN)
        if self._closed_since is None:
            self._closed_since = now
        return Decision(Level.PAUSE, "outside the owner's hours", Micros(self._closed_since + NOTICE), power_ppm=0)


def is_open(hours: tuple[tuple[int, int], ...], minute: int) -> bool:
    """True when a minute of the day lies in one of the spans; a span may cross midnight.

    >>> is_open(((22 * 60, 6 * 60),), 30)
    True
    """
    if not hours:
        return True
    return any(start <= minute < end if start < end else minute >= start or minute < end for start, end in hours)


def minutes_left(hours: tuple[tuple[int, int], ...], minute: int) -> int | None:
    """Minutes until work must end; 0 outside the hours, None where there is no end: no hours, or all day.

    >>> minutes_left(((22 * 60, 6 * 60),), 5 * 60 + 59)
    1
    """
    if not hours:
        return None
    left = 0
    while left < DAY_MINUTES and is_open(hours, (minute + left) % DAY_MINUTES):
        left += 1
    return left if left < DAY_MINUTES else None
