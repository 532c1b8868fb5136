"""What volumes need of those who hold their crates. The keeper speaks to this, not to machines or sockets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from protocol.snapshots import Pack
from protocol.units import Digest, PeerId
from storage.volumes import Crate


@dataclass(frozen=True, slots=True)
class Guarded:
    """How a crate stands."""

    holders: tuple[PeerId, ...]
    """Peers that gave a receipt for some shard of it."""
    is_placed: bool
    """Every shard has a holder."""
    is_durable: bool
    """So many in so many failure domains that losing it is less likely than one in a thousand million."""
    detail: str
    """One sentence for the owner."""


class Custody(Protocol):
    """Shards at holders."""

    async def seal(
        self, place: bytes, number: int, secret: bytes, pieces: Sequence[Digest]
    ) -> tuple[tuple[Pack, ...], int]:
        """Encrypt blobs that are here into packs whose shards are blobs here afterwards; and the bytes of the index."""
        ...

    async def guard(self, crate: Crate, holders: Sequence[PeerId]) -> Guarded:
        """Have holders keep the shards from now on; how it stands now. `holders`: who may have shards, where this node
        has too few. Ask again until it is durable."""
        ...

    async def release(self, crates: Sequence[Crate]) -> None:
        """Nobody needs these any more, neither here nor at holders."""
        ...

    async def open(self, crate: Crate, secret: bytes, holders: Sequence[PeerId]) -> tuple[Digest, ...]:
        """Bring a crate back: its pieces are blobs here afterwards. Refused or Unavailable when that cannot be."""
        ...
