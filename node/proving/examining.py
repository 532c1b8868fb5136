"""A steward's look at a snapshot of units before it signs a handover: all of it is fetched, opened and compared with
what its makers signed, by the same code as whoever would go on from it. Spec: specs/31-units.md.

What the shards hold is hostile, so it is opened in a folder of its own and removed; the shards stay where it opens, for
whoever goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Literal

import trio
from blake3 import blake3

from node.blobs import BlobStore
from node.executors.interface import Task
from node.protection import fetching, layout
from node.protection.removal import remove
from node.protection.restoring import open_folder
from node.protection.shelter import Shelter
from node.proving.resuming import read_units
from protocol.completions import Examined
from protocol.effects import Examine
from protocol.errors import ShoalError
from protocol.snapshots import Manifest, shard_of
from protocol.units import GIB, SECOND, Digest

EXAMINED_BYTES_MAX: Final = 1 * GIB
"""Bytes of a snapshot that is opened: its packs are in memory meanwhile, one snapshot's at a time."""

DISK_FULL: Final = "disk_full"
"""The code of a refusal that is this node's, not the snapshot's."""

Found = tuple[Literal["", "snapshot_missing", "snapshot_bad", "not_examined"], str]
"""Code and detail."""


class Examiner:
    """Opens snapshots. They are fetched beside each other, and opened one after the other."""

    def __init__(self, blobs: BlobStore, shelter: Shelter, folder: Path) -> None:
        """`folder`: emptied when the node starts."""
        self._blobs = blobs
        self._shelter = shelter
        self._folder = folder
        self._opening = trio.Lock()
        self._scopes: dict[str, trio.CancelScope] = {}

    async def examine(self, work: Examine, tell: Callable[[Examined], None]) -> None:
        """Look, and tell what was found; nothing is told of what was stopped."""
        brought: list[Digest] = []
        found: Found | None = None
        with trio.CancelScope() as scope:
            self._scopes[work.task] = scope
            try:
                found = await self._look(work, brought)
            finally:
                if self._scopes.get(work.task) is scope:  # The same may have been asked for again meanwhile.
                    del self._scopes[work.task]
                if found is None or found[0]:
                    self.drop(brought)
        if found is not None:
            code, detail = found
            tell(Examined(work.task, work.lease, code, detail, () if code else tuple(brought)))

    def stop(self, task: str) -> None:
        """Nobody needs to know any more. Unknown or over already: nothing happens."""
        if scope := self._scopes.get(task):
            scope.cancel()

    def drop(self, shards: Iterable[Digest]) -> None:
        """Shards that came for it are not needed any more."""
        for digest in shards:
            self._shelter.drop(self._blobs, digest)

    async def _look(self, work: Examine, brought: list[Digest]) -> Found:
        manifest = work.resume.manifest
        folder = self._folder / f"e-{blake3(work.task.encode()).hexdigest(12)}"
        task = Task(work.task, folder, None, resources=work.spec.resources)
        size = max(manifest.size, fetching.fetched_bytes(manifest))
        if size > EXAMINED_BYTES_MAX:
            return "not_examined", f"it has {size} bytes, at most {EXAMINED_BYTES_MAX} are opened"
        try:
            fetching.check(manifest, layout.bytes_max(task))
        except ShoalError as error:
            return "snapshot_bad", error.detail
        with trio.move_on_after(work.patience / SECOND) as waiting:
            try:
                await fetching.bring(work.resume, self._blobs, self._shelter.fetch, brought)
            except ShoalError as error:
                return "snapshot_missing", error.detail
        if waiting.cancelled_caught:
            return "snapshot_missing", f"its shards did not come within {work.patience / SECOND:g} s"
        async with self._opening:
            return await self._open(work, task)

    async def _open(self, work: Examine, task: Task) -> Found:
        manifest = work.resume.manifest
        try:
            await trio.to_thread.run_sync(_make, task, manifest.size)
            folder = await open_folder(manifest, work.secret, task, self._blobs, self._shelter)
            await trio.to_thread.run_sync(read_units, folder, task.folder / "units", manifest, work.spec.units)
        except OSError as error:
            return "not_examined", f"the node's disk failed ({error.strerror})"
        except ShoalError as error:
            if error.code == DISK_FULL:
                return "not_examined", error.detail
            return "snapshot_bad" if self._is_here(manifest) else "snapshot_missing", error.detail
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(remove, task.folder, self._folder)
        return "", ""

    def _is_here(self, manifest: Manifest) -> bool:
        """Whether what was opened was all there: a shard may have been given up meanwhile."""
        has, packs = self._blobs.has, manifest.packs
        return all(sum(has(Digest(shard_of(pack, at))) for at in range(pack.n)) >= pack.k for pack in packs)


def _make(task: Task, size: int) -> None:
    """Room for what is opened, and for its pieces. Refused (`disk_full`)."""
    task.folder.mkdir(mode=0o700)
    (task.folder / "units").mkdir()
    layout.check_room(task, 2 * size)
