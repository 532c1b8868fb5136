"""Functions that run one seed, for tests of pools: other processes import them from here."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from protocol.errors import Refused
from simulations import scenario_file
from simulations.run_directory import Manifest, RunDirectory, scenario_hash
from simulations.scenario import Group, Population, Scenario, Simulation
from tests.simulations.recorded import recorded

Told = Callable[[int, int], None]

SCENARIO = Scenario(
    name="small", simulation=Simulation(duration=60_000_000_000), population=Population(providers=Group(n=3))
)


def write_run(scenario: Scenario, seed: int, folder: Path, on_progress: Told) -> None:
    """A whole run directory, from a recorder that was filled by the seed."""
    directory = RunDirectory(folder)
    directory.start(scenario, seed, scenario_file.text_of(scenario))
    directory.record(recorded(seed, scenario.population.providers.n), seed)
    auditor = f"{scenario_hash(scenario)[:8]}{seed:08d}"
    directory.finish(
        Manifest(
            name=scenario.name, scenario=scenario_hash(scenario), seed=seed, auditor=auditor, simulated_s=60.0,
            events=10, wall_s=0.5, events_per_s=20.0,
        )
    )  # fmt: skip
    on_progress(60_000_000_000, 10)


def refuse_two(scenario: Scenario, seed: int, folder: Path, on_progress: Told) -> None:
    """Seed 2 meets a full disk."""
    if seed == 2:
        raise Refused("the disk is full", code="disk_full", fix="Free space.")
    write_run(scenario, seed, folder, on_progress)


def die_once(scenario: Scenario, seed: int, folder: Path, on_progress: Told) -> None:
    """The worker of seed 2 is killed in the middle of its first attempt."""
    if seed == 2 and not folder.exists():
        RunDirectory(folder).start(scenario, seed, "version: 1\n")
        os.kill(os.getpid(), signal.SIGKILL)
    write_run(scenario, seed, folder, on_progress)


def die_always(scenario: Scenario, seed: int, folder: Path, on_progress: Told) -> None:
    """Seed 2 kills whoever runs it."""
    if seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    write_run(scenario, seed, folder, on_progress)


def break_two(scenario: Scenario, seed: int, folder: Path, on_progress: Told) -> None:
    """Seed 2 meets a bug of ours."""
    if seed == 2:
        raise KeyError("bug")
    write_run(scenario, seed, folder, on_progress)
