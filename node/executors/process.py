"""A sandboxed process of this host: started with its own session, its output pumped, killed for certain at the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import trio

from node.executors.interface import ADDRESS_SLACK_BYTES, OPEN_FILES_MAX, OnLine, Task
from node.executors.loglines import LogLines

PIPE_BYTES: Final = 65_536
"""One read of a job's output: the size of a Linux pipe."""

MEMORY_WATCH_SECONDS: Final = 0.25
"""How often a task's memory is summed where no cgroup does it: quick enough to act, cheap enough to ignore."""

DRAIN_SECONDS: Final = 2.0
"""How long after the end of a task its output pipe may stay open; only a surviving process holds it longer."""


def needs_prlimit() -> str:
    """Why limits cannot be set here; empty when they can."""
    return "" if shutil.which("prlimit") else "the program prlimit is missing (Debian package util-linux)"


def limits(task: Task, *, with_processes: bool) -> list[str]:
    """The `prlimit` command line in front of a task: memory, CPU time, files and, where they count alone, processes."""
    resources = task.resources
    arguments = [
        "prlimit",
        f"--cpu={int(task.timeout_s * max(1, resources.cpus_milli / 1000)) + 5}",
        f"--nofile={OPEN_FILES_MAX}",
        f"--fsize={task.largest_file}",
        "--core=0",
    ]
    if not resources.gpu.count:  # CUDA reserves address space by the terabyte.
        arguments.append(f"--as={resources.memory_bytes + ADDRESS_SLACK_BYTES}")
        arguments.append(f"--data={resources.memory_bytes}")
    if with_processes:
        arguments.append(f"--nproc={resources.pids}")
    return [*arguments, "--"]


class Child:
    """A child process. The kernel tells a sandbox of its parent's death by the end of the *thread* that started it, so
    this one is started on the main thread: one of trio's workers would end after ten idle seconds, and the sandbox
    with it (prctl(2), PR_SET_PDEATHSIG)."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        assert popen.stdout is not None
        self._popen = popen
        self._ended = os.pidfd_open(popen.pid)
        self.stdout = trio.lowlevel.FdStream(os.dup(popen.stdout.fileno()))
        popen.stdout.close()

    @property
    def pid(self) -> int:
        """Its process id, and that of its group."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """How it ended (negative = by that signal); None before `wait`."""
        return self._popen.returncode

    async def wait(self) -> int:
        """Wait for its end, and take its exit code from the kernel."""
        if self._popen.returncode is None:
            await trio.lowlevel.wait_readable(self._ended)
        return self._popen.wait()

    async def close(self) -> None:
        """Give up what this process holds of it. Call after `wait`."""
        os.close(self._ended)
        await self.stdout.aclose()


def _start(command: Sequence[str], env: dict[str, str], folder: Path, pass_fds: Sequence[int]) -> Child:
    """On the caller's thread: a vfork and an exec, a millisecond or two."""
    return Child(
        subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=env,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
        )
    )


@asynccontextmanager
async def started(
    command: Sequence[str], *, env: dict[str, str], folder: Path, pass_fds: Sequence[int] = ()
) -> AsyncIterator[Child]:
    """A running process in a session of its own; its whole group is killed on the way out, however that is."""
    child = _start(command, env, folder, pass_fds)
    try:
        yield child
    finally:
        kill_group(child.pid)
        with trio.CancelScope(shield=True):
            await child.wait()
            await child.close()


async def follow(child: Child, on_line: OnLine, until: Callable[[], Awaitable[object]]) -> None:
    """Pump the output into lines while `until` waits for the end, then a little longer for what is in the pipe."""
    lines = LogLines(on_line)

    async def pump() -> None:
        while data := await child.stdout.receive_some(PIPE_BYTES):
            lines.feed(bytes(data))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump)
        await until()
        nursery.cancel_scope.deadline = trio.current_time() + DRAIN_SECONDS
    with suppress(BlockingIOError):  # What a node that was starved for so long has not come to read.
        lines.feed(os.read(child.stdout.fileno(), PIPE_BYTES))
    lines.close()


def kill_group(pid: int) -> None:
    """SIGKILL to a process group; gone already is fine."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def descendants(pid: int) -> list[int]:
    """A process and everything below it, from /proc."""
    found, queue = [pid], [pid]
    while queue:
        current = queue.pop()
        try:
            for thread in Path(f"/proc/{current}/task").iterdir():
                children = [int(child) for child in (thread / "children").read_text().split()]
                found += children
                queue += children
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def memory_of(pids: Sequence[int]) -> int:
    """Bytes that processes hold at most: private memory summed, shared memory counted once."""
    private = shared = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        for line in lines:
            if line.startswith("RssAnon:"):
                private += int(line.split()[1]) * 1024
            elif line.startswith("RssShmem:"):
                shared = max(shared, int(line.split()[1]) * 1024)
    return private + shared


def shared_out(pids: Sequence[int]) -> int:
    """The same more exactly and more slowly: pages that forked processes share are counted once."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # Gone, or not ours to look into.
            total += memory_of([pid])
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return total


async def watch_memory(pid: int, bytes_max: int) -> int:
    """Return the bytes in use as soon as the tree below `pid` holds more than `bytes_max`; Linux only."""
    while True:
        pids = descendants(pid)
        if memory_of(pids) > bytes_max and (used := shared_out(pids)) > bytes_max:
            return used
        await trio.sleep(MEMORY_WATCH_SECONDS)
