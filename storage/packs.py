"""Packs: chunks of ciphertext collected up to 256 MiB, erasure-coded and named; which earlier ones are worth keeping.

Spec: specs/26-shards.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from protocol.errors import LocalError
from protocol.snapshots import PACKS_MAX, Pack
from protocol.units import MIB
from storage.cutting import CHUNK_BYTES_MAX
from storage.erasure import Code, ErasureCode
from storage.index import Origin, StoredChunk
from storage.parity import code_of, memory, protect, shard_size
from storage.records import sealed_size

PACK_BYTES_MAX: Final = 256 * MIB
"""Ciphertext of one pack: with its parity it fits the memory of a small host."""

LIVE_PERCENT_LEAST: Final = 50
"""An earlier pack of which less is still current is given up, and what is current in it sealed anew."""

HIT_PERCENT_LEAST: Final = 1
"""A snapshot of which less lay in earlier packs was not worth the looking."""

POOR_MAX: Final = 2
"""After so many such snapshots in a row nobody looks any more: in a full fine-tune every byte changes."""


@dataclass(frozen=True, slots=True)
class SealedPack:
    """A pack and its shards, data first. The shards may be read until the next pack is asked for, no longer."""

    pack: Pack
    shards: tuple[memoryview, ...]


@dataclass(frozen=True, slots=True)
class KnownPack:
    """An earlier pack, and which snapshot it was sealed for."""

    pack: Pack
    origin: Origin


@dataclass(frozen=True, slots=True)
class Known:
    """What the next snapshot may refer to: kept by the worker, of a snapshot whose packs are still held."""

    packs: tuple[KnownPack, ...]
    chunks: Mapping[bytes, StoredChunk] = field(repr=False)
    """By id; `pack` is a position in `packs`."""
    poor: int = 0
    """Snapshots in a row that found almost nothing."""

    @property
    def is_off(self) -> bool:
        """Whether looking has been given up."""
        return self.poor >= POOR_MAX


class PackWriter:
    """One pack at a time, in one buffer that is used again and again."""

    def __init__(self, capacity: int, code: Code, erasure: ErasureCode) -> None:
        self._capacity = capacity
        self._code = code
        self._erasure = erasure
        self._data = memory(code.k * shard_size(capacity, code.k))
        self._parity = memoryview(b"")
        self._used = 0
        self._lent: tuple[memoryview, ...] = ()

    @property
    def room(self) -> int:
        """Bytes that the pack still takes."""
        return self._capacity - self._used

    @property
    def used(self) -> int:
        """Bytes of ciphertext in it."""
        return self._used

    def take(self, size: int) -> memoryview:
        """The next `size` bytes of the pack, to be filled; they begin at `used` as it was."""
        if size > self.room:
            raise LocalError(f"{size} bytes do not fit a pack with room for {self.room}", code="pack_full")
        self._used += size
        return self._data[self._used - size : self._used]

    def finish(self) -> SealedPack:
        """Pad, encode and name what was taken."""
        code, size = self._code, shard_size(self._used, self._code.k)
        self._data[self._used : code.k * size] = bytes(code.k * size - self._used)
        data = [self._data[index * size : (index + 1) * size] for index in range(code.k)]
        spares = 0 if code.kind == "copy" else code.n - code.k
        if len(self._parity) < spares * size:
            self._parity = memory(spares * size)
        parity = [self._parity[index * size : (index + 1) * size] for index in range(spares)]
        digests = protect(data, parity, self._erasure)
        self._lent = tuple(view.toreadonly() for view in (*data, *parity))
        return SealedPack(Pack(self._used, size, code.kind, code.k, code.n, digests), self._lent)

    def clear(self) -> None:
        """Begin the next pack. Whoever still reads the last one through the shards handed out gets an error, not the
        bytes of another pack."""
        for view in self._lent:
            try:
                view.release()
            except BufferError as error:
                raise LocalError("a shard is read after the next pack was asked for", code="shard_kept") from error
        self._lent = ()
        self._used = 0


def packs_bound(size: int, largest: int = CHUNK_BYTES_MAX) -> int:
    """Packs that `size` sealed bytes take at most: a chunk lies in one pack, so a pack may end early."""
    return max(1, -(-size // (PACK_BYTES_MAX - sealed_size(largest))))


def worth_keeping(packs: Sequence[KnownPack], live: Sequence[int], code: Code, fresh: int) -> list[int]:
    """Positions of the earlier packs that a snapshot goes on referring to, ascending.

    `live` are the sealed bytes of each that are still current, `fresh` those that are new. A pack goes when it is half
    dead, or protected less than asked now; and, the least useful first, when there would be more than 16 packs."""
    kept = [
        index
        for index, known in enumerate(packs)
        if live[index] > 0
        and live[index] * 100 >= known.pack.size * LIVE_PERCENT_LEAST
        and code_of(known.pack).is_as_strong_as(code)
    ]
    kept.sort(key=lambda index: (-live[index], index))
    total = sum(live) + fresh
    while kept and len(kept) + packs_bound(total - sum(live[index] for index in kept)) > PACKS_MAX:
        kept.pop()
    return sorted(kept)
