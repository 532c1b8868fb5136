"""storage/parity.py: parity by blocks, liars found by digest, packs from any k shards."""

from __future__ import annotations

import random

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol.errors import LocalError, Refused, Unavailable
from protocol.snapshots import Pack
from protocol.units import KIB
from storage.erasure import ANCHOR, COPIES, NUMPY, ROLLING, Code
from storage.parity import BLOCK_BYTES, code_of, parity_of, protect, reassemble, reconstruct, shard_size, write_parity

CODES = st.sampled_from([COPIES, ROLLING, ANCHOR, Code(2, 3), Code(4, 4)])


def pack_of(content: bytes, code: Code) -> tuple[Pack, list[bytearray]]:
    """A pack as a worker makes it, and all its shards."""
    size = shard_size(len(content), code.k)
    padded = bytearray(content.ljust(code.k * size, b"\0"))
    data = [padded[index * size : (index + 1) * size] for index in range(code.k)]
    parity = [bytearray(size) for _ in range(0 if code.k == 1 else code.n - code.k)]
    digests = protect([memoryview(one) for one in data], [memoryview(one) for one in parity], NUMPY)
    return Pack(len(content), size, code.kind, code.k, code.n, digests), [*data, *parity]


def views(shards: list[bytearray]) -> dict[int, memoryview]:
    return {index: memoryview(shard) for index, shard in enumerate(shards)}


@settings(max_examples=40)
@given(st.integers(1, 5_000), CODES, st.randoms())
def test_a_pack_comes_back_from_any_k_shards(size: int, code: Code, chance: random.Random) -> None:
    content = chance.randbytes(size + 4_096)
    pack, shards = pack_of(content, code)
    assert pack.shards == tuple(blake3(shard).digest() for shard in shards)
    assert code_of(pack) == code
    kept = dict(chance.sample(sorted(views(shards).items()), code.k))
    assert reassemble(kept, pack, NUMPY) == content
    assert {index: shards[index] for index in range(len(shards)) if index not in kept} == reconstruct(kept, pack, NUMPY)


def test_the_standby_makes_the_same_parity_in_blocks() -> None:
    pack, shards = pack_of(random.Random(1).randbytes(8 * BLOCK_BYTES + 4_000), ROLLING)
    data = [memoryview(shard) for shard in shards[:8]]
    assert parity_of(data, pack, NUMPY) == shards[8:]
    blocks: list[tuple[int, int, int]] = []
    write_parity(data, pack, NUMPY, lambda shard, offset, block: blocks.append((shard, offset, len(block))))
    assert blocks == [(shard, 0, BLOCK_BYTES) for shard in range(8, 14)] + [
        (shard, BLOCK_BYTES, 500) for shard in range(8, 14)
    ]


@pytest.mark.parametrize("liar", [0, 7, 8, 13])
def test_a_shard_that_is_not_what_was_signed_is_named(liar: int) -> None:
    pack, shards = pack_of(random.Random(2).randbytes(64 * KIB), ROLLING)
    digests = (*pack.shards[:liar], bytes(32), *pack.shards[liar + 1 :])
    with pytest.raises(Refused) as caught:
        parity_of([memoryview(shard) for shard in shards[:8]], replace(pack, shards=digests), NUMPY)
    assert (caught.value.code, caught.value.numbers["first"], caught.value.numbers["wrong"]) == (
        "shards_disagree",
        liar,
        1,
    )
    with pytest.raises(Refused):
        reconstruct({i: v for i, v in views(shards).items() if i != liar}, replace(pack, shards=digests), NUMPY)


def test_a_changed_data_shard_spoils_the_parity_too() -> None:
    pack, shards = pack_of(random.Random(3).randbytes(64 * KIB), ROLLING)
    shards[2][9] ^= 1
    with pytest.raises(Refused) as caught:
        parity_of([memoryview(shard) for shard in shards[:8]], pack, NUMPY)
    assert (caught.value.numbers["first"], caught.value.numbers["wrong"]) == (2, 7)


@pytest.mark.parametrize("code", [ROLLING, COPIES])
def test_damaged_shards_count_as_missing(code: Code) -> None:
    content = random.Random(4).randbytes(64 * KIB)
    pack, shards = pack_of(content, code)
    given_shards = views(shards)
    for index in range(code.n - code.k if code.kind == "rs" else 0):
        shards[index][index] ^= 0x80
    assert reassemble(given_shards, pack, NUMPY) == content
    shards[-1][0] ^= 1
    with pytest.raises(Unavailable) as caught:
        reassemble(given_shards, pack, NUMPY)
    assert caught.value.code == "too_few_shards"


def test_shards_of_other_lengths_or_numbers_are_missing_ones() -> None:
    pack, shards = pack_of(random.Random(5).randbytes(9_000), Code(2, 4))
    odd = {0: memoryview(shards[0])[:-1], 1: memoryview(shards[1]), 3: memoryview(shards[3]), 9: memoryview(b"")}
    assert reconstruct(odd, pack, NUMPY, wanted=[0]) == {0: shards[0]}
    with pytest.raises(LocalError):
        parity_of([memoryview(b"x")] * 2, pack, NUMPY)


@pytest.mark.parametrize(
    "change",
    [{"size": 0}, {"shard_size": 1}, {"k": 3}, {"n": 5}, {"code": "copy"}, {"shards": (bytes(32),)}, {"k": 5, "n": 4}],
)
def test_packs_that_contradict_themselves_are_refused(change: dict[str, object]) -> None:
    pack, shards = pack_of(random.Random(6).randbytes(9_000), Code(2, 4))
    with pytest.raises(Refused) as caught:
        reassemble(views(shards), replace(pack, **change), NUMPY)
    assert caught.value.code == "bad_pack"
