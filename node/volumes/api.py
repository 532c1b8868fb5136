"""`volume.*` of the control socket: volumes of the renters that this node serves. Specs: 16-control, 29-volumes."""

from __future__ import annotations

from typing import Annotated, Final

import trio
from msgspec import Meta, Struct

from node.control import Emit, Handler, stream, unary
from node.control_methods import Id
from node.views import Plain
from node.volumes.keeper import ASK_DIGESTS_MAX, VolumeKeeper
from node.volumes.recovery import Recovery, key_from_text, key_text
from node.volumes.states import State
from protocol.errors import Refused, ShoalError
from protocol.identity import peer_from_text, peer_text
from protocol.jobspec import Name
from protocol.units import Digest, PeerId
from storage.volumes import Version

TELL_S: Final = 0.5
"""Seconds between two items of `volume.open` while nothing else is told: its asker knows that the node lives."""

HexDigest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Which = Annotated[str, Meta(max_length=64)]


class RenterVolumes(Struct, frozen=True, forbid_unknown_fields=True):
    """volume.list, volume.key."""

    renter: Id


class VolumeParams(Struct, frozen=True, forbid_unknown_fields=True):
    """volume.create, volume.show."""

    renter: Id
    name: Name


class MissingParams(Struct, frozen=True, forbid_unknown_fields=True):
    """volume.missing."""

    digests: Annotated[tuple[HexDigest, ...], Meta(max_length=ASK_DIGESTS_MAX)]


class CommitParams(Struct, frozen=True, forbid_unknown_fields=True):
    """volume.commit: `tree` is the digest of the list, a blob as its pieces are."""

    renter: Id
    name: Name
    tree: HexDigest
    snapshot: Annotated[str, Meta(pattern=r"^([a-z0-9][a-z0-9._-]{0,63})?$")] = ""


class OpenParams(Struct, frozen=True, forbid_unknown_fields=True):
    """volume.open: `version` is a number, a snapshot's name, or empty for the newest."""

    renter: Id
    name: Name
    version: Which = ""


class SnapshotParams(Struct, frozen=True, forbid_unknown_fields=True):
    """volume.snapshot."""

    renter: Id
    name: Name
    snapshot: Name
    version: Which = ""


class RemoveParams(Struct, frozen=True, forbid_unknown_fields=True):
    """volume.remove: the whole volume, or one snapshot's name."""

    renter: Id
    name: Name
    snapshot: Which = ""


class RecoverParams(Struct, frozen=True, forbid_unknown_fields=True):
    """volume.recover."""

    key: Annotated[str, Meta(max_length=256)]


class VolumeApi:
    """`volume.*`."""

    def __init__(self, keeper: VolumeKeeper, recovery: Recovery) -> None:
        self._keeper = keeper
        self._recovery = recovery

    def methods(self) -> dict[str, Handler]:
        """Name to handler."""
        return {
            "volume.create": unary(VolumeParams, self.create),
            "volume.list": unary(RenterVolumes, self.list),
            "volume.show": unary(VolumeParams, self.show),
            "volume.missing": unary(MissingParams, self.missing),
            "volume.commit": unary(CommitParams, self.commit),
            "volume.open": stream(OpenParams, self.open),
            "volume.snapshot": unary(SnapshotParams, self.snapshot),
            "volume.remove": unary(RemoveParams, self.remove),
            "volume.key": unary(RenterVolumes, self.key),
            "volume.recover": unary(RecoverParams, self.recover),
        }

    async def create(self, params: VolumeParams) -> Plain:
        """An empty volume, or the one that is there."""
        return self._view(self._keeper.create(peer_from_text(params.renter), params.name))

    async def list(self, params: RenterVolumes) -> Plain:
        """All of a renter, by name."""
        return {"volumes": [self._view(state) for state in self._keeper.states.owned(peer_from_text(params.renter))]}

    async def show(self, params: VolumeParams) -> Plain:
        """One, with its versions and how safe it is."""
        return self._view(self._state(params.renter, params.name))

    async def missing(self, params: MissingParams) -> Plain:
        """Which pieces have to be uploaded."""
        digests = tuple(Digest(bytes.fromhex(text)) for text in params.digests)
        return {"missing": [digest.hex() for digest in self._keeper.missing(digests)]}

    async def commit(self, params: CommitParams) -> Plain:
        """A new version."""
        owner, digest = peer_from_text(params.renter), Digest(bytes.fromhex(params.tree))
        version = await self._keeper.commit(owner, params.name, digest, params.snapshot)
        return {"version": version_view(version), "volume": self._view(self._state(params.renter, params.name))}

    async def open(self, params: OpenParams, emit: Emit) -> None:
        """Have a version's list and pieces here as blobs; items tell how far it is, the last one the version."""
        state = self._state(params.renter, params.name)
        progress = [0, 0]

        def told(done: int, total: int) -> None:
            progress[:] = done, total

        async def tell() -> None:
            while True:
                await trio.sleep(TELL_S)
                await emit({"done": progress[0], "total": progress[1]})

        opened: list[Version] = []
        problem: list[ShoalError] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            try:
                opened.append(await self._recovery.open(state, params.version, told))
            except ShoalError as error:
                problem.append(error)  # A nursery would wrap it.
            nursery.cancel_scope.cancel()
        if problem:
            raise problem[0]
        await emit({"version": version_view(opened[0])})

    async def snapshot(self, params: SnapshotParams) -> Plain:
        """A name for a version."""
        owner = peer_from_text(params.renter)
        version = await self._keeper.snapshot(owner, params.name, params.snapshot, params.version)
        return {"version": version_view(version), "volume": self._view(self._state(params.renter, params.name))}

    async def remove(self, params: RemoveParams) -> Plain:
        """A volume, or a snapshot's name."""
        owner = peer_from_text(params.renter)
        if not params.snapshot:
            await self._keeper.remove(owner, params.name)
            return {}
        await self._keeper.forget(owner, params.name, params.snapshot)
        return self._view(self._state(params.renter, params.name))

    async def key(self, params: RenterVolumes) -> Plain:
        """The renter's key as text: with it another node recovers the volumes."""
        return {"key": key_text(self._keeper.states.key_of(peer_from_text(params.renter)))}

    async def recover(self, params: RecoverParams) -> Plain:
        """Find a key's volumes at other peers and take them over."""
        owner = key_from_text(params.key)
        found = await self._recovery.recover(owner)
        if not found:
            fix = "Wait until more peers are connected, and try again; `shoal node peers` lists them."
            detail = f"no connected peer keeps a volume of {peer_text(owner.peer)}"
            raise Refused(detail, code="no_such_volume", fix=fix)
        volumes = [
            {"name": one.name, "volume": one.volume.hex(), "sequence": one.sequence, "problem": one.problem}
            for one in found
        ]
        return {"renter": peer_text(owner.peer), "volumes": volumes}

    def _state(self, renter: str, name: str) -> State:
        return self._keeper.states.get((peer_from_text(renter), name))

    def _view(self, state: State) -> Plain:
        """A volume as plain values."""
        catalogue = state.catalogue
        standing = self._keeper.states.standing(state.place)
        crates = [standing.guarded.get(crate.number) for crate in catalogue.crates]
        is_sealed = all(version.crates for version in catalogue.versions)
        is_durable = is_sealed and bool(crates) and all(item is not None and item.is_durable for item in crates)
        details = dict.fromkeys(item.detail for item in crates if item is not None and not item.is_durable)
        sizes = [version_view(version) for version in catalogue.versions]
        return {
            "name": catalogue.name,
            "volume": catalogue.volume.hex(),
            "renter": peer_text(PeerId(state.owner)),
            "created": catalogue.created,
            "sequence": state.sequence,
            "versions": sizes,
            "snapshots": dict(catalogue.snapshots),
            "size": catalogue.versions[-1].size if catalogue.versions else 0,
            "stored": sum(pack.shard_size * pack.n for crate in catalogue.crates for pack in crate.packs),
            "holders": len(catalogue.holders),
            "heads": len(standing.heads),
            "is_sealed": is_sealed,
            "is_spread": is_sealed and bool(crates) and all(item is not None and item.holders for item in crates),
            "is_durable": is_durable and bool(standing.heads),
            "detail": standing.problem or "; ".join(details),
        }


def version_view(version: Version) -> Plain:
    """A version as plain values."""
    return {
        "number": version.number,
        "made": version.made,
        "tree": version.tree.hex(),
        "tree_bytes": version.tree_bytes,
        "size": version.size,
        "entries": version.entries,
    }
