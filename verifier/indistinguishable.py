"""Whether canaries can be told from real chunks by what their receiver sees before computing: price, sizes, times, ids.

A logistic regression on metadata tries to, cross-validated; when its ranking is better than chance, canaries protect
nobody and are not issued. Spec: specs/38-canaries.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from protocol.errors import Refused

AUC_MAX: Final = 0.55
"""Share of (real, canary) pairs that the classifier may order rightly; one half is chance."""

FOLDS: Final = 5
"""Parts of the data, each of which is ranked by a model that has not seen it."""

SAMPLE_MIN: Final = 300
"""Of each kind: the AUC of pure chance then stays below AUC_MAX in 98 of 100 cases."""

STEPS: Final = 300
"""Of gradient descent: standardised features, a convex loss."""

RATE: Final = 0.5
DECAY: Final = 1e-3
"""Ridge penalty: with as few rows as SAMPLE_MIN, no feature explains noise."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a provider knows of a chunk before it computes."""

    renter: bytes
    spec: bytes
    job: bytes
    price: int
    """Smallest units."""
    spec_bytes: int
    chunks: int
    timeout: int
    """µs."""
    deadline: int
    """µs from the grant on."""
    gap: int
    """µs since the previous grant of the same renter."""
    second: int
    """Of the day, at the grant."""

    def features(self) -> list[float]:
        """Numbers that a linear model can use: sizes by their logarithm, times as points on a circle, ids as bits."""
        turn = 2 * math.pi * self.second / 86_400
        sizes = (self.price, self.spec_bytes, self.chunks, self.timeout, self.deadline, self.gap)
        logs = [math.log1p(max(0, size)) for size in sizes]
        whole = [float(size % 1000 == 0) for size in sizes]
        bits = [float(data[0] & 1) + float(data[-1] & 1) / 2 for data in (self.renter, self.spec, self.job) if data]
        return [*logs, *whole, *(log * log for log in logs), math.sin(turn), math.cos(turn), *bits]


def auc(scores: Floats, is_canary: npt.NDArray[np.bool_]) -> float:
    """Chance that a canary is ranked above a real chunk; ties count half.

    >>> auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
    0.875
    """
    ranks = np.empty(len(scores))
    order = np.argsort(scores, kind="stable")
    ranks[order] = np.arange(1, len(scores) + 1)
    values, places = np.unique(scores, return_inverse=True)
    means = np.bincount(places, weights=ranks) / np.bincount(places, minlength=len(values))
    positive = int(is_canary.sum())
    negative = len(scores) - positive
    return float((means[places][is_canary].sum() - positive * (positive + 1) / 2) / (positive * negative))


def fit(rows: Floats, is_canary: npt.NDArray[np.bool_]) -> Floats:
    """Weights of a logistic regression with a bias in front. Rows are standardised (n, features)."""
    data = np.hstack([np.ones((len(rows), 1)), rows])
    weights, target = np.zeros(data.shape[1]), is_canary.astype(np.float64)
    for _ in range(STEPS):
        guess = 1 / (1 + np.exp(-np.clip(data @ weights, -30, 30)))
        weights -= RATE * (data.T @ (guess - target) / len(data) + DECAY * weights)
    return weights


def cross_validated(rows: Floats, is_canary: npt.NDArray[np.bool_], seed: int = 0) -> float:
    """AUC over FOLDS parts, each ranked by a model of the others; the mean of the parts."""
    order = np.random.default_rng(seed).permutation(len(rows))
    found = []
    for fold in range(FOLDS):
        test = np.zeros(len(rows), bool)
        test[order[fold::FOLDS]] = True
        mean, spread = rows[~test].mean(axis=0), rows[~test].std(axis=0)
        spread[spread == 0] = 1
        scaled = (rows - mean) / spread
        weights = fit(scaled[~test], is_canary[~test])
        found.append(auc(weights[0] + scaled[test] @ weights[1:], is_canary[test]))
    return float(np.mean(found))


def check(real: Sequence[Metadata], canaries: Sequence[Metadata]) -> float:
    """The AUC of telling them apart. Raises `Refused`: `few_samples`, or `distinguishable` at AUC_MAX and above."""
    if min(len(real), len(canaries)) < SAMPLE_MIN:
        raise Refused(
            f"{len(real)} real chunks and {len(canaries)} canaries, {SAMPLE_MIN} of each are needed",
            code="few_samples",
            fix="Collect more before issuing canaries.",
        )
    rows = np.array([item.features() for item in (*real, *canaries)])
    is_canary = np.arange(len(rows)) >= len(real)
    found = cross_validated(rows, is_canary)
    if not found < AUC_MAX:
        raise Refused(
            f"canaries can be told by their metadata: AUC {found:.3f}",
            code="distinguishable",
            fix="Issue them with the keys, prices, sizes and times of real work.",
            numbers={"auc_ppm": round(found * 1_000_000)},
        )
    return found
