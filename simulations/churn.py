"""When hosts are up: sessions and absences, drawn or replayed.

The scenarios' Weibull of k = 0.61 and scale 3.66 h is our fit to two points of measured sessions of the IPFS DHT's
servers: half last at most 2 h, four fifths at most 8 h (Protocol Labs, "RFM 2: Uptime and Churn", data of 28 April to
5 May 2022). Time 0 is a time like any other: some hosts are down, and who is up is in the middle of a session.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import cos, gamma, pi
from pathlib import Path
from random import Random
from typing import Final

from protocol.errors import Refused
from simulations import trace_file
from simulations.scenario import NS, Churn

Session = tuple[int, int]
"""Up from, up until; ns since the start. Sessions of one host are in order and do not touch."""

K_MIN: Final = 0.1
K_MAX: Final = 20.0
"""Beyond these a Weibull's mean is astronomic, or every session has the same length."""

DAILY_MAX: Final = 0.95
"""Largest share by which the hours of a day change how soon sessions end: at 1 they would stand still."""

DAY: Final = 86_400 * NS

SESSION_MIN: Final = NS
"""Shortest scale of sessions, ns: a host that comes and goes faster than once a second is a mistake in the scenario."""


def schedule(churn: Churn, peers: int, random_of: Callable[[int], Random], duration: int) -> list[list[Session]]:
    """The sessions of every host of a group; `random_of` gives host i its own generator. Reads a trace once."""
    if churn.model == "trace":
        trace = trace_file.read(Path(churn.trace))
        return [trace.sessions(peer, duration) for peer in range(peers)]
    return [sessions(churn, random_of(peer), duration) for peer in range(peers)]


def sessions(churn: Churn, random: Random, duration: int) -> list[Session]:
    """One host's sessions within [0, duration). Raises `Refused` for parameters that make no distribution."""
    _check(churn)
    k, scale, down = churn.k if churn.model == "weibull" else 1.0, churn.scale, churn.down
    found: list[Session] = []
    clock = _Hours(churn.daily, random) if churn.daily else None
    now = 0
    mean = scale * gamma(1.0 + 1.0 / k)
    is_up = random.random() * (mean + down) < mean
    length = _residual(k, scale, random) if is_up else _absence(down, random)
    while now < duration:
        if clock is not None:
            length = clock.stretched(now, length)
        if is_up:
            found.append((now, min(now + length, duration)))
        now += length
        is_up = not is_up
        length = _session(k, scale, random) if is_up else _absence(down, random)
    return found


class _Hours:
    """The hours of one host's day: its life runs faster when people sit down at their machines.

    A span of life from `now` on ends when the integral of the rate 1 + a·sin(2π(t/day + phase)) over it is as long:
    what is drawn from a law of sessions stays so drawn, and only the hours at which it ends are unequal."""

    def __init__(self, depth: float, random: Random) -> None:
        self._depth = depth
        self._phase = random.random()

    def stretched(self, now: int, length: int) -> int:
        """How long a span of life takes from now on, ns; at least 1."""
        low, high = 0, round(length / (1.0 - self._depth)) + 1
        while low + NS < high:
            middle = (low + high) // 2
            if self._lived(now + middle) - self._lived(now) < length:
                low = middle
            else:
                high = middle
        return max(1, high)

    def _lived(self, time: int) -> float:
        turn = 2.0 * pi
        waves = cos(turn * self._phase) - cos(turn * (time / DAY + self._phase))
        return time + self._depth * DAY / turn * waves


def is_up_at(found: Sequence[Session], time: int) -> bool:
    """Whether a host with these sessions is up at that time."""
    return any(start <= time < end for start, end in found)


def _session(k: float, scale: int, random: Random) -> int:
    """A whole session: the inverse of the Weibull's distribution."""
    length: float = scale * random.expovariate(1.0) ** (1.0 / k)
    return max(1, round(length))


def _residual(k: float, scale: int, random: Random) -> int:
    """What is left of the session that a random moment falls into.

    Such sessions are longer than most (a session of length x is hit in proportion to x, which makes (x / scale)^k
    gamma-distributed), and the moment is anywhere in it."""
    hit: float = scale * random.gammavariate(1.0 + 1.0 / k, 1.0) ** (1.0 / k)
    return max(1, round(hit * random.random()))


def _absence(down: int, random: Random) -> int:
    return max(1, round(down * random.expovariate(1.0)))


def _check(churn: Churn) -> None:
    if churn.model == "trace":
        raise Refused(
            "a trace's sessions belong to its hosts and are not drawn", code="bad_churn", fix="Read it with `schedule`."
        )
    if churn.model == "weibull" and not K_MIN <= churn.k <= K_MAX:
        raise Refused(
            f"churn: k is {churn.k}",
            code="bad_churn",
            fix=f"Set k between {K_MIN} and {K_MAX}; measured sessions have 0.3 to 1.",
        )
    if churn.scale < SESSION_MIN:
        raise Refused(
            f"churn: a session's scale is {churn.scale} ns",
            code="bad_churn",
            fix="Set scale to a second or more, for example 3.66h.",
            numbers={"scale": churn.scale, "least": SESSION_MIN},
        )
    if not 0.0 <= churn.daily <= DAILY_MAX:
        raise Refused(f"churn: daily is {churn.daily}", code="bad_churn", fix=f"Set daily between 0 and {DAILY_MAX}.")
    if churn.down < 0:
        raise Refused(
            f"churn: the mean absence is {churn.down} ns",
            code="bad_churn",
            fix="Set down to 0 or more, for example 10m.",
        )
