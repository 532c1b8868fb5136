"""How soon a host will be gone: a Weibull law per class of host, corrected by what this host did, hour by hour.

Home computers leave early or stay: the longer one has been up, the safer it is, so work is protected most at the
beginning of a session. When people sit down at their machine repeats daily, so the hours are learnt. Spec:
specs/28-recovery.md.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from protocol.units import HOUR, SECOND, Micros

HostClass = Literal["home", "server"]

SHAPE: Final = 0.65
"""Weibull shape of uptimes: between 0.6 and 0.7 for home computers (specs/28-recovery.md, sources)."""

MEAN_UPTIME: Final = MappingProxyType({"home": Micros(4 * HOUR), "server": Micros(24 * HOUR)})
"""Mean uptime, µs, before anything is known of a host; weighs as much as one failure."""

AGE_MIN: Final = Micros(60 * SECOND)
"""Youngest age that the law is asked for, µs: at zero it says that the host fails at once."""

HOUR_WEIGHT: Final = 4
"""Failures that an hour of the day must have seen before it counts as much as the host's mean."""

HOURS: Final = 24

Span = Annotated[int, Meta(ge=0, le=2**62)]


class Hazard(Struct, forbid_unknown_fields=True):
    """What is known of one host. Integers only: it is stored as it is."""

    host_class: HostClass = "home"
    failures: Annotated[int, Meta(ge=0, le=2**32)] = 0
    lived: Annotated[list[Span], Meta(min_length=HOURS, max_length=HOURS)] = field(default_factory=lambda: [0] * HOURS)
    """Microseconds up, by hour of the day (UTC: where the day begins does not matter)."""
    failed: Annotated[list[Span], Meta(min_length=HOURS, max_length=HOURS)] = field(default_factory=lambda: [0] * HOURS)
    """Failures, by hour of the day."""

    def live(self, since: Micros, now: Micros) -> None:
        """The host was up from `since` to `now`."""
        while since < now:
            end = min(now, (since // HOUR + 1) * HOUR)
            self.lived[hour_of(since)] += end - since
            since = Micros(end)

    def fail(self, now: Micros) -> None:
        """It went away without notice."""
        self.failures += 1
        self.failed[hour_of(now)] += 1

    @property
    def mean(self) -> float:
        """Mean uptime, µs: the prior counts as one failure."""
        return (sum(self.lived) + MEAN_UPTIME[self.host_class]) / (self.failures + 1)

    def rate(self, age: Micros, now: Micros) -> float:
        """Failures per µs of a host that has been up for `age`, at this hour of the day."""
        scale = self.mean / math.gamma(1 + 1 / SHAPE)
        plain = SHAPE / scale * math.pow(max(age, AGE_MIN) / scale, SHAPE - 1)
        return plain * self._hour_factor(hour_of(now))

    def expected(self, age: Micros, now: Micros) -> Micros:
        """What to plan with as the mean time to the next failure, µs: one over the rate."""
        return Micros(round(1 / self.rate(age, now)))

    def _hour_factor(self, hour: int) -> float:
        """How much worse than the host's mean this hour is: failures seen against failures expected, both smoothed."""
        return (self.failed[hour] + HOUR_WEIGHT) / (self.lived[hour] / self.mean + HOUR_WEIGHT)


def hour_of(time: Micros) -> int:
    """Hour of the day, UTC.

    >>> hour_of(Micros(25 * HOUR))
    1
    """
    return time // HOUR % HOURS
