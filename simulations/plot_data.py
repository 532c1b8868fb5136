"""The numbers behind each plot: curves and points per group of runs, with the 95 % t interval over seeds.

A group is one point of a sweep: all seeds of one scenario. Everything that is drawn is here first, and is written
beside the image as .csv.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import exp, log
from pathlib import Path
from typing import TYPE_CHECKING, Final

from simulations import frames
from simulations.extras import need
from simulations.run_directory import RunDirectory

if TYPE_CHECKING:
    import polars as pl

GRID: Final = 160
"""Points of a drawn distribution: more cannot be told apart on paper."""

BINS: Final = 30
"""Bins of a rate over time: a run of an hour shows steps of two minutes."""

Edge = list[float | None]


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that differ in nothing but the seed."""

    label: str
    metrics: pl.DataFrame
    histograms: pl.DataFrame
    seeds: int


@dataclass(slots=True)
class Curve:
    """Means over seeds at places x, and their intervals (None: a single seed)."""

    panel: str
    group: int
    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)
    low: Edge = field(default_factory=list)
    high: Edge = field(default_factory=list)

    def add(self, x: float, values: Sequence[float]) -> None:
        """One place and the figures of all seeds at it."""
        mean, low, high = frames.interval(values)
        self.x.append(x)
        self.y.append(mean)
        self.low.append(low)
        self.high.append(high)


@dataclass(slots=True)
class Mark:
    """The mean of one quantity in one group, its interval, and the single values behind it (at most a few hundred)."""

    panel: str
    group: int
    name: str
    mean: float
    low: float | None
    high: float | None
    values: list[float] = field(default_factory=list)


def load(label: str, directories: Iterable[Path]) -> Group:
    """The seeds of one scenario from their run directories, all complete. Raises `Refused` as `RunDirectory` does."""
    need("polars")
    import polars as pl

    runs = [RunDirectory(path) for path in directories]
    metrics = pl.concat([run.metrics() for run in runs])
    return Group(label, metrics, pl.concat([run.histograms() for run in runs]), len(runs))


def samples(group: Group, name: str) -> dict[int, list[tuple[float, float]]]:
    """Per seed the (time in s, value) of every sample of one name, in order of time."""
    rows = group.metrics.filter((group.metrics["name"] == name) & group.metrics["at_s"].is_not_null())
    found: dict[int, list[tuple[float, float]]] = {}
    for seed, at, value in rows.sort("seed", "at_s").select("seed", "at_s", "value").iter_rows():
        found.setdefault(seed, []).append((at, value))
    return found


def names(groups: Sequence[Group], prefix: str) -> list[str]:
    """All names of samples that begin so, sorted."""
    return sorted({name for group in groups for name in group.metrics["name"].unique() if name.startswith(prefix)})


# ── distributions ────────────────────────────────────────────────────────────────────────────────────────────────────
def deliveries(groups: Sequence[Group], name: str = "gossip/latency") -> list[Curve]:
    """Share of deliveries that took at most x ms, on a logarithmic grid."""
    seen = [_buckets(group, name) for group in groups]
    places = [value for runs in seen for run in runs for value, _ in run]
    if not places:
        return []
    least, most = max(1.0, float(min(places))), float(max(places))
    grid = [exp(log(least) + (log(most) - log(least)) * step / (GRID - 1)) for step in range(GRID)]
    grid[-1] = most
    curves = []
    for index, runs in enumerate(seen):
        if runs:
            curve = Curve("deliveries", index)
            tables = [([value for value, _ in run], [reached for _, reached in run]) for run in runs]
            for place in grid:
                curve.add(place / 1e6, [_share(*table, place) for table in tables])
            curves.append(_shares(curve))
    return curves


def distribution(groups: Sequence[Group], name: str) -> list[Curve]:
    """Share of samples with a value of at most x, in the unit of the samples."""
    seen = [[sorted(value for _, value in run) for run in samples(group, name).values()] for group in groups]
    values = [value for runs in seen for run in runs for value in run]
    if not values:
        return []
    least, most = min(values), max(values)
    grid = [least + (most - least) * step / (GRID - 1) for step in range(GRID)]
    grid[-1] = most
    curves = []
    for index, runs in enumerate(seen):
        if runs:
            curve = Curve(name, index)
            for place in grid:
                curve.add(place, [bisect_right(run, place) / len(run) for run in runs])
            curves.append(_shares(curve))
    return curves


def _shares(curve: Curve) -> Curve:
    """Intervals cut to 0..1: a share cannot lie beyond, Student's t does not know that."""
    curve.low = [None if edge is None else max(0.0, edge) for edge in curve.low]
    curve.high = [None if edge is None else min(1.0, edge) for edge in curve.high]
    return curve


def _buckets(group: Group, name: str) -> list[list[tuple[int, int]]]:
    """Per seed: (greatest value of a bucket, values up to it), in order."""
    runs: dict[int, list[tuple[int, int]]] = {}
    rows = group.histograms.filter(group.histograms["name"] == name).sort("seed", "low")
    for seed, high, count in rows.select("seed", "high", "count").iter_rows():
        run = runs.setdefault(seed, [])
        run.append((high, count + (run[-1][1] if run else 0)))
    return list(runs.values())


def _share(highs: list[int], reached: list[int], place: float) -> float:
    at = bisect_right(highs, place)
    return reached[at - 1] / reached[-1] if at else 0.0


# ── single quantities ────────────────────────────────────────────────────────────────────────────────────────────────
def marks(groups: Sequence[Group], wanted: Sequence[str], panel: str, kept: int = 300) -> list[Mark]:
    """Mean over seeds of each seed's mean, per group and name that has samples."""
    found = []
    for index, group in enumerate(groups):
        for name in wanted:
            runs = samples(group, name)
            if runs:
                mean, low, high = frames.interval([sum(v for _, v in run) / len(run) for run in runs.values()])
                values = sorted(value for run in runs.values() for _, value in run)
                step = max(1, -(-len(values) // kept))
                found.append(Mark(panel, index, name, mean, low, high, values[::step]))
    return found


# ── over time ────────────────────────────────────────────────────────────────────────────────────────────────────────
def rates(groups: Sequence[Group], name: str, per_s: float) -> list[Curve]:
    """How fast a total that only grows, sampled over time, grows per `per_s` seconds; x is the middle of a bin, s.

    A bin holds two samples at least: narrower ones would show the sampling and not the run."""
    seen = [samples(group, name) for group in groups]
    times = {at for runs in seen for run in runs.values() for at, _ in run}
    end = max(times, default=0.0)
    if not end:
        return []
    bins = max(1, min(BINS, len(times) // 2))
    width = end / bins
    curves = []
    for index, runs in enumerate(seen):
        if runs:
            grown = [_growth(run, bins, width) for run in runs.values()]
            curve = Curve(name, index)
            for place in range(bins):
                curve.add((place + 0.5) * width, [one[place] * per_s / width for one in grown])
            curves.append(curve)
    return curves


def _growth(run: list[tuple[float, float]], bins: int, width: float) -> list[float]:
    """By bin, what was added between samples, counted in their middle."""
    grown = [0.0] * bins
    since, before = 0.0, 0.0
    for at, value in run:
        grown[min(bins - 1, int((since + at) / 2 / width))] += max(0.0, value - before)
        since, before = at, max(before, value)
    return grown


def levels(groups: Sequence[Group], name: str) -> list[Curve]:
    """A quantity that is sampled at the same times in every seed; x is the time, s."""
    curves = []
    for index, group in enumerate(groups):
        by_time: dict[float, list[float]] = {}
        for run in samples(group, name).values():
            for at, value in run:
                by_time.setdefault(at, []).append(value)
        if by_time:
            curve = Curve(name, index)
            for at in sorted(by_time):
                curve.add(at, by_time[at])
            curves.append(curve)
    return curves


def spans(groups: Sequence[Group]) -> list[tuple[str, float, float]]:
    """(kind, from, until in s) of faults in each group's first seed: samples `fault/<kind>`, each with its length."""
    found = set()
    for name in names(groups, "fault/"):
        for group in groups:
            for run in list(samples(group, name).values())[:1]:
                found |= {(name.removeprefix("fault/"), at, at + last) for at, last in run}
    return sorted(found, key=lambda one: (one[1], one[0], one[2]))


# ── as a table ───────────────────────────────────────────────────────────────────────────────────────────────────────
def table(groups: Sequence[Group], curves: Sequence[Curve], points: Sequence[Mark]) -> pl.DataFrame:
    """What is drawn: panel, group, name, x, y, low, high, seeds. Curves have an x, single quantities a name."""
    need("polars")
    import polars as pl

    rows: list[tuple[str, str, str, float | None, float, float | None, float | None, int]] = []
    for curve in curves:
        group = groups[curve.group]
        for x, y, low, high in zip(curve.x, curve.y, curve.low, curve.high, strict=True):
            rows.append((curve.panel, group.label, "", x, y, low, high, group.seeds))
    for one in points:
        group = groups[one.group]
        rows.append((one.panel, group.label, one.name, None, one.mean, one.low, one.high, group.seeds))
    numbers = dict.fromkeys(("x", "y", "low", "high"), pl.Float64)
    words = dict.fromkeys(("panel", "group", "name"), pl.String)
    return pl.DataFrame(rows, schema={**words, **numbers, "seeds": pl.Int64}, orient="row")
