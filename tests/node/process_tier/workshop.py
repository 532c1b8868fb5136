"""Jobs to be dumped: each keeps its state in memory only, so that its last word is right only if that came back."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from node.executors.bwrap import BwrapExecutor
from node.executors.interface import Executor, Exit, Task
from node.executors.runc import RuncExecutor
from node.process_tier import criu, probe
from node.process_tier.criu import Criu
from node.process_tier.probe import Probe
from node.process_tier.scene import Handle
from node.process_tier.tier import Bench, Phase, ProcessTier
from node.runtimes import Runtime, discover
from protocol.identity import Identity
from protocol.units import Digest
from tests.node.waiting import happens

NETWORK: Final = "test"
WORKER: Final = Identity(bytes(range(32)))
LAST: Final = 150
TICK_S: Final = 0.02
"""Between two numbers that a job says. At some it stays until their gates are open, so that it cannot end before
somebody gets round to its dump, or before its node is killed."""

PYTHON: Final = f"""
import os, time
value, out = 1, open("/out/log", "w")
scratch = open("/tmp/scratch", "w+")
for n in range({LAST}):
    value = value * 6364136223846793005 + n & (1 << 64) - 1
    scratch.write("x")
    out.write("%d\\n" % n)
    out.flush()
    print("at", n, flush=True)
    time.sleep({TICK_S})
    while os.path.exists("/in/gate-%d" % n):
        time.sleep(0.01)
scratch.flush()
print("end", value, os.path.getsize("/tmp/scratch"), flush=True)
"""

C: Final = f"""
#include <stdio.h>
#include <unistd.h>
int main(void) {{
    unsigned long value = 1;
    FILE *out = fopen("/out/log", "w"), *scratch = fopen("/tmp/scratch", "w+");
    if (!out || !scratch) return 3;
    for (long n = 0; n < {LAST}; n++) {{
        value = value * 6364136223846793005UL + n;
        fputs("x", scratch);
        fprintf(out, "%ld\\n", n);
        fflush(out);
        printf("at %ld\\n", n);
        fflush(stdout);
        usleep({int(TICK_S * 1_000_000)});
        char gate[32];
        snprintf(gate, sizeof gate, "/in/gate-%ld", n);
        while (!access(gate, F_OK)) usleep(10000);
    }}
    fflush(scratch);
    printf("end %lu %ld\\n", value, ftell(scratch));
    return 0;
}}
"""


def last_word() -> str:
    """What every job says at its end."""
    value = 1
    for n in range(LAST):
        value = value * 6364136223846793005 + n & (1 << 64) - 1
    return f"end {value} {LAST}"


def log_text(count: int = LAST) -> str:
    """What every job has written to /out/log."""
    return "".join(f"{n}\n" for n in range(count))


@dataclass(slots=True)
class Live:
    """A job under way in a sandbox."""

    task: Task
    tier: str
    lines: list[str] = field(default_factory=list)
    ended: Exit | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def handle(self) -> Handle:
        """For a dump."""
        return Handle(self.task, self.tier)

    @property
    def at(self) -> int:
        """How far it has got."""
        return next((int(line.split()[1]) for line in reversed(self.lines) if line.startswith("at ")), -1)

    async def reaches(self, n: int) -> None:
        """Wait until it is there, and the node knows its process: runc says which it is after it has started it."""
        await happens(lambda: (self.at >= n and self.task.life.first() is not None) or self.ended is not None)
        assert self.at >= n, (self.ended, self.lines[-3:])


@dataclass(frozen=True, slots=True)
class Workshop:
    """One host with its sandboxes."""

    folder: Path
    images: Path
    program: Criu | None
    probed: Probe
    runtimes: Mapping[str, Runtime]

    @property
    def label(self) -> str:
        """This test process's own."""
        return f"test-pt{os.getpid()}"

    def tier(self, on_phase: list[Phase] | None = None, identity: Identity = WORKER) -> ProcessTier:
        """The tier, noting its phases."""
        note = on_phase.append if on_phase is not None else lambda _: None
        return ProcessTier(self.probed, Bench(self.label, self.images), identity, NETWORK, on_phase=note)

    def executor(self, name: str) -> Executor:
        """One sandbox."""
        return self.executor_of(name, self.label)

    def executor_of(self, name: str, label: str) -> Executor:
        """One sandbox of a node with another label."""
        return RuncExecutor(label, self.images) if name == "runc" else BwrapExecutor(label)

    def task(
        self,
        place: str,
        commands: tuple[str, ...],
        files: Mapping[str, Path] | None = None,
        gates: Collection[int] = (),
    ) -> Task:
        """A task laid out in a new folder. At the numbers in `gates` it stays until their files are gone."""
        folder = self.folder / place / "t-0123456789"
        for name in ("in", "out", "run/bin"):
            (folder / name).mkdir(parents=True)
            (folder / name).chmod(0o755)
        (folder / "run").chmod(0o755)
        for name in ("passwd", "group"):
            (folder / "run" / name).write_text("root:x:0:0::/:/bin/false\njob:x:1000:1000::/tmp:/bin/sh\n")
        for name, source in (files or {}).items():
            shutil.copy(source, folder / "in" / name)
            (folder / "in" / name).chmod(0o555)
        for gate in gates:
            (folder / "in" / f"gate-{gate}").touch()
        runtime = self.runtimes["python"]
        if runtime.interpreter and runtime.prefix == runtime.base_prefix:
            (folder / "run" / "bin" / "python3").symlink_to(runtime.interpreter)
        return Task(name="job/0", folder=folder, runtime=runtime, commands=commands, timeout_s=60.0)

    def open_gate(self, task: Task, gate: int) -> None:
        """Let the job go on from there."""
        (task.folder / "in" / f"gate-{gate}").unlink()

    @asynccontextmanager
    async def running(self, name: str, task: Task) -> AsyncIterator[Live]:
        """The task runs inside, and is dead afterwards."""
        live = Live(task, name)

        async def run() -> None:
            with live.scope:
                live.ended = await self.executor(name).run(task, live.lines.append)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            yield live
            live.scope.cancel()


def build_workshop(folder: Path, images: Path) -> Workshop:
    """Blocks for a second, to try CRIU."""
    program = criu.find()
    probed = trio.run(probe.load_or_probe, images, program)
    return Workshop(folder, images, program, probed, discover({}, Digest(bytes(32))))


def compiled(folder: Path) -> Path:
    """The C job's program."""
    source = folder / "job.c"
    source.write_text(C)
    subprocess.run(["gcc", "-O1", "-o", str(folder / "job"), str(source)], check=True, capture_output=True)
    return folder / "job"


def leftovers(label: str) -> list[str]:
    """What a node of this label has on the host: processes, control groups, mounts."""
    found = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/*{label}*")]
    for path in Path("/proc").iterdir():
        try:
            if (
                path.name.isdigit()
                and label.encode() in (path / "environ").read_bytes() + (path / "cmdline").read_bytes()
            ):
                found.append(f"process {path.name}")
        except OSError:
            continue
    return found + [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if label in line]
