"""Jobs through the whole system: to the first line of a log, empty chunks per second, and the loss of a provider."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

from benchmarks.network import PATIENCE_S, Network, cpu_seconds, machine_seconds, role
from benchmarks.report import FOLDER, Aim, Figure
from gateway.schemas import ChunkStatus
from node.clock import Clock
from protocol.units import SECOND
from shoal.processes import until

FIRST_LINES: Final = 7
NOOP_RUNS: Final = 5
NOOP_CHUNKS: Final = 1_000
KILLS: Final = 4
NOOP_WASM: Final = Path(__file__).parents[1] / "examples" / "wasm" / "noop.wasm"
NOOP_JOB: Final = (
    "wasm: noop.wasm\nresources: {cpu: 1, memory: 64MB, disk: 16MB}\nestimate: 20ms\nmax_price: 0.60\nspend_cap: 10\n"
)


def first_line(network: Network) -> list[Figure]:
    """From the request to submit until the first line arrives at the renter, over HTTP; seconds."""
    clock = Clock()
    parts: dict[str, list[float]] = {"submit": [], "confirm": [], "first lease": [], "first line": [], "all": []}
    for number in range(FIRST_LINES):
        began = clock.now()
        job = network.submit(f"line-{number}", "commands: ['echo here']\n")
        quoted = clock.now()
        network.client.confirm(job)
        confirmed = clock.now()
        line = next(network.client.logs(job))
        seen = clock.now()
        assert line.line == "here", line
        leased = network.settled(job).chunks[0].attempts[0].started
        assert leased is not None
        steps = (quoted - began, confirmed - quoted, leased - confirmed, seen - leased, seen - began)
        for values, step in zip(parts.values(), steps, strict=True):
            values.append(step / SECOND)
    names = {"first lease": "confirm -> first lease", "first line": "first lease -> first line"}
    rows = [
        Figure(f"  of it {names.get(name, name)}", "s", tuple(values))
        for name, values in parts.items()
        if name != "all"
    ]
    return [Figure("submit -> first log line", "s", tuple(parts["all"]), Aim("most", 2.0), "python job"), *rows]


class NoopRuns:
    """What the runs of empty chunks have shown so far."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.audited: list[float] = []
        self.others: list[float] = []
        self.cpu: dict[str, list[float]] = {}

    def add(self, network: Network, number: int) -> None:
        """One run: chunks per second, and the CPU milliseconds per chunk of each role and of everybody else."""
        processes = network.processes()
        before, busy, began = cpu_seconds(processes), machine_seconds(), Clock().now()
        status = network.settled(network.submit_confirmed(f"noop-{number}", f"{NOOP_JOB}chunks: {NOOP_CHUNKS}\n"))
        took, all_of_it, after = Clock().now() - began, machine_seconds() - busy, cpu_seconds(processes)
        assert status.finished is not None
        self.rates.append(NOOP_CHUNKS * SECOND / (status.finished - began))
        self.audited.append(100 * sum(chunk.is_audited is True for chunk in status.chunks) / NOOP_CHUNKS)
        used: dict[str, float] = {}
        for name, value in after.items():
            used[role(name)] = used.get(role(name), 0.0) + value - before[name]
        for kind, value in used.items():
            self.cpu.setdefault(kind, []).append(1_000 * value / NOOP_CHUNKS)
        self.others.append(max(0.0, all_of_it - sum(used.values())) * SECOND / took)

    def figures(self, note: str) -> list[Figure]:
        """The rate, where the time goes, and what the rate would be if nobody else used the machine."""
        total = [sum(values) for values in zip(*self.cpu.values(), strict=True)]
        cores = len(os.sched_getaffinity(0))
        bound = tuple(cores * 1_000 / value for value in total)
        rows = [
            Figure(f"  cpu of it, {kind}", "ms per chunk", tuple(values), None, _count(kind))
            for kind, values in self.cpu.items()
        ]
        return [
            Figure("no-op wasm chunks over 4 providers", "chunks/s", tuple(self.rates), Aim("least", 150.0), note),
            *rows,
            Figure("  cpu of it, all", "ms per chunk", tuple(total)),
            Figure("  bound of that cpu", "chunks/s", bound, None, f"{cores} cores, nothing else on them"),
            Figure("  used by others meanwhile", "cores", tuple(self.others)),
            Figure("  of it executed twice", "%", tuple(self.audited)),
        ]


def noop_chunks(network: Network, say: Callable[[str], None], profiles: bool) -> list[Figure]:
    """Empty WASM chunks: granted, leased, run, claimed, sampled, checked and paid; and the CPU time of each role."""
    shutil.copy(NOOP_WASM, network.folder / NOOP_WASM.name)
    network.settled(network.submit_confirmed("noop-warm", f"{NOOP_JOB}chunks: 100\n"))
    runs = NoopRuns()
    with _profiled(network, say) if profiles else nullcontext():
        for number in range(NOOP_RUNS):
            runs.add(network, number)
            say(f"run {number + 1}: {runs.rates[-1]:.0f} chunks/s, others use {runs.others[-1]:.1f} cores")
    return runs.figures(f"{NOOP_CHUNKS} chunks, submit to settled" + (", slowed by the profiler" if profiles else ""))


def killed_provider(network: Network) -> list[Figure]:
    """kill -9 of the provider of a running chunk -> the chunk runs at another; seconds, seen at the steward."""
    clock = Clock()
    names = {node.peer: node.name for node in network.state.nodes}
    detected, again = [], []
    for number in range(KILLS):
        job = network.submit_confirmed(
            f"kill-{number}", "commands: ['echo started', 'sleep 60']\nestimate: 60s\nspend_cap: 1\n"
        )
        name = names[_runs(network, job, 1).provider or ""]
        struck = clock.now()
        network.devnet.kill(name)
        _runs(network, job, 2)
        again.append((clock.now() - struck) / SECOND)
        ended = network.client.status(job).chunks[0].attempts[0].ended
        assert ended is not None
        detected.append((ended - struck) / SECOND)
        network.client.cancel(job)
        network.over(job)
        network.devnet.restart(name)
    return [
        Figure("kill -9 of a provider -> chunk runs elsewhere", "s", tuple(again)),
        Figure("  of it until the lease is fenced on the ledger", "s", tuple(detected)),
    ]


def _runs(network: Network, job: str, epoch: int) -> ChunkStatus:
    def look() -> ChunkStatus | None:
        chunk = network.client.status(job).chunks[0]
        return chunk if chunk.epoch == epoch and chunk.state == "running" else None

    return until(f"{job} runs in epoch {epoch}", look, [], PATIENCE_S)


def _count(kind: str) -> str:
    return "all four together" if kind == "provider" else ""


@contextmanager
def _profiled(network: Network, say: Callable[[str], None]) -> Iterator[None]:
    """A flame graph of one process of each role, in build/. Skipped with a note where py-spy is missing."""
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if program is None:
        say("py-spy is not installed: no flame graphs (pip install py-spy)")
        yield
        return
    FOLDER.mkdir(exist_ok=True)
    recorders = []
    for name, process in network.processes().items():
        if name in ("gateway", "steward", "validator", "provider-1"):
            out = FOLDER / f"flame-{role(name)}.svg"
            command = [
                program,
                "record",
                "--pid",
                str(process.pid),
                "--output",
                str(out),
                "--rate",
                "50",
                "--nonblocking",
            ]
            recorders.append(subprocess.Popen([*command, "--duration", "600"], stdout=subprocess.DEVNULL))
            say(f"profiling {name} into {out}")
    try:
        yield
    finally:
        for recorder in recorders:
            recorder.send_signal(signal.SIGINT)
        for recorder in recorders:
            recorder.wait(timeout=60)
