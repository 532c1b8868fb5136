"""Trees on a provider's disk: fetched by content, laid out once per digest, mounted into sandboxes.

Spec: specs/29-volumes.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from node.blobs import BlobStore
from node.protection.removal import remove
from node.volumes import folders
from node.volumes.folders import READ_ONLY, WRITABLE, Care, Rights
from protocol import wire
from protocol.errors import Refused, ShoalError
from protocol.jobrules import CODE_MOUNT
from protocol.jobspec import FILES_MAX, JobSpec, TreeRef
from protocol.units import GIB, Digest
from storage import pieces, trees
from storage.trees import Piece, Tree

if TYPE_CHECKING:
    from node.executors.interface import Task

SHELF_BYTES_MAX: Final = 64 * GIB
"""Laid-out trees beyond this are deleted, those that no task used for `UNUSED_S` and longest first."""

UNUSED_S: Final = 90_000.0
"""Seconds: an hour more than the longest task, so that nothing is deleted under a running one."""

FETCHED_AT_ONCE: Final = 4
"""Pieces of one tree."""

PACKED: Final = ".volumes"
"""Folder of an output that holds what a chunk left in its volumes: `<name>/tree`, `<name>/piece-00000` …"""

WRITTEN: Final = "vol"
"""Folder of a task with the volumes that it may change: what is in it counts as written by the task."""

SEEN: Final = "seen"
"""The same for copies of what it only reads, where no sandbox protects the shelf."""

_CARE: Final = Care(is_plain=True, is_foreign=True)

Bring = Callable[[Digest, int], Awaitable[None]]
"""Have a blob of at most so many bytes here. Refused or Unavailable when that cannot be."""


async def bring_trees(spec: JobSpec, blobs: BlobStore, bring: Bring) -> None:
    """Have the lists and pieces of all trees of a job here. What is here already is not fetched."""
    for ref in spec.mounts:
        await bring(Digest(ref.digest), ref.list_bytes)
        tree = await _tree(blobs, ref)
        limit = trio.Semaphore(FETCHED_AT_ONCE)
        failures: list[Exception] = []
        async with trio.open_nursery() as nursery:
            for piece in {piece.digest: piece for piece in tree.pieces}.values():
                if not blobs.has(Digest(piece.digest)):
                    await limit.acquire()
                    if failures:
                        break
                    nursery.start_soon(_bring_piece, piece, bring, limit, failures)
        if failures:
            raise failures[0]


async def _bring_piece(piece: Piece, bring: Bring, limit: trio.Semaphore, failures: list[Exception]) -> None:
    try:
        await bring(Digest(piece.digest), piece.size)
    except ShoalError as error:
        failures.append(error)  # A nursery would wrap it.
    finally:
        limit.release()


class TreeShelf:
    """Lays trees out for tasks. `folder` is the shelf's own and outlives the node's process."""

    def __init__(self, blobs: BlobStore, folder: Path) -> None:
        self._blobs = blobs
        self._folder = folder
        self._locks: dict[Digest, trio.Lock] = {}

    def mounts(self, spec: JobSpec, folder: Path, is_shared: bool) -> tuple[tuple[Path, str, bool], ...]:
        """(folder on this host, place in the sandbox, whether it may write) of a task's volumes. `is_shared`: its
        sandbox cannot change what it only reads."""
        return tuple(
            (
                self._place(ref)
                if is_shared and not ref.is_writable
                else folder / (WRITTEN if ref.is_writable else SEEN) / ref.mount.rpartition("/")[2],
                ref.mount,
                ref.is_writable,
            )
            for ref in spec.mounts
            if ref.volume
        )

    async def lay_out(self, spec: JobSpec, task: Task) -> None:
        """Have every tree of a task where it belongs. Its pieces are here. Refused (`inputs`)."""
        where = {inside: host for host, inside, _ in task.volumes}
        try:
            for ref in spec.mounts:
                tree = await _tree(self._blobs, ref)
                if not ref.volume:
                    below = ref.mount.removeprefix(CODE_MOUNT).strip("/")
                    target, rights = task.inside / below, READ_ONLY
                    await trio.to_thread.run_sync(self._make, tree, target, rights)
                elif where[ref.mount] == self._place(ref):
                    await self._shelve(ref, tree)
                else:
                    rights = WRITABLE if ref.is_writable else READ_ONLY
                    await trio.to_thread.run_sync(self._make, tree, where[ref.mount], rights)
        except (OSError, Refused) as error:
            raise Refused(f"a tree cannot be laid out: {error}", code="inputs") from error

    async def pack(self, spec: JobSpec, task: Task) -> None:
        """Put what the task left in its volumes into its output. Every process of the task is dead. Refused
        (`output`) for what a tree cannot hold."""
        where = {inside: host for host, inside, _ in task.volumes}
        for ref in spec.mounts:
            if ref.is_writable:
                target = task.outside / PACKED / ref.volume
                try:
                    await trio.to_thread.run_sync(_pack, where[ref.mount], target, task.resources.disk_bytes)
                except (OSError, Refused) as error:
                    raise Refused(f"what is in {ref.mount} cannot be kept: {error}", code="output") from error

    def _place(self, ref: TreeRef) -> Path:
        return self._folder / Digest(ref.digest).hex()

    async def _shelve(self, ref: TreeRef, tree: Tree) -> None:
        place = self._place(ref)
        async with self._locks.setdefault(Digest(ref.digest), trio.Lock()):
            if not place.is_dir():
                await trio.to_thread.run_sync(self._make_whole, tree, place)
            place.touch()
            await trio.to_thread.run_sync(_make_room, self._folder, place)

    def _make_whole(self, tree: Tree, place: Path) -> None:
        """On the shelf whole, or not at all."""
        beside = place.with_suffix(".part")
        self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        remove(beside, self._folder)
        self._make(tree, beside, READ_ONLY)
        beside.rename(place)

    def _make(self, tree: Tree, target: Path, rights: Rights) -> None:
        target.mkdir(parents=True, exist_ok=True)

        def read(number: int) -> bytes:
            return self._blobs.path(Digest(tree.pieces[number].digest)).read_bytes()

        folders.lay_out(tree, target, read, rights=rights)
        if rights.folder is not None:
            target.chmod(rights.folder)
            if target.parent.name in (WRITTEN, SEEN):
                target.parent.chmod(0o755)


async def _tree(blobs: BlobStore, ref: TreeRef) -> Tree:
    data = blobs.read(Digest(ref.digest), ref.list_bytes)
    tree = await trio.to_thread.run_sync(trees.decode, data)
    if tree.size != ref.size:
        detail = f"the tree at {ref.mount} has {tree.size} bytes, the job says {ref.size}"
        raise Refused(detail, code="inputs", numbers={"found": tree.size, "said": ref.size})
    return tree


def _pack(folder: Path, target: Path, bytes_max: int) -> None:
    if target.parent.is_symlink() or target.exists():
        raise Refused(f"the output has a {PACKED} of its own", code="output", fix="Use another name in $SHOAL_OUT.")
    target.mkdir(parents=True)
    found = folders.listed(folder, _CARE)
    total = sum(item.size for item in found)
    if total > bytes_max:
        fix = "Raise resources.disk."
        raise Refused(f"{total} bytes, {bytes_max} may be written", code="disk", fix=fix)
    made: list[Piece] = []
    for number, piece in enumerate(pieces.pieces(folders.contents(folder, found))):
        (target / f"piece-{number:05}").write_bytes(piece)
        made.append(Piece(wire.digest(piece), len(piece)))
        if number >= FILES_MAX:
            raise Refused(f"more than {FILES_MAX} pieces", code="disk", fix="Leave less in the volume.")
    (target / "tree").write_bytes(trees.encode(folders.tree_of(found, made)))


def _make_room(shelf: Path, kept: Path) -> None:
    """Delete what nobody used for long, when the shelf is over its bound."""
    places = [(place.stat().st_mtime, place) for place in shelf.iterdir() if place.is_dir() and place != kept]
    if not places:
        return
    now = kept.stat().st_mtime
    sizes = {place: sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) for _, place in places}
    total = sum(sizes.values())
    for mtime, place in sorted(places):
        if total <= SHELF_BYTES_MAX or now - mtime < UNUSED_S:
            return
        remove(place, shelf)
        total -= sizes[place]
