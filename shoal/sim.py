"""The researcher's face of the simulator.

    from shoal.sim import Scenario, run, sweep
    result = run(Scenario.load("churn"), seed=7)
    result.metrics                      # a polars DataFrame; .to_pandas() where pandas is wanted
    result.auditor, result.violations   # the same scenario, seed and commit give the same auditor
    frame = sweep("churn", grid={"population.providers.n": [20, 40]}, seeds=range(5), jobs=4)

Importing this loads neither the network nor the libraries of the figures. Guide: docs/simulator.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from shoal import folders

folders.open_for_library()


from protocol.errors import Refused  # noqa: E402
from simulations import scenario as model  # noqa: E402
from simulations import scenario_file  # noqa: E402

if TYPE_CHECKING:
    import polars as pl

    from simulations.compare import Difference
    from simulations.plot_data import Group
    from simulations.recorder import Recorder
    from simulations.replay import Again, Ended
    from simulations.scenario import Injection
    from simulations.scenario_checks import Known
    from simulations.seed_pool import Outcome, Task
    from simulations.sweep import Progress
    from simulations.violation import Violation

Told = Callable[[int, int], None]
"""Called while a run goes on: simulated ns, events so far."""


class Scenario(model.Scenario, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One experiment. Its fields are those of the file, in base units: ns, bytes, bit/s, smallest units of money."""

    @classmethod
    def load(cls, source: str | Path) -> Scenario:
        """A scenario file, or the short name of one that comes with Shoal. `Refused` names file, line and key."""
        return _ours(scenario_file.load(scenario_file.find(str(source))))

    @classmethod
    def read(cls, text: str, folder: str | Path = ".") -> Scenario:
        """A scenario from YAML text; the paths of traces start at `folder`."""
        return _ours(scenario_file.read(text, Path(folder)))

    def changed(self, changes: Mapping[str, object]) -> Scenario:
        """The same with other values at dotted keys, as the file would say them.

        `Scenario.load("churn").changed({"population.providers.n": 200, "faults.0.kill.last": "5m"})`
        """
        return _ours(scenario_file.changed(self, changes))

    @property
    def plain(self) -> dict[str, object]:
        """What the file would say, as maps, lists and text; values that are as usual are left out."""
        return dict(scenario_file.plain(self))

    @property
    def text(self) -> str:
        """The file that reads as this scenario."""
        return scenario_file.text_of(self)


def _ours(plain: model.Scenario) -> Scenario:
    return Scenario(**{name: getattr(plain, name) for name in plain.__struct_fields__})


def named(source: Scenario | model.Scenario | str | Path) -> Scenario:
    """Whatever stands for a scenario, as one."""
    if isinstance(source, Scenario):
        return source
    return _ours(source) if isinstance(source, model.Scenario) else Scenario.load(source)


@dataclass(frozen=True, slots=True)
class Result:
    """One run."""

    scenario: Scenario
    seed: int
    auditor: str
    """Hash of every event."""
    events: int
    seconds: float
    """Wall time."""
    violations: tuple[Violation, ...]
    recorder: Recorder
    folder: Path | None
    """Its run directory, where one was asked for."""
    attacks: tuple[str, ...] = ()
    """What each strategy of adversaries cost, brought, and when it was noticed: one sentence each."""

    @property
    def metrics(self) -> pl.DataFrame:
        """One row per measurement: seed, name, at_s, peer, value; totals have no at_s and no peer."""
        from simulations import frames

        return frames.metrics(self.recorder, self.seed)

    @property
    def histograms(self) -> pl.DataFrame:
        """One row per bucket of what is measured most often: seed, name, low, high, count."""
        from simulations import frames

        return frames.histograms(self.recorder, self.seed)


def run(
    scenario: Scenario | model.Scenario | str | Path,
    seed: int | None = None,
    out: str | Path | None = None,
    on_progress: Told | None = None,
) -> Result:
    """Run one seed (default: the scenario's first). `out`: a run directory to write; complete, it is `Refused`."""
    from simulations.experiment import run_seed

    chosen = named(scenario)
    number = chosen.simulation.seeds[0] if seed is None else seed
    folder = None if out is None else Path(out)
    found = run_seed(chosen, number, folder, on_progress or _nothing)
    return Result(
        chosen,
        number,
        found.auditor,
        found.events,
        found.seconds,
        tuple(found.violations),
        found.recorder,
        folder,
        found.attacks,
    )


def _nothing(now: int, events: int) -> None:
    """Nobody watches."""


def sweep(
    scenario: Scenario | model.Scenario | str | Path,
    grid: Mapping[str, Sequence[str | int | float | bool]],
    seeds: Iterable[int] | None = None,
    jobs: int = 1,
    out: str | Path | None = None,
    *,
    ray: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Swept:
    """Every combination of the grid's values with every seed (default: the scenario's), `jobs` at a time.

    `grid`: dotted keys and their values, {"population.providers.n": [20, 40]}. Results go to `out` (default
    sweeps/<name>); a sweep that was interrupted goes on there. `ray`: spread over a Ray cluster.
    """
    from simulations import ray_pool, seed_pool
    from simulations import sweep as sweeps

    chosen = named(scenario)
    folder = Path("sweeps") / chosen.name if out is None else Path(out)
    numbers = list(chosen.simulation.seeds if seeds is None else seeds)
    told = on_progress or _not_told
    pool = ray_pool.run_all if ray else seed_pool.run_all
    done = sweeps.sweep(chosen, grid, numbers, folder, _one, jobs=jobs, on_progress=told, pool=pool)
    return Swept(folder, done.failures)


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep left in its folder."""

    folder: Path
    failures: tuple[tuple[Task, Outcome], ...]
    """Runs that were refused, and why."""

    @property
    def metrics(self) -> pl.DataFrame:
        """The metrics of all complete runs, with a column `point` that says what was different."""
        import polars as pl

        return pl.concat([group.metrics.with_columns(point=pl.lit(group.label)) for group in self._groups()])

    @property
    def summary(self) -> pl.DataFrame:
        """Per point and name, over seeds: seeds, mean, median, and the 95 % interval of the mean."""
        import polars as pl

        from simulations import frames

        return pl.concat([frames.summary(one.metrics).with_columns(point=pl.lit(one.label)) for one in self._groups()])

    def plot(self, only: Sequence[str] = (), out: str | Path | None = None) -> list[Path]:
        """Draw the points against each other; returns the files."""
        return plot([self.folder], only, out)

    def _groups(self) -> list[Group]:
        from simulations import sweep as sweeps

        return sweeps.load(self.folder)


def _not_told(progress: Progress) -> None:
    """Nobody watches."""


def _one(scenario: model.Scenario, seed: int, folder: Path, on_progress: Told) -> None:
    """One run of a sweep; other processes import it, and get no result back but the directory."""
    run(scenario, seed, folder, on_progress)


# ── what the command line needs besides ──────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Summary:
    """A finished run in its directory."""

    seed: int
    auditor: str
    events: int
    seconds: float
    violations: int
    folder: Path
    attacks: tuple[str, ...]
    was_there: bool
    """It was complete before: nothing ran now."""

    @property
    def rate(self) -> float:
        """Events per second of wall time."""
        return self.events / self.seconds if self.seconds else 0.0

    @property
    def plain(self) -> dict[str, object]:
        """For JSON."""
        return {
            "seed": self.seed, "auditor": self.auditor, "events": self.events, "seconds": self.seconds,
            "violations": self.violations, "folder": str(self.folder),
            "attacks": list(self.attacks), "was_there": self.was_there,
        }  # fmt: skip


def run_into(scenario: Scenario, seed: int, folder: Path, on_progress: Told) -> Summary:
    """Run into a directory, or take what is there: a complete run is kept, an interrupted one is done again."""
    from simulations.run_directory import RunDirectory, State

    directory = RunDirectory(folder)
    was_there = directory.state(scenario, seed) is State.COMPLETE
    if not was_there:
        run(scenario, seed, folder, on_progress)
    kept = directory.read_manifest()
    return Summary(seed, kept.auditor, kept.events, kept.wall_s, kept.violations, folder, kept.attacks, was_there)


def replay(folder: Path, tell: Callable[[str], None], node: str = "", until: int | None = None) -> tuple[Again, Ended]:
    """What a run directory or a violation's folder says about its run, and how it went again."""
    from simulations import replay as replays

    again = replays.opened(folder)
    return again, replays.replay(again, tell, node, until)


def minimal(folder: Path, on_try: Callable[[int], None]) -> tuple[list[Injection], Path]:
    """The fewest faults that still break the rule of a violation's folder, and the folder of their report."""
    from simulations import replay as replays

    return replays.minimal(replays.opened(folder), folder, on_try)


def swept_runs(folder: Path) -> list[Summary]:
    """All complete runs of a sweep."""
    from simulations.run_directory import RunDirectory

    found = []
    for _, paths in run_groups(folder):
        for path in paths:
            kept = RunDirectory(path).read_manifest()
            one = Summary(kept.seed, kept.auditor, kept.events, kept.wall_s, kept.violations, path, kept.attacks, False)
            found.append(one)
    return found


def diff(first: Path, second: Path) -> Difference:
    """Which inputs of two runs differ, where their events part, and what that did to the figures."""
    from simulations import compare

    return compare.diff(first, second)


def export_shadow(scenario: Scenario, seed: int, folder: Path) -> list[Path]:
    """Write the configuration with which Shadow runs real nodes on the same network. Returns the files."""
    from simulations import shadow

    if folder.exists():
        raise Refused(f"{folder} is there already", code="file_exists", fix="Name a folder that is not there yet.")
    return shadow.export(scenario, seed, folder)


def shipped() -> list[scenario_file.Named]:
    """The scenarios that come with Shoal."""
    return scenario_file.shipped()


def known_names() -> Known:
    """The strategies, latency tables and mixes of GPUs that a scenario may name."""
    from simulations.scenario_checks import known_names as known

    return known()


def copy(name: str, target: Path) -> Path:
    """Write a shipped scenario, comments and all, to a new file; one that is there is `Refused`."""
    text = scenario_file.find(name).read_text(encoding="utf-8")
    try:
        with target.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        fix = "Name another file; nothing is overwritten."
        raise Refused(f"{target} is there already", code="file_exists", fix=fix) from error
    except OSError as error:
        fix = "Name a file in a folder that exists."
        raise Refused(f"{target} cannot be written: {error.strerror}", code="bad_path", fix=fix) from error
    return target


def span(text: str) -> int:
    """Nanoseconds of `90s`, `1h30m` or a bare number of seconds."""
    from simulations.quantities import span_of

    found = span_of(text)
    if found is None:
        raise Refused(f"{text:.40} is no time", code="usage", fix="Write a time such as 90s or 1h30m.")
    return found


# ── figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def run_groups(folder: Path) -> list[tuple[str, list[Path]]]:
    """The run directories in a folder, by what they have in common: itself, its seeds, or the seeds of each part of a
    sweep. `Refused` (`no_run`) when there is none."""
    if _is_run(folder):
        return [(folder.resolve().name, [folder])]
    seeds = _runs_below(folder)
    found = [(folder.resolve().name, seeds)] if seeds else []
    if not found and folder.is_dir():
        parts = sorted(part for part in folder.iterdir() if part.is_dir())
        found = [(part.name, _runs_below(part)) for part in parts if _runs_below(part)]
    if not found:
        raise Refused(f"{folder} holds no run", code="no_run", fix="Name a folder that `shoal sim run` wrote.")
    return found


def plot(folders: Sequence[str | Path], only: Sequence[str] = (), out: str | Path | None = None) -> list[Path]:
    """Draw runs, seeds of one folder together, folders against each other. Returns the SVG, PNG and CSV files.

    `only`: plots instead of those that the scenario's `outputs.plots` names."""
    from simulations import plot_data, plots
    from simulations import sweep as sweeps

    if not folders:
        raise Refused("there are no runs to plot", code="no_run", fix="Name a folder that `shoal sim run` wrote.")
    first, groups = None, list[plot_data.Group]()
    for folder in folders:
        found = run_groups(Path(folder))
        first = first or scenario_file.load(found[0][1][0] / "scenario.yaml")
        is_sweep = (Path(folder) / sweeps.INDEX).exists()
        groups += sweeps.load(Path(folder)) if is_sweep else [plot_data.load(label, paths) for label, paths in found]
    assert first is not None, "run_groups refuses a folder without runs"
    kinds = cast("Sequence[model.Plot]", only or first.outputs.plots)
    target = Path(folders[0]) / "plots" if out is None else Path(out)
    return plots.draw(kinds, groups, target, first.name)


def _is_run(folder: Path) -> bool:
    from simulations.run_directory import MANIFEST

    return (folder / MANIFEST).is_file()


def _runs_below(folder: Path) -> list[Path]:
    """Run directories right below, seed 10 behind seed 9."""
    if not folder.is_dir():
        return []
    found = [part for part in folder.iterdir() if part.is_dir() and _is_run(part)]
    return sorted(found, key=lambda part: (len(part.name), part.name))
