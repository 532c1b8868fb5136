"""Bringing volumes back: found by their owner's key when the node that kept them is gone, opened from their shards."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import trio
from blake3 import blake3

from node.blobs import BlobStore
from node.volumes.custody import Custody
from node.volumes.guarding import sources_of
from node.volumes.heads import HeadKeeper, Way
from node.volumes.keeper import VolumeKeeper
from node.volumes.states import State, States
from protocol import wire
from protocol.errors import Refused, RemoteViolation, ShoalError, Unavailable
from protocol.identity import SEED_BYTES, Identity, peer_text
from protocol.units import Digest, PeerId
from protocol.wire import Signed
from storage import trees, volumes
from storage.volumes import Head, Version, head_decoder

KEY_PREFIX: Final = "volumekey"
CHECK_BYTES: Final = 4
"""Of a hash behind the key's own bytes: a typing mistake is noticed."""

log: Final = logging.getLogger("shoal.volumes")

Told = Callable[[int, int], None]
"""(pieces that are here, pieces of the version)."""


def key_text(owner: Identity) -> str:
    """A renter's key as its owner writes it down. Whoever has it has the renter's volumes, and credits."""
    return wire.text_id(KEY_PREFIX, owner.seed + blake3(owner.seed).digest(CHECK_BYTES))


def key_from_text(text: str) -> Identity:
    """The inverse. Refused (`bad_key`) for a mistyped one."""
    try:
        raw = wire.raw_id(KEY_PREFIX, text.strip(), SEED_BYTES + CHECK_BYTES)
    except Refused:
        raw = b""
    seed = raw[:SEED_BYTES]
    if not raw or blake3(seed).digest(CHECK_BYTES) != raw[SEED_BYTES:]:
        digits = 2 * (SEED_BYTES + CHECK_BYTES)
        fix = f"A key is `{KEY_PREFIX}_` and {digits} hexadecimal digits, as `shoal volume key` printed it."
        raise Refused("this is no key of a renter, or a mistyped one", code="bad_key", fix=fix)
    return Identity(seed)


@dataclass(slots=True)
class Claim:
    """The newest head of one volume that was found, and who keeps it."""

    statement: Signed
    head: Head
    sources: list[PeerId] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of one volume that was found."""

    volume: bytes
    name: str
    sequence: int
    problem: str


class Recovery:
    """Finds and opens. `changed` is called for every volume that is here afterwards."""

    def __init__(
        self,
        network: str,
        keeper: VolumeKeeper,
        blobs: BlobStore,
        custody: Custody,
        heads: HeadKeeper,
        way: Way,
        changed: Callable[[State], None],
    ) -> None:
        self._network = network
        self._states: States = keeper.states
        self._keeper = keeper
        self._blobs = blobs
        self._custody = custody
        self._heads = heads
        self._way = way
        self._changed = changed

    async def recover(self, owner: Identity) -> list[Recovered]:
        """Ask every connected peer for the owner's heads, and take over each volume whose catalogue can be had."""
        peers = self._way.connected()
        if not peers:
            fix = "Wait until the node has found others, and try again."
            raise Unavailable("this node is connected with nobody", code="no_peers", fix=fix)
        claims: dict[bytes, Claim] = {}
        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(self._look, peer, owner.peer, claims)
        self._states.adopt(owner)
        return [await self._take(owner, claim) for _, claim in sorted(claims.items()) if not claim.head.is_removed]

    async def open(self, state: State, which: str, told: Told) -> Version:
        """A version whose list and pieces are all here afterwards. Refused (`volume_damaged`), or Unavailable."""
        version = volumes.version_of(state.catalogue, which)
        if not self._blobs.has(Digest(version.tree)):
            await self._open_crates(state, version, told)
        tree = await self._keeper.tree(Digest(version.tree))
        wanted = trees.piece_digests(tree)
        if self._keeper.missing(wanted):
            await self._open_crates(state, version, told)
        if lacking := self._keeper.missing(wanted):
            detail = f"{len(lacking)} of {len(wanted)} pieces of version {version.number} are in none of its crates"
            raise Refused(detail, code="volume_damaged", fix="Take an older version.")
        told(len(wanted), len(wanted))
        return version

    async def _open_crates(self, state: State, version: Version, told: Told) -> None:
        if not version.crates:
            fix = "Upload the folder again: `shoal volume put`."
            raise Refused("the version was never sealed and its pieces are gone", code="volume_damaged", fix=fix)
        secret = self._states.secret(state)
        numbers = set(version.crates)
        crates = [crate for crate in state.catalogue.crates if crate.number in numbers]
        for done, crate in enumerate(crates):
            told(done, len(crates))
            pieces = await self._custody.open(crate, secret, sources_of(state, self._way.connected()))
            self._states.note(state, crate.number, pieces)

    async def _look(self, peer: PeerId, owner: PeerId, claims: dict[bytes, Claim]) -> None:
        try:
            found = await self._heads.ask(peer, owner)
        except (Refused, Unavailable) as error:
            log.info("%s was asked for heads: %s", peer_text(peer), error.detail)
            return
        except RemoteViolation as violation:
            await self._way.punish(violation)
            return
        for statement in found:
            head = wire.open_signed(statement, self._network, "volume", head_decoder, peer)
            known = claims.get(head.volume)
            if known is None or (head.sequence, head.changed) > (known.head.sequence, known.head.changed):
                claims[head.volume] = known = Claim(statement, head)
            if known.statement.body == statement.body:
                known.sources.append(peer)

    async def _take(self, owner: Identity, claim: Claim) -> Recovered:
        head = claim.head
        try:
            await self._way.fetch(Digest(head.catalogue), head.catalogue_bytes, claim.sources)
            sealed = self._blobs.read(Digest(head.catalogue), volumes.CATALOGUE_BYTES_MAX)
            secret = volumes.volume_secret(owner, head.volume)
            catalogue = volumes.open_catalogue(sealed, secret, head.volume)
        except ShoalError as error:
            return Recovered(head.volume, "", head.sequence, error.detail)
        known = self._states.known((owner.peer, catalogue.name))
        if known is None or known.sequence < head.sequence:
            state = self._states.put(State(owner.peer, catalogue, head.sequence, claim.statement))
            self._changed(state)
        elif known.sequence > head.sequence:
            return Recovered(head.volume, catalogue.name, known.sequence, "this node has a newer state of it")
        return Recovered(head.volume, catalogue.name, head.sequence, "")
