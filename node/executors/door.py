"""The way into a running task: the namespaces of its sandbox, for a renter's tunnels. Spec: specs/24-tunnels.md.

An executor opens the door of a task once its sandbox stands; the runner closes it when the task has ended.
"""

from __future__ import annotations

import resource
import select
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from protocol.errors import Refused, Unavailable

LIMITS: Final = {
    "Max address space": resource.RLIMIT_AS,
    "Max core file size": resource.RLIMIT_CORE,
    "Max cpu time": resource.RLIMIT_CPU,
    "Max data size": resource.RLIMIT_DATA,
    "Max file size": resource.RLIMIT_FSIZE,
    "Max open files": resource.RLIMIT_NOFILE,
    "Max processes": resource.RLIMIT_NPROC,
}
"""What a shell in the sandbox takes over from the job's own processes: the kernel's name, and setrlimit's number."""


@dataclass(frozen=True, slots=True)
class Doorway:
    """Where a sandbox is, and as whom one moves in it."""

    first: Callable[[], int | None]
    """The id, on this host, of the sandbox's first process; None while it is being built."""
    mark: str
    """What the control group of that process must be called, '' where there is none: ids are used again."""
    uid: int | None
    """None: the one that the user namespace gives."""
    environment: Mapping[str, str]
    shim: str
    """The folder of the job's script inside the sandbox, which is there once its file system is complete."""
    parent: int = 0
    """The process that must be the first one's parent, 0 = anyone."""


class Door:
    """Closed, open, or closed for good with a reason."""

    def __init__(self) -> None:
        self._way: Doorway | None = None
        self._why_not = ""
        self.closed = trio.Event()
        """Set when the task has ended."""

    def open(self, way: Doorway) -> None:
        """The sandbox is being built, or stands."""
        self._way = way

    def refuse(self, why_not: str) -> None:
        """This tier has nothing to enter."""
        self._why_not = why_not

    def close(self) -> None:
        """The task has ended."""
        self._way = None
        self.closed.set()

    def way(self) -> tuple[Doorway, int]:
        """Where to go now, and the first process there. Refused: no way ever; Unavailable: not now."""
        if self._why_not:
            raise Refused(
                self._why_not,
                code="no_namespace",
                fix="Ask the owner for a host with docker, runc or bubblewrap; `shoal job plan` shows each one's tier.",
            )
        first = self._way.first() if self._way is not None else None
        if self._way is None or first is None:
            raise Unavailable(
                "the sandbox of the chunk does not stand (yet, or any more)",
                code="chunk_not_running",
                fix="Try again in a moment; `shoal job status` shows how the chunk is.",
            )
        return self._way, first


def first_child(pid: int) -> int | None:
    """The first child of a process, None before it has one or when it is gone."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None


def is_genuine(way: Doorway, pid: int) -> bool:
    """Whether a process still is the one that the executor meant, and not a later one with its id."""
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text()
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        return False
    return way.mark in groups and way.parent in (0, parent)


def groups_of(pid: int) -> list[Path]:
    """The files into which a process writes its id to be counted where `pid` is counted."""
    found: list[Path] = []
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        hierarchy = controllers.removeprefix("name=") if controllers else ""
        found.append(Path("/sys/fs/cgroup", hierarchy, path.lstrip("/"), "cgroup.procs"))
    return found


def limits_of(pid: int) -> list[tuple[int, int]]:
    """The limits of a process, by number; -1 = none."""
    found = []
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        name, words = line[:26].rstrip(), line[26:].split()
        if name in LIMITS:
            found.append((LIMITS[name], -1 if words[0] == "unlimited" else int(words[0])))
    return found


def is_alive(pidfd: int) -> bool:
    """Whether the process behind a pidfd has not ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return not poll.poll(0)
