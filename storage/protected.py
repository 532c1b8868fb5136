"""One running chunk under protection: its snapshots, where each of them is, and what may be let go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from msgspec import UNSET

from protocol import wire
from protocol.completions import FirstUnits, Sealed
from protocol.identity import Identity
from protocol.operations import Inherited, Signature
from protocol.prefix import signed
from protocol.provider_lease import Lease
from protocol.snapshots import SHARDS_MAX, Manifest, Purpose, SnapshotNotice
from protocol.units import Digest, Micros, PeerId
from storage.receipts import Custody
from storage.spreading import Spreading

ROLLING_KEPT: Final = 2
"""Durable rolling snapshots that are kept: the newest could turn out to be damaged."""

NOTICE_BYTES_MAX: Final = 60_000
"""Bytes of a notice: it is one message, and a grant that hands it on is one too."""

BODY_BYTES_MAX: Final = 32_768
"""Bytes of an encoded manifest."""


class Pace(Protocol):
    """When snapshots of one chunk are due (`storage.interval.Cadence`)."""

    def cut(self, now: Micros) -> None: ...
    def sealed(self, stall: Micros, wire_bytes: int, now: Micros) -> None: ...
    def failed(self) -> None: ...
    def durable(self, now: Micros) -> None: ...
    def due_at(self, now: Micros) -> Micros: ...


@dataclass(slots=True)
class Snapshot:
    """One snapshot of the chunk."""

    manifest: Manifest
    packs: tuple[Custody, ...]
    purpose: Purpose
    until: Micros
    hold: bool = False
    """The job stands still since."""
    is_rehearsed: bool = False
    is_durable: bool = False
    is_verified: bool = False
    """A holder chosen by chance has proved that it has its shard."""
    told: int = 0
    """Receipts that the last notice had."""

    @property
    def receipts(self) -> int:
        """Receipts so far."""
        return sum(len(peers) for pack in self.packs for peers in pack.receipts.values())


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing is under way; the next cut is due then."""

    due: Micros


@dataclass(frozen=True, slots=True)
class Cutting:
    """The job was asked for a snapshot, and it is being sealed."""

    since: Micros
    hold: bool
    purpose: Purpose


@dataclass(frozen=True, slots=True)
class Underway:
    """A snapshot is on its way and not durable yet."""

    since: Micros
    snapshot: Snapshot
    spreading: Spreading


State = Waiting | Cutting | Underway


@dataclass(slots=True)
class Protected:
    """Everything about one chunk."""

    lease: Lease
    pace: Pace
    state: State
    snapshots: list[Snapshot] = field(default_factory=list)
    """Oldest first."""
    filling: Underway | None = None
    """A durable snapshot whose last shards are still being placed, or one that an urgent cut has overtaken."""
    urgent: bool | None = None
    """A cut is wanted at once; True: the job shall stand still after it."""
    uplink: int = 0
    """Bytes per second, measured; 0: not yet."""
    span: Micros = Micros(0)
    """How long its rolling leases last."""
    renew_at: Micros = Micros(0)
    anchored: Micros = Micros(0)
    failures: int = 0
    """Cuts in a row of which nothing came."""
    slow: set[PeerId] = field(default_factory=set)
    """Standbys that took much longer to hand a snapshot on than this host would: they are not asked to again."""
    willing: tuple[int, Micros] | None = None
    """(failure domains that gave receipts when too few did, until when no more are counted on)."""
    warmed: PeerId | None = None
    """The standby that was last asked to hold everything."""

    @property
    def user(self) -> str:
        """For whom data shards are pinned."""
        return f"snapshot/{self.lease.task}"

    @property
    def packs(self) -> dict[Digest, Custody]:
        """Every pack that some snapshot needs, by name."""
        return {pack.name: pack for snapshot in self.snapshots for pack in snapshot.packs}

    def knows(self, shard: bytes) -> bool:
        """Whether some snapshot needs a shard."""
        return any(shard in pack.pack.shards for snapshot in self.snapshots for pack in snapshot.packs)

    @property
    def newest_durable(self) -> Snapshot | None:
        """What a successor would go on from."""
        return next((one for one in reversed(self.snapshots) if one.is_durable), None)

    def standby(self, me: PeerId) -> PeerId | None:
        """Who stands by; never the worker itself."""
        return self.lease.standby if self.lease.standby != me else None

    def helper(self, me: PeerId) -> PeerId | None:
        """Who makes the parity and hands it on: the standby, unless its line is too slow for that."""
        standby = self.standby(me)
        return None if standby in self.slow else standby

    def manifest(self, sealed: Sealed, identity: Identity, network: str, now: Micros) -> Manifest:
        """What the worker signs about a snapshot. Refused (`inherited_full`)."""
        escrow, chunk, epoch = self.lease.key
        return Manifest(
            job=self.lease.job,
            escrow=escrow,
            chunk=chunk,
            epoch=epoch,
            number=sealed.number,
            step=sealed.step,
            progress_ppm=sealed.progress_ppm,
            tier=sealed.tier,
            taken=now,
            size=sealed.size,
            index_bytes=sealed.index_bytes,
            packs=sealed.packs,
            inherited=self._inherited(sealed.first, identity, network) if sealed.first else UNSET,
        )

    def _inherited(self, first: FirstUnits, identity: Identity, network: str) -> tuple[Inherited, ...]:
        """Who answers for the units in it: those before this lease, if it went on from theirs, and this worker."""
        resume = self.lease.resume
        before = (resume.manifest.inherited or ()) if resume is not None and first.begun else ()
        return signed(identity, network, self.lease.key, first, before)

    def retired(self) -> list[Snapshot]:
        """What need not be kept any more: nothing before a newer one is durable *and* verified; then all but the last
        two durable ones and the last anchor. One that never became durable goes when a newer one is there."""
        if not any(one.is_verified for one in self.snapshots):
            return []
        last = max(at for at, one in enumerate(self.snapshots) if one.is_verified)
        durable = [one for one in self.snapshots if one.is_durable]
        keep = {id(one) for one in durable[-ROLLING_KEPT:]}
        keep |= {id(one) for one in [one for one in durable if one.purpose == "anchor"][-1:]}
        return [one for one in self.snapshots[:last] if id(one) not in keep]


def notice(identity: Identity, network: str, snapshot: Snapshot) -> SnapshotNotice | None:
    """The signed word that a snapshot is durable; None when it fits no message with enough receipts."""
    body = wire.encode(snapshot.manifest)
    if len(body) > BODY_BYTES_MAX:
        return None
    signature = Signature(identity.peer, identity.sign(wire.signing_bytes(network, "snapshot", body)))
    for receipts_max in (2 * SHARDS_MAX, 32, 24, 16, 14, 11, 8, 3):
        if any(receipts_max < pack.pack.k for pack in snapshot.packs):
            break
        holders = tuple(pack.told(receipts_max) for pack in snapshot.packs)
        made = SnapshotNotice(body, signature, holders, snapshot.is_rehearsed)
        if len(wire.encode(made)) <= NOTICE_BYTES_MAX:
            return made
    return None


def everything(packs: Iterator[Custody] | list[Custody]) -> dict[PeerId, list[Digest]]:
    """Who has what of these packs: shards to renew or to release, by peer. Of who stands by, the data counts."""
    found: dict[PeerId, dict[Digest, None]] = {}
    for pack in packs:
        for index, peers in pack.receipts.items():
            for peer in peers:
                found.setdefault(peer, {})[pack.shard(index)] = None
        for peer in pack.hot:
            found.setdefault(peer, {}).update(dict.fromkeys(map(Digest, pack.pack.shards[: pack.pack.k])))
    return {peer: list(shards) for peer, shards in found.items()}
