"""Volumes as their owners change them: every change is on disk before it is answered. Spec: specs/29-volumes.md.

What follows from a change — sealing, holders, the head — is the work of `node.volumes.guarding`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from node.blobs import BlobStore
from node.volumes.states import Place, State, States
from protocol.errors import Refused, Unavailable
from protocol.units import Digest, Micros, PeerId
from storage import trees, volumes
from storage.trees import Tree
from storage.volumes import Catalogue, Version

ASK_DIGESTS_MAX: Final = 4_096
"""Pieces that one question names."""


class VolumeKeeper:
    """Creates, changes and removes volumes. `changed` is called after every change; `in_use` tells the blobs that jobs
    of this node still need."""

    def __init__(
        self,
        states: States,
        blobs: BlobStore,
        now: Callable[[], Micros],
        changed: Callable[[State], None],
        in_use: Callable[[], set[Digest]],
    ) -> None:
        self.states = states
        self._blobs = blobs
        self._now = now
        self._changed = changed
        self._in_use = in_use
        self._turn = trio.Lock()

    def create(self, owner: PeerId, name: str) -> State:
        """A volume without a version; the one that is there already if there is one."""
        known = self.states.known((owner, name))
        if known is not None and not known.is_removed:
            return known
        if len(self.states.owned(owner)) >= volumes.HEADS_PER_OWNER:
            limit = volumes.HEADS_PER_OWNER
            raise Refused(f"a renter has at most {limit} volumes", code="over_limit", fix="Remove one first.")
        identity = self.states.key_of(owner)
        catalogue = Catalogue(volumes.volume_id(identity.peer, name), name, self._now())
        if known is not None:
            catalogue = volumes.emptied(known.catalogue, self._now())
        state = self.states.put(State(owner, catalogue, known.sequence if known else 0))
        self._changed(state)
        return state

    def missing(self, digests: tuple[Digest, ...]) -> tuple[Digest, ...]:
        """Those of them that have to be uploaded."""
        return tuple(digest for digest in digests if not self._blobs.has(digest))

    async def commit(self, owner: PeerId, name: str, digest: Digest, snapshot: str = "") -> Version:
        """The tree `digest`, whose list and pieces are blobs here, becomes the newest version. The tree that is the
        newest already stays one version. Refused: `missing_pieces`, and what `trees.decode` says."""
        self.states.get((owner, name))
        async with self._turn:
            return await self._commit((owner, name), digest, snapshot)

    async def _commit(self, place: Place, digest: Digest, snapshot: str) -> Version:
        tree = await self.tree(digest)
        missing = self.missing(trees.piece_digests(tree))
        if missing:
            raise Refused(
                f"{len(missing)} of {len(tree.pieces)} pieces are not here",
                code="missing_pieces",
                fix="Upload them first; `shoal volume put` goes on where it stopped.",
                numbers={"missing": len(missing), "pieces": len(tree.pieces)},
            )
        state = self.states.get(place)
        catalogue = state.catalogue
        version = volumes.newest(catalogue)
        if version is None or version.tree != digest:
            size, entries = self._blobs.size(digest), len(tree.entries)
            version = Version(catalogue.next_version, self._now(), digest, size, tree.size, entries, ())
            catalogue = volumes.with_version(catalogue, version)
        if snapshot:
            catalogue = volumes.with_snapshot(catalogue, snapshot, version.number)
        await self._replace(state, catalogue)
        return version

    async def snapshot(self, owner: PeerId, name: str, snapshot: str, which: str = "") -> Version:
        """Give a version a name, which keeps it."""
        async with self._turn:
            state = self.states.get((owner, name))
            version = volumes.version_of(state.catalogue, which)
            await self._replace(state, volumes.with_snapshot(state.catalogue, snapshot, version.number))
            return version

    async def forget(self, owner: PeerId, name: str, snapshot: str) -> None:
        """Remove a snapshot's name, and the version with it unless it is among the newest."""
        async with self._turn:
            state = self.states.get((owner, name))
            await self._replace(state, volumes.without_snapshot(state.catalogue, snapshot))

    async def remove(self, owner: PeerId, name: str) -> None:
        """Remove a volume: its shards are released, and the holders of its head are told that it is gone."""
        async with self._turn:
            state = self.states.get((owner, name))
            await self._replace(state, volumes.emptied(state.catalogue, self._now()), is_removed=True)

    async def tree(self, digest: Digest) -> Tree:
        """A tree whose list is a blob here. Unavailable when it is not."""
        data = self._blobs.read(digest, trees.TREE_BYTES_MAX)
        return await trio.to_thread.run_sync(trees.decode, data)

    async def _replace(self, state: State, catalogue: Catalogue, is_removed: bool = False) -> None:
        if catalogue == state.catalogue and not is_removed:
            return
        changed = self.states.replace(state, catalogue, is_removed)
        kept = {version.tree for version in catalogue.versions}
        await self._drop({Digest(version.tree) for version in state.catalogue.versions if version.tree not in kept})
        self._changed(changed)

    async def _drop(self, dropped: set[Digest]) -> None:
        """Delete the pieces of trees that no volume has any more, but for what other volumes or jobs need."""
        gone: set[Digest] = set(dropped)
        for digest in dropped:
            gone |= await self._pieces_of(digest)
        if not gone:
            return
        for state in self.states:
            for version in state.catalogue.versions:
                gone -= {Digest(version.tree), *await self._pieces_of(Digest(version.tree))}
        for digest in gone - self._in_use():
            self._blobs.remove(digest)

    async def _pieces_of(self, digest: Digest) -> set[Digest]:
        try:
            return set(trees.piece_digests(await self.tree(digest)))
        except Unavailable:
            return set()  # A recovered version that was never opened here.
