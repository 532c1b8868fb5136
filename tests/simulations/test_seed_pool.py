"""Seeds on several processes: all are run, a killed worker costs nobody his seed, a crash is an outcome."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from simulations import seed_pool
from simulations.run_directory import RunDirectory
from simulations.seed_pool import Outcome, RunSeed, Task
from tests.simulations.runs import SCENARIO, break_two, die_always, die_once, refuse_two, write_run


def tasks(folder: Path) -> list[Task]:
    return [Task("small", SCENARIO, seed, folder / f"seed-{seed}") for seed in (1, 2, 3)]


@pytest.mark.parametrize(
    ("work", "code", "jobs"),
    [
        (write_run, "", 1),
        (die_once, "", 2),
        (refuse_two, "disk_full", 2),
        (break_two, "crashed", 2),
        (die_always, "worker_lost", 2),
    ],
)
def test_every_seed_has_an_outcome(work: RunSeed, code: str, jobs: int, tmp_path: Path) -> None:
    seen: dict[int, Outcome] = {}

    def told(task: Task, outcome: Outcome) -> None:
        assert task.seed not in seen
        seen[task.seed] = outcome

    seed_pool.run_all(tasks(tmp_path), work, jobs, told)
    assert {seed: outcome.code for seed, outcome in seen.items()} == {1: "", 2: code, 3: ""}
    for seed, outcome in seen.items():
        if not outcome.code:
            assert RunDirectory(tmp_path / f"seed-{seed}").read_manifest().seed == seed


def test_an_interrupt_ends_the_workers(tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())

    def stop(task: Task, outcome: Outcome) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seed_pool.run_all(tasks(tmp_path), write_run, 2, stop)
    assert set(multiprocessing.active_children()) == before
