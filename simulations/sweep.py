"""Sweeps: a grid of scenarios times seeds, each run in a directory of its own; interrupted ones go on where they were.

<folder>/sweep.json                     the points: labels and changes
<folder>/<point>/seed-<n>/              run directories
"""

from __future__ import annotations

import hashlib
import itertools
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from protocol.errors import Refused
from simulations import landing, plot_data, scenario_file, seed_pool
from simulations.plot_data import Group
from simulations.run_directory import RunDirectory, State, scenario_hash
from simulations.scenario import Scenario
from simulations.seed_pool import Outcome, Pool, RunSeed, Task

INDEX: Final = "sweep.json"
POINTS_MAX: Final = 10_000
NAME_MAX: Final = 100
"""Characters of a point's folder; longer ones are cut, and a hash keeps them apart."""

Value = str | int | float | bool


class Point(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One scenario of the grid."""

    label: str
    changes: dict[str, Value]
    folder: str


class Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`sweep.json`."""

    scenario: str
    """Hash of the scenario without changes."""
    name: str
    points: tuple[Point, ...]
    version: Literal[1] = 1


@dataclass(frozen=True, slots=True)
class Progress:
    """After each run: how far the sweep is."""

    done: int
    total: int
    task: Task
    outcome: Outcome
    was_there: bool = False
    """Complete from an earlier start of the sweep."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep left: complete runs by point, and what failed."""

    folder: Path
    points: tuple[Point, ...]
    failures: tuple[tuple[Task, Outcome], ...]

    def groups(self) -> list[Group]:
        """The complete runs as plots and tables want them."""
        return load(self.folder)


def sweep(
    scenario: Scenario,
    grid: Mapping[str, Sequence[Value]],
    seeds: Sequence[int],
    folder: Path,
    run_seed: RunSeed,
    *,
    jobs: int = 1,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    pool: Pool = seed_pool.run_all,
) -> Swept:
    """All points with all seeds. Complete runs are skipped, partial ones done again.

    `grid` maps dotted keys to values as a scenario file would say them. Everything is checked before the first run
    starts: raises `Refused` for a bad key or value, a directory that holds something else, or no seeds. Failures of
    single runs are in the result. Ctrl-C rises as KeyboardInterrupt; complete runs stay."""
    _picklable(run_seed, jobs)
    wanted = [_whole(seed) for seed in seeds]
    if not wanted or len(set(wanted)) != len(wanted):
        raise Refused("a sweep needs seeds, each once", code="bad_seeds", fix="Give seeds such as --seeds 1..20.")
    made = points(scenario, grid)
    tasks = [
        Task(point.label, changed, seed, folder / point.folder / f"seed-{seed}")
        for point, changed in made
        for seed in wanted
    ]
    complete, missing = _sorted(tasks)
    _register(scenario, [point for point, _ in made], folder)
    failures: list[tuple[Task, Outcome]] = []
    count = 0

    def told(task: Task, outcome: Outcome, was_there: bool = False) -> None:
        nonlocal count
        count += 1
        if outcome.code:
            failures.append((task, outcome))
        on_progress(Progress(count, len(tasks), task, outcome, was_there))

    for task in complete:
        told(task, Outcome(), was_there=True)
    pool(missing, run_seed, jobs, told)
    return Swept(folder, tuple(point for point, _ in made), tuple(failures))


def points(scenario: Scenario, grid: Mapping[str, Sequence[Value]]) -> list[tuple[Point, Scenario]]:
    """The product of the grid, in its order, the last key fastest. Raises `Refused` that names key and value."""
    count = 1
    for key, values in grid.items():
        if isinstance(values, str) or not values:
            raise Refused(f"`{key}` has no list of values", code="bad_grid", fix=f"Write {key}=1,2,3.")
        count *= len(values)
    if count > POINTS_MAX:
        raise Refused(
            f"the grid has {count} points",
            code="bad_grid",
            fix=f"Keep it below {POINTS_MAX}.",
            numbers={"points": count},
        )
    found = []
    for values in itertools.product(*grid.values()):
        changes = dict(zip(grid, values, strict=True))
        label = ", ".join(f"{key} = {value}" for key, value in changes.items()) or scenario.name
        found.append((Point(label, changes, folder_name(changes)), scenario_file.changed(scenario, changes)))
    return found


def folder_name(changes: Mapping[str, Value]) -> str:
    """`population.providers.n=100,topology.loss=0.01`, safe in every file system; `all` without changes."""
    text = ",".join(f"{key}={value}" for key, value in changes.items())
    safe = re.sub(r"[^\w.,=+-]", "_", text)
    if safe == text and len(safe) <= NAME_MAX:
        return safe or "all"
    return f"{safe[: NAME_MAX - 9]}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def read_index(folder: Path) -> Index:
    """Of a sweep's folder. Raises `Refused` (`no_sweep`, `bad_sweep`)."""
    path = folder / INDEX
    try:
        return msgspec.json.decode(path.read_bytes(), type=Index)
    except FileNotFoundError as error:
        raise Refused(f"{folder} holds no sweep", code="no_sweep", fix="Name the folder of a sweep.") from error
    except (OSError, msgspec.DecodeError) as error:
        raise Refused(f"{path} cannot be read: {error}", code="bad_sweep", fix="Start the sweep again.") from error


def load(folder: Path) -> list[Group]:
    """The complete runs of a sweep, a group per point; points without any are left out."""
    index = read_index(folder)
    found = []
    for point in index.points:
        place = folder / point.folder
        runs = sorted(item for item in place.glob("seed-*") if _is_complete(item)) if place.is_dir() else []
        if runs:
            found.append(plot_data.load(_short(point, index), runs))
    return found


def _short(point: Point, index: Index) -> str:
    """`n = 100` for population.providers.n, as long as no other key of the sweep ends so."""
    keys = {key for one in index.points for key in one.changes}
    lasts = [key.rsplit(".", 1)[-1] for key in keys]

    def name(key: str) -> str:
        last = key.rsplit(".", 1)[-1]
        return last if lasts.count(last) == 1 else key

    return ", ".join(f"{name(key)} = {value}" for key, value in point.changes.items()) or point.label


def _is_complete(path: Path) -> bool:
    try:
        RunDirectory(path).read_manifest()
    except Refused:
        return False
    return True


def _sorted(tasks: Sequence[Task]) -> tuple[list[Task], list[Task]]:
    """(complete, still to be run). Raises `Refused` when one directory holds something else, before anything runs."""
    complete, missing = [], []
    for task in tasks:
        match RunDirectory(task.folder).state(task.scenario, task.seed):
            case State.COMPLETE:
                complete.append(task)
            case State.FOREIGN:
                raise Refused(
                    f"{task.folder} holds something else than {task.label}, seed {task.seed}",
                    code="foreign_directory",
                    fix="Name another folder with --out, or move this one away.",
                )
            case _:
                missing.append(task)
    return complete, missing


def _register(scenario: Scenario, made: Sequence[Point], folder: Path) -> None:
    """Write the index; points of an earlier sweep of the same scenario stay in it."""
    known: tuple[Point, ...] = ()
    if (folder / INDEX).exists():
        index = read_index(folder)
        if index.scenario != scenario_hash(scenario):
            raise Refused(
                f"{folder} holds a sweep of another scenario, {index.name}",
                code="foreign_directory",
                fix="Name another folder with --out.",
            )
        known = index.points
    names = {point.folder for point in made}
    everything = (*(point for point in known if point.folder not in names), *made)
    index = Index(scenario_hash(scenario), scenario.name, everything)
    landing.write(folder / INDEX, msgspec.json.format(msgspec.json.encode(index), indent=1) + b"\n")


def _whole(seed: object) -> int:
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 63:
        raise Refused(f"{seed!r} is no seed", code="bad_seeds", fix="Seeds are whole numbers from 0 on.")
    return seed


def _picklable(run_seed: RunSeed, jobs: int) -> None:
    if jobs == 1:
        return
    try:
        pickle.dumps(run_seed)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise Refused(
            f"other processes cannot import {run_seed}: {error}",
            code="bad_function",
            fix="Pass a function at the top of a module, or one job at a time.",
        ) from error
