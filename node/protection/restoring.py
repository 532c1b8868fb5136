"""A chunk that goes on where another provider's run of it was: its snapshot is fetched, opened and handed in. Whatever
fails, the job starts from its beginning, and its log says why."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import trio

from node.blobs import BlobStore
from node.executors.interface import Task
from node.protection import fetching, layout
from node.protection.guest_link import GO_FROM_BEGINNING
from node.protection.hosting import Live, begin_again, let_restore
from node.protection.sealing import SealedFolder, lay_out, place_of
from node.protection.shelter import Shelter
from protocol.completions import Recovering
from protocol.effects import Resume, Run
from protocol.errors import Refused, ShoalError
from protocol.snapshots import Manifest
from protocol.units import Digest


async def bring_folder(resume: Resume, secret: bytes, task: Task, blobs: BlobStore, shelter: Shelter) -> Path:
    """The opened snapshot as a folder of our own beside the task's. Refused or Unavailable when that cannot be."""
    fetching.check(resume.manifest, layout.bytes_max(task))
    layout.check_room(task, 2 * resume.manifest.size)
    shelter.on_phase("fetching")
    brought: list[Digest] = []
    try:
        await fetching.bring(resume, blobs, shelter.fetch, brought)
        shelter.on_phase("fetched")
        return await open_folder(resume.manifest, secret, task, blobs, shelter)
    finally:
        for digest in brought:
            shelter.drop(blobs, digest)


async def open_folder(manifest: Manifest, secret: bytes, task: Task, blobs: BlobStore, shelter: Shelter) -> Path:
    """The same of one whose shards are here."""
    sealed = SealedFolder(
        place_of(manifest), manifest.tier, manifest.step, manifest.size, manifest.index_bytes, manifest.packs
    )
    target = task.folder / "restore.new"
    size_max = layout.bytes_max(task)
    await trio.to_thread.run_sync(lay_out, sealed, secret, blobs, shelter.erasure, target, size_max)
    shelter.on_phase("opened")
    return target


async def restore_waiting(live: Live, work: Run, task: Task, blobs: BlobStore, shelter: Shelter) -> None:
    """Bring the snapshot to a task that waits at its first loop head, or tell it to begin."""
    await live.linked.wait()
    assert live.link is not None
    if work.resume is None:
        live.held.show()
        live.link.release(GO_FROM_BEGINNING)
        return
    number = work.resume.manifest.number
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_tell_ready, live)
        try:
            folder = await bring_folder(work.resume, work.secret, task, blobs, shelter)
            await trio.to_thread.run_sync(layout.hand_in, task, folder)
        except (ShoalError, OSError) as error:
            begin_again(live, f"snapshot {number} could not be restored: {_cause(error)}")
        else:
            shelter.on_phase("handed_in")
            tell(live, "attached")
            await let_restore(live, f" from snapshot {number}")
            shelter.on_phase("restored")
        nursery.cancel_scope.cancel()


async def _tell_ready(live: Live) -> None:
    """Its own word, or the one that it gave while it was parked."""
    assert live.link is not None
    words = await live.link.wait_state(("parked", "restored", "running", "disabled", "ended"), float("inf"))
    if words is not None and words.state == "parked":
        tell(live, "ready")


def tell(live: Live, phase: Literal["ready", "attached", "began_again"]) -> None:
    """Let the machines hear how far a takeover is."""
    if live.agent is not None:
        live.agent.voice.tell(Recovering(live.agent.name, phase))


async def restore_image(live: Live, work: Run, task: Task, blobs: BlobStore, shelter: Shelter) -> None:
    """Bring the image of a chunk's processes, before it starts. One that this node would not restore is not fetched."""
    assert work.resume is not None
    number = work.resume.manifest.number
    if shelter.process is None or not shelter.process.hands_over:
        cause = (
            "process images are not restored here"
            if shelter.process is None
            else "this node's owner has named no others whose images it takes"
        )
        begin_again(live, f"snapshot {number} is an image of its processes: {cause}")
        return
    try:
        folder = await bring_folder(work.resume, work.secret, task, blobs, shelter)
        await trio.to_thread.run_sync(layout.keep_image, task, folder)
    except (ShoalError, OSError) as error:
        begin_again(live, f"snapshot {number} could not be restored: {_cause(error)}")
        return
    live.image = task.folder / layout.IMAGE
    tell(live, "attached")


async def restore_checkpoint(live: Live, work: Run, task: Task, blobs: BlobStore, shelter: Shelter) -> bool:
    """Lay the snapshot of a program that saves itself into its checkpoint folder, before it starts."""
    if work.resume is None:
        return False
    number = work.resume.manifest.number
    try:
        folder = await bring_folder(work.resume, work.secret, task, blobs, shelter)
        await trio.to_thread.run_sync(layout.hand_in_checkpoint, task, folder)
    except (ShoalError, OSError) as error:
        begin_again(live, f"snapshot {number} could not be restored: {_cause(error)}")
        return False
    live.line(f"shoal: starts with what it had saved in snapshot {number}")
    return True


def is_for_program(work: Run) -> bool:
    """Whether a run resumes from what the program itself saved. Refused (`snapshot_bad`) for a tier that is not
    restored here."""
    if work.resume is None:
        return False
    tier = work.resume.manifest.tier
    if tier not in {"framework", "application", "process"}:
        raise Refused(f"snapshots of the tier {tier} are not restored by a run", code="snapshot_bad")
    return tier == "application"


def _cause(error: ShoalError | OSError) -> str:
    return error.detail if isinstance(error, ShoalError) else f"the node's disk failed ({error.strerror})"
