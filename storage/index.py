"""The table of contents of a snapshot: which chunks lie where, and which parts their bytes are.

The parts lie one behind the other, and the chunks named in `order` are exactly these bytes. It is encrypted, and bound
to its place: the index of an older snapshot does not open as a newer one. Spec: specs/26-shards.md.

    version 1 | cipher 1 | salt 16 | records of (size 4, zstd of the MessagePack, zeros)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal, get_args

import msgspec
import zstandard
from blake3 import blake3
from msgspec import Meta, Struct

from protocol.errors import Refused
from protocol.snapshots import PACKS_MAX, Epoch, Pack
from protocol.units import GIB, KIB, MIB
from storage import compress, records
from storage.cutting import CHUNK_BYTES_MAX, NAME_CHARS_MAX, PARTS_MAX, check_name
from storage.filters import Itemsize
from storage.ids import ID_BYTES, Place, chunk_key, index_key, snapshot_key
from storage.records import RECORD_BYTES, TAG_BYTES, CipherName, damaged, sealed_size

VERSION: Final = 1
"""Of everything in these documents; another one is refused."""

SALT_BYTES: Final = 16
"""Of the content's keyed hash, so two different indexes never share a key."""

HEADER_BYTES: Final = 2 + SALT_BYTES
"""Before the records, authenticated with each."""

LENGTH_BYTES: Final = 4
"""Size of the compressed index, and of the index, big-endian, before it."""

PAD_BYTES: Final = 4 * KIB
"""An index is padded to a multiple: no pack is so small that two of its data shards are zeros only."""

INDEX_BYTES_MAX: Final = 32 * MIB
"""An index, compressed or not: a hundred thousand files with long names."""

CHUNKS_MAX: Final = 131_072
"""Chunks of one snapshot: 8 GiB of opaque bytes at their smallest, half a terabyte of tensors."""

STATE_BYTES_MAX: Final = 64 * GIB
"""Bytes of all parts, however well they compress."""

INDEX_SEQUENCE: Final = records.WORD
"""Stands in the nonce where chunks have their number."""

CIPHERS: Final[tuple[CipherName, ...]] = get_args(CipherName)
"""By the number that stands for each in a header."""

ENTRY_BYTES_MAX: Final = 96
"""Of one chunk, part or pack in an index, a part's name not counted."""

RAW: Final = 0
ZSTD: Final = 1

Size = Annotated[int, Meta(ge=0, le=STATE_BYTES_MAX)]


class Origin(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Which snapshot of the same chunk of the same job a pack was sealed for."""

    epoch: Epoch
    number: Annotated[int, Meta(ge=0)]
    cipher: CipherName


class StoredChunk(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a chunk lies, and what was done to it."""

    id: Annotated[bytes, Meta(min_length=ID_BYTES, max_length=ID_BYTES)]
    pack: Annotated[int, Meta(ge=0, lt=PACKS_MAX)]
    """Position of its pack in the manifest."""
    offset: Annotated[int, Meta(ge=0)]
    """Of its first record in the pack."""
    sequence: Annotated[int, Meta(ge=0, lt=CHUNKS_MAX)]
    """Its number among the chunks that its snapshot sealed; part of its nonces."""
    stored: Annotated[int, Meta(ge=1, le=CHUNK_BYTES_MAX)]
    """Bytes that were encrypted."""
    size: Annotated[int, Meta(ge=1, le=CHUNK_BYTES_MAX)]
    """Bytes of content."""
    codec: Literal[0, 1]
    """0 as it is, 1 shuffled and zstd."""
    itemsize: Itemsize


class PartEntry(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One part, without its bytes."""

    name: Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
    itemsize: Itemsize
    size: Size


class Index(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The table of contents."""

    packs: Annotated[tuple[Origin, ...], Meta(min_length=1, max_length=PACKS_MAX)]
    """One per pack of the manifest, in its order."""
    chunks: Annotated[tuple[StoredChunk, ...], Meta(max_length=CHUNKS_MAX)]
    order: Annotated[tuple[Annotated[int, Meta(ge=0, lt=CHUNKS_MAX)], ...], Meta(max_length=CHUNKS_MAX)]
    """Positions in `chunks`; equal chunks are stored once and named again."""
    parts: Annotated[tuple[PartEntry, ...], Meta(max_length=PARTS_MAX)]


_DECODER: Final = msgspec.msgpack.Decoder(Index)


def seal_index(index: Index, place: Place, secret: bytes, cipher: CipherName) -> bytes:
    """The last bytes of the last pack. Refused (`snapshot_too_large`) when it would be larger than anyone opens."""
    flat = msgspec.msgpack.encode(index)
    small = zstandard.ZstdCompressor(level=compress.LEVEL).compress(flat)
    size = 2 * LENGTH_BYTES + len(small)
    plain = bytearray(-(-size // PAD_BYTES) * PAD_BYTES)
    plain[:size] = len(small).to_bytes(LENGTH_BYTES, "big") + len(flat).to_bytes(LENGTH_BYTES, "big") + small
    sealed = bytearray(HEADER_BYTES + sealed_size(len(plain)))
    if max(len(flat), len(sealed)) > INDEX_BYTES_MAX:
        raise too_large("its table of contents", len(flat), INDEX_BYTES_MAX)
    key = snapshot_key(secret, place)
    salt = blake3(plain, key=key).digest(SALT_BYTES)
    sealed[:HEADER_BYTES] = header = bytes((VERSION, CIPHERS.index(cipher))) + salt
    using = records.aead(cipher, index_key(key, salt))
    body = memoryview(sealed)[HEADER_BYTES:]
    records.seal(memoryview(plain), body, using, place.number, INDEX_SEQUENCE, header + place.encoded)
    return bytes(sealed)


def open_index(sealed: memoryview, place: Place, secret: bytes) -> Index:
    """The inverse. Refused (`snapshot_damaged`) when it was changed or belongs to another place; see `check_index`."""
    whole, rest = divmod(len(sealed) - HEADER_BYTES, RECORD_BYTES + TAG_BYTES)
    size = whole * RECORD_BYTES + max(0, rest - TAG_BYTES)
    if size < PAD_BYTES or len(sealed) > INDEX_BYTES_MAX or HEADER_BYTES + sealed_size(size) != len(sealed):
        raise damaged("its table of contents has an impossible size", size=len(sealed))
    header = bytes(sealed[:HEADER_BYTES])
    if header[0] != VERSION or header[1] >= len(CIPHERS):
        raise damaged("its table of contents has an unknown form", version=header[0], cipher=header[1])
    key = index_key(snapshot_key(secret, place), header[2:])
    plain = bytearray(size)
    using = records.aead(CIPHERS[header[1]], key)
    bound = header + place.encoded
    records.open_into(sealed[HEADER_BYTES:], memoryview(plain), using, place.number, INDEX_SEQUENCE, bound)
    small, flat = (int.from_bytes(plain[at : at + LENGTH_BYTES], "big") for at in (0, LENGTH_BYTES))
    if 2 * LENGTH_BYTES + small > size or flat > INDEX_BYTES_MAX:
        raise damaged("its table of contents contradicts itself", size=flat)
    content = compress.expand(bytes(plain[2 * LENGTH_BYTES : 2 * LENGTH_BYTES + small]), flat, itemsize=1)
    try:
        return _DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise damaged(f"its table of contents cannot be read ({error})") from error


def check_index(index: Index, packs: Sequence[Pack], index_bytes: int, place: Place, size_max: int) -> None:
    """Refused (`snapshot_damaged`, `bad_part_name`, `snapshot_too_large`) unless all that it says can be true.

    Nothing is allocated by what it says before this has passed."""
    if len(index.packs) != len(packs):
        raise damaged("it lists other packs than the manifest", listed=len(index.packs), packs=len(packs))
    if any((origin.epoch, origin.number) > (place.epoch, place.number) for origin in index.packs):
        raise damaged("a pack is younger than the snapshot")
    ends = [pack.size for pack in packs]
    ends[-1] -= index_bytes
    for chunk in index.chunks:
        is_within = chunk.pack < len(packs) and chunk.offset + sealed_size(chunk.stored) <= ends[chunk.pack]
        if not is_within or chunk.stored > chunk.size or (chunk.codec == RAW and chunk.stored != chunk.size):
            raise damaged("a chunk lies outside its pack", pack=chunk.pack, offset=chunk.offset, stored=chunk.stored)
    if any(position >= len(index.chunks) for position in index.order):
        raise damaged("it names a chunk that there is not", chunks=len(index.chunks))
    total, size = sum(index.chunks[position].size for position in index.order), sum(part.size for part in index.parts)
    if total != size:
        raise damaged("its chunks are not its parts", chunks=total, parts=size)
    if size > size_max:
        raise too_large("its parts", size, size_max)
    for part in index.parts:
        check_name(part.name)
    if len({part.name for part in index.parts}) != len(index.parts):
        raise damaged("two parts have one name")


def chunk_aead(chunk: StoredChunk, origin: Origin, place: Place, secret: bytes) -> tuple[records.Aead, bytes]:
    """The cipher of one stored chunk, and what its records are bound to."""
    sealed_at = Place(place.escrow, place.chunk, origin.epoch, origin.number)
    key = chunk_key(snapshot_key(secret, sealed_at), chunk.id, chunk.codec, chunk.itemsize)
    return records.aead(origin.cipher, key), sealed_at.binding + chunk.id


def index_bound(chunks: int, parts: Sequence[PartEntry]) -> int:
    """Sealed bytes that the index of so many chunks takes at most, zstd's own overhead with it."""
    flat = ENTRY_BYTES_MAX * (chunks + len(parts) + PACKS_MAX) + sum(len(part.name.encode()) for part in parts)
    plain = flat + flat // 128 + 2 * PAD_BYTES
    return HEADER_BYTES + sealed_size(plain)


def too_large(what: str, size: int, size_max: int) -> Refused:
    """What is raised when a snapshot passes a limit."""
    return Refused(
        f"the snapshot is too large: {what} take {size} of at most {size_max}",
        code="snapshot_too_large",
        fix="Keep less in the state, for example an adapter instead of the whole model.",
        numbers={"size": size, "size_max": size_max},
    )
