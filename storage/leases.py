"""What a holder has promised to whom, until when, within its quota. Pure bookkeeping; `storage.holder` acts.

Several owners may have leases of one shard: each is charged for it, the disk holds it once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol import wire
from protocol.errors import Refused
from protocol.jobspec import NonNegative
from protocol.operations import Key
from protocol.snapshots import Purpose
from protocol.units import DAY, HOUR, MIB, PPM, Digest, Micros, PeerId
from storage.standing import KEEPS_NOTHING

LEASE_MAX: Final[dict[Purpose, Micros]] = {
    "rolling": Micros(6 * HOUR),
    "anchor": Micros(2 * DAY),
    "volume": Micros(31 * DAY),
}
"""Microseconds that one promise may last: six long intervals; two renewals missed for a day; Tahoe-LAFS's month."""

GRACE: Final[dict[Purpose, Micros]] = {
    "rolling": Micros(HOUR // 2),
    "anchor": Micros(72 * HOUR),
    "volume": Micros(72 * HOUR),
}
"""Microseconds for which a shard stays after its lease: the owner's crash must not delete it. Of a rolling snapshot
as long as whoever goes on may take to bring it back (node/protection/fetching.py FETCH_SECONDS)."""

SHARD_BYTES_MAX: Final = 256 * MIB
"""One shard: a whole pack, for copies."""

SHARDS_HELD_MAX: Final = 65_536
"""Shards of one holder; a lease takes about 400 bytes of memory."""

OWNERS_MAX: Final = 32
"""Leases of one shard: an owner, those who take over, and room."""

OWNER_SHARE_PPM: Final = 500_000
"""Share of the quota that one owner may fill: one greedy worker leaves half for all others."""


class LeaseRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """One owner's lease, on disk."""

    owner: Key
    until: NonNegative
    purpose: Purpose


class ShelfRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """One shard's leases, on disk under `shard/<digest>`."""

    size: NonNegative
    is_foreign: bool
    leases: Annotated[tuple[LeaseRecord, ...], Meta(min_length=1, max_length=OWNERS_MAX)]


record_decoder: Final = wire.decoder(ShelfRecord)


@dataclass(frozen=True, slots=True)
class Lease:
    """A promise to one owner."""

    until: Micros
    purpose: Purpose

    @property
    def gone(self) -> Micros:
        """When the shard may be deleted, as far as this owner is concerned."""
        return Micros(self.until + GRACE[self.purpose])


@dataclass(slots=True)
class Shelf:
    """One shard and who wants it."""

    size: int
    leases: dict[PeerId, Lease] = field(default_factory=dict)


class LeaseBook:
    """All leases of one holder."""

    def __init__(self, quota: int) -> None:
        self.quota = quota
        """Bytes that shards may take."""
        self.used = 0
        self._shelves: dict[Digest, Shelf] = {}
        self._charged: dict[PeerId, int] = {}

    @property
    def owner_max(self) -> int:
        """Bytes of one owner."""
        return self.quota * OWNER_SHARE_PPM // PPM

    def __len__(self) -> int:
        return len(self._shelves)

    def __contains__(self, digest: object) -> bool:
        return digest in self._shelves

    def size(self, digest: Digest) -> int:
        """Bytes of a shard that is held."""
        return self._shelves[digest].size

    def lease(self, digest: Digest, owner: PeerId) -> Lease | None:
        """An owner's lease."""
        shelf = self._shelves.get(digest)
        return shelf.leases.get(owner) if shelf else None

    def charged(self, owner: PeerId) -> int:
        """Bytes that an owner has here."""
        return self._charged.get(owner, 0)

    def check_room(self, owner: PeerId, digest: Digest, size: int, waiting: int, waiting_mine: int) -> None:
        """Refused, with numbers, when the shard does not fit. `waiting`: bytes that are on their way here."""
        shelf = self._shelves.get(digest)
        if shelf is not None and owner in shelf.leases:
            return
        if not self.quota:
            raise Refused("0 bytes are kept here for others", code=KEEPS_NOTHING)
        if size > SHARD_BYTES_MAX:
            raise Refused(
                f"a shard of {size} bytes, at most {SHARD_BYTES_MAX} are held",
                code="too_large",
                numbers={"size": size, "size_max": SHARD_BYTES_MAX},
            )
        mine = self.charged(owner) + waiting_mine
        if mine + size > self.owner_max:
            raise Refused(
                f"you have {mine} of {self.owner_max} bytes here, {size} more do not fit",
                code="owner_full",
                numbers={"size": size, "used": mine, "owner_max": self.owner_max},
            )
        needed = 0 if shelf else size
        if self.used + waiting + needed > self.quota or len(self) >= SHARDS_HELD_MAX:
            raise Refused(
                f"{self.used + waiting} of {self.quota} bytes are used, {size} more do not fit",
                code="full",
                numbers={"size": size, "used": self.used + waiting, "quota": self.quota},
            )
        if shelf is not None and len(shelf.leases) >= OWNERS_MAX:
            raise Refused(f"{OWNERS_MAX} owners have leases of it", code="owners_full", numbers={"owners": OWNERS_MAX})

    def put(self, digest: Digest, size: int, owner: PeerId, lease: Lease) -> Lease:
        """Promise, or promise for longer; never for less. The lease as it is now."""
        shelf = self._shelves.get(digest)
        if shelf is None:
            shelf = self._shelves[digest] = Shelf(size)
            self.used += size
        known = shelf.leases.get(owner)
        if known is None:
            self._charged[owner] = self.charged(owner) + shelf.size
        elif known.until >= lease.until:
            lease = known
        shelf.leases[owner] = lease
        return lease

    def end(self, digest: Digest, owner: PeerId) -> bool:
        """An owner needs it no more. True when nobody does now and it may be deleted."""
        shelf = self._shelves.get(digest)
        if shelf is None or shelf.leases.pop(owner, None) is None:
            return False
        rest = self._charged[owner] - shelf.size
        if rest:
            self._charged[owner] = rest
        else:
            del self._charged[owner]
        if shelf.leases:
            return False
        self.used -= shelf.size
        del self._shelves[digest]
        return True

    def overdue(self, now: Micros) -> list[tuple[Digest, PeerId]]:
        """Leases whose time and grace are over."""
        return [
            (digest, owner)
            for digest, shelf in self._shelves.items()
            for owner, lease in shelf.leases.items()
            if lease.gone <= now
        ]

    @property
    def next_end(self) -> Micros | None:
        """When the next lease is overdue."""
        return min((lease.gone for shelf in self._shelves.values() for lease in shelf.leases.values()), default=None)

    @property
    def last_end(self) -> Micros | None:
        """When the last lease ends, without grace."""
        return max((lease.until for shelf in self._shelves.values() for lease in shelf.leases.values()), default=None)

    def record(self, digest: Digest, is_foreign: bool) -> bytes | None:
        """What to store for a shard; None when it is held no more."""
        shelf = self._shelves.get(digest)
        if shelf is None:
            return None
        leases = tuple(LeaseRecord(owner, lease.until, lease.purpose) for owner, lease in shelf.leases.items())
        return wire.encode(ShelfRecord(shelf.size, is_foreign, leases))

    def shards(self) -> Iterator[Digest]:
        """Everything that is held."""
        return iter(self._shelves)
