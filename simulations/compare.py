"""Two runs side by side: which inputs differ, where their events part, and what that did to the figures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import Refused
from simulations import event_log, frames, scenario_file
from simulations.run_directory import SCENARIO, Manifest, RunDirectory
from simulations.scenario import NS


@dataclass(frozen=True, slots=True)
class Input:
    """One input that differs; '' where a side does not have it."""

    key: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Parting:
    """Where two runs part. `number` counts events from 0; -1: known only to a checkpoint's accuracy."""

    number: int
    at_s: float
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Change:
    """One figure in both runs: the mean of its samples, or its total. None where a run does not have it."""

    name: str
    first: float | None
    second: float | None

    @property
    def relative(self) -> float | None:
        """(second - first) / |first|; None where that says nothing."""
        if self.first is None or self.second is None or not self.first:
            return None
        return (self.second - self.first) / abs(self.first)


@dataclass(frozen=True, slots=True)
class Difference:
    """The result of `diff`."""

    is_same: bool
    """The auditors agree: event by event the same run."""
    inputs: tuple[Input, ...]
    parting: Parting | None
    """None where the runs are the same, or neither event logs nor checkpoints can tell."""
    changes: tuple[Change, ...]
    """Figures that differ, the largest relative change first."""


def diff(first: Path, second: Path) -> Difference:
    """Compare two complete run directories. Raises `Refused` as reading them does."""
    one, other = RunDirectory(first), RunDirectory(second)
    here, there = one.read_manifest(), other.read_manifest()
    is_same = here.auditor == there.auditor
    return Difference(
        is_same,
        tuple(_inputs(first, second, here, there)),
        None if is_same else _parting(first, second, here, there),
        tuple(_changes(one, other)),
    )


def _inputs(first: Path, second: Path, here: Manifest, there: Manifest) -> Iterator[Input]:
    before, after = (_flat(scenario_file.plain(scenario_file.load(path / SCENARIO))) for path in (first, second))
    for manifest, found in ((here, before), (there, after)):
        found |= {"seed": str(manifest.seed), "commit": manifest.commit}
        found |= {f"versions.{name}": said for name, said in manifest.versions.items()}
    for key in sorted(before.keys() | after.keys()):
        if before.get(key, "") != after.get(key, ""):
            yield Input(key, before.get(key, ""), after.get(key, ""))


def _flat(tree: object, key: str = "") -> dict[str, str]:
    """Dotted keys of everything that a scenario says."""
    parts: list[tuple[str, object]]
    if isinstance(tree, dict):
        parts = [(str(name), item) for name, item in tree.items()]
    elif isinstance(tree, list):
        parts = [(str(number), item) for number, item in enumerate(tree)]
    else:
        return {key: str(tree)}
    found: dict[str, str] = {}
    for name, item in parts:
        found |= _flat(item, f"{key}.{name}" if key else name)
    return found


def _parting(first: Path, second: Path, here: Manifest, there: Manifest) -> Parting | None:
    try:
        pairs = itertools.zip_longest(event_log.read(first / event_log.NAME), event_log.read(second / event_log.NAME))
        for number, (one, other) in enumerate(pairs):
            if one != other:
                return Parting(number, _time(one, other), _text(one), _text(other))
    except Refused as refused:
        if refused.code != "no_events":
            raise
    before = 0.0
    for (at, one), (_, other) in zip(here.checkpoints, there.checkpoints, strict=False):
        if one != other:
            return Parting(-1, before, f"auditor {one[:16]} at {at:g} s", f"auditor {other[:16]} at {at:g} s")
        before = at
    return None


def _time(*lines: event_log.Line | None) -> float:
    """Simulated seconds of the earlier of two events."""
    times = [at for line in lines if line is not None and isinstance(at := line.get("at"), int)]
    return min(times, default=0) / NS


def _text(line: event_log.Line | None) -> str:
    if line is None:
        return "nothing: the run was over"
    return " ".join(f"{key}={value}" for key, value in line.items() if key != "at")


def _changes(one: RunDirectory, other: RunDirectory) -> list[Change]:
    before, after = (dict(frames.summary(run.metrics()).select("name", "mean").iter_rows()) for run in (one, other))
    found = [
        Change(name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    # What only one run has comes first: it is the larger difference.
    return sorted(found, key=lambda change: (change.relative is not None, -abs(change.relative or 0.0), change.name))
