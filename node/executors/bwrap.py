"""bubblewrap: own namespaces, no network, a read-only view of /usr and the runtime, no daemon, no root needed.

As root the sandbox runs under a user id that nobody else has; otherwise inside a user namespace, whose further use is
switched off. Memory and processes are counted by a cgroup where one can be made, else by limits and a watch.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, ClassVar, Final

import trio

from node.executors import cgroup, process, seccomp
from node.executors.door import Doorway, first_child
from node.executors.interface import GPU_DEVICES, Exit, OnLine, Task, environment, exit_of, write_script
from protocol.jobspec import JobSpec

JOB_UID: Final = 1000
"""What a job sees as its own user id inside a user namespace."""

ROOT_UID_FIRST: Final = 1_879_048_192
"""As root, each running task gets its own id from here up (0x7000_0000): far above real users and container ranges."""

ROOT_UIDS: Final = 4_096
"""Ids used in turn; more than tasks that ever run at once."""

SHIM: Final = "/run/shoal"
PROBE_SECONDS: Final = 10
_SYSTEM_LINKS: Final = ("/bin", "/sbin", "/lib", "/lib64", "/lib32")
_ETC: Final = ("/etc/ld.so.cache", "/etc/alternatives")
_READONLY: Final = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs")
_GPU_LIBRARIES: Final = ("/sys/module/nvidia", "/sys/class/drm", "/sys/bus/pci", "/sys/devices")


class BwrapExecutor:
    """Tier `bwrap`. `label` keeps the cgroups of two nodes on one machine apart."""

    tier: ClassVar[str] = "bwrap"
    protects_inputs: ClassVar[bool] = True

    def __init__(self, label: str, *, is_root: bool | None = None) -> None:
        self._label = label
        self._is_root = os.geteuid() == 0 if is_root is None else is_root
        self._numbers = itertools.count()
        self._has_disable = False

    async def why_not(self) -> str:
        """Runs `true` in a sandbox; the cause when that fails."""
        program = shutil.which("bwrap")
        if not program:
            return "bwrap is not installed (Debian package bubblewrap)"
        if missing := process.needs_prlimit():
            return missing
        usage = await trio.run_process([program, "--help"], capture_stdout=True, capture_stderr=True, check=False)
        self._has_disable = b"--disable-userns" in usage.stdout
        arguments = [*self._namespaces(), *_view(), "--", *self._become(0), "true"]
        try:
            with trio.fail_after(PROBE_SECONDS):
                answer = await trio.run_process(
                    [program, *arguments], capture_stdout=True, capture_stderr=True, check=False
                )
        except trio.TooSlowError:
            return f"bwrap did not answer within {PROBE_SECONDS} s"
        cause = answer.stderr.decode("utf-8", "replace").strip()[-300:]
        return f"bwrap does not start here: {cause or answer.returncode}" if answer.returncode else ""

    def refuses(self, spec: JobSpec) -> str:
        """Images need an engine, modules need WASM."""
        if spec.runtime.startswith("image:") or spec.runtime == "wasm":
            return f"bwrap does not run {spec.runtime[:80]!r}"
        return ""

    async def clean(self) -> None:
        """Sandboxes die with their node; their groups may be left."""
        await cgroup.clean(self._label)

    async def run(self, task: Task, on_line: OnLine) -> Exit:
        """Run the task's script; see the protocol `Executor`."""
        number = next(self._numbers) % ROOT_UIDS
        group = cgroup.create(f"shoal-{self._label}-{task.folder.name}", task)
        try:
            if self._is_root:
                for folder, _ in task.shared:
                    os.chown(folder, ROOT_UID_FIRST + number, ROOT_UID_FIRST + number)
            return await self._run(task, on_line, number, group)
        finally:
            with trio.CancelScope(shield=True):
                if group:
                    await group.remove()

    async def _run(self, task: Task, on_line: OnLine, number: int, group: cgroup.Cgroup | None) -> Exit:
        write_script(task, "/tmp", "/in", "/out", f"{SHIM}/bin")
        arguments, limits = self.sandbox(task, number)
        tail = [*limits, "/bin/sh", "-e", f"{SHIM}/script"]
        filter_code = seccomp.program(platform.machine()) if seccomp.is_supported() else b""
        with _data(filter_code) as filter_fd, _pipe() as (info, info_fd):
            extra = ["--info-fd", str(info_fd)]
            if seccomp.is_supported():
                extra += ["--seccomp", str(filter_fd)]
            with _data(b"\0".join(part.encode() for part in [*arguments, *extra])) as args_fd:
                command = ["bwrap", "--args", str(args_fd), "--", *tail]
                if group:
                    command = group.enter(command)
                fds = (args_fd, filter_fd, info_fd)
                async with process.started(
                    command, env={"PATH": os.defpath}, folder=task.folder, pass_fds=fds
                ) as child:
                    os.close(info_fd)
                    return await self._watch(task, on_line, child, group, (info, number))

    async def _watch(
        self,
        task: Task,
        on_line: OnLine,
        child: process.Child,
        group: cgroup.Cgroup | None,
        started: tuple[BinaryIO, int],
    ) -> Exit:
        too_much = 0

        async def limit() -> None:
            nonlocal too_much
            too_much = await process.watch_memory(child.pid, task.resources.memory_bytes)
            process.kill_group(child.pid)

        first, init = await init_process(started[0])
        try:
            if init is not None:
                self._open_door(task, first, group, started[1])
            async with trio.open_nursery() as nursery:
                if not group:
                    nursery.start_soon(limit)
                await process.follow(child, on_line, child.wait)
                nursery.cancel_scope.cancel()
        finally:
            process.kill_group(child.pid)
            if init is not None:
                # By itself it dies with bwrap only from the moment on at which it has asked the kernel for that.
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(init, signal.SIGKILL)
                with trio.CancelScope(shield=True):
                    await trio.lowlevel.wait_readable(init)
                os.close(init)
        if too_much or (group and group.is_out_of_memory()):
            return Exit(
                "memory",
                child.returncode or -9,
                f"the job used more than {task.resources.memory_bytes} bytes of memory",
            )
        code = child.returncode or 0
        if init is None:
            return Exit("sandbox", code, "bwrap did not start; `shoal node doctor` says why")
        return exit_of(code)

    def sandbox(self, task: Task, number: int) -> tuple[list[str], list[str]]:
        """(bwrap's arguments for a task, the command line that sets its limits and user before its own program)."""
        arguments = [*self._namespaces(), *_view(), *_task_view(task)]
        return arguments, [*process.limits(task, with_processes=True), *self._become(number)]

    def _open_door(self, task: Task, first: int, group: cgroup.Cgroup | None, number: int) -> None:
        """The sandbox is complete when its first process has forked the job."""
        way = Doorway(
            first=lambda: first if first_child(first) else None,
            mark=group.folders[0].name if group else "",
            uid=ROOT_UID_FIRST + number if self._is_root else None,
            environment=environment(task, "/tmp", "/in", "/out", f"{SHIM}/bin"),
            shim=SHIM,
        )
        task.life.first = way.first
        task.door.open(way)

    def _namespaces(self) -> list[str]:
        flags = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        flags += ["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "job", "--clearenv"]
        flags += ["--setenv", "PATH", "/usr/bin:/bin"]
        if self._is_root:
            return [*flags, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        flags += ["--unshare-user", "--uid", str(JOB_UID), "--gid", str(JOB_UID)]
        return [*flags, "--disable-userns"] if self._has_disable else flags

    def _become(self, number: int) -> list[str]:
        """As root: leave it for good (the last two capabilities go with it)."""
        if not self._is_root:
            return []
        uid = str(ROOT_UID_FIRST + number)
        return ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "--inh-caps", "-all", "--"]


def _view() -> list[str]:
    """The file system of every sandbox: system folders read-only, a fresh /proc and /dev, nothing else of the host."""
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in _SYSTEM_LINKS:
        path = Path(name)
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            arguments += ["--ro-bind", name, name]
    arguments += ["--perms", "0755", "--dir", "/etc"]
    for name in _ETC:
        arguments += ["--ro-bind-try", name, name]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    for name in _READONLY:  # bwrap covers only what looks writable before it gives up its rights.
        arguments += ["--ro-bind-try", name, name]
    return arguments


def _task_view(task: Task) -> list[str]:
    resources = task.resources
    shim = task.folder / "run"
    arguments = ["--size", str(task.tmp_bytes), "--perms", "1777", "--tmpfs", "/tmp"]
    arguments += ["--size", str(max(resources.shm_bytes, 4096)), "--perms", "1777", "--tmpfs", "/dev/shm"]
    for folder in task.runtime.folders if task.runtime else ():
        arguments += [*_parents(folder), "--ro-bind", str(folder), str(folder)]
    arguments += [*_parents(Path(SHIM)), "--ro-bind", str(shim), SHIM]
    for name in ("passwd", "group"):
        arguments += ["--ro-bind", str(shim / name), f"/etc/{name}"]
    arguments += ["--ro-bind", str(task.inside), "/in"]
    for folder, target in task.shared:
        arguments += [*_parents(Path(target)), "--bind", str(folder), target]
    for folder, target in task.shown:
        arguments += [*_parents(Path(target)), "--ro-bind", str(folder), target]
    if resources.gpu.count:
        for device in sorted(Path("/dev").glob(GPU_DEVICES)):
            arguments += ["--dev-bind", str(device), str(device)]
        for name in _GPU_LIBRARIES:
            arguments += ["--ro-bind-try", name, name]
    return [*arguments, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/in"]


def _parents(path: Path) -> list[str]:
    """Make the folders above a mount point passable; bwrap's own default shuts out everybody but root."""
    above = [parent for parent in reversed(path.parents) if parent != Path("/")]
    return [part for parent in above for part in ("--perms", "0755", "--dir", str(parent))]


@contextmanager
def _data(content: bytes) -> Iterator[int]:
    """A descriptor that reads as `content`: it stays out of the process list, and may be longer than a pipe."""
    fd = os.memfd_create("shoal")
    try:
        os.write(fd, content)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _pipe() -> Iterator[tuple[BinaryIO, int]]:
    """(reader, writing descriptor); whoever starts the writer closes the latter."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as reader:
        yield reader, writing


async def init_process(info: BinaryIO) -> tuple[int, int | None]:
    """The sandbox's first process and its pidfd, readable once all inside are dead; None when there never was one."""
    text = b""
    while True:
        await trio.lowlevel.wait_readable(info.fileno())
        piece = info.read(4096)
        if not piece:
            break
        text += piece
        if b"}" in text:
            break
    try:
        first = int(json.loads(text)["child-pid"])
        return first, os.pidfd_open(first)
    except (ValueError, KeyError, ProcessLookupError):
        return 0, None


def version() -> str:
    """bubblewrap's version for the doctor, or empty."""
    program = shutil.which("bwrap")
    if not program:
        return ""
    return subprocess.run([program, "--version"], capture_output=True, text=True, timeout=PROBE_SECONDS).stdout.strip()
