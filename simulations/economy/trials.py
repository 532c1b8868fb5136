"""Every economic attack under many seeds: the mean of what it gains over honesty, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import Pool
from statistics import fmean, stdev
from typing import Final

from protocol.units import CREDIT
from simulations.economy import careers, disputes

Attack = Callable[[int], int]

SURE: Final = 3.0
"""Standard errors between a mean and its bound: 1 in 700 means of a fair game would seem to lose by luck."""

ATTACKS: Final[dict[str, tuple[str, Attack]]] = {
    "19": ("copies a sealed result", careers.front_running),
    "25": ("one stake behind 16 names, all lazy", careers.sybils),
    "26": ("a new name after every slash", careers.white_wash),
    "27": ("30 honest claims, then 10 bad ones at once", careers.exit_scam),
    "28": ("a fifth of the auditors is its own", careers.bought_auditors),
    "29": ("renter and provider are one", careers.self_dealing),
    "30": ("renter and two auditors frame a provider", disputes.framing),
    "31": ("auditor that never looks", disputes.lazy_auditor),
    "32": ("auditor that copies a seal", disputes.copying_auditor),
    "33": ("auditor that opens only what agrees", disputes.peeking),
    "38": ("appeals against true results", disputes.spam),
    "39": ("delay by eight names", disputes.delay),
    "40": ("challenges himself", disputes.self_challenge),
}
"""Number of the attack in the research's list -> what the attacker does, and one life of it."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What many lives of one attack came to, in credits."""

    seeds: int
    mean: float
    error: float
    """Standard error of the mean."""
    best: float
    """Of all lives."""
    lucky: float
    """Share of lives that gained anything."""

    @property
    def bound(self) -> float:
        """The expected value is below this, as sure as SURE standard errors are."""
        return self.mean + SURE * self.error


def trial(attack: Attack, seeds: int, first: int = 0, jobs: int = 1) -> Trial:
    """Live `seeds` lives, in as many processes as `jobs` says."""
    numbers = range(first, first + seeds)
    if jobs > 1:
        with Pool(jobs) as pool:
            return _summed(pool.map(attack, numbers, chunksize=max(1, seeds // (4 * jobs))))
    return _summed([attack(number) for number in numbers])


def _summed(gains: Sequence[int]) -> Trial:
    found = [gain / CREDIT for gain in gains]
    error = stdev(found) / len(found) ** 0.5 if len(found) > 1 else 0.0
    return Trial(len(found), fmean(found), error, max(found), sum(gain > 0 for gain in found) / len(found))
