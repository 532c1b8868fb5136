"""Sealing one snapshot: what is new goes into packs, what earlier packs hold is referred to. Spec: specs/26-shards.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from protocol.errors import LocalError
from protocol.snapshots import PACKS_MAX, Pack
from storage import compress, cutting, records
from storage.cutting import CHUNK_BYTES_MAX, Cut, Part
from storage.erasure import Code, ErasureCode
from storage.ids import Place, chunk_id, id_key
from storage.index import (
    CHUNKS_MAX, HEADER_BYTES, INDEX_BYTES_MAX, LENGTH_BYTES, PAD_BYTES, RAW, STATE_BYTES_MAX, ZSTD,
    Index, Itemsize, Origin, PartEntry, StoredChunk, chunk_aead, seal_index, too_large,
)  # fmt: skip
from storage.packs import HIT_PERCENT_LEAST, PACK_BYTES_MAX, Known, KnownPack, PackWriter, SealedPack, worth_keeping
from storage.records import CipherName, sealed_size

BATCH: Final = 16
"""Chunks that are compressed at once: 64 MiB at most wait for their turn."""

ENTRY_BYTES_MAX: Final = 96
"""Of an index, per chunk or part, names not counted."""

A = TypeVar("A")
B = TypeVar("B")


class Apply(Protocol):
    """How the same is done to many chunks: one after the other, or by the threads of whoever has some. Results come in
    the order of the items."""

    def __call__(self, function: Callable[[A], B], items: Sequence[A], /) -> Iterable[B]: ...


def in_turn(function: Callable[[A], B], items: Sequence[A], /) -> Iterable[B]:
    """One after the other."""
    return map(function, items)


@dataclass(frozen=True, slots=True)
class Options:
    """How a snapshot is sealed."""

    cipher: CipherName = "aes-256-gcm"
    """ChaCha20-Poly1305 where the processor has no AES."""
    uplink_bytes_per_s: int | None = None
    """Where it will go; without, bytes are dear."""
    apply: Apply = in_turn


@dataclass(frozen=True, slots=True)
class Sealed:
    """What came of it, when all packs have been taken."""

    packs: tuple[Pack, ...]
    """Of the manifest: earlier ones that are still needed, then the new ones."""
    index_bytes: int
    known: Known
    """For the next snapshot."""
    dropped: tuple[Pack, ...]
    """Earlier packs to which this snapshot does not refer any more."""
    size: int
    """Bytes of state."""
    fresh: int
    """Bytes of state that were sealed anew; the rest lies in earlier packs, or twice in this state."""


class Sealing:
    """An iterator over the new packs, once; then `sealed` says the rest."""

    def __init__(
        self,
        parts: Iterable[Part],
        place: Place,
        secret: bytes,
        code: Code,
        erasure: ErasureCode,
        known: Known | None,
        options: Options,
    ) -> None:
        self._parts = cutting.in_order(parts)
        self._place, self._secret = place, secret
        self._code, self._erasure = code, erasure
        self._known = known if known is not None else Known((), {})
        self._options = options
        self._sealed: Sealed | None = None
        self._is_begun = False

    @property
    def sealed(self) -> Sealed:
        """The rest of what the manifest says. LocalError before the last pack was taken."""
        if self._sealed is None:
            raise LocalError("not all packs have been taken yet", code="not_sealed")
        return self._sealed

    def __iter__(self) -> Iterator[SealedPack]:
        if self._is_begun:
            raise LocalError("a place is sealed once", code="sealed_twice")
        self._is_begun = True
        cuts = list(cutting.cut(self._parts, by_content=not self._known.is_off))
        size = sum(cut.size for cut in cuts)
        if len(cuts) > CHUNKS_MAX or size > STATE_BYTES_MAX:
            raise too_large("its parts", size, STATE_BYTES_MAX)
        key = id_key(self._secret)
        ids = list(self._options.apply(lambda cut: chunk_id(cut.pieces, key), cuts))
        layout = _Layout(cuts, ids, self._known, self._code, self._index_bound(len(cuts)))
        return self._packs(layout, size)

    def _index_bound(self, chunks: int) -> int:
        """Sealed bytes that the index takes at most."""
        names = sum(len(part.name.encode()) for part in self._parts)
        flat = ENTRY_BYTES_MAX * (chunks + len(self._parts)) + names + 2 * LENGTH_BYTES + PAD_BYTES
        return min(INDEX_BYTES_MAX, HEADER_BYTES + sealed_size(flat + flat // 128 + PAD_BYTES))

    def _packs(self, layout: _Layout, size: int) -> Iterator[SealedPack]:
        origin = Origin(self._place.epoch, self._place.number, self._options.cipher)
        writer = PackWriter(min(PACK_BYTES_MAX, layout.bound), self._code, self._erasure)
        done = list(layout.kept)
        for position, content, stored in self._stored(layout):
            if sealed_size(len(stored)) > writer.room:
                yield _closed(writer, done, origin)
            cut = layout.cuts[position]
            layout.chunks.append(self._write(writer, layout, len(done), (layout.ids[position], cut, content, stored)))
        index = self._index(layout, done, origin)
        if len(index) > writer.room:
            yield _closed(writer, done, origin)
            index = self._index(layout, done, origin)
        writer.take(len(index))[:] = index
        yield _closed(writer, done, origin, is_last=True)
        self._sealed = self._summary(layout, done, len(index), size)

    def _stored(self, layout: _Layout) -> Iterator[tuple[int, memoryview, memoryview | bytes]]:
        """Of every fresh cut: its position, its bytes, and what to store for it, compressed where that pays."""
        uplink = self._options.uplink_bytes_per_s
        for start in range(0, len(layout.fresh), BATCH):
            batch = [(position, layout.cuts[position].content) for position in layout.fresh[start : start + BATCH]]
            small = self._options.apply(
                lambda item: compress.shrink(item[1], layout.cuts[item[0]].itemsize, uplink), batch
            )
            for (position, content), found in zip(batch, small, strict=True):
                yield position, content, content if found is None else found
