"""What follows from a change of a volume: seal what is new, have holders keep it, sign the head and spread it.

All of it can be interrupted and is done again from the disk; nobody waits for it. Spec: specs/29-volumes.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Final

import trio
from blake3 import blake3
from msgspec import structs

from node.blobs import BlobStore
from node.volumes.custody import Custody
from node.volumes.heads import HeadKeeper
from node.volumes.keeper import VolumeKeeper
from node.volumes.states import Place, Standing, State, States
from protocol import wire
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.units import MIB, Digest, Micros, PeerId
from storage import volumes
from storage.volumes import Crate, Head, Version

CRATE_BYTES: Final = 192 * MIB
"""Content of one crate: sealed, with its index, it fits one pack."""

HEAD_COPIES: Final = 5
"""Peers that keep a volume's head and catalogue: four of them may vanish."""

RETRY_S: Final = 2.0
"""Seconds until what is not spread yet is looked at again."""

LOOK_S: Final = 60.0
"""Seconds between looks at what stands well."""

RENEW_S: Final = 43_200.0
"""Seconds between offers of an unchanged head: holders forget it after 90 days."""

log: Final = logging.getLogger("shoal.volumes")


class Guardian:
    """Looks after every volume of this node until cancelled."""

    def __init__(
        self,
        network: str,
        states: States,
        blobs: BlobStore,
        custody: Custody,
        heads: HeadKeeper,
        connected: Callable[[], list[PeerId]],
        now: Callable[[], Micros],
    ) -> None:
        self._network = network
        self._states = states
        self._blobs = blobs
        self._custody = custody
        self._heads = heads
        self._connected = connected
        self._now = now
        self._woken = trio.Event()
        self._catalogues: dict[Place, Digest] = {}
        """The encrypted catalogue of each newest head that was made since the start."""

    def changed(self, state: State) -> None:
        """Look after this one at once."""
        self._states.standing(state.place).due = 0.0
        self._woken.set()

    async def run(self, keeper: VolumeKeeper) -> None:
        """One volume after the other, the most urgent first."""
        while True:
            self._woken = trio.Event()
            for state in self._states:
                if self._states.standing(state.place).due <= trio.current_time():
                    await self._look_after(state.place, keeper)
            await self._release()
            self._heads.sweep()
            dues = [self._states.standing(state.place).due for state in self._states]
            with trio.move_on_after(max(0.05, min(dues) - trio.current_time()) if dues else LOOK_S):
                await self._woken.wait()

    async def _look_after(self, place: Place, keeper: VolumeKeeper) -> None:
        standing = self._states.standing(place)
        standing.due = trio.current_time() + RETRY_S
        try:
            await self._seal_versions(place, keeper)
            await self._guard_crates(place, standing)
            is_known = await self._spread_head(place, standing)
        except (Refused, Unavailable) as error:
            standing.problem = f"{error.detail}. {error.fix}".strip()
            log.warning("volume %s: %s", place[1], error.detail)
            return
        if is_known and all(guarded.is_placed for guarded in standing.guarded.values()):
            standing.due = trio.current_time() + LOOK_S

    # ── crates ───────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _seal_versions(self, place: Place, keeper: VolumeKeeper) -> None:
        for version in self._states.of(place).catalogue.versions:
            if not version.crates:
                await self._seal(place, version, keeper)

    async def _seal(self, place: Place, version: Version, keeper: VolumeKeeper) -> None:
        tree = await keeper.tree(Digest(version.tree))
        state = self._states.of(place)
        wanted = {Digest(version.tree): version.tree_bytes}
        wanted.update((Digest(piece.digest), piece.size) for piece in tree.pieces)
        earlier: list[int] = []
        for crate in state.catalogue.crates:
            held = self._states.pieces(state, crate.number) & wanted.keys()
            if held:
                earlier.append(crate.number)
                for piece in held:
                    del wanted[piece]
        made = [await self._crate(state, number, group) for number, group in self._groups(state, wanted)]
        state = self._states.of(place)  # It may have changed meanwhile; crates only grow here.
        catalogue = volumes.with_crates(state.catalogue, version.number, tuple(earlier), tuple(made))
        self._states.replace(state, catalogue, state.is_removed)

    @staticmethod
    def _groups(state: State, wanted: dict[Digest, int]) -> Iterator[tuple[int, tuple[Digest, ...]]]:
        """(number, pieces) of each crate to be made."""
        number, group, total = state.catalogue.next_crate, list[Digest](), 0
        for piece, size in wanted.items():
            if group and total + size > CRATE_BYTES:
                yield number, tuple(group)
                number, group, total = number + 1, [], 0
            group.append(piece)
            total += size
        if group:
            yield number, tuple(group)

    async def _crate(self, state: State, number: int, pieces: tuple[Digest, ...]) -> Crate:
        place = volumes.crate_place(state.catalogue.volume, number, pieces)
        packs, index_bytes = await self._custody.seal(place, number, self._states.secret(state), pieces)
        self._states.note(state, number, pieces)
        return Crate(number, place, packs, index_bytes)

    async def _guard_crates(self, place: Place, standing: Standing) -> None:
        state = self._states.of(place)
        crates = {crate.number: crate for crate in state.catalogue.crates}
        standing.guarded = {number: item for number, item in standing.guarded.items() if number in crates}
        holders: dict[PeerId, None] = {}
        for number, crate in crates.items():
            standing.guarded[number] = await self._custody.guard(crate, sources_of(state, self._connected()))
            holders.update(dict.fromkeys(standing.guarded[number].holders))
        if crates and not holders:
            raise Unavailable("nobody keeps a shard of it yet", code="no_holders", fix="Wait for more peers.")
        listed = tuple(sorted(holders))[: volumes.HOLDERS_MAX]
        state = self._states.of(place)
        if crates and listed != state.catalogue.holders:
            self._states.replace(state, structs.replace(state.catalogue, holders=listed), state.is_removed)

    async def _release(self) -> None:
        for key, crate in self._states.to_release():
            await self._custody.release((crate,))
            self._states.released(key)

    # ── heads ────────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _spread_head(self, place: Place, standing: Standing) -> bool:
        """Whether enough peers keep the newest head."""
        state = self._states.of(place)
        if state.head is None:
            state = self._signed(state)
            standing.heads = set()
        assert state.head is not None
        if standing.renew_at <= trio.current_time():
            standing.renew_at, standing.heads = trio.current_time() + RENEW_S, set()
        wanted = sorted(self._connected(), key=lambda peer: blake3(state.catalogue.volume + peer).digest())
        problem = ""
        for peer in wanted[:HEAD_COPIES]:
            if peer in standing.heads:
                continue
            try:
                await self._heads.offer(peer, state.head)
            except (Refused, Unavailable, RemoteViolation) as error:
                problem = error.detail
                if error.code in ("stale_head", "head_forked"):
                    raise
            else:
                standing.heads.add(peer)
        standing.problem = problem
        return len(standing.heads) >= min(HEAD_COPIES, max(1, len(wanted)))

    def _signed(self, state: State) -> State:
        """A new head over what the catalogue is now."""
        owner = self._states.key_of(PeerId(state.owner))
        sealed = b"" if state.is_removed else volumes.seal_catalogue(state.catalogue, self._states.secret(state))
        digest = self._blobs.put(sealed) if sealed else Digest(bytes(32))
        before = self._catalogues.pop(state.place, digest)
        if before != digest:
            self._blobs.remove(before)
        if sealed:
            self._catalogues[state.place] = digest
        sequence = state.sequence + 1
        head = Head(state.catalogue.volume, sequence, self._now(), digest, len(sealed))
        signed = wire.sign(owner, self._network, "volume", head)
        return self._states.put(structs.replace(state, sequence=sequence, head=signed))


def sources_of(state: State, connected: list[PeerId]) -> list[PeerId]:
    """Whom to ask for shards: those who gave receipts first, then everybody else who is here."""
    first = [PeerId(peer) for peer in state.catalogue.holders if peer in connected]
    return [*first, *(peer for peer in connected if peer not in first)]
