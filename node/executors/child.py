"""A plain child process: limits and an own process group, but NO ISOLATION. Only for the owner's own renters.

A job here can read what this user can read and use the network; docs/sandboxes.md says so in as many words.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, Final

import trio

from node.executors import cgroup, process
from node.executors.interface import Exit, OnLine, Task, exit_of, write_script
from protocol.jobspec import JobSpec

MARK: Final = "SHOAL_TASK"
"""Variable by which processes that left the group are found again."""

KILL_ROUNDS: Final = 50
"""Times that survivors are hunted, 10 ms apart: a fork storm is over when nobody is left to fork."""


class ChildExecutor:
    """Tier `child`. `label` marks this node's processes."""

    tier: ClassVar[str] = "child"
    protects_inputs: ClassVar[bool] = False

    def __init__(self, label: str) -> None:
        self._label = label

    async def why_not(self) -> str:
        """Needs nothing but prlimit."""
        return process.needs_prlimit()

    def refuses(self, spec: JobSpec) -> str:
        """Images need an engine, modules need WASM."""
        if spec.runtime.startswith("image:") or spec.runtime == "wasm":
            return f"a plain child process does not run {spec.runtime[:80]!r}"
        return ""

    async def clean(self) -> None:
        """Kill what an earlier process of this node left running."""
        await _hunt(f"{MARK}={self._label}/")
        await cgroup.clean(self._label)

    async def run(self, task: Task, on_line: OnLine) -> Exit:
        """Run the task's script; see the protocol `Executor`."""
        task.door.refuse("the tier child has no network of its own: a tunnel would reach the owner's machine")
        mark = f"{self._label}/{task.folder.name}"
        home = task.folder / "tmp"
        home.mkdir(exist_ok=True)
        script = write_script(task, str(home), str(task.inside), str(task.outside), str(task.folder / "run" / "bin"))
        command = [*process.limits(task, with_processes=False), "/bin/sh", "-e", str(script)]
        group = cgroup.create(f"shoal-{self._label}-{task.folder.name}", task)
        if group:
            command = group.enter(command)
        try:
            async with process.started(command, env={"PATH": os.defpath, MARK: mark}, folder=task.inside) as child:
                task.life.first = lambda: child.pid if child.returncode is None else None
                return await _watch(task, on_line, child, group)
        finally:
            with trio.CancelScope(shield=True):
                if group:
                    await group.remove()
                await _hunt(f"{MARK}={mark}\0")


async def _watch(task: Task, on_line: OnLine, child: process.Child, group: cgroup.Cgroup | None) -> Exit:
    too_much = 0

    async def limit() -> None:
        nonlocal too_much
        too_much = await process.watch_memory(child.pid, task.resources.memory_bytes)
        process.kill_group(child.pid)

    async with trio.open_nursery() as nursery:
        if not group:
            nursery.start_soon(limit)
        await process.follow(child, on_line, child.wait)
        nursery.cancel_scope.cancel()
    if too_much or (group and group.is_out_of_memory()):
        return Exit(
            "memory", child.returncode or -9, f"the job used more than {task.resources.memory_bytes} bytes of memory"
        )
    return exit_of(child.returncode or 0)


async def _hunt(mark: str) -> None:
    """Kill every process of this user whose environment holds the mark; Linux only."""
    needle = mark.encode()
    for _ in range(KILL_ROUNDS):
        found = [pid for pid in _own_pids() if needle in _environment_of(pid)]
        if not found:
            return
        for pid in found:
            try:
                os.kill(pid, 9)
            except (ProcessLookupError, PermissionError):
                continue
        await trio.sleep(0.01)


def _own_pids() -> list[int]:
    folder = Path("/proc")
    return [int(path.name) for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []


def _environment_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes() + b"\0"
    except OSError:
        return b""
