"""Process snapshots in the tier runc: the OCI runtime's own pause, checkpoint and restore, with our CRIU.

runc rebuilds the container from our configuration and takes from the images only what is in it. Its in-memory folders
(/tmp, /dev/shm) are part of the images. Spec of the commands: man runc-checkpoint(8), runc-restore(8).
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from node.executors import cgroup, host_image, process, runc
from node.executors.door import Doorway
from node.executors.interface import Exit, OnLine, Task, environment, exit_of, write_script
from node.executors.will import last_will
from node.process_tier import criu
from node.process_tier.criu import Criu
from node.process_tier.images import IMAGES, WORK, Verified
from node.process_tier.scene import Scene
from protocol.errors import Unavailable

PAUSE_SECONDS: Final = 10.0
"""For `runc pause`, `resume` and `delete`, which do next to nothing."""

SETTINGS: Final = "network-lock skip\ntcp-close\nskip-in-flight\n"
"""What runc has no option for; CRIU reads it from the file that CRIU_CONFIG_FILE names. A job has no network."""

SHIM_SCRIPT: Final = """#!/bin/sh
as=${SHOAL_CRIU_AS:+setpriv --ruid $SHOAL_CRIU_AS --rgid $SHOAL_CRIU_AS --clear-groups --}
exec $as "$SHOAL_CRIU" "$@"
"""
"""runc looks for a program `criu` in PATH."""

_PATH: Final = f"{os.defpath}:/usr/sbin:/sbin"
_LOOK_SECONDS: Final = 0.005


class RuncWay:
    """`label` and `images` are those of the node's RuncExecutor."""

    def __init__(self, program: Criu, label: str, images: Path) -> None:
        self._program = program
        self._label = label
        self._images = images

    @asynccontextmanager
    async def paused(self, task: Task) -> AsyncIterator[None]:
        """The container stands still inside, and goes on for certain."""
        try:
            await self._must("not_still", "pause", self._name(task))
            yield
        finally:
            with trio.CancelScope(shield=True):
                await criu.run(
                    [*self._runc(), "resume", self._name(task)], PAUSE_SECONDS, folder=task.folder, env={"PATH": _PATH}
                )

    async def dump(self, scene: Scene, task: Task, folder: Path, seconds: float) -> None:
        """Write images of the paused container into `folder`/images. Unavailable (`dump_failed`, `criu_timeout`)."""
        work = self._work(folder)
        command = [*self._runc(), "checkpoint", "--leave-running", "--file-locks", "--image-path", str(folder / IMAGES)]
        command += ["--work-path", str(work), self._name(task)]
        code, text = await criu.run(command, seconds, folder=folder, env=self._env(work, scene.uid))
        if code:
            reason = criu.why(work / "dump.log") if (work / "dump.log").exists() else text.strip()[-200:]
            raise Unavailable(f"the processes cannot be dumped: {reason}", code="dump_failed")

    async def run(
        self, verified: Verified, task: Task, on_line: OnLine, on_start: Callable[[], None], seconds: float
    ) -> Exit:
        """Restore a container and follow the job to its end. Unavailable (`restore_failed`) before it runs."""
        if task.runtime is None:
            raise Unavailable("runc alone runs no images", code="restore_failed")
        write_script(task, "/tmp", "/in", "/out", f"{runc.SHIM}/bin")
        root = await trio.to_thread.run_sync(host_image.build, task.runtime, self._images)
        name = self._name(task)
        group = cgroup.create(f"shoal-{name}", task)
        if group is None:
            raise Unavailable(f"no control group for the task: {cgroup.why_not()}", code="restore_failed")
        bundle = task.folder / "bundle"
        bundle.mkdir()
        settings = runc.config(task, root, verified.image.uid, group.nested("job"))
        (bundle / "config.json").write_text(json.dumps(settings))
        work = self._work(task.folder)
        command = [*self._runc(), "restore", "--file-locks", "--image-path", str(verified.folder / IMAGES)]
        command += ["--work-path", str(work), "--bundle", str(bundle), "--pid-file", str(bundle / "pid")]
        command = group.enter([*command, "--manage-cgroups-mode", "ignore", name])
        try:
            async with (
                last_will(self._deletion(name), {"PATH": _PATH}),  # A container does not end with who started it.
                process.started(command, env=self._env(work, verified.image.uid), folder=bundle) as child,
            ):
                code = await self._follow(child, task, on_line, on_start, (bundle / "pid", seconds, verified.image.uid))
                is_out_of_memory = group.is_out_of_memory()
        finally:
            with trio.CancelScope(shield=True):
                await criu.run(self._deletion(name), PAUSE_SECONDS, folder=task.folder, env={"PATH": _PATH})
                await group.remove()
        if is_out_of_memory:
            return Exit("memory", code, f"the job used more than {task.resources.memory_bytes} bytes of memory")
        return exit_of(code)

    async def _follow(
        self,
        child: process.Child,
        task: Task,
        on_line: OnLine,
        on_start: Callable[[], None],
        limits: tuple[Path, float, int],
    ) -> int:
        number, seconds, uid = limits
        is_alive = False
        errors: list[str] = []

        def came_alive() -> None:
            nonlocal is_alive
            is_alive = True
            variables = environment(task, "/tmp", "/in", "/out", f"{runc.SHIM}/bin")
            task.life.first = lambda: _number_in(number)
            task.door.open(Doorway(task.life.first, f"shoal-{self._name(task)}", uid, variables, runc.SHIM))
            on_start()

        async def wait_alive() -> None:
            with trio.move_on_after(seconds):
                while not number.exists():  # noqa: ASYNC110  runc's only sign is this file
                    await trio.sleep(_LOOK_SECONDS)
                if not is_alive:
                    came_alive()
                return
            process.kill_group(child.pid)

        async def until() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_alive)
                await child.wait()
                nursery.cancel_scope.cancel()

        def show(line: str) -> None:
            if not is_alive and number.exists():
                came_alive()  # Its first line may be here before we have looked.
            (on_line if is_alive else errors.append)(line)

        await process.follow(child, show, until)
        if not (is_alive or number.exists()):
            log = task.folder / WORK / "restore.log"
            reason = criu.why(log) if log.exists() else " ".join(errors)[-criu.REASON_CHARS :]
            raise Unavailable(f"the processes cannot be restored: {reason}", code="restore_failed")
        return child.returncode or 0

    async def _must(self, code: str, *verb: str) -> None:
        status, text = await criu.run([*self._runc(), *verb], PAUSE_SECONDS, folder=self._images, env={"PATH": _PATH})
        if status:
            raise Unavailable(f"runc {verb[0]} failed: {text.strip()[-criu.REASON_CHARS :]}", code=code)

    def _work(self, folder: Path) -> Path:
        work = folder / WORK
        (work / "bin").mkdir(parents=True, exist_ok=True)
        (work / "settings").write_text(SETTINGS)
        (work / "bin" / "criu").write_text(SHIM_SCRIPT)
        (work / "bin" / "criu").chmod(0o700)
        return work

    def _env(self, work: Path, uid: int) -> dict[str, str]:
        env = {"PATH": f"{work / 'bin'}:{_PATH}", "CRIU_CONFIG_FILE": str(work / "settings")}
        env["SHOAL_CRIU"] = str(self._program.path)
        return {**env, "SHOAL_CRIU_AS": str(uid)} if criu.borrows_uid() else env

    def _runc(self) -> list[str]:
        return ["runc", "--root", str(self._images / runc.STATE)]

    def _deletion(self, name: str) -> list[str]:
        return [*self._runc(), "delete", "--force", name]

    def _name(self, task: Task) -> str:
        return f"{self._label}-{task.folder.name}"


def _number_in(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (FileNotFoundError, ValueError):
        return None
