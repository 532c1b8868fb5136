"""Opening one snapshot. Everything in it may come from a peer that wants harm. Spec: specs/26-shards.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.snapshots import Pack
from storage import compress, records
from storage.cutting import Part
from storage.ids import Place, chunk_id, id_key
from storage.index import (
    INDEX_BYTES_MAX,
    STATE_BYTES_MAX,
    ZSTD,
    Index,
    PartEntry,
    StoredChunk,
    check_index,
    chunk_aead,
    open_index,
)
from storage.packs import Known, KnownPack
from storage.parity import code_of, memory
from storage.records import damaged, sealed_size
from storage.sealing import Apply, in_turn

WINDOW: Final = 16
"""Chunks opened at a time, 64 MiB at most: enough to keep every core of a home computer busy."""

ReadPack = Callable[[int], memoryview | bytes | bytearray]
"""The whole ciphertext of a pack of the manifest, by position. Each is asked for once, when it is needed first, and
kept, or a hostile index could have it decoded again for every byte. Give a mapped file where memory is short."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of a part, as they follow one another; a part without bytes has one piece without bytes.

    The bytes are valid until the next piece is asked for."""

    part: PartEntry
    offset: int
    data: memoryview


class Opening:
    """A snapshot whose index has been opened and checked.

    Refused (`snapshot_damaged`, `snapshot_too_large`, `bad_part_name`, `bad_pack`) by the constructor and while
    reading; what was read before is sound all the same."""

    def __init__(
        self, packs: Sequence[Pack], index_bytes: int, place: Place, secret: bytes, read_pack: ReadPack,
        size_max: int = STATE_BYTES_MAX, apply: Apply = in_turn,
    ) -> None:  # fmt: skip
        for pack in packs:
            code_of(pack)
        if not packs or not 0 < index_bytes <= min(packs[-1].size, INDEX_BYTES_MAX):
            raise damaged("its table of contents has an impossible size", size=index_bytes, packs=len(packs))
        self._packs = tuple(packs)
        self._place, self._secret = place, secret
        self._id_key = id_key(secret)
        self._read_pack = read_pack
        self._apply = apply
        self._read: dict[int, memoryview] = {}
        index = open_index(self._pack(len(packs) - 1)[-index_bytes:], place, secret)
        check_index(index, self._packs, index_bytes, place, min(size_max, STATE_BYTES_MAX))
        self._index: Index = index

    @property
    def parts(self) -> tuple[PartEntry, ...]:
        """All parts, in the order in which they are read."""
        return self._index.parts

    @property
    def known(self) -> Known:
        """For the next snapshot, should whoever opened this one go on with it."""
        packs = tuple(map(KnownPack, self._packs, self._index.packs))
        return Known(packs, {chunk.id: chunk for chunk in self._index.chunks})

    def pieces(self) -> Iterator[Piece]:
        """Every byte of the state once, a chunk at a time."""
        contents = self._contents()
        content = memoryview(b"")
        for part in self._index.parts:
            offset = 0
            if not part.size:
                yield Piece(part, 0, memoryview(b""))
            while offset < part.size:
                content = content or next(contents)
                piece, content = content[: part.size - offset], content[part.size - offset :]
                yield Piece(part, offset, piece)
                offset += len(piece)

    def whole(self) -> Iterator[Part]:
        """Every part in one piece, one after the other."""
        data = memoryview(b"")
        for piece in self.pieces():
            if not piece.offset:
                data = memory(piece.part.size)
            end = piece.offset + len(piece.data)
            data[piece.offset : end] = piece.data
            if end == piece.part.size:
                yield Part(piece.part.name, piece.part.itemsize, data)

    def _contents(self) -> Iterator[memoryview]:
        """Chunk after chunk; a window of them is opened at a time, by as many threads as there are. One reads packs."""
        order = self._index.order
        for start in range(0, len(order), WINDOW):
            chunks = [self._index.chunks[position] for position in order[start : start + WINDOW]]
            for chunk in chunks:
                self._pack(chunk.pack)
            yield from self._apply(self._content, chunks)

    def _content(self, chunk: StoredChunk) -> memoryview:
        """The bytes of one chunk, which are those that its id stands for."""
        start = chunk.offset
        sealed = self._pack(chunk.pack)[start : start + sealed_size(chunk.stored)]
        aead, bound = chunk_aead(chunk, origin := self._index.packs[chunk.pack], self._place, self._secret)
        stored = memory(chunk.stored)
        records.open_into(sealed, stored, aead, origin.number, chunk.sequence, bound)
        content = compress.expand(stored, chunk.size, chunk.itemsize) if chunk.codec == ZSTD else stored
        if chunk_id([content], self._id_key) != chunk.id:
            raise damaged("a chunk is not what its id says", sequence=chunk.sequence)
        return content

    def _pack(self, position: int) -> memoryview:
        if position not in self._read:
            view = memoryview(self._read_pack(position)).cast("B")
            if len(view) != self._packs[position].size:
                raise damaged("a pack has another size", size=len(view), expected=self._packs[position].size)
            self._read[position] = view
        return self._read[position]
