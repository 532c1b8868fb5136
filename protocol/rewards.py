"""What work is worth, by the owner's formulas, line by line. Spec: specs/39-trust.md.

In force on the ledger is the first line alone: 90 % of the agreed price, because a price that both sides signed is the
only one that neither can be talked out of. The other lines say what the formulas would add or take, so that an owner
sees them beside what was paid; a bonus is the renter's to give (`Transfer`), within the spend cap that it set. Integers
in parts per million throughout, so that everybody computes the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Final, Literal

from protocol.operations import commission
from protocol.reputation import SUCCESS_PRIOR
from protocol.units import HOUR, PPM, Micros

INFERENCE_SHARE: Final = 900_000
"""Share of the payment that who computed gets, ppm (features L4): the price less the commission."""

FAST_SHARE: Final = 800_000
"""Of the expected time, ppm: under it work was fast (features L4)."""

FAST_BONUS: Final = 100_000
"""Of the share, ppm, for fast work (features L4)."""

REPUTATION_SPAN: Final = 200_000
"""ppm between the multipliers of reputation 0 and 1: 0.9 at worst, 1.1 at best, 1 for who is neither."""

DATA_WEIGHT: Final = 200_000
"""ppm that the whole data set adds to a training reward (features L4: 1 + 0.2 × data share)."""

HISTORY_HALF: Final = 10
"""Results after which an old one counts half in the history."""

STEEPNESS: Final = 1_000_000
"""Exponent, ppm, of the performance multiplier at full history and no progress: 2^(history − ½ + progress)."""

MULTIPLIER_MIN: Final = 500_000
MULTIPLIER_MAX: Final = 2_000_000
"""ppm: bounds of the performance multiplier, so that one streak neither ruins nor makes anybody."""

_Q: Final = 60
"""Fractional bits of the fixed-point square roots of 2."""

Force = Literal["ledger", "shown"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a reward."""

    what: str
    amount: int
    """Smallest units; negative takes away."""
    force: Force
    """`ledger`: moved by a verdict. `shown`: what the formula says, paid only if the renter gives it."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a reward is computed from."""

    price: int
    """Agreed price of the chunk, smallest units, commission included."""
    elapsed: Micros
    """From lease to claim."""
    expected: Micros
    """The job's estimate for the chunk."""
    reputation: int
    """Of the provider, ppm."""


def inference(work: Work) -> tuple[Line, ...]:
    """90 % of the payment, times reputation, and a tenth more when it took less than 80 % of the expected time.

    >>> [(line.amount, line.force) for line in inference(Work(1_000_000, Micros(7), Micros(10), 1_000_000))]
    [(900000, 'ledger'), (90000, 'shown'), (99000, 'shown')]
    """
    share = work.price - commission(work.price)
    weighted = share * reputation_multiplier(work.reputation) // PPM
    bonus = weighted * FAST_BONUS // PPM if is_fast(work.elapsed, work.expected) else 0
    return (
        Line("90 % of the payment", share, "ledger"),
        Line(f"reputation {work.reputation / PPM:.2f}", weighted - share, "shown"),
        Line("in less than 80 % of the expected time", bonus, "shown"),
    )


def is_fast(elapsed: Micros, expected: Micros) -> bool:
    """Whether work took less than 80 % of the time that the job expected. Time nobody measured is not fast."""
    return elapsed > 0 and elapsed * PPM < expected * FAST_SHARE


def reputation_multiplier(reputation: int) -> int:
    """0.9 to 1.1, straight, 1 at the prior of a newcomer's success.

    >>> [reputation_multiplier(score) for score in (0, 500_000, 1_000_000)]
    [900000, 1000000, 1100000]
    """
    bounded = max(0, min(PPM, reputation))
    return PPM + (bounded - SUCCESS_PRIOR) * REPUTATION_SPAN // PPM


def training(gpu_time: Micros, per_hour: int, quality: int, data_share: int) -> int:
    """GPU-hours × quality × (1 + 0.2 × data share), smallest units, before the commission.

    `gpu_time`: µs of all cards together, `per_hour`: smallest units, `quality` and `data_share`: ppm, cut at one.

    >>> training(Micros(HOUR), 1_000_000, 900_000, 500_000)
    990000
    """
    factor = max(0, min(PPM, quality)) * (PPM + DATA_WEIGHT * max(0, min(PPM, data_share)) // PPM) // PPM
    return max(0, gpu_time) * per_hour * factor // (HOUR * PPM)


def history(qualities: Sequence[int]) -> int:
    """Mean of past qualities, ppm, oldest first; one that is HISTORY_HALF results old counts half. ½ without any.

    >>> history([]), history([1_000_000] * 5), history([0] * 10 + [1_000_000] * 10)
    (500000, 1000000, 666666)
    """
    total = weights = 0
    for age, quality in enumerate(reversed(qualities)):
        weight = exp2(-age * PPM // HISTORY_HALF)
        total, weights = total + weight * max(0, min(PPM, quality)), weights + weight
    return total // weights if weights else PPM // 2


def performance(qualities: Sequence[int]) -> int:
    """Multiplier, ppm: 2^(history − ½ + progress), cut to ½ … 2. Progress is how far the newest result lies above what
    was usual before it, so that who gets better is paid for it at once.

    >>> performance([]), performance([500_000] * 20), performance([500_000] * 20 + [1_000_000]), performance([0] * 50)
    (1000000, 1000000, 1457674, 707106)
    """
    before = history(qualities[:-1])
    progress = max(0, min(PPM, qualities[-1])) - before if qualities else 0
    exponent = (history(qualities) - PPM // 2 + progress) * STEEPNESS // PPM
    return max(MULTIPLIER_MIN, min(MULTIPLIER_MAX, exp2(exponent)))


def exp2(exponent: int) -> int:
    """2^(exponent / 10^6) in ppm, rounded down, by square roots in fixed point: the same integer everywhere.

    >>> exp2(0), exp2(1_000_000), exp2(500_000), exp2(-1_000_000)
    (1000000, 2000000, 1414213, 500000)
    """
    whole, rest = divmod(exponent, PPM)
    fraction = (rest << _Q) // PPM
    result, root = 1 << _Q, 2 << _Q
    for bit in range(_Q - 1, -1, -1):
        root = isqrt(root << _Q)
        if fraction >> bit & 1:
            result = result * root >> _Q
    scaled = result * PPM
    return scaled << whole >> _Q if whole >= 0 else scaled >> (_Q - whole)
