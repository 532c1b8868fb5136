"""When jobs come: at random, evenly, or in crowds. Always `per_hour` jobs in a mean hour."""

from __future__ import annotations

from random import Random
from typing import Final

from protocol.errors import Refused
from simulations.scenario import NS, Arrival

HOUR: Final = 3_600 * NS
"""Nanoseconds."""

ARRIVALS_MAX: Final = 10_000_000
"""Jobs of one run, expected: a hundred times what a run can finish in a day of computing."""

GAP_MAX: Final = float(1 << 62)
"""Nanoseconds, 146 years: rarer is never, and a float's infinity is no time."""


def arrivals(arrival: Arrival, start: int, end: int, limit: int, random: Random) -> list[int]:
    """Times in [start, end), ns, in order; at most `limit` of them (0: all). Raises `Refused` for bad rates.

    poisson: exponential gaps. regular: the first at `start`, then evenly. burst: crowds of `burst` jobs at one time,
    crowds as a Poisson process, the last one cut by `limit`.
    """
    _check(arrival, start, end, limit)
    if not arrival.per_hour or end <= start:
        return []
    size = arrival.burst if arrival.model == "burst" else 1
    gap = min(HOUR * size / arrival.per_hour, GAP_MAX)
    found: list[int] = []
    place = 0
    time = start if arrival.model == "regular" else start + _gap(gap, random)
    while time < end and (not limit or len(found) < limit):
        found += [time] * size
        place += 1
        time = _even(start, place, arrival.per_hour) if arrival.model == "regular" else time + _gap(gap, random)
    return found[:limit] if limit else found


def _even(start: int, place: int, per_hour: float) -> int:
    """Counted from the start and exact: adding a rounded gap again and again would drift."""
    hours, jobs = per_hour.as_integer_ratio()[::-1]
    return start + place * HOUR * hours // jobs


def _gap(mean: float, random: Random) -> int:
    return max(1, round(random.expovariate(1.0) * mean))


def _check(arrival: Arrival, start: int, end: int, limit: int) -> None:
    if not 0.0 <= arrival.per_hour < float("inf"):
        raise Refused(
            f"jobs cannot arrive {arrival.per_hour} times an hour", code="bad_rate", fix="Set per_hour to 0 or more."
        )
    if arrival.burst < 1:
        raise Refused(f"a burst of {arrival.burst} jobs is none", code="bad_rate", fix="Set burst to 1 or more.")
    if limit < 0:
        raise Refused(f"the limit of jobs is {limit}", code="bad_limit", fix="Set limit to 0 (none) or more.")
    expected = arrival.per_hour * max(0, end - start) / HOUR
    if expected > ARRIVALS_MAX:
        raise Refused(
            f"{arrival.per_hour} jobs an hour are {expected:.0f} in this run",
            code="too_many_jobs",
            fix="Lower per_hour, or shorten the run.",
            numbers={"expected": round(expected), "most": ARRIVALS_MAX},
        )
