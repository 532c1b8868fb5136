"""Runs of many seeds on all cores: one process per core, each with one seed at a time, in fresh interpreters.

A worker that is killed (by the system, for want of memory) loses its seed, which is done again alone; Ctrl-C ends all
workers, and what was complete stays.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from protocol.errors import Refused, ShoalError
from simulations.scenario import Scenario
from simulations.workers import worker_pool

ATTEMPTS: Final = 3
"""Times that a seed whose worker dies is started: memory may be free later, but a crash that repeats is a fault."""

RunSeed = Callable[[Scenario, int, Path, Callable[[int, int], None]], object]
"""`run_seed(scenario, seed, folder, on_progress)` writes one run directory; a function of a module, so that other
processes can import it. `on_progress` takes the simulated ns and the events so far."""


@dataclass(frozen=True, slots=True)
class Task:
    """One run to be made."""

    label: str
    scenario: Scenario
    seed: int
    folder: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended. `code` is empty when the run directory is complete."""

    code: str = ""
    detail: str = ""
    fix: str = ""


OnDone = Callable[[Task, Outcome], None]
Pool = Callable[[Sequence[Task], RunSeed, int, OnDone], None]
"""Runs all tasks, `jobs` at a time, and calls `on_done` in this process after each."""


def run_all(tasks: Sequence[Task], work: RunSeed, jobs: int, on_done: OnDone) -> None:
    """The pool of this machine. One job at a time needs no second process."""
    if jobs < 1:
        raise Refused(f"{jobs} jobs at a time are none", code="bad_jobs", fix="Set --jobs to 1 or more.")
    if jobs == 1:
        for task in tasks:
            on_done(task, attempt(task, work))
        return
    rest = deque(tasks)
    while rest:
        # Nobody can tell which of the running seeds took its worker down, so that each is tried again alone.
        for suspect in _together(rest, work, min(jobs, len(rest)), on_done):
            _alone(suspect, work, on_done)


def attempt(task: Task, work: RunSeed) -> Outcome:
    """One run, here. What it refuses becomes its outcome; anything else is a fault of ours and rises."""
    try:
        work(task.scenario, task.seed, task.folder, _silent)
    except ShoalError as error:
        return Outcome(error.code, error.detail, error.fix)
    return Outcome()


def _together(rest: deque[Task], work: RunSeed, jobs: int, on_done: OnDone) -> list[Task]:
    """Work the queue off. Returns what was running when a worker died, early; nothing when the queue is empty."""
    running: dict[Future[Outcome], Task] = {}
    before = set(multiprocessing.active_children())
    pool = worker_pool(jobs)
    try:
        while rest or running:
            while rest and len(running) < jobs:
                # Taken from the queue only once it is submitted: a pool that is broken refuses it.
                running[pool.submit(attempt, rest[0], work)] = rest[0]
                rest.popleft()
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                if not isinstance(future.exception(), BrokenProcessPool):
                    on_done(running.pop(future), _outcome(future))
            if len(done & running.keys()):
                return list(running.values())
    except BrokenProcessPool:
        return list(running.values()) or [rest.popleft()]
    except BaseException:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return []


def _alone(task: Task, work: RunSeed, on_done: OnDone) -> None:
    def told(task: Task, outcome: Outcome) -> None:
        """A worker may have been lost between the end of its run and the word of it."""
        on_done(task, Outcome() if outcome.code == "run_complete" else outcome)

    for _ in range(ATTEMPTS - 1):
        alone = deque([task])
        if not _together(alone, work, 1, told):
            return
    detail = f"{task.label}, seed {task.seed}: its process died {ATTEMPTS} times"
    fix = "Look for a lack of memory (`dmesg`), and run fewer at a time with --jobs."
    on_done(task, Outcome("worker_lost", detail, fix))


def _outcome(future: Future[Outcome]) -> Outcome:
    error = future.exception()
    if error is None:
        return future.result()
    return Outcome("crashed", f"{type(error).__name__}: {error}", "Report it, with the scenario and the seed.")


def _silent(now: int, events: int) -> None:
    """Progress within a seed is not told across processes."""
