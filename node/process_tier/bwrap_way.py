"""Process snapshots in the tier bwrap: CRIU works inside the sandbox's namespaces, on the job's processes alone.

To restore, an empty sandbox is built like any other, its process ids begin far above those of the image, and the
processes come to life in it. Needs root.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Final

import trio

from node.executors import bwrap, cgroup, process
from node.executors.bwrap import ROOT_UID_FIRST, ROOT_UIDS, SHIM, BwrapExecutor
from node.executors.door import Doorway, first_child
from node.executors.interface import Exit, OnLine, Task, environment, exit_of, write_script
from node.process_tier import criu, folders
from node.process_tier.criu import Criu
from node.process_tier.freezer import Freezer
from node.process_tier.images import IMAGES, WORK, Verified
from node.process_tier.scene import Scene
from protocol.errors import Unavailable

ENTER: Final = Path(__file__).with_name("enter.py")

PIDS: Final = 32_768
"""Process ids below this exist on every kernel (the smallest kernel.pid_max in use)."""

STARTERS: Final = 64
"""Ids that we may need in a rebuilt sandbox: its sleeper, CRIU and CRIU's own children."""

BUILD_SECONDS: Final = 10.0
"""For an empty sandbox to stand."""

MEMORY_FOLDERS: Final = ("tmp", "dev/shm")
"""What the job writes to that lives in the sandbox's own memory."""

WAITING: Final = ("sleep", "2147483647")
"""What an empty sandbox runs; the job's own script lies there as it did when it was dumped."""

COMMON: Final = (
    "-D",
    "/proc/self/fd/{IMAGES}",
    "-W",
    "/proc/self/fd/{WORK}",
    "--shell-job",
    "--file-locks",
    "--tcp-close",
    "--network-lock",
    "skip",
)


def sources(task: Task, first: int) -> dict[str, Path]:
    """The folders that a job writes to, by their names in a snapshot."""
    inside = Path("/proc", str(first), "root")
    shared = {target.lstrip("/"): folder for folder, target in task.shared}
    return {**shared, **{name: inside / name for name in MEMORY_FOLDERS}}


async def dump(program: Criu, scene: Scene, freezer: Freezer, folder: Path, seconds: float) -> None:
    """Write images of the frozen job into `folder`/images. Unavailable (`dump_failed`, `criu_timeout`)."""
    arguments = ["dump", "-t", str(scene.inner), *COMMON, "-o", "dump.log", "--leave-running", "--skip-in-flight"]
    arguments += ["--manage-cgroups=ignore", "--freeze-cgroup", "/proc/self/fd/{FREEZER}"]
    for name in scene.outer:
        if name.startswith("file["):
            arguments += ["--external", name]
    orders = _orders("dump", program, scene.first, (folder / IMAGES, folder / WORK), arguments, scene.uid)
    orders["freezer"] = str(freezer.folder)
    code, text = await criu.run(_command(orders), seconds, folder=folder)
    if code:
        reason = text.strip()[-criu.REASON_CHARS :] or criu.why(folder / WORK / "dump.log")
        raise Unavailable(f"the processes cannot be dumped: {reason}", code="dump_failed")


async def run(
    program: Criu,
    verified: Verified,
    task: Task,
    tell: tuple[OnLine, Callable[[], None]],
    room: tuple[str, float],
) -> Exit:
    """Restore into a new sandbox and follow the job to its end. Unavailable (`restore_failed`) before it runs.

    `tell` = (on line, on start); `room` = (the node's label, seconds that the restore may take)."""
    label, seconds = room
    group = cgroup.create(f"shoal-{label}-{task.folder.name}", task)
    if group is None:
        raise Unavailable(f"no control group for the task: {cgroup.why_not()}", code="restore_failed")
    try:
        last = free_ids(ids_of(verified.folder / IMAGES))
        async with _empty(task, group, (verified.image.uid, last), label) as first:
            entries = tuple(entry for entry in verified.entries if _is_in_memory(entry.path))
            inside = Path("/proc", str(first), "root")
            await trio.to_thread.run_sync(folders.lay_out, entries, verified.folder, inside, verified.image.uid)
            return await _revive(program, verified, task, group, first, tell, seconds)
    finally:
        with trio.CancelScope(shield=True):
            await group.remove()


async def _revive(
    program: Criu,
    verified: Verified,
    task: Task,
    group: cgroup.Cgroup,
    first: int,
    tell: tuple[OnLine, Callable[[], None]],
    seconds: float,
) -> Exit:
    reading, writing = os.pipe()
    images, work = verified.folder / IMAGES, task.folder / WORK
    arguments = ["restore", *COMMON, "-o", "restore.log", "--restore-detached", "--restore-sibling"]
    arguments += ["--manage-cgroups=ignore"]
    for name in verified.image.outer:
        arguments += ["--inherit-fd", ("fd[1]:" if name.startswith("pipe:") else "fd[{NULL}]:") + name]
    orders = _orders("restore", program, first, (images, work), arguments, verified.image.uid)
    orders |= {"done": writing, "job": verified.image.uid}
    with os.fdopen(reading, "rb", buffering=0) as done:
        command = group.enter(_command(orders))
        env = {"PATH": os.defpath}
        async with process.started(command, env=env, folder=images, pass_fds=(writing,)) as revived:
            os.close(writing)
            is_alive = False
            errors: list[str] = []

            async def until() -> None:
                nonlocal is_alive
                with trio.move_on_after(seconds):
                    if parent := await _parent(done):
                        is_alive = True
                        _open_door(task, parent, group, verified.image.uid)
                        tell[1]()
                if not is_alive:
                    process.kill_group(revived.pid)
                await revived.wait()

            await process.follow(revived, lambda line: (tell[0] if is_alive else errors.append)(line), until)
    code = revived.returncode or 0
    if not is_alive:
        reason = " ".join(errors)[-criu.REASON_CHARS :] or criu.why(work / "restore.log")
        raise Unavailable(f"the processes cannot be restored: {reason}", code="restore_failed")
    if group.is_out_of_memory():
        return Exit("memory", code, f"the job used more than {task.resources.memory_bytes} bytes of memory")
    return exit_of(code)


@asynccontextmanager
async def _empty(task: Task, group: cgroup.Cgroup, ids: tuple[int, int], label: str) -> AsyncIterator[int]:
    """A sandbox of the tier, with nothing but a sleeping process in it. `ids` = (user, last process id
    before the first one that is given out)."""
    uid, last = ids
    write_script(task, "/tmp", "/in", "/out", f"{SHIM}/bin")
    arguments, tail = BwrapExecutor(label).sandbox(task, (uid - ROOT_UID_FIRST) % ROOT_UIDS)
    info, info_fd = os.pipe()
    block_fd, block = os.pipe()
    arguments += ["--info-fd", str(info_fd), "--block-fd", str(block_fd)]
    command = group.enter(["bwrap", *arguments, "--", *tail, *WAITING])
    with os.fdopen(info, "rb", buffering=0) as reader, os.fdopen(block, "wb", buffering=0) as gate:
        env = {"PATH": os.defpath}
        async with process.started(command, env=env, folder=task.folder, pass_fds=(info_fd, block_fd)) as box:
            os.close(info_fd)
            os.close(block_fd)
            first = await _first(reader)
            try:
                bump: dict[str, object] = {"verb": "bump", "first": first, "last": last}
                code, text = await criu.run(_command(bump), BUILD_SECONDS, folder=task.folder)
                if code:
                    raise Unavailable(f"no free process ids: {text.strip()[-200:]}", code="restore_failed")
                gate.write(b"1")
                await _stands(first)
                yield first
            finally:
                process.kill_group(box.pid)
                with trio.CancelScope(shield=True):
                    await group.remove()


async def _first(reader: BinaryIO) -> int:
    first, pidfd = await bwrap.init_process(reader)
    if pidfd is None:
        raise Unavailable("bwrap did not start; `shoal node doctor` says why", code="restore_failed")
    os.close(pidfd)
    return first


async def _stands(first: int) -> None:
    """Until the sandbox's own process has been started: then its file system is complete."""
    with trio.move_on_after(BUILD_SECONDS):
        while True:
            if _name_of(first_child(first)) == "sleep":
                return
            await trio.sleep(0.005)
    raise Unavailable("the empty sandbox does not stand", code="restore_failed")


async def _parent(done: BinaryIO) -> int | None:
    """The process above the restored ones, once they live; None when they do not."""
    text = b""
    while not text.endswith(b"alive"):
        await trio.lowlevel.wait_readable(done.fileno())
        piece = done.read(64)
        if not piece:
            return None
        text += piece
    return int(text.split()[0])


def ids_of(images: Path) -> set[int]:
    """The ids of an image's processes and threads: CRIU calls its files by them."""
    return {int(path.stem.partition("-")[2]) for path in images.glob("core-*.img")}


def free_ids(taken: set[int]) -> int:
    """Where ids can begin so that what we start does not take one of the image's. Unavailable (`restore_failed`)."""
    for last in range(STARTERS, PIDS, STARTERS):
        if not any(last < number <= last + STARTERS for number in taken):
            return last
    raise Unavailable("the image has a process in every range of ids", code="restore_failed")


def _name_of(pid: int | None) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _open_door(task: Task, first: int, group: cgroup.Cgroup, uid: int) -> None:
    variables = environment(task, "/tmp", "/in", "/out", f"{SHIM}/bin")
    task.life.first = lambda: first if first_child(first) else None
    task.door.open(Doorway(task.life.first, group.folders[0].name, uid, variables, SHIM))


def _orders(
    verb: str, program: Criu, first: int, places: tuple[Path, Path], arguments: list[str], uid: int
) -> dict[str, object]:
    """What enter.py is told. `places` = (images, folder for logs)."""
    places[1].mkdir(exist_ok=True)
    return {
        "work": str(places[1]),
        "verb": verb,
        "criu": str(program.path),
        "first": first,
        "images": str(places[0]),
        "arguments": arguments,
        "uid": uid if criu.borrows_uid() else -1,
    }


def _command(orders: dict[str, object]) -> list[str]:
    return [sys.executable, "-I", "-S", str(ENTER), json.dumps(orders)]


def _is_in_memory(path: str) -> bool:
    return any(path == name or path.startswith(f"{name}/") for name in MEMORY_FOLDERS)
