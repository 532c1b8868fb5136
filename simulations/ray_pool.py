"""The same over a Ray cluster, for sweeps that are too large for one machine.

Machines of a cluster share no disk: a worker writes its run directory into a temporary folder, and its files come back
as bytes. The manifest is written last, as always. Every machine needs the same version of Shoal.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol, cast

from protocol.errors import Refused, ShoalError
from simulations import landing
from simulations.extras import need
from simulations.run_directory import MANIFEST, RunDirectory
from simulations.seed_pool import ATTEMPTS, OnDone, Outcome, RunSeed, Task, attempt

FILES_BYTES_MAX: Final = 2 << 30
"""Bytes of one run that come back through the cluster's memory; event logs of large worlds need a run by hand."""

Brought = tuple[Outcome, dict[str, bytes]]


class _Remote(Protocol):
    def remote(self, task: Task, work: RunSeed) -> object: ...


class _Ray(Protocol):
    """What is used of the library, which has no types where it is not installed."""

    def init(self, *, address: str | None, runtime_env: dict[str, object], log_to_driver: bool) -> object: ...
    def is_initialized(self) -> bool: ...
    def shutdown(self) -> None: ...
    def remote(self, **options: int) -> Callable[[Callable[[Task, RunSeed], Brought]], _Remote]: ...
    def wait(self, running: list[object], *, num_returns: int) -> tuple[list[object], list[object]]: ...
    def get(self, reference: object) -> Brought: ...


def run_all(tasks: Sequence[Task], work: RunSeed, jobs: int, on_done: OnDone, address: str | None = None) -> None:
    """The pool of a cluster: that at `address`, of $RAY_ADDRESS, or else a new one on this machine.

    Raises `Refused`: `missing_library`, `no_cluster`."""
    ray = cast("_Ray", need("ray", "ray"))
    is_ours = not ray.is_initialized()
    if is_ours:
        # Workers import what this process imports: a checkout is not installed.
        there = {"env_vars": {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}}
        try:
            ray.init(address=address, runtime_env={**there}, log_to_driver=False)
        except (ConnectionError, ValueError) as error:
            raise Refused(
                f"no Ray cluster at {address or 'this machine'}: {error}",
                code="no_cluster",
                fix="Start one with `ray start --head`, and give its address in RAY_ADDRESS.",
            ) from error
    try:
        _drive(ray, tasks, work, jobs, on_done)
    finally:
        if is_ours:
            ray.shutdown()


def _drive(ray: _Ray, tasks: Sequence[Task], work: RunSeed, jobs: int, on_done: OnDone) -> None:
    remote = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(_bring)
    rest = list(reversed(tasks))
    running: dict[object, Task] = {}
    while rest or running:
        while rest and len(running) < jobs:
            task = rest.pop()
            running[remote.remote(task, work)] = task
        done, _ = ray.wait(list(running), num_returns=1)
        for reference in done:
            task = running.pop(reference)
            on_done(task, _land(ray, reference, task))


def _bring(task: Task, work: RunSeed) -> Brought:
    """In the worker: run, and pack the directory."""
    with tempfile.TemporaryDirectory(prefix="shoal-sim-") as folder:
        away = replace(task, folder=Path(folder) / "run")
        outcome = attempt(away, work)
        if outcome.code:
            return outcome, {}
        found = sorted(item for item in away.folder.rglob("*") if item.is_file())
        size = sum(item.stat().st_size for item in found)
        if size > FILES_BYTES_MAX:
            detail = f"the run has {size:,} bytes, {FILES_BYTES_MAX:,} come back through the cluster"
            return Outcome("run_too_large", detail, "Leave `events` and `trace` out of `outputs`."), {}
        return outcome, {item.relative_to(away.folder).as_posix(): item.read_bytes() for item in found}


def _land(ray: _Ray, reference: object, task: Task) -> Outcome:
    """Here: unpack, with the manifest last."""
    # Ray wraps whatever a worker raised, and its own losses, in classes of this one.
    ray_error = cast("type[Exception]", need("ray.exceptions", "ray").RayError)
    try:
        outcome, files = ray.get(reference)
    except ray_error as error:
        return Outcome("crashed", f"{type(error).__name__}: {str(error)[-500:]}", "Look at the cluster's logs.")
    if outcome.code:
        return outcome
    try:
        RunDirectory(task.folder).start(task.scenario, task.seed, files["scenario.yaml"].decode())
        for name in sorted(files, key=lambda name: (name == MANIFEST, name)):
            landing.write(task.folder / name, files[name])
        RunDirectory(task.folder).settle()
    except ShoalError as error:
        return Outcome(error.code, error.detail, error.fix)
    return outcome
