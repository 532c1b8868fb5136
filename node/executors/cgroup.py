"""A control group per task where this process may make one: memory, processes and CPU counted over the whole sandbox.

Both kernel interfaces are spoken (v1 with one hierarchy per controller, v2 with one for all). Where neither lets
us, the tiers fall back to per-process limits and a memory watch, and say so.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from node.executors.interface import Task

ROOT: Final = Path("/sys/fs/cgroup")
PERIOD_MICROS: Final = 100_000
"""CPU time is granted per 100 ms, the kernel's own default."""

EMPTY_SECONDS: Final = 5.0
"""How long killed processes may take to leave a group; they are in the kernel's hands by then."""

SWAP_SLACK_BYTES: Final = 1 << 20
"""v1 counts a refusal at the memory limit only when the limit of memory and swap together is not reached first."""

_OPTIONAL: Final = frozenset({"memory.memsw.limit_in_bytes", "memory.swap.max"})
"""Missing where the kernel counts no swap."""


@dataclass(frozen=True, slots=True)
class Cgroup:
    """One group, in one folder (v2) or three (v1)."""

    folders: tuple[Path, ...]

    @property
    def procs(self) -> list[Path]:
        """The files into which a process writes its id to enter."""
        return [folder / "cgroup.procs" for folder in self.folders]

    def enter(self, command: list[str]) -> list[str]:
        """A command line that enters the group first and then becomes `command`."""
        writes = " && ".join(f"echo $$ > '{path}'" for path in self.procs)
        return ["/bin/sh", "-c", f'{writes} && exec "$@"', "sh", *command]

    def nested(self, name: str) -> str:
        """The path of a group inside this one, as an OCI runtime wants it."""
        folder = self.folders[0]
        inside = folder.relative_to(ROOT / "memory") if _is_v1() else folder.relative_to(ROOT)
        return f"/{inside}/{name}"

    def is_out_of_memory(self) -> bool:
        """True when the kernel killed a process of the group for its memory limit."""
        for folder in self.folders:
            for name in ("memory.events", "memory.oom_control"):
                counts = _read(folder / name).split()
                if "oom_kill" in counts and counts[counts.index("oom_kill") + 1] != "0":
                    return True
        return False

    def has_hit_limit(self) -> bool:
        """True when memory was refused at least once; v1 counts kills in inner groups only, which may be gone."""
        return any(_read(folder / "memory.failcnt").strip() not in {"", "0"} for folder in self.folders)

    def pids(self) -> list[int]:
        """Everybody inside, by the ids of this host."""
        return sorted({int(pid) for path in self.procs for pid in _read(path).split()})

    async def remove(self) -> None:
        """Kill everybody inside and delete the group."""
        with trio.move_on_after(EMPTY_SECONDS):
            while pids := self.pids():
                for pid in pids:
                    _kill(pid)
                await trio.sleep(0.01)
        # An OCI runtime makes groups of this name in the other v1 hierarchies too.
        others = ROOT.glob(f"*/{self.folders[0].name}") if _is_v1() else ()
        for folder in {*self.folders, *others}:
            for group in (*folder.glob("*/"), folder):
                try:
                    group.rmdir()
                except OSError:
                    continue


def create(name: str, task: Task) -> Cgroup | None:
    """A group with the task's limits, or None where this process may not make one."""
    if why_not():
        return None
    resources = task.resources
    quota = str(max(1_000, resources.cpus_milli * PERIOD_MICROS // 1000))
    memory, pids = str(resources.memory_bytes), str(resources.pids + 8)
    with_swap = str(resources.memory_bytes + SWAP_SLACK_BYTES)
    if (ROOT / "memory").is_dir():
        settings = [
            (ROOT / "memory" / name, (("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", with_swap))),
            (ROOT / "pids" / name, (("pids.max", pids),)),
            (ROOT / "cpu" / name, (("cpu.cfs_period_us", str(PERIOD_MICROS)), ("cpu.cfs_quota_us", quota))),
        ]
    else:
        values: tuple[tuple[str, str], ...] = (
            ("memory.max", memory),
            ("memory.swap.max", "0"),
            ("pids.max", pids),
            ("cpu.max", f"{quota} {PERIOD_MICROS}"),
        )
        settings = [(_own_folder() / name, values)]
    group = Cgroup(tuple(folder for folder, _ in settings))
    try:
        for folder, wanted in settings:
            folder.mkdir()
            for key, value in wanted:
                if (folder / key).exists() or key not in _OPTIONAL:
                    (folder / key).write_text(value)
    except OSError:
        for folder in group.folders:
            if folder.is_dir():
                folder.rmdir()
        return None
    return group


async def clean(label: str) -> None:
    """Kill and remove the groups that an earlier process of this node left."""
    top = ROOT / "memory" if _is_v1() else _own_folder()
    for folder in top.glob(f"{prefix(label)}*"):
        hierarchies = tuple(ROOT.glob(f"*/{folder.name}")) if _is_v1() else (folder,)
        nested = tuple(path for parent in hierarchies for path in parent.glob("*/"))
        await Cgroup(nested + hierarchies).remove()


def prefix(label: str) -> str:
    """How the groups of a node's tasks begin."""
    return f"shoal-{label}-t-"


def why_not() -> str:
    """Empty when this process may make groups; otherwise the cause."""
    top = ROOT / "memory" if _is_v1() else _own_folder()
    if not os.access(top, os.W_OK):
        return f"no right to make control groups below {top} (root, or Delegate=yes in the systemd unit)"
    if not _is_v1() and "memory" not in _read(top / "cgroup.subtree_control").split():
        return f"the controllers are not handed on below {top} (cgroup.subtree_control lacks memory)"
    return ""


def _is_v1() -> bool:
    return (ROOT / "memory").is_dir()


def _own_folder() -> Path:
    """The v2 group of this process, which a service manager may have delegated to it."""
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        if line.startswith("0::"):
            return ROOT / line[3:].lstrip("/")
    return ROOT


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return
