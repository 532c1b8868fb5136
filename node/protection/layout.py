"""The folders of a protected task on this host, and how a snapshot moves between them and the sandbox.

`snap/` and `checkpoint/` belong to the job while it runs, so nothing is written into them: what goes in or out is
renamed as a whole, which follows no link. `taken/`, `kept` and `restore.new` are the node's own.
"""

from __future__ import annotations

import importlib.resources
import os
import shutil
from dataclasses import replace
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from node import outputs
from node.executors.interface import Task
from node.protection.removal import remove
from node.protection.safetensors_header import bad
from protocol.errors import Refused
from protocol.units import GIB

MEMORY_TIMES: Final = 4
"""Snapshots of a job take at most this many times its memory: two waiting, one taken, one kept for a restart."""

FREE_BYTES_MIN: Final = 1 * GIB
"""Below so much free space on the node's disk no snapshot is taken: the disk is never filled by them."""

IMAGE: Final = "image"
"""The newest image of the processes, outside of what counts as the job's: the node alone decides how large it is."""

HOOK: Final = "node.guest.hook"
"""The package whose files a job's Python loads; read as data, so that it works from a wheel too."""

_LEFT_OUT: Final = "__pycache__"


def bytes_max(task: Task) -> int:
    """Bytes that a task's snapshots may take on disk, its checkpoint folder included."""
    return max(MEMORY_TIMES * task.resources.memory_bytes, task.resources.disk_bytes)


def protected(task: Task) -> Task:
    """The same task as one that snapshots are taken of."""
    return replace(task, is_protected=True, file_bytes_max=max(bytes_max(task), task.resources.disk_bytes))


def make(task: Task) -> None:
    """The folders of a protected task, below those that every task has. Blocks for a few milliseconds."""
    for name in ("snap", "checkpoint"):
        folder = task.folder / name
        folder.mkdir()
        folder.chmod(0o755)
    (task.folder / "taken").mkdir(mode=0o700)
    _copy(importlib.resources.files(HOOK), task.folder / "run" / "guest")


def renew(task: Task, names: tuple[str, ...] = ("snap", "out")) -> None:
    """Remove what an earlier start left, for a task that starts once more. Nobody may be in the sandbox. `names` = its
    own folders that are emptied."""
    for name in names:
        remove(task.folder / name, task.folder)
        (task.folder / name).mkdir()
        (task.folder / name).chmod(0o755)
    for name in ("tmp", "bundle", "run/script"):
        remove(task.folder / name, task.folder)


def let_read(folder: Path) -> None:
    """Let the job, which has another user id, read and change a copy of our own."""
    for where, _, names in os.walk(folder):
        Path(where).chmod(0o777)
        for name in names:
            path = Path(where, name)
            path.chmod(path.stat().st_mode | 0o666)


def take(task: Task, number: int) -> Path:
    """Move a finished snapshot out of the sandbox's reach. Refused (`snapshot_bad`) when it is not there."""
    target = task.folder / "taken" / str(number)
    remove(target, task.folder)
    try:
        (task.folder / "snap" / str(number)).rename(target)
    except OSError as error:
        raise bad(f"the snapshot {number} is not where it was said to be ({error.strerror})") from error
    return target


def keep(task: Task, folder: Path) -> None:
    """A taken snapshot stays, in place of the one before, for a restart on this host."""
    remove(task.folder / "kept", task.folder)
    folder.rename(task.folder / "kept")
    remove(task.folder / IMAGE, task.folder)


def keep_image(task: Task, folder: Path) -> None:
    """The same for an image of the processes: what is newer is what a restart goes on from."""
    remove(task.folder / IMAGE, task.folder)
    folder.rename(task.folder / IMAGE)
    remove(task.folder / "kept", task.folder)


def hand_in(task: Task, folder: Path) -> None:
    """Move a folder to where the hook looks for what it restores. Refused (`snapshot_bad`) when the job prevents it."""
    target = task.folder / "snap" / "restore"
    remove(target, task.folder)
    try:
        folder.rename(target)
    except OSError as error:
        raise bad(f"the snapshot cannot be handed in ({error.strerror})") from error


def hand_in_checkpoint(task: Task, folder: Path) -> None:
    """Make a folder the task's checkpoint folder. Nobody may be in the sandbox."""
    remove(task.folder / "checkpoint", task.folder)
    folder.rename(task.folder / "checkpoint")
    (task.folder / "checkpoint").chmod(0o755)


def check_room(task: Task, wanted: int) -> None:
    """Refused (`disk_full`) when `wanted` more bytes would leave less than FREE_BYTES_MIN on the disk."""
    free = shutil.disk_usage(task.folder).free
    if free - wanted < FREE_BYTES_MIN:
        raise Refused(
            f"a snapshot of {wanted} bytes does not fit: {free} bytes are free on the node's disk",
            code="disk_full",
            fix="Free space on the node's disk; the job goes on without snapshots.",
            numbers={"wanted": wanted, "free": free, "reserve": FREE_BYTES_MIN},
        )


def usage(task: Task) -> tuple[int, int]:
    """(bytes on disk, entries) of the job's snapshots: what the job holds and what the node has taken."""
    found = [outputs.usage(task.folder / name) for name in ("snap", "checkpoint", "taken", "kept")]
    return sum(used for used, _ in found), sum(entries for _, entries in found)


def drop_late(task: Task) -> None:
    """Delete finished snapshots that nobody waits for any more: the hook makes no third one."""
    for entry in sorted((task.folder / "snap").iterdir()):
        if entry.name.isdigit():
            remove(entry, task.folder)


def drop_snapshots(task: Task) -> None:
    """Delete everything in `snap/` but the board."""
    for entry in sorted((task.folder / "snap").iterdir()):
        if entry.name != "board":
            remove(entry, task.folder)


def _copy(source: Traversable, target: Path) -> None:
    target.mkdir()
    target.chmod(0o755)
    for entry in source.iterdir():
        if entry.name == _LEFT_OUT:
            continue
        path = target / entry.name
        if entry.is_dir():
            _copy(entry, path)
        else:
            path.write_bytes(entry.read_bytes())
            path.chmod(0o444)
