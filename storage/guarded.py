"""One pack that its owner looks after for longer than a snapshot lives, and what is remembered of it on disk."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol import wire
from protocol.jobspec import Bytes32
from protocol.snapshots import SHARDS_MAX, Pack, PackHolders, Purpose
from protocol.units import Digest, Micros, PeerId
from storage.neighbourhood import Neighbourhood
from storage.receipts import Custody, custody
from storage.repairs import Health

USERS_MAX: Final = 1_024
"""Anchors, or versions of volumes, that share one pack."""

RECORD_BYTES_MAX: Final = 1 << 20
"""Bytes of a stored pack: 64 shards with receipts and 32 answers each."""

_User = Annotated[str, Meta(max_length=256)]


class ShardAnswers(Struct, frozen=True, forbid_unknown_fields=True):
    """Answers to challenges about one shard that were not used yet: (number of the challenge, answer)."""

    index: Annotated[int, Meta(ge=0, le=SHARDS_MAX)]
    answers: Annotated[tuple[tuple[int, Bytes32], ...], Meta(max_length=64)]


class GuardRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """On disk under `guard/<first shard>`."""

    pack: Pack
    purpose: Purpose
    holders: PackHolders
    users: Annotated[tuple[_User, ...], Meta(max_length=USERS_MAX)]
    answers: Annotated[tuple[ShardAnswers, ...], Meta(max_length=SHARDS_MAX)] = ()


record_decoder: Final = wire.decoder(GuardRecord)


@dataclass(slots=True)
class Guarded:
    """One pack under guard."""

    custody: Custody
    purpose: Purpose
    users: set[str] = field(default_factory=set)
    answers: dict[int, dict[int, bytes]] = field(default_factory=dict)
    """By shard index: number of a challenge -> the answer."""
    renew_at: Micros = Micros(0)
    was_whole: bool = False
    """Every shard has had a holder once."""

    @property
    def name(self) -> Digest:
        """The first shard's digest."""
        return self.custody.name

    def health(self, hood: Neighbourhood, now: Micros) -> Health:
        """How many shards could be had now, one per failure domain."""
        pack = self.custody.pack
        gone = unfit(self.custody.holders, hood, now)
        alive = self.custody.spread(hood.domain, gone)
        is_new = not self.was_whole and alive < self.custody.required
        return Health(self.name, self.custody.code, alive, pack.shard_size, is_new)

    def stored(self) -> tuple[str, bytes]:
        """Key and value of its record."""
        answers = tuple(ShardAnswers(index, tuple(known.items())) for index, known in self.answers.items() if known)
        held = self.custody.told(2 * SHARDS_MAX)
        record = GuardRecord(self.custody.pack, self.purpose, held, tuple(sorted(self.users)), answers)
        return key(self.name), wire.encode(record)


def key(name: Digest) -> str:
    """Where a pack is stored."""
    return f"guard/{name.hex()}"


def unfit(holders: Collection[PeerId], hood: Neighbourhood, now: Micros) -> set[PeerId]:
    """Holders whose shards do not count: gone for long, liars, and those from whom nothing could be had in time."""
    standings = hood.standings
    return {
        peer
        for peer in holders
        if standings.is_gone(peer, now) or standings.of(peer).is_barred or standings.of(peer).is_slow
    }


def opened(value: bytes, me: PeerId) -> Guarded:
    """The pack of a record."""
    record = wire.decode(value, record_decoder, me, RECORD_BYTES_MAX)
    answers = {one.index: dict(one.answers) for one in record.answers}
    made = Guarded(custody(record.pack, record.holders), record.purpose, set(record.users), answers)
    made.was_whole = not made.custody.missing
    return made
