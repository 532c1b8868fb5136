"""What every sandbox takes and gives: a task with its folders, lines while it runs, and how it ended."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final, Protocol

from node.executors.door import Door
from node.runtimes import Runtime
from protocol.jobspec import JobSpec, Resources
from protocol.units import GIB, MIB, Digest

TIERS: Final = ("docker", "runc", "bwrap", "wasm", "child")
"""Strongest first; `wasm` is a road of its own, for modules only."""

ISOLATING: Final = frozenset({"docker", "runc", "bwrap", "wasm"})
"""Tiers that run a stranger's job. `child` is for the owner's own renters."""

OPEN_FILES_MAX: Final = 1024
"""File descriptors of one process in a sandbox: what an ordinary Unix program expects to have."""

TMP_BYTES_MIN: Final = 16 * MIB
"""A /tmp of less would break compilers and interpreters."""

ADDRESS_SLACK_BYTES: Final = 8 * GIB
"""Address space beyond the memory limit: libraries such as torch map gigabytes that they never touch."""

GPU_DEVICES: Final = "nvidia*"
"""The device nodes below /dev that a sandbox without a GPU toolkit is given when a job asks for a GPU."""


_LOWEST_PRIORITY: Final = '[ -n "$SHOAL_NICED" ] || { export SHOAL_NICED=1; exec nice -n 19 /bin/sh -e "$0"; }'
"""The script starts itself again, once."""


@dataclass(slots=True)
class Life:
    """Where a sandbox begins: its first process by this host's ids, None while there is none."""

    first: Callable[[], int | None] = lambda: None
    """Set by the executor; everything below that process is the job's."""


@dataclass(frozen=True, slots=True)
class Task:
    """One chunk, ready to run. `folder` holds in/, out/ (empty) and run/ (script, bin/), and is the task's own; where
    the task is protected also snap/, checkpoint/ (both the job's to write) and run/guest/ (the hook)."""

    name: str
    folder: Path
    runtime: Runtime | None
    """None for `image:` jobs."""
    image: str = ""
    """The reference of an `image:` job, empty otherwise."""
    commands: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, Digest] = field(default_factory=dict)
    """Path below /in -> digest of its content, for what is cached by content."""
    resources: Resources = Resources()
    timeout_s: float = 120.0
    fuel: int = 0
    door: Door = field(default_factory=Door)
    """Opened by the executor once there is a sandbox to enter."""
    is_protected: bool = False
    """Whether snapshots are taken of it: the job sees /snap and /checkpoint, and Python programs load the hook."""
    is_shadow: bool = False
    """Whether it runs beside the job, only to see whether a snapshot can be restored: at the lowest priority."""
    volumes: tuple[tuple[Path, str, bool], ...] = ()
    """(folder on this host, place in the sandbox, whether the job may write there)."""
    file_bytes_max: int = 0
    """Size that one file may grow to; 0 = the limit of the disk."""
    life: Life = field(default_factory=Life)

    @property
    def inside(self) -> Path:
        """The folder of inputs on this host."""
        return self.folder / "in"

    @property
    def outside(self) -> Path:
        """The folder of outputs on this host."""
        return self.folder / "out"

    @property
    def shared(self) -> tuple[tuple[Path, str], ...]:
        """Folders of this host that the job writes to, and where it sees them."""
        names = ("out", "snap", "checkpoint") if self.is_protected else ("out",)
        written = ((folder, place) for folder, place, is_writable in self.volumes if is_writable)
        return (*((self.folder / name, f"/{name}") for name in names), *written)

    @property
    def shown(self) -> tuple[tuple[Path, str], ...]:
        """Folders of this host besides the inputs that the job only reads, and where it sees them."""
        return tuple((folder, place) for folder, place, is_writable in self.volumes if not is_writable)

    @property
    def largest_file(self) -> int:
        """Bytes, for RLIMIT_FSIZE."""
        return self.file_bytes_max or self.resources.disk_bytes

    @property
    def tmp_bytes(self) -> int:
        """Size of /tmp: a quarter of the memory, where it lives."""
        return max(TMP_BYTES_MIN, self.resources.memory_bytes // 4)


@dataclass(frozen=True, slots=True)
class Exit:
    """How a task ended by itself: `reason` is ok, exit, memory, disk or sandbox (the sandbox itself failed)."""

    reason: str
    code: int
    detail: str = ""


OnLine = Callable[[str], None]


class Executor(Protocol):
    """One tier. Cancelling `run` kills everything that it started before it returns."""

    tier: ClassVar[str]
    """One of TIERS."""

    protects_inputs: ClassVar[bool]
    """True when a task cannot change its input files, so that they may be hard links to blobs."""

    async def why_not(self) -> str:
        """Empty when this host can use the tier now; otherwise the cause, for the owner."""
        ...

    def refuses(self, spec: JobSpec) -> str:
        """Empty when the tier can run such a job; otherwise the reason, for the renter."""
        ...

    async def run(self, task: Task, on_line: OnLine) -> Exit:
        """Run a task to its end. Wall time and disk are watched by the runner, which cancels."""
        ...

    async def clean(self) -> None:
        """Remove what an earlier process of this node left running."""
        ...


def exit_of(code: int) -> Exit:
    """An ordinary end from a process's exit code (negative = killed by that signal)."""
    if code == 0:
        return Exit("ok", 0)
    if code in {-25, 128 + 25}:
        return Exit("disk", code, "a file grew over the job's disk limit (SIGXFSZ)")
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return Exit("exit", code, f"the job's commands ended with {how}")


def write_script(task: Task, home: str, inside: str, outside: str, shim: str) -> Path:
    """Write run/script: the whole environment, then the commands.

    The environment is set by the task's own shell, after the sandbox has dropped its rights: a job's LD_PRELOAD must
    not reach the programs that build the sandbox."""
    values = environment(task, home, inside, outside, shim)
    exports = [f"export {key}={shlex.quote(value)}" for key, value in values.items()]
    path = task.folder / "run" / "script"
    first = [_LOWEST_PRIORITY] if task.is_shadow else []
    path.write_text("\n".join([*first, *exports, *task.commands, ""]))
    path.chmod(0o555)
    return path


def environment(task: Task, home: str, inside: str, outside: str, shim: str) -> dict[str, str]:
    """Every variable of a task."""
    return {
        **task.env,
        **(_protection(task, inside, shim) if task.is_protected else {}),
        "PATH": search_path(task, shim),
        "HOME": home,
        "TMPDIR": home,
        "LANG": "C.UTF-8",
        "USER": "job",
        "LOGNAME": "job",
        "HOSTNAME": "job",
        "SHOAL_IN": inside,
        "SHOAL_OUT": outside,
        **volume_variables(task, has_mounts=inside == "/in"),
    }


def _protection(task: Task, inside: str, shim: str) -> dict[str, str]:
    """What the hook reads. The job's own PYTHONPATH stays, behind ours."""
    top, guest = Path(inside).parent, str(Path(shim).with_name("guest"))
    own = task.env.get("PYTHONPATH", "")
    return {
        "SHOAL_SNAPSHOT_DIR": str(top / "snap"),
        "SHOAL_CHECKPOINT_DIR": str(top / "checkpoint"),
        "SHOAL_GUEST": guest,
        "PYTHONPATH": f"{guest}:{own}" if own else guest,
    }


def volume_variables(task: Task, *, has_mounts: bool) -> dict[str, str]:
    """Where each volume is: `SHOAL_VOLUME_DATA` for `/vol/data`. A tier without mounts has other places."""
    names = {place: re.sub(r"[^A-Z0-9]", "_", place.rpartition("/")[2].upper()) for _, place, _ in task.volumes}
    return {f"SHOAL_VOLUME_{names[place]}": place if has_mounts else str(host) for host, place, _ in task.volumes}


def search_path(task: Task, shim: str) -> str:
    """PATH: the shim that provides `python`, the runtime's own programs, then the system's."""
    own = [str(task.runtime.interpreter.parent)] if task.runtime and task.runtime.interpreter else []
    return ":".join([shim, *own, "/usr/local/bin", "/usr/bin", "/bin"])
