"""The dry restore: a shadow process restores a sealed snapshot and is asked for another one before it takes a step.
Equal bytes prove that the job is protected; nothing else does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import trio
from blake3 import blake3

from node.blobs import BlobStore
from node.executors import process
from node.executors.interface import Executor, Task
from node.protection import layout
from node.protection.contents import copy, examine
from node.protection.guest_link import GO_RESTORE, GuestLink
from node.protection.removal import remove
from node.protection.sealing import SealedFolder, lay_out
from protocol.errors import ShoalError
from protocol.units import MIB
from storage.erasure import ErasureCode

SECONDS: Final = 60.0
"""How long a rehearsal may take: the renter is told within a minute whether the job is protected."""

MEMORY_SLACK_BYTES: Final = 256 * MIB
"""What must stay free beside the shadow, which takes as much memory as the job does now."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What a rehearsal is played on."""

    executor: Executor
    prepare: Callable[[], Awaitable[Task]]
    """Lays out the shadow's own folders: the same inputs, no GPU, lowest priority."""
    job: Task
    """The task that is rehearsed."""
    secret: bytes
    blobs: BlobStore
    erasure: ErasureCode


async def rehearse(stage: Stage, sealed: SealedFolder) -> str:
    """Empty when the snapshot came out equal; otherwise why not. Never raises for what a job does."""
    first = stage.job.life.first()
    needed = process.memory_of(process.descendants(first)) if first else 0
    if psutil.virtual_memory().available < needed + MEMORY_SLACK_BYTES:
        return "this host has not enough free memory to rehearse a restore"
    task: Task | None = None
    try:
        with trio.move_on_after(SECONDS):
            task = await stage.prepare()
            return await _play(stage, task, sealed)
        return f"a dry restore took longer than {SECONDS:g} s"
    except ShoalError as error:
        return f"a dry restore failed: {error.detail}"
    except OSError as error:
        return f"a dry restore failed: {error.strerror}"
    finally:
        if task is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(remove, task.folder, task.folder.parent)


async def _play(stage: Stage, task: Task, sealed: SealedFolder) -> str:
    opened, bytes_max = task.folder / "restore.new", layout.bytes_max(stage.job)
    await trio.to_thread.run_sync(lay_out, sealed, stage.secret, stage.blobs, stage.erasure, opened, bytes_max)
    before = await trio.to_thread.run_sync(digests, opened, bytes_max)
    layout.hand_in(task, opened)
    why, ended = "", ""
    with GuestLink(task.folder / "snap", is_parked=True) as link:
        wanted = link.want(hold=True)
        link.release(GO_RESTORE)
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                nonlocal ended
                ended = (await stage.executor.run(task, lambda line: None)).detail or "the shadow process ended"
                nursery.cancel_scope.cancel()

            nursery.start_soon(run)
            try:
                words = await link.wait_answer(wanted, SECONDS)
                if words.get("restored_step") != sealed.step or words.get("steps") != sealed.step:
                    why = f"the restored process stands at step {words.get('steps')}, not {sealed.step}"
                else:
                    taken = await trio.to_thread.run_sync(_taken, task, words.get("number"), bytes_max)
                    why = difference(before, await trio.to_thread.run_sync(digests, taken, bytes_max))
            except ShoalError as error:
                why = error.detail
            nursery.cancel_scope.cancel()
    return why or ended


def _taken(task: Task, number: int, bytes_max: int) -> Path:
    """A copy of the shadow's snapshot, which it cannot change any more."""
    folder, own = layout.take(task, number), task.folder / "taken" / "own"
    copy(folder, own, examine(folder, bytes_max, is_framework=True))
    return own


def digests(folder: Path, bytes_max: int) -> dict[str, bytes]:
    """BLAKE3 of every file of a snapshot in a folder of our own, by path. Refused (`snapshot_bad`); blocks."""
    found: dict[str, bytes] = {}
    for file in examine(folder, bytes_max, is_framework=True).files:
        hasher = blake3()
        with (folder / file.path).open("rb") as data:
            while piece := data.read(MIB):
                hasher.update(piece)
        found[file.path] = hasher.digest()
    return found


def difference(before: dict[str, bytes], after: dict[str, bytes]) -> str:
    """What a restored process has otherwise than it was, empty when nothing."""
    others = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    if not others:
        return ""
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return f"{others[0]}{more} came out different in a dry restore"
