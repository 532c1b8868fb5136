"""What of a snapshot is new, and what lies in earlier packs. Spec: specs/26-shards.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from protocol.snapshots import Pack
from storage.cutting import Cut
from storage.erasure import Code
from storage.index import StoredChunk
from storage.packs import Known, KnownPack, worth_keeping
from storage.records import sealed_size


@dataclass(frozen=True, slots=True)
class Fresh:
    """A chunk that has to be sealed."""

    id: bytes
    cut: Cut


@dataclass(frozen=True, slots=True)
class Layout:
    """Where every chunk comes from. Its position is that in `reused`, or behind them that in `fresh`."""

    kept: tuple[KnownPack, ...]
    dropped: tuple[Pack, ...]
    reused: tuple[StoredChunk, ...]
    """Chunks of kept packs; `pack` is a position in `kept`."""
    fresh: tuple[Fresh, ...]
    order: tuple[int, ...]
    """The state's chunks, by position."""
    found: int
    """Bytes of state that earlier packs hold."""

    @property
    def bound(self) -> int:
        """Sealed bytes of what is fresh, at most."""
        return sum(sealed_size(one.cut.size) for one in self.fresh)


def lay_out(cuts: Sequence[Cut], ids: Sequence[bytes], known: Known, code: Code, index_bound: int) -> Layout:
    """Equal chunks are one chunk; a known one is referred to unless its pack is not worth keeping."""
    unique = dict(zip(ids, cuts, strict=True))
    hits = {chunk_id: known.chunks[chunk_id] for chunk_id in unique if chunk_id in known.chunks}
    live = [0] * len(known.packs)
    for chunk in hits.values():
        live[chunk.pack] += sealed_size(chunk.stored)
    new = sum(sealed_size(cut.size) for chunk_id, cut in unique.items() if chunk_id not in hits)
    kept = worth_keeping(known.packs, live, code, new + index_bound)
    moved = {old: position for position, old in enumerate(kept)}
    reused = {key: replace(one, pack=moved[one.pack]) for key, one in hits.items() if one.pack in moved}
    fresh = {key: Fresh(key, cut) for key, cut in unique.items() if key not in reused}
    positions = {key: position for position, key in enumerate([*reused, *fresh])}
    return Layout(
        kept=tuple(known.packs[index] for index in kept),
        dropped=tuple(one.pack for index, one in enumerate(known.packs) if index not in moved),
        reused=tuple(reused.values()),
        fresh=tuple(fresh.values()),
        order=tuple(positions[key] for key in ids),
        found=sum(cut.size for key, cut in zip(ids, cuts, strict=True) if key in reused),
    )
