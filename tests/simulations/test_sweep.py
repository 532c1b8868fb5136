"""Sweeps: the grid, the directories, going on after an interruption, and what each refuses before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.errors import Refused
from simulations import seed_pool, sweep
from simulations.run_directory import RunDirectory
from simulations.seed_pool import Outcome, RunSeed, Task
from simulations.sweep import Progress
from tests.simulations.runs import SCENARIO, refuse_two, write_run

GRID: dict[str, list[sweep.Value]] = {"population.providers.n": [3, 5]}


def test_a_grid_is_run_and_reads_back_as_groups(tmp_path: Path) -> None:
    seen: list[Progress] = []
    swept = sweep.sweep(SCENARIO, GRID, (1, 2), tmp_path, write_run, on_progress=seen.append)
    assert [one.done for one in seen] == [1, 2, 3, 4]
    assert not swept.failures
    groups = swept.groups()
    assert [(one.label, one.seeds) for one in groups] == [("n = 3", 2), ("n = 5", 2)]
    places = sorted(path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("manifest.json"))
    assert places == [f"population.providers.n={n}/seed-{seed}" for n in (3, 5) for seed in (1, 2)]


def test_complete_runs_are_skipped_and_partial_ones_done_again(tmp_path: Path) -> None:
    swept = sweep.sweep(SCENARIO, GRID, (1, 2), tmp_path, refuse_two)
    assert [(task.seed, outcome.code) for task, outcome in swept.failures] == [(2, "disk_full")] * 2
    cut = tmp_path / "population.providers.n=3" / "seed-2"
    [task] = [task for task, _ in swept.failures if task.folder == cut]
    RunDirectory(cut).start(task.scenario, 2, "version: 1\n")
    seen: list[Progress] = []
    again = sweep.sweep(SCENARIO, GRID, (1, 2, 3), tmp_path, write_run, on_progress=seen.append)
    assert not again.failures
    assert [one.was_there for one in seen] == [True, True, False, False, False, False]
    assert [one.seeds for one in again.groups()] == [3, 3]


def test_more_points_join_the_same_folder(tmp_path: Path) -> None:
    sweep.sweep(SCENARIO, GRID, (1,), tmp_path, write_run)
    sweep.sweep(SCENARIO, {"population.providers.n": [7]}, (1,), tmp_path, write_run)
    assert [one.label for one in sweep.load(tmp_path)] == ["n = 3", "n = 5", "n = 7"]


def test_an_interrupt_leaves_what_is_complete(tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep.sweep(SCENARIO, GRID, (1, 2), tmp_path, write_run, on_progress=stop)
    assert [(one.label, one.seeds) for one in sweep.load(tmp_path)] == [("n = 3", 2)]


def test_foreign_directories_stop_the_sweep_before_it_starts(tmp_path: Path) -> None:
    place = tmp_path / "population.providers.n=5" / "seed-1"
    place.mkdir(parents=True)
    (place / "thesis.tex").write_text("mine")
    with pytest.raises(Refused) as refused:
        sweep.sweep(SCENARIO, GRID, (1,), tmp_path, write_run)
    assert refused.value.code == "foreign_directory"
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_sweep_of_another_scenario_is_refused(tmp_path: Path) -> None:
    sweep.sweep(SCENARIO, {}, (1,), tmp_path, write_run)
    other = sweep.points(SCENARIO, {"topology.loss": [0.5]})[0][1]
    with pytest.raises(Refused) as refused:
        sweep.sweep(other, GRID, (1,), tmp_path, write_run)
    assert refused.value.code == "foreign_directory"


@pytest.mark.parametrize(
    ("grid", "seeds", "code"),
    [
        ({"population.provider.n": [1]}, (1,), "unknown_key"),
        ({"population.providers.n": ["many"]}, (1,), "bad_scenario"),
        ({"population.providers.n": []}, (1,), "bad_grid"),
        ({"topology.loss": range(10_001)}, (1,), "bad_grid"),
        ({}, (), "bad_seeds"),
        ({}, (1, 1), "bad_seeds"),
        ({}, (-1,), "bad_seeds"),
        ({}, (1.5,), "bad_seeds"),
    ],
)
def test_bad_sweeps_are_refused(
    grid: dict[str, list[sweep.Value]], seeds: tuple[int, ...], code: str, tmp_path: Path
) -> None:
    with pytest.raises(Refused) as refused:
        sweep.sweep(SCENARIO, grid, seeds, tmp_path, write_run)
    assert refused.value.code == code
    assert refused.value.fix
    assert not list(tmp_path.iterdir())


def test_functions_that_no_other_process_can_import_are_refused(tmp_path: Path) -> None:
    work: RunSeed = lambda scenario, seed, folder, told: None  # noqa: E731
    with pytest.raises(Refused) as refused:
        sweep.sweep(SCENARIO, {}, (1,), tmp_path, work, jobs=2)
    assert refused.value.code == "bad_function"


def test_folder_names_are_safe_and_distinct() -> None:
    assert sweep.folder_name({}) == "all"
    assert sweep.folder_name({"topology.loss": 0.01}) == "topology.loss=0.01"
    odd, other = sweep.folder_name({"churn.trace": "../a/b"}), sweep.folder_name({"churn.trace": "../a:b"})
    assert odd != other
    assert "/" not in odd
    assert len(sweep.folder_name({"x" * 200: 1})) <= sweep.NAME_MAX


def test_folders_without_a_sweep_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        sweep.load(tmp_path)
    assert refused.value.code == "no_sweep"
    (tmp_path / sweep.INDEX).write_text("{")
    with pytest.raises(Refused) as refused:
        sweep.load(tmp_path)
    assert refused.value.code == "bad_sweep"


def test_no_jobs_are_refused() -> None:
    def told(task: Task, outcome: Outcome) -> None:
        raise AssertionError(task)

    with pytest.raises(Refused) as refused:
        seed_pool.run_all([], write_run, 0, told)
    assert refused.value.code == "bad_jobs"
