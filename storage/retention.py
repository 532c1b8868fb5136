"""What is kept of one running chunk's snapshots, for how long, and what is let go. Acts for `storage.protection`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from protocol.completions import Encoded
from protocol.effects import Effect, Send
from protocol.provider_lease import Lease
from protocol.snapshots import (
    SHARDS_PER_MESSAGE,
    Keep,
    Kept,
    Manifest,
    NotKept,
    Purpose,
    Release,
    Renew,
    Spread,
    SpreadDone,
    is_sound,
)
from protocol.units import Digest, Micros, PeerId
from storage.neighbourhood import Around
from storage.protected import Protected, Snapshot, Waiting, everything
from storage.receipts import Custody
from storage.spreading import HOT_SPAN


class Guardian(Protocol):
    """Who looks after anchors for as long as they are needed (`storage.custodian.Custodian`)."""

    def guard(self, pack: Custody, purpose: Purpose, user: str, now: Micros) -> list[Effect]: ...
    def drop(self, name: Digest, user: str, is_needed: bool, now: Micros) -> list[Effect]: ...


class Listener(Protocol):
    """Who wants to know what became of a snapshot."""

    def durable(self, lease: Lease, manifest: Manifest, is_held: bool, now: Micros) -> list[Effect]: ...
    def failed(self, lease: Lease, reason: str, now: Micros) -> list[Effect]: ...


@dataclass(slots=True)
class Office:
    """What the protections of one worker share."""

    around: Around
    guardian: Guardian
    listeners: list[Listener] = field(default_factory=list)


class Retention:
    """The keeping side of one protection."""

    def __init__(self, office: Office, one: Protected) -> None:
        self._office = office
        self._around = office.around
        self._one = one

    @property
    def data(self) -> list[Digest]:
        """Data shards that are pinned here."""
        return [shard for pack in self._one.packs.values() for shard in data_shards(pack)]

    def adopt(self, now: Micros) -> list[Effect]:
        """What the chunk was resumed from stays, under leases of this worker, until its own snapshots are durable."""
        one, resume = self._one, self._one.lease.resume
        if resume is None:
            return []
        if not all(is_sound(pack) for pack in resume.manifest.packs):
            return []
        packs = tuple(Custody(pack) for pack in resume.manifest.packs)
        until = Micros(now + one.span)
        snapshot = Snapshot(resume.manifest, packs, "rolling", until, is_durable=True, is_verified=True)
        one.snapshots.append(snapshot)
        self.pin(self.data)
        effects: list[Effect] = []
        for pack, holders in zip(packs, resume.holders, strict=False):
            for index, peer in holders:
                if index < pack.pack.n and peer != self._around.me:
                    keep = Keep(pack.shard(index), pack.pack.shard_size, until, "rolling", ())
                    effects.append(Send(peer, keep))
        return effects

    def noted(self, sender: PeerId, message: SpreadDone | Kept | NotKept | Encoded, now: Micros) -> list[Effect]:
        """Renewals, refusals to renew, and a new standby that holds everything now."""
        if isinstance(message, Encoded):
            return []
        for pack in self._one.packs.values():
            if message.shard not in pack.pack.shards:
                continue
            if isinstance(message, Kept) and (its := self._kept_by(sender, pack)):
                pack.check(self._around.network, sender, message)
                if message.shard not in its:
                    continue
                pack.add(self._around.network, sender, message, now)
            elif isinstance(message, SpreadDone) and not message.code and sender == self._one.lease.standby:
                pack.hot.add(sender)
            elif isinstance(message, NotKept) and message.code == "gone":
                for index in [at for at in pack.kept_by(sender) if pack.shard(at) == message.shard]:
                    pack.drop(sender, index)
                if sender in pack.hot:  # It has lost what it stood by with, and gets it again.
                    pack.hot.discard(sender)
                    self._one.warmed = None
        return []

    def _kept_by(self, sender: PeerId, pack: Custody) -> set[bytes]:
        """Shards that a holder has given its word for, or that a predecessor named it for: it may promise no others."""
        kept: set[bytes] = {pack.shard(index) for index in pack.kept_by(sender)}
        resume = self._one.lease.resume
        if resume is None:
            return kept
        named = zip(resume.manifest.packs, resume.holders, strict=False)
        found = [holders for known, holders in named if known.shards[0] == pack.name]
        return kept | {
            pack.shard(at) for holders in found for at, peer in holders if peer == sender and at < pack.pack.n
        }

    def let_go(self, ended: Iterable[Snapshot], now: Micros) -> list[Effect]:
        one = self._one
        gone = list(ended)
        if not gone:
            return []
        before = one.packs
        one.snapshots = [snapshot for snapshot in one.snapshots if not any(snapshot is old for old in gone)]
        left = one.packs
        freed = [pack for name, pack in before.items() if name not in left]
        effects: list[Effect] = []
        for snapshot in gone:
            if snapshot.purpose == "anchor" and snapshot.is_durable:
                for pack in snapshot.packs:
                    effects += self._office.guardian.drop(pack.name, self.anchor(snapshot), pack.name in left, now)
        for peer, shards in everything(freed).items():
            effects += [Send(peer, Release(tuple(part))) for part in _parts(shards)]
        effects += self._around.pins.unpin([shard for pack in freed for shard in data_shards(pack)], one.user)
        return effects

    def forget_failed(self, wanted: tuple[Custody, ...]) -> list[Effect]:
        """Earlier snapshots that never became durable, but for the packs that the new one needs."""
        failed = [one for one in self._one.snapshots if not one.is_durable]
        names = {pack.name for pack in wanted}
        for snapshot in failed:
            snapshot.packs = tuple(pack for pack in snapshot.packs if pack.name not in names)
        return self.let_go(failed, Micros(0))

    def drop_filling(self) -> list[Effect]:
        filling, self._one.filling = self._one.filling, None
        return filling.spreading.abandon() if filling is not None else []

    def keep_longer(self, carried: list[Custody], until: Micros, purpose: Purpose) -> list[Effect]:
        """Packs of earlier snapshots that this one needs as well."""
        effects: list[Effect] = []
        for pack in carried:
            for index, peers in pack.receipts.items():
                keep = Keep(pack.shard(index), pack.pack.shard_size, until, purpose, (self._around.me,))
                effects += [Send(peer, keep) for peer in peers]
        return effects

    def renewed(self, now: Micros) -> list[Effect]:
        until = Micros(now + self._one.span)
        packs = list(self._one.packs.values())
        for pack in packs:
            pack.lapse(now)
        effects: list[Effect] = []
        for peer, shards in everything(packs).items():
            effects += [Send(peer, Renew(tuple(part), until)) for part in _parts(shards)]
        return effects

    def warm(self, now: Micros) -> list[Effect]:
        """A standby that was chosen later gets the newest durable snapshot, so that it can go on from it at once."""
        one, standby, newest = self._one, self._one.standby(self._around.me), self._one.newest_durable
        if standby is None or newest is None or one.warmed == standby or not isinstance(one.state, Waiting):
            return []
        one.warmed = standby
        cold = [pack for pack in newest.packs if standby not in pack.hot]
        until = Micros(now + min(one.span, HOT_SPAN))
        return [Send(standby, Spread(*one.lease.key, pack.pack, until)) for pack in cold]

    def pin(self, shards: Iterable[Digest]) -> None:
        for shard in shards:
            self._around.pins.pin(shard, self._one.user, is_ours=True)

    def anchor(self, snapshot: Snapshot) -> str:
        return f"anchor/{self._one.lease.task}/{snapshot.manifest.number}"


def data_shards(pack: Custody) -> list[Digest]:
    """What the worker keeps of a pack: its ciphertext."""
    return [Digest(shard) for shard in pack.pack.shards[: pack.pack.k]]


def _parts(shards: list[Digest]) -> list[list[Digest]]:
    return [shards[at : at + SHARDS_PER_MESSAGE] for at in range(0, len(shards), SHARDS_PER_MESSAGE)]
