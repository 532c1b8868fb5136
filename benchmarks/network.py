"""A devnet to measure: real processes in a folder that is gone afterwards, and what each of them has used."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from gateway.schemas import JobStatus
from protocol.units import CREDIT
from shoal.client import FINAL_STATES, Client
from shoal.devnet import Devnet
from shoal.devnet_state import DevnetState
from shoal.processes import until

PROVIDERS: Final = 4
PATIENCE_S: Final = 120.0
"""For each condition: a run of 1000 chunks takes seconds, on a busy machine longer."""


class Network:
    """The running network, and a renter with money in it."""

    def __init__(self, devnet: Devnet, state: DevnetState, client: Client, folder: Path) -> None:
        self.devnet = devnet
        self.state = state
        self.client = client
        self.folder = folder

    def processes(self) -> dict[str, psutil.Process]:
        """Every process by its name, as of now: a restarted one has another pid."""
        found = {"gateway": psutil.Process(self.state.gateway.pid)}
        for node in self.state.nodes:
            lock = Path(node.data) / "lock"
            found[node.name] = psutil.Process(int(lock.read_text(encoding="ascii")))
        return found

    def submit(self, name: str, text: str) -> str:
        """Write a job file and ask for a quote; the job's id."""
        path = self.folder / f"{name}.yml"
        path.write_text(f"type: task\nname: {name}\n{text}", encoding="utf-8")
        return self.client.submit(path).job

    def submit_confirmed(self, name: str, text: str) -> str:
        """The same, and agree to the quote."""
        job = self.submit(name, text)
        self.client.confirm(job)
        return job

    def ask(self, node: str, method: str, **params: object) -> dict[str, object]:
        """A question to one node's control socket."""
        with self.devnet.control(node) as control:
            return control.call(method, params)

    def over(self, job: str) -> JobStatus:
        """Wait until the job is over, without its chunks in every answer: asking must not cost what is measured."""

        def look() -> bool | None:
            jobs = self.ask("steward", "job.list", limit=20)["jobs"]
            assert isinstance(jobs, list)
            return True if any(one["job"] == job and one["state"] in FINAL_STATES for one in jobs) else None

        until(f"{job} is over", look, [], PATIENCE_S)
        return self.client.status(job)

    def settled(self, job: str) -> JobStatus:
        """The same, for a job that must have succeeded with every step accepted and paid."""
        status = self.over(job)
        if status.state != "settled" or status.accepted != status.steps:
            raise AssertionError(
                f"{job} ended as {status.state} with {status.accepted} of {status.steps}: {status.reason}"
            )
        return status


@contextmanager
def running(say: Callable[[str], None]) -> Iterator[Network]:
    """A fresh network of one steward with a gateway, one validator and four providers."""
    with tempfile.TemporaryDirectory(prefix="shoal-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        devnet = Devnet(folder / "net", say)
        state = devnet.up(PROVIDERS, deposit=1_000 * CREDIT)
        try:
            with Client(state.gateway.url, state.gateway.token) as client:
                yield Network(devnet, state, client, folder)
        finally:
            devnet.down()


def role(name: str) -> str:
    """What a process is: all providers are one.

    >>> role("provider-3")
    'provider'
    """
    return name.partition("-")[0]


def cpu_seconds(processes: dict[str, psutil.Process]) -> dict[str, float]:
    """CPU seconds used so far per process, ended children counted in."""
    return {name: sum(process.cpu_times()[:4]) for name, process in processes.items()}


def machine_seconds() -> float:
    """CPU seconds that anybody used on this machine since it started, on all cores."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)
