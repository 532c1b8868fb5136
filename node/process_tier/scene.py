"""A running sandbox as CRIU has to see it: whose processes they are, and which of their descriptors lead outside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.executors.door import first_child
from node.executors.interface import Task
from node.executors.process import descendants
from node.process_tier.images import FDS_MAX
from protocol.errors import Unavailable

STANDARD: Final = (0, 1, 2)
STOPPED: Final = ("T", "t")
"""States of a process that CRIU 4.2 waits for without end in a frozen v1 group (measured on kernel 6.18)."""

NULL: Final = "/dev/null"


@dataclass(frozen=True, slots=True)
class Handle:
    """A task under way, and the tier that it runs in."""

    task: Task
    tier: str


@dataclass(frozen=True, slots=True)
class Scene:
    """What the kernel says of it now."""

    first: int
    """The sandbox's first process, by this host's ids."""
    root: int
    """The top of the tree that is dumped; in a container it is the first process itself."""
    inner: int
    """The same by the sandbox's own ids."""
    uid: int
    """Whom the job runs as on this host."""
    outer: tuple[str, ...]
    """Descriptors that lead out, as CRIU names them: the output pipe, and this host's /dev/null."""
    memory_bytes: int
    """What the processes hold: how large the images will be at most."""


def look(handle: Handle) -> Scene:
    """Unavailable (`not_running`, `stopped_process`, `holds_host_file`) when no dump could be made or restored."""
    first = handle.task.life.first()
    root = first if handle.tier == "runc" or first is None else first_child(first)
    if first is None or root is None:
        raise Unavailable("the job has no process", code="not_running")
    try:
        status = _status(root)
        pids = [pid for pid in descendants(first) if handle.tier == "runc" or pid != first]
        outer = () if handle.tier == "runc" else _outer(first, root, pids)
        if any(_status(pid)["State"].startswith(STOPPED) for pid in pids):
            raise Unavailable("a process of the job is stopped by a signal or a debugger", code="stopped_process")
        memory = sum(int(_status(pid).get("VmRSS", "0 kB").split()[0]) * 1024 for pid in pids)
        return Scene(first, root, int(status["NSpid"].split()[-1]), int(status["Uid"].split()[0]), outer, memory)
    except (FileNotFoundError, ProcessLookupError, KeyError) as error:
        raise Unavailable("the job has just ended", code="not_running") from error


def _outer(first: int, root: int, pids: list[int]) -> tuple[str, ...]:
    mounts = {line.split()[0] for line in Path(f"/proc/{first}/mountinfo").read_text().splitlines()}
    output = {link for fd in STANDARD if (link := _link(root, fd)).startswith("pipe:")}
    found = set(output)
    for pid in pids:
        for path in Path(f"/proc/{pid}/fd").iterdir():
            name, link = path.name, _link(pid, int(path.name))
            if not link.startswith("/") or link.startswith("/memfd:") or _mount(pid, name) in mounts:
                continue
            if link != NULL:
                raise Unavailable(f"the job holds a file of the host open: {link[:80]}", code="holds_host_file")
            found.add(f"file[{int(_mount(pid, name)):x}:{path.stat().st_ino:x}]")
    if len(found) > FDS_MAX:
        raise Unavailable(f"{len(found)} descriptors lead out of the sandbox", code="holds_host_file")
    return tuple(sorted(found))


def _link(pid: int, fd: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/fd/{fd}").readlink())
    except OSError:
        return ""


def _mount(pid: int, fd: str) -> str:
    lines = Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines()
    return next((line.split()[1] for line in lines if line.startswith("mnt_id:")), "0")


def _status(pid: int) -> dict[str, str]:
    pairs = (line.partition(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: value.strip() for name, _, value in pairs}
