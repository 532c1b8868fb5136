"""storage/index.py: the table of contents opens only where it belongs, and a hostile one is refused before it is
followed."""

from __future__ import annotations

import random

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol.errors import Refused
from protocol.snapshots import Pack
from protocol.units import KIB, MIB
from storage import compress, index, records
from storage.ids import Place, index_key, snapshot_key
from storage.index import (
    CHUNKS_MAX,
    HEADER_BYTES,
    INDEX_BYTES_MAX,
    PAD_BYTES,
    RAW,
    ZSTD,
    Index,
    Origin,
    PartEntry,
    StoredChunk,
    check_index,
    index_bound,
    open_index,
    seal_index,
)
from storage.records import sealed_size

PLACE = Place(b"e" * 32, 7, 2, 40)
SECRET = bytes(range(32))
MINE, OLD = Origin(2, 40, "aes-256-gcm"), Origin(1, 9, "chacha20-poly1305")
SMALL = StoredChunk(b"1" * 32, 0, 100, 0, 50, 50, RAW, 4)
BIG = StoredChunk(b"2" * 32, 1, 0, 1, 1 * MIB, 4 * MIB, ZSTD, 4)
GOOD = Index((OLD, MINE), (SMALL, BIG), (0, 1, 1), (PartEntry("a", 4, 50), PartEntry("b", 1, 8 * MIB)))
PACKS = [Pack(size, size, "copy", 1, 3, (bytes(32),)) for size in (10 * KIB, 2 * MIB)]


def sealed(content: Index = GOOD, place: Place = PLACE) -> bytes:
    return seal_index(content, place, SECRET, "aes-256-gcm")


def test_it_opens() -> None:
    data = sealed()
    assert open_index(memoryview(data), PLACE, SECRET) == GOOD
    assert len(data) == HEADER_BYTES + sealed_size(PAD_BYTES)
    check_index(GOOD, PACKS, len(data), PLACE, 9 * MIB)


def test_every_changed_byte_is_seen() -> None:
    data = sealed()
    for at in (*range(64), *range(64, len(data), 97), *range(len(data) - 16, len(data))):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        with pytest.raises(Refused) as caught:
            open_index(memoryview(changed), PLACE, SECRET)
        assert caught.value.code == "snapshot_damaged"


@settings(max_examples=30)
@given(st.integers(0, 5_000))
def test_every_other_length_is_seen(size: int) -> None:
    data = sealed()
    if size != len(data):
        with pytest.raises(Refused):
            open_index(memoryview(data.ljust(size, b"\0")[:size]), PLACE, SECRET)


@pytest.mark.parametrize(
    "other",
    [Place(b"f" * 32, 7, 2, 40), Place(b"e" * 32, 8, 2, 40), Place(b"e" * 32, 7, 3, 40), Place(b"e" * 32, 7, 2, 41)],
)
def test_an_index_of_another_place_is_no_index(other: Place) -> None:
    with pytest.raises(Refused) as caught:
        open_index(memoryview(sealed(place=other)), PLACE, SECRET)
    assert caught.value.code == "snapshot_damaged"
    with pytest.raises(Refused):
        open_index(memoryview(sealed()), PLACE, bytes(32))


def test_two_indexes_of_one_place_have_two_keys() -> None:
    salts = {sealed()[:HEADER_BYTES], sealed(replace(GOOD, order=(1, 0, 1)))[:HEADER_BYTES]}
    assert len(salts) == 2


LIES: dict[str, Index] = {
    "fewer packs": replace(GOOD, packs=(MINE,)),
    "a pack from the future": replace(GOOD, packs=(OLD, replace(MINE, number=41))),
    "a pack that there is not": replace(GOOD, chunks=(SMALL, replace(BIG, pack=2))),
    "beyond its pack": replace(GOOD, chunks=(replace(SMALL, offset=10 * KIB), BIG)),
    "into the index": replace(GOOD, chunks=(SMALL, replace(BIG, offset=1 * MIB - 1 * KIB))),
    "more stored than content": replace(GOOD, chunks=(replace(SMALL, stored=51, codec=ZSTD), BIG)),
    "raw of another size": replace(GOOD, chunks=(replace(SMALL, stored=49), BIG)),
    "a chunk that there is not": replace(GOOD, order=(0, 1, 2)),
    "more chunks than parts": replace(GOOD, order=(0, 1, 1, 1)),
    "fewer chunks than parts": replace(GOOD, order=(0, 1)),
    "one name twice": replace(GOOD, parts=(PartEntry("b", 4, 50), PartEntry("b", 1, 8 * MIB))),
    "a path upwards": replace(GOOD, parts=(PartEntry("../b", 4, 50), PartEntry("b", 1, 8 * MIB))),
    "an absolute path": replace(GOOD, parts=(PartEntry("/b", 4, 50), PartEntry("b", 1, 8 * MIB))),
    "a zero byte": replace(GOOD, parts=(PartEntry("b\0", 4, 50), PartEntry("b", 1, 8 * MIB))),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_cannot_be_true_is_refused(lie: str) -> None:
    with pytest.raises(Refused) as caught:
        check_index(LIES[lie], PACKS, 4 * KIB, PLACE, 9 * MIB)
    assert caught.value.code in ("snapshot_damaged", "bad_part_name")


def test_a_state_larger_than_announced_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        check_index(GOOD, PACKS, 4 * KIB, PLACE, 8 * MIB)
    assert caught.value.code == "snapshot_too_large"
    bomb = replace(GOOD, order=(1,) * CHUNKS_MAX, parts=(PartEntry("b", 1, CHUNKS_MAX * 4 * MIB),))
    with pytest.raises(Refused) as caught:
        check_index(bomb, PACKS, 4 * KIB, PLACE, index.STATE_BYTES_MAX)
    assert caught.value.code == "snapshot_too_large"


def forged(plain: bytes, version: int = index.VERSION) -> memoryview:
    """What only a worker that lies can make: an index that authenticates."""
    padded = plain.ljust(-(-len(plain) // PAD_BYTES) * PAD_BYTES, b"\0")
    key, header = snapshot_key(SECRET, PLACE), bytes((version, 0)) + b"s" * 16
    using = records.aead("aes-256-gcm", index_key(key, header[2:]))
    body = bytearray(sealed_size(len(padded)))
    bound = header + PLACE.encoded
    records.seal(memoryview(padded), memoryview(body), using, PLACE.number, index.INDEX_SEQUENCE, bound)
    return memoryview(header + bytes(body))


def framed(flat: bytes, announced: int | None = None) -> bytes:
    small = zstandard.ZstdCompressor(level=compress.LEVEL).compress(flat)
    size = len(flat) if announced is None else announced
    return len(small).to_bytes(4, "big") + size.to_bytes(4, "big") + small


FORGERIES: dict[str, bytes] = {
    "nothing": b"",
    "no frame": (10).to_bytes(4, "big") + (10).to_bytes(4, "big") + bytes(10),
    "another size": framed(bytes(500), 501),
    "a bomb": framed(bytes(INDEX_BYTES_MAX + 1)),
    "a frame beyond the index": (5_000).to_bytes(4, "big") + (10).to_bytes(4, "big"),
    "no MessagePack": framed(b"\xc1" * 20),
    "more behind it": framed(msgspec.msgpack.encode(GOOD) + b"\0"),
    "a deep list": framed(b"\x91" * 100_000 + b"\xc0"),
    "a map": framed(msgspec.msgpack.encode({"packs": []})),
    "a field more": framed(msgspec.msgpack.encode([*msgspec.to_builtins(GOOD, builtin_types=(bytes,)), 1])),
    "too many packs": framed(msgspec.msgpack.encode(replace(GOOD, packs=(MINE,) * 17))),
    "no packs": framed(msgspec.msgpack.encode(replace(GOOD, packs=()))),
    "too many parts": framed(msgspec.msgpack.encode(replace(GOOD, parts=(PartEntry("a", 1, 0),) * 100_001))),
    "a negative offset": framed(msgspec.msgpack.encode(replace(GOOD, chunks=(replace(SMALL, offset=-1),)))),
    "a huge chunk": framed(msgspec.msgpack.encode(replace(GOOD, chunks=(replace(BIG, size=4 * MIB + 1),)))),
    "an empty chunk": framed(msgspec.msgpack.encode(replace(GOOD, chunks=(replace(SMALL, size=0, stored=0),)))),
    "a short id": framed(msgspec.msgpack.encode(replace(GOOD, chunks=(replace(SMALL, id=b"1"),)))),
    "a long name": framed(msgspec.msgpack.encode(replace(GOOD, parts=(PartEntry("a" * 513, 1, 0),)))),
    "a name that is no text": framed(msgspec.msgpack.encode(GOOD).replace(b"\xa1a", b"\xa1\xff")),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forgeries_that_authenticate_are_refused(forgery: str) -> None:
    with pytest.raises(Refused) as caught:
        open_index(forged(FORGERIES[forgery]), PLACE, SECRET)
    assert caught.value.code == "snapshot_damaged"


@given(st.binary(max_size=200))
def test_any_content_that_authenticates_is_an_index_or_refused(flat: bytes) -> None:
    for plain in (flat, framed(flat)):
        try:
            found = open_index(forged(plain), PLACE, SECRET)
        except Refused as error:
            assert error.code == "snapshot_damaged"
        else:
            assert isinstance(found, Index)


def test_other_versions_are_refused() -> None:
    good = framed(msgspec.msgpack.encode(GOOD))
    assert open_index(forged(good), PLACE, SECRET) == GOOD
    with pytest.raises(Refused):
        open_index(forged(good, version=2), PLACE, SECRET)


def test_the_bound_holds_for_entries_that_do_not_compress() -> None:
    chance = random.Random(1)
    chunks = tuple(
        StoredChunk(chance.randbytes(32), 15, chance.getrandbits(28), chance.getrandbits(16), size, size, RAW, 16)
        for size in (chance.getrandbits(21) + 1 for _ in range(2_000))
    )
    parts = tuple(
        PartEntry("".join(chr(chance.randrange(0x4E00, 0x9FFF)) for _ in range(170)), 16, chance.getrandbits(35))
        for _ in range(500)
    )
    data = sealed(Index((MINE,) * 16, chunks, tuple(range(2_000)), parts))
    assert len(data) <= index_bound(len(chunks), parts)
