"""storage/packs.py and layout.py: one buffer for all packs, and which earlier ones a snapshot keeps."""

from __future__ import annotations

import random
import re

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import LocalError
from protocol.snapshots import PACKS_MAX, Pack, is_sound
from protocol.units import KIB, MIB
from storage import packs
from storage.cutting import Cut
from storage.erasure import ANCHOR, COPIES, NUMPY, ROLLING, Code
from storage.index import RAW, Origin, StoredChunk
from storage.layout import lay_out
from storage.packs import PACK_BYTES_MAX, Known, KnownPack, PackWriter, packs_bound, worth_keeping
from storage.parity import shard_size
from storage.records import sealed_size

ORIGIN = Origin(1, 1, "aes-256-gcm")


def known_pack(size: int, code: Code = ROLLING, name: int = 0) -> KnownPack:
    count = 1 if code.kind == "copy" else code.n
    digests = tuple(bytes((name, index)) + bytes(30) for index in range(count))
    return KnownPack(Pack(size, shard_size(size, code.k), code.kind, code.k, code.n, digests), ORIGIN)


@given(st.integers(4 * KIB, 20 * KIB), st.sampled_from([COPIES, ROLLING, Code(64, 64)]))
def test_a_pack_is_its_data_shards(size: int, code: Code) -> None:
    writer, content = PackWriter(20 * KIB, code, NUMPY), random.Random(size).randbytes(size)
    writer.take(size)[:] = content
    done = writer.finish()
    assert b"".join(done.shards[: code.k])[:size] == content
    assert not any(b"".join(done.shards[: code.k])[size:])
    assert done.pack.shards == tuple(blake3(shard).digest() for shard in done.shards)
    assert is_sound(done.pack)


def test_the_next_pack_has_nothing_of_the_last_one() -> None:
    writer = PackWriter(64 * KIB, ROLLING, NUMPY)
    writer.take(64 * KIB)[:] = b"x" * (64 * KIB)
    first = writer.finish()
    writer.clear()
    with pytest.raises(ValueError, match="released"):
        bytes(first.shards[0])
    writer.take(9_999)[:] = b"y" * 9_999
    again = writer.finish()
    assert b"".join(again.shards[:8]) == b"y" * 9_999 + b"\0"
    with pytest.raises(LocalError):
        writer.take(64 * KIB)


def test_a_reader_that_kept_a_shard_is_told() -> None:
    writer = PackWriter(8 * KIB, COPIES, NUMPY)
    writer.take(8 * KIB)[:] = bytes(8 * KIB)
    search = re.finditer(b"x", writer.finish().shards[0])  # Holds on to the memory until it ends.
    with pytest.raises(LocalError) as caught:
        writer.clear()
    assert caught.value.code == "shard_kept"
    assert not list(search)
    writer.clear()


def test_half_dead_packs_are_given_up() -> None:
    earlier = [known_pack(1_000, name=index) for index in range(4)]
    assert worth_keeping(earlier, [1_000, 500, 499, 0], ROLLING, 0) == [0, 1]


def test_packs_with_less_protection_are_given_up() -> None:
    earlier = [known_pack(1_000, code) for code in (ROLLING, ANCHOR, COPIES)]
    live = [1_000] * 3
    assert worth_keeping(earlier, live, ROLLING, 0) == [0, 1]
    assert worth_keeping(earlier, live, ANCHOR, 0) == [1]
    assert worth_keeping(earlier, live, COPIES, 0) == [2]


@given(st.lists(st.integers(1, 200), max_size=16), st.integers(0, 600))
def test_there_are_never_more_packs_than_a_manifest_takes(sizes: list[int], fresh: int) -> None:
    earlier = [known_pack(size * MIB) for size in sizes]
    live = [size * MIB for size in sizes]
    kept = worth_keeping(earlier, live, ROLLING, fresh * MIB)
    new = packs_bound(fresh * MIB + sum(live) - sum(live[index] for index in kept))
    assert len(kept) + new <= PACKS_MAX or not kept
    assert kept == sorted(kept)
    given_up = [live[index] for index in range(len(live)) if index not in kept]
    assert not given_up or not kept or max(given_up) <= min(live[index] for index in kept)


@given(st.lists(st.integers(1, 4 * MIB), max_size=300))
def test_the_bound_on_packs_holds(sizes: list[int]) -> None:
    count, room = 1, PACK_BYTES_MAX
    for size in map(sealed_size, sizes):
        if size > room:
            count, room = count + 1, PACK_BYTES_MAX
        room -= size
    assert count <= packs_bound(sum(map(sealed_size, sizes)))


def test_a_layout_keeps_what_is_known_and_stores_twins_once() -> None:
    cuts = [Cut((memoryview(letter * 100),), 1) for letter in (b"a", b"b", b"c", b"b", b"a")]
    ids = [bytes(cut.content[:1]) * 32 for cut in cuts]
    earlier = (known_pack(5_000, name=1), known_pack(sealed_size(100), name=2))
    chunks = {
        b"b" * 32: StoredChunk(b"b" * 32, 1, 0, 0, 100, 100, RAW, 1),
        b"c" * 32: StoredChunk(b"c" * 32, 0, 0, 1, 100, 100, RAW, 1),
    }
    layout = lay_out(cuts, ids, Known(earlier, chunks), ROLLING, 4 * KIB)
    assert layout.kept == (earlier[1],)
    assert layout.dropped == (earlier[0].pack,)
    assert [(one.id[:1], one.pack) for one in layout.reused] == [(b"b", 0)]
    assert [one.id[:1] for one in layout.fresh] == [b"a", b"c"]
    assert layout.order == (1, 0, 2, 0, 1)
    assert layout.found == 200


def test_looking_is_given_up_after_two_poor_snapshots() -> None:
    assert [Known((), {}, poor).is_off for poor in (0, 1, 2, 3)] == [False, False, True, True]
    assert packs.POOR_MAX == 2
