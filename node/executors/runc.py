"""runc with an OCI bundle of our own: the containers of the Docker tier without the engine. Needs root.

config.json follows the OCI runtime specification 1.0.2. Limits are the kernel's (cgroups), the file system is the host
image, the system call filter is `seccomp`.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import shutil
import signal
from pathlib import Path
from typing import ClassVar, Final

import trio

from node.executors import cgroup, host_image, process, seccomp
from node.executors.door import Doorway
from node.executors.interface import OPEN_FILES_MAX, Exit, OnLine, Task, environment, exit_of, write_script
from node.executors.will import last_will
from protocol.jobspec import JobSpec

ROOT_UID_FIRST: Final = 1_879_052_288
"""Each running task gets a user id of its own from here up (0x7000_1000), next to those of the tier bwrap."""

ROOT_UIDS: Final = 4_096
PROBE_SECONDS: Final = 10
STATE: Final = "runc-state"
SHIM: Final = "/run/shoal"
_PATH: Final = f"{os.defpath}:/usr/sbin:/sbin"
_MASKED: Final = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi")
_READONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


class RuncExecutor:
    """Tier `runc`. `label` = this node; `images` = folder for root file systems and runc's state."""

    tier: ClassVar[str] = "runc"
    protects_inputs: ClassVar[bool] = True

    def __init__(self, label: str, images: Path) -> None:
        self._label = label
        self._images = images
        self._numbers = itertools.count()
        self._building = trio.Lock()

    async def why_not(self) -> str:
        """Root, the program, and a cgroup hierarchy that we may write."""
        if not shutil.which("runc"):
            return "runc is not installed (Debian package runc)"
        if os.geteuid() != 0:
            return "runc needs root here; bwrap does not"
        return cgroup.why_not()

    def refuses(self, spec: JobSpec) -> str:
        """Images need an engine, modules need WASM, GPUs need the engine's toolkit."""
        if spec.runtime.startswith("image:") or spec.runtime == "wasm":
            return f"runc alone does not run {spec.runtime[:80]!r}"
        return "runc alone passes no GPU through" if spec.resources.gpu.count else ""

    async def clean(self) -> None:
        """Delete this node's containers that an earlier process left."""
        state = self._images / STATE
        for name in sorted(path.name for path in state.iterdir()) if state.is_dir() else ():
            await self._delete(name)
        await cgroup.clean(self._label)

    async def run(self, task: Task, on_line: OnLine) -> Exit:
        """Run the task's script in a container; see the protocol `Executor`."""
        if task.runtime is None:
            return Exit("sandbox", 0, "runc alone runs no images")
        write_script(task, "/tmp", "/in", "/out", f"{SHIM}/bin")
        async with self._building:
            root = await trio.to_thread.run_sync(host_image.build, task.runtime, self._images)
        uid = ROOT_UID_FIRST + next(self._numbers) % ROOT_UIDS
        for folder, _ in task.shared:
            os.chown(folder, uid, uid)
        name = f"{self._label}-{task.folder.name}"
        group = cgroup.create(f"shoal-{name}", task)
        if group is None:
            return Exit("sandbox", 0, f"no control group for the task: {cgroup.why_not()}")
        bundle = task.folder / "bundle"
        bundle.mkdir()
        (bundle / "config.json").write_text(json.dumps(config(task, root, uid, group.nested("job"))))
        number = bundle / "pid"
        command = ["runc", "--root", str(self._images / STATE), "run", "--bundle", str(bundle)]
        command += ["--pid-file", str(number), name]
        variables = environment(task, "/tmp", "/in", "/out", f"{SHIM}/bin")
        task.life.first = lambda: _number_in(number)
        task.door.open(Doorway(task.life.first, f"shoal-{name}", uid, variables, SHIM))
        async with last_will(self._deletion(name), {"PATH": _PATH}):  # A container does not end with who started it.
            try:
                async with process.started(command, env={"PATH": _PATH}, folder=bundle) as child:
                    await process.follow(child, on_line, child.wait)
                    code = child.returncode or 0
                    is_killed = code == 128 + signal.SIGKILL
                    is_out_of_memory = group.is_out_of_memory() or (is_killed and group.has_hit_limit())
            finally:
                with trio.CancelScope(shield=True):
                    await self._delete(name)
                    await group.remove()
        if is_out_of_memory:
            return Exit("memory", code, f"the job used more than {task.resources.memory_bytes} bytes of memory")
        return exit_of(code)

    async def _delete(self, name: str) -> None:
        with trio.move_on_after(PROBE_SECONDS):
            await trio.run_process(self._deletion(name), capture_stdout=True, capture_stderr=True, check=False)

    def _deletion(self, name: str) -> list[str]:
        return ["runc", "--root", str(self._images / STATE), "delete", "--force", name]


def _number_in(file: Path) -> int | None:
    """The process id that runc wrote; None before it has."""
    try:
        return int(file.read_text())
    except (FileNotFoundError, ValueError):
        return None


def config(task: Task, root: Path, uid: int, group: str) -> dict[str, object]:
    """The bundle's config.json. Pure, so that a test can read it."""
    limits = {"RLIMIT_NOFILE": OPEN_FILES_MAX, "RLIMIT_FSIZE": task.largest_file, "RLIMIT_CORE": 0}
    linux: dict[str, object] = {
        "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
        "cgroupsPath": group,
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "maskedPaths": list(_MASKED),
        "readonlyPaths": list(_READONLY),
    }
    if seccomp.is_supported():
        linux["seccomp"] = seccomp.oci_profile(platform.machine())
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": uid, "gid": uid},
            "args": ["/bin/sh", "-e", f"{SHIM}/script"],
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/in",
            "capabilities": {},
            "rlimits": [{"type": kind, "soft": value, "hard": value} for kind, value in limits.items()],
            "noNewPrivileges": True,
            "oomScoreAdj": 500,
        },
        "root": {"path": str(root.absolute()), "readonly": True},
        "hostname": "job",
        "mounts": _mounts(task),
        "linux": linux,
    }


def _mounts(task: Task) -> list[dict[str, object]]:
    def memory(target: str, size: int, *options: str) -> dict[str, object]:
        flags = ["nosuid", "nodev", f"size={size}", "mode=1777", *options]
        return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": flags}

    def shown(source: Path, target: str, access: str) -> dict[str, object]:
        options = ["bind", access, "nosuid", "nodev", "rprivate"]
        return {"destination": target, "type": "bind", "source": str(source.absolute()), "options": options}

    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": pts},
        memory("/dev/shm", max(task.resources.shm_bytes, 4096), "noexec"),
        memory("/tmp", task.tmp_bytes, "noexec"),
        *(shown(folder, str(folder), "ro") for folder in (task.runtime.folders if task.runtime else ())),
        shown(task.inside, "/in", "ro"),
        *(shown(folder, target, "rw") for folder, target in task.shared),
        *(shown(folder, target, "ro") for folder, target in task.shown),
        shown(task.folder / "run", SHIM, "ro"),
    ]
