"""Sealing one snapshot: what is new goes into packs, what earlier packs hold is referred to.

Spec: specs/26-shards.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from protocol.errors import LocalError
from protocol.snapshots import PACKS_MAX, Pack
from storage import compress, cutting, records
from storage.cutting import Cut, Part
from storage.erasure import Code, ErasureCode
from storage.filters import element
from storage.ids import Place, chunk_id, id_key
from storage.index import (
    CHUNKS_MAX,
    RAW,
    STATE_BYTES_MAX,
    ZSTD,
    Index,
    Origin,
    PartEntry,
    StoredChunk,
    chunk_aead,
    index_bound,
    seal_index,
    too_large,
)
from storage.layout import Fresh, Layout, lay_out
from storage.packs import HIT_PERCENT_LEAST, PACK_BYTES_MAX, Known, KnownPack, PackWriter, SealedPack
from storage.records import CipherName, sealed_size

BATCH: Final = 16
"""Chunks that are compressed at once: 64 MiB at most wait for their turn."""

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
    found: int
    """Bytes of state that lie in earlier packs."""


class Sealing:
    """An iterator over the new packs, once; then `sealed` says the rest."""

    def __init__(
        self, parts: Iterable[Part], place: Place, secret: bytes, coded: tuple[Code, ErasureCode],
        known: Known | None, options: Options,
    ) -> None:  # fmt: skip
        self._parts = cutting.in_order(parts)
        self._place, self._secret = place, secret
        self._code, self._erasure = coded
        self._is_first = known is None
        self._known = Known((), {}) if known is None else known
        self._options = options
        self._origin = Origin(place.epoch, place.number, options.cipher)
        self._is_begun = False
        self._sealed: Sealed | None = None

    @property
    def sealed(self) -> Sealed:
        """The rest of what the manifest says. LocalError before the last pack was taken."""
        if self._sealed is None:
            raise LocalError("not all packs have been taken yet", code="not_sealed")
        return self._sealed

    def __iter__(self) -> Iterator[SealedPack]:
        """The new packs. Refused (`snapshot_too_large`) beyond 16 packs in all.

        However it ends, the memory of the parts is not held any more then: it may be mapped files."""
        if self._is_begun:
            raise LocalError("a place is sealed once", code="sealed_twice")
        self._is_begun = True
        cuts: list[Cut] = []
        try:
            cuts += cutting.cut(self._parts, by_content=not self._known.is_off)
            yield from self._sealed_packs(cuts)
        finally:
            for view in (*(part.data for part in self._parts), *(piece for cut in cuts for piece in cut.pieces)):
                view.release()

    def _sealed_packs(self, cuts: Sequence[Cut]) -> Iterator[SealedPack]:
        size = sum(cut.size for cut in cuts)
        if len(cuts) > CHUNKS_MAX or size > STATE_BYTES_MAX:
            raise too_large("its parts", size, STATE_BYTES_MAX)
        key = id_key(self._secret)
        ids = list(self._options.apply(lambda cut: chunk_id(cut.pieces, key), cuts))
        entries = tuple(PartEntry(part.name, element(part.itemsize), len(part.data)) for part in self._parts)
        room = index_bound(len(cuts), entries)
        layout = lay_out(cuts, ids, self._known, self._code, room)
        writer = PackWriter(min(PACK_BYTES_MAX, layout.bound + room), self._code, self._erasure)
        return self._packs(layout, entries, writer, size)

    def _packs(
        self, layout: Layout, entries: tuple[PartEntry, ...], writer: PackWriter, size: int
    ) -> Iterator[SealedPack]:
        packs, chunks = list(layout.kept), list(layout.reused)

        def close() -> SealedPack:
            if len(packs) == PACKS_MAX:
                raise too_large("its packs", len(packs) + 1, PACKS_MAX)
            done = writer.finish()
            packs.append(KnownPack(done.pack, self._origin))
            return done

        for one, content, small in self._shrunk(layout.fresh):
            stored = content if small is None else memoryview(small)
            if sealed_size(len(stored)) > writer.room:
                yield close()
                writer.clear()
            chunk = StoredChunk(
                id=one.id, pack=len(packs), offset=writer.used, sequence=len(chunks) - len(layout.reused),
                stored=len(stored), size=len(content), codec=RAW if small is None else ZSTD, itemsize=one.cut.itemsize,
            )  # fmt: skip
            self._write(chunk, stored, writer)
            chunks.append(chunk)
        index = self._index(packs, chunks, layout, entries)
        if len(index) > writer.room:
            yield close()
            writer.clear()
            index = self._index(packs, chunks, layout, entries)
        writer.take(len(index))[:] = index
        last = close()
        self._sealed = self._summary(tuple(packs), chunks, layout, len(index), size)
        yield last

    def _shrunk(self, fresh: Sequence[Fresh]) -> Iterator[tuple[Fresh, memoryview, bytes | None]]:
        """What is fresh, its bytes, and these compressed where that pays."""
        uplink = self._options.uplink_bytes_per_s
        for start in range(0, len(fresh), BATCH):
            batch = [(one, one.cut.content) for one in fresh[start : start + BATCH]]
            shrunk = self._options.apply(lambda pair: compress.shrink(pair[1], pair[0].cut.itemsize, uplink), batch)
            for (one, content), small in zip(batch, shrunk, strict=True):
                yield one, content, small

    def _write(self, chunk: StoredChunk, stored: memoryview, writer: PackWriter) -> None:
        aead, bound = chunk_aead(chunk, self._origin, self._place, self._secret)
        into = writer.take(sealed_size(len(stored)))
        records.seal(stored, into, aead, self._place.number, chunk.sequence, bound)

    def _index(
        self, packs: Sequence[KnownPack], chunks: Sequence[StoredChunk], layout: Layout, entries: tuple[PartEntry, ...]
    ) -> bytes:
        origins = (*(known.origin for known in packs), self._origin)
        index = Index(origins, tuple(chunks), layout.order, entries)
        return seal_index(index, self._place, self._secret, self._options.cipher)

    def _summary(
        self, packs: tuple[KnownPack, ...], chunks: Sequence[StoredChunk], layout: Layout, index_bytes: int, size: int
    ) -> Sealed:
        poor = 0
        if not self._is_first and layout.found * 100 < size * HIT_PERCENT_LEAST:
            poor = self._known.poor + 1
        known = Known(packs, {chunk.id: chunk for chunk in chunks}, poor)
        return Sealed(
            packs=tuple(one.pack for one in packs),
            index_bytes=index_bytes,
            known=Known(packs, {}, poor) if known.is_off else known,
            dropped=layout.dropped,
            size=size,
            found=layout.found,
        )
