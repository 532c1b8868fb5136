"""The volumes of this node's renters: every change is on disk before it is answered, then brought to holders.

A version counts from the moment that it is committed here. A task in the background seals what is new, has holders keep
it, and signs and spreads the head. Spec: specs/29-volumes.md.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import trio
from msgspec import Struct, structs

from node.blobs import BlobStore
from node.store import RecordStore
from node.volumes.custody import Custody, Guarded
from node.volumes.heads import HeadKeeper, Way
from protocol import wire
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.identity import Identity, peer_text
from protocol.operations import Key
from protocol.units import MIB, Digest, Micros, PeerId
from protocol.wire import Signed
from storage import trees, volumes
from storage.trees import Tree
from storage.volumes import Catalogue, Crate, Head, Version

CRATE_BYTES: Final = 192 * MIB
"""Content of one crate: with its index it fits one pack."""

HEAD_COPIES: Final = 5
"""Peers that keep a volume's head: with five, four may vanish together."""

RETRY_S: Final = 10.0
"""Seconds until what could not be spread is tried again."""

RENEW_S: Final = 86_400.0
"""Seconds between offers of an unchanged head, and between renewals of crates: a third of a percent of their lives."""

VOLUME_PREFIX: Final = "volume/"
CRATE_PREFIX: Final = "volume-crate/"
OWNER_PREFIX: Final = "volume-owner/"

log: Final = logging.getLogger("shoal.volumes")

Place = tuple[PeerId, str]
"""(owner, name)."""


class State(Struct, frozen=True):
    """One volume on disk."""

    owner: Key
    catalogue: Catalogue
    sequence: int = 0
    """Of the newest head that was signed."""
    head: Signed | None = None
    is_removed: bool = False


@dataclass(slots=True)
class Standing:
    """What is known of a volume since this node started, not kept on disk."""

    guarded: dict[int, Guarded] = field(default_factory=dict)
    """By the number of a crate."""
    heads: set[PeerId] = field(default_factory=set)
    """Peers that keep the newest head."""
    due: float = 0.0
    """When to look after it again, seconds of trio's clock."""
    problem: str = ""


_states: Final = wire.decoder(State)


class VolumeKeeper:
    """Creates, changes, opens, recovers and removes volumes. `renter`: the key of a renter that this node serves."""

    def __init__(
        self,
        network: str,
        blobs: BlobStore,
        records: RecordStore,
        now: Callable[[], Micros],
        renter: Callable[[PeerId], Identity | None],
        in_use: Callable[[], set[Digest]],
    ) -> None:
        self._network = network
        self._blobs = blobs
        self._records = records
        self._now = now
        self._renter = renter
        self._in_use = in_use
        self._states: dict[Place, State] = {}
        self._standing: dict[Place, Standing] = {}
        self._turn = trio.Lock()
        self._changed = trio.Event()
        for _, value in records.scan(VOLUME_PREFIX):
            state = wire.decode(value, _states, PeerId(bytes(32)), len(value))
            self._states[PeerId(state.owner), state.catalogue.name] = state

    # ── what is there ────────────────────────────────────────────────────────────────────────────────────────────────
    def owned(self, owner: PeerId) -> list[State]:
        """The volumes of a renter, by name."""
        mine = [(name, state) for (peer, name), state in self._states.items() if peer == owner and not state.is_removed]
        return [state for _, state in sorted(mine, key=lambda pair: pair[0])]

    def state(self, owner: PeerId, name: str) -> State:
        """One volume. Refused (`no_such_volume`)."""
        state = self._states.get((owner, name))
        if state is None or state.is_removed:
            known = ", ".join(one.catalogue.name for one in self.owned(owner)[:12]) or "none"
            fix = f"Volumes: {known}. `shoal volume create {name[:64]}` makes it; `shoal volume recover` finds lost ones."
            raise Refused(f"there is no volume {name!r:.80}", code="no_such_volume", fix=fix)
        return state

    def standing(self, owner: PeerId, name: str) -> Standing:
        """What is known of its copies."""
        return self._standing.setdefault((owner, name), Standing())

    def owner_key(self, owner: PeerId) -> Identity:
        """The key that a volume's secrets are made of. Refused (`unknown_renter`)."""
        if (seed := self._records.get(OWNER_PREFIX + owner.hex())) is not None:
            return Identity(seed)
        if (identity := self._renter(owner)) is None:
            fix = "Create the renter first, or recover its volumes with its key."
            raise Refused("this node keeps no key for that renter", code="unknown_renter", fix=fix)
        return identity

    def secret(self, state: State) -> bytes:
        """What opens the volume."""
        return volumes.volume_secret(self.owner_key(PeerId(state.owner)), state.catalogue.volume)

    # ── changes ──────────────────────────────────────────────────────────────────────────────────────────────────────
    async def create(self, owner: PeerId, name: str) -> State:
        """A volume without a version; the one that is there already if there is one."""
        async with self._turn:
            known = self._states.get((owner, name))
            if known is not None and not known.is_removed:
                return known
            if len(self.owned(owner)) >= volumes.HEADS_PER_OWNER:
                limit = volumes.HEADS_PER_OWNER
                raise Refused(f"a renter has at most {limit} volumes", code="over_limit", fix="Remove one first.")
            volume = volumes.volume_id(self.owner_key(owner).peer, name)
            sequence = 0 if known is None else known.sequence
            return self._keep(owner, State(owner, Catalogue(volume, name, self._now()), sequence))

    async def commit(self, owner: PeerId, name: str, digest: Digest, snapshot: str = "") -> Version:
        """The tree `digest`, whose list and pieces are blobs here, becomes the newest version. The same tree twice is
        one version. Refused (`missing_pieces`, and what `trees.decode` says)."""
        tree = await self._tree(digest)
        missing = [piece for piece in trees.piece_digests(tree) if not self._blobs.has(piece)]
        if missing:
            raise Refused(
                f"{len(missing)} of {len(tree.pieces)} pieces are not here",
                code="missing_pieces",
                fix="Upload them first; `shoal volume put` goes on where it stopped.",
                numbers={"missing": len(missing), "pieces": len(tree.pieces)},
            )
        async with self._turn:
            state = self.state(owner, name)
            version = volumes.newest(state.catalogue)
            catalogue = state.catalogue
            if version is None or version.tree != digest:
                list_bytes = self._blobs.size(digest)
                entries = len(tree.entries)
                number = catalogue.next_number
                version = Version(number, self._now(), digest, list_bytes, tree.size, entries, ())
                catalogue = volumes.with_version(catalogue, version, ())
            if snapshot:
                catalogue = volumes.with_snapshot(catalogue, snapshot, version.number)
            await self._replace(owner, state, catalogue)
            return version

    async def snapshot(self, owner: PeerId, name: str, snapshot: str, which: str = "") -> Version:
        """Give a version a name, which keeps it."""
        async with self._turn:
            state = self.state(owner, name)
            version = volumes.version_of(state.catalogue, which)
            await self._replace(owner, state, volumes.with_snapshot(state.catalogue, snapshot, version.number))
            return version

    async def forget(self, owner: PeerId, name: str, snapshot: str) -> None:
        """Remove a snapshot's name, and the version with it unless it is among the newest."""
        async with self._turn:
            state = self.state(owner, name)
            await self._replace(owner, state, volumes.without_snapshot(state.catalogue, snapshot))

    async def remove(self, owner: PeerId, name: str) -> None:
        """Remove a volume: shards are released, and holders of its head are told that it is gone."""
        async with self._turn:
            state = self.state(owner, name)
            empty = Catalogue(state.catalogue.volume, name, state.catalogue.created, state.catalogue.next_number)
            await self._replace(owner, state, empty, is_removed=True)

    async def _replace(self, owner: PeerId, state: State, catalogue: Catalogue, is_removed: bool = False) -> None:
        """Write the new state, then let go of what only the old one needed."""
        if catalogue == state.catalogue and not is_removed:
            return
        self._keep(owner, structs.replace(state, catalogue=catalogue, head=None, is_removed=is_removed))
        kept = {crate.number for crate in catalogue.crates}
        dropped = [crate for crate in state.catalogue.crates if crate.number not in kept]
        for crate in dropped:
            self._records.put(_crate_key(catalogue.volume, crate.number), None)
        if dropped:
            self._released.extend(dropped)
        trees_before = {Digest(version.tree) for version in state.catalogue.versions}
        await self._drop_trees(trees_before - {Digest(version.tree) for version in catalogue.versions})
