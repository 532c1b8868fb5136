"""One scenario with one seed, from start to end: the world, everybody who watches it, and the run directory."""

from __future__ import annotations

import platform
import resource
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from protocol.errors import Refused
from simulations import scenario_file
from simulations.attack_account import AttackAccount
from simulations.checkers.faultless import RAISED
from simulations.checkers.registry import checkers
from simulations.event_log import EventLog
from simulations.extras import need
from simulations.lenient import Lenient
from simulations.meter import Meter
from simulations.observer import Observer
from simulations.perfetto import Perfetto
from simulations.quiet import ending
from simulations.recent import Recent
from simulations.recorder import Recorder
from simulations.run_directory import Manifest, RunDirectory, scenario_hash
from simulations.scenario import NS, Scenario
from simulations.violation import Replayed, Violation, write_report
from simulations.world import World

LIBRARIES: Final = ("msgspec", "pynacl", "blake3", "polars")
"""Libraries whose versions the manifest names."""

Told = Callable[[int, int], None]
"""Called each simulated second: ns of the simulation, events so far."""


@dataclass(slots=True)
class Result:
    """What a run gave."""

    scenario: Scenario
    seed: int
    auditor: str
    events: int
    """Events of the queue and of gossip that the auditor has noted."""
    seconds: float
    """Wall time; everything else is the same each time."""
    recorder: Recorder
    violations: list[Violation] = field(default_factory=list)
    attacks: tuple[str, ...] = ()
    """What each strategy cost, brought, and when it was noticed: one sentence each."""


def run_seed(scenario: Scenario, seed: int, folder: Path | None, on_progress: Told) -> Result:
    """Run, and leave a complete run directory in `folder` (None: nothing on disk).

    This is the one place of the simulator that reads a clock: to say how long the run took.
    """
    with ExitStack() as stack:
        directory = None
        if folder is not None:
            need("polars")  # Now, not after minutes.
            directory = RunDirectory(folder)
            directory.start(scenario, seed, scenario_file.text_of(scenario))
        result, recent, world = _watched(scenario, seed, directory, stack, on_progress)
        if directory is not None and folder is not None:
            names = [peer.name for peer in world.peers]
            run = Replayed(scenario, seed, tuple(world.injections))
            for violation in result.violations:
                write_report(folder / "violations", violation, run, recent, names, commit())
            directory.record(result.recorder, seed, scenario.outputs.metrics)
    if directory is not None:
        directory.finish(_manifest(result, world))
    return result


def _watched(
    scenario: Scenario, seed: int, directory: RunDirectory | None, stack: ExitStack, on_progress: Told
) -> tuple[Result, Recent, World]:
    """Build the world with its observers and run it."""
    recent, found = Recent(), list[Violation]()
    stops = scenario.simulation.stop_on_violation
    rules: list[Observer] = list(checkers(scenario.simulation.checks))
    observers: list[Observer] = [recent, Meter()]
    observers += rules if stops else [Lenient(rule, found.append) for rule in rules]
    account = AttackAccount()
    if scenario.adversaries:
        observers.append(account)
    if directory is not None and scenario.outputs.events:
        log = EventLog(directory.path / "events.jsonl.zst")
        stack.callback(log.abandon)
        observers.append(log)
    if directory is not None and scenario.outputs.trace:
        trace = Perfetto(directory.path / "trace.json", scenario.outputs.trace)
        stack.callback(trace.abandon)
        observers.append(trace)
    began = time.perf_counter()
    world = World(scenario, seed, observers=observers)
    try:
        world.run(lambda now: on_progress(now, world.events), ending(rules, world))
    except Refused:  # Not of a machine: a disk that is full, a trace that cannot be read.
        raise
    except (Violation, *RAISED) as error:
        stray = Violation("faultless", f"{type(error).__name__}: {error}", now=world.queue.now)
        found.append(error if isinstance(error, Violation) else stray)
        for observer in observers:
            if not isinstance(observer, Meter) and observer not in rules:
                observer.finished(world.queue.now)
    seconds = time.perf_counter() - began
    auditor = world.driver.auditor.hexdigest()
    attacks = tuple(report.sentence for report in account.reports.values())
    return Result(scenario, seed, auditor, world.events, seconds, world.recorder, found, attacks), recent, world


def _manifest(result: Result, world: World) -> Manifest:
    return Manifest(
        name=result.scenario.name,
        scenario=scenario_hash(result.scenario),
        seed=result.seed,
        auditor=result.auditor,
        simulated_s=world.queue.now / NS,
        events=result.events,
        wall_s=result.seconds,
        events_per_s=result.events / result.seconds if result.seconds else 0.0,
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        violations=len(result.violations),
        attacks=result.attacks,
        commit=commit(),
        versions={"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}},
    )


@cache
def commit() -> str:
    """The git commit of the program; empty where it does not run from a checkout. Asked once per process."""
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
