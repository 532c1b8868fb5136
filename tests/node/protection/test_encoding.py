"""The standby's part: missing shards made from those that are here, each with its digest, and proofs of having one."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from blake3 import blake3

from node.blobs import BlobStore
from node.isal import erasure_code
from node.protection.encoding import encode, prove
from protocol.errors import Refused, ShoalError
from protocol.snapshots import Challenge, Pack, proof_of
from protocol.units import MIB, Digest
from storage.parity import protect

SIZE = 300_001
ERASURE = erasure_code()


def made(k: int = 4, n: int = 7) -> tuple[Pack, list[bytes]]:
    """A pack of random bytes, and all its shards."""
    shard = -(-SIZE // k)
    whole = Random(k).randbytes(SIZE).ljust(k * shard, b"\0")
    data = [memoryview(whole)[index * shard : (index + 1) * shard] for index in range(k)]
    spare = [bytearray(shard) for _ in range(n - k)]
    digests = protect(data, [memoryview(one) for one in spare], ERASURE)
    return Pack(SIZE, shard, "rs", k, n, digests), [bytes(one) for one in (*data, *spare)]


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", 64 * MIB)


@pytest.mark.parametrize("here", [(0, 1, 2, 3), (3, 4, 5, 6), (0, 2, 4, 6), (0, 1, 2, 3, 5)])
async def test_any_k_shards_give_all(blobs: BlobStore, here: tuple[int, ...]) -> None:
    pack, shards = made()
    for index in here:
        blobs.put(shards[index])
    await encode(pack, blobs, ERASURE)
    assert [blobs.read(Digest(digest), SIZE) for digest in pack.shards] == shards
    await encode(pack, blobs, ERASURE)  # All here: nothing to do.


async def test_too_few_give_nothing_and_leave_nothing(blobs: BlobStore) -> None:
    pack, shards = made()
    for shard in shards[:3]:
        blobs.put(shard)
    before = blobs.total_bytes
    with pytest.raises(ShoalError) as caught:
        await encode(pack, blobs, ERASURE)
    assert caught.value.code == "too_few_shards" and blobs.total_bytes == before


async def test_a_worker_that_signed_other_shards_is_found_out(blobs: BlobStore, tmp_path: Path) -> None:
    pack, shards = made()
    lie = Pack(pack.size, pack.shard_size, "rs", pack.k, pack.n, (*pack.shards[:6], blake3(b"lie").digest()))
    for shard in shards[:4]:
        blobs.put(shard)
    before = blobs.total_bytes
    with pytest.raises(Refused) as caught:
        await encode(lie, blobs, ERASURE)
    assert caught.value.code == "shards_disagree" and caught.value.numbers["first"] == 6
    assert blobs.total_bytes == before and not list((tmp_path / "blobs" / "partial").iterdir())


async def test_a_full_disk_is_said_with_numbers(tmp_path: Path) -> None:
    pack, shards = made()
    small = BlobStore(tmp_path / "small", 5 * pack.shard_size)
    for shard in shards[:4]:
        small.put(shard)
    with pytest.raises(Refused) as caught:
        await encode(pack, small, ERASURE)
    assert caught.value.code == "disk_full" and caught.value.numbers["used"] == 4 * pack.shard_size


async def test_a_copy_needs_no_parity(blobs: BlobStore) -> None:
    whole = bytes(1000)
    digest = blobs.put(whole)
    await encode(Pack(1000, 1000, "copy", 1, 3, (digest,)), blobs, ERASURE)
    assert blobs.total_bytes == 1000


def test_a_proof_is_of_the_bytes_and_of_nothing_else(blobs: BlobStore) -> None:
    content = Random(1).randbytes(10_000)
    digest = blobs.put(content)
    asked = Challenge(digest, bytes([5]) * 32, (0, 4_000, 9_990), 100)
    assert prove(asked, blobs) == proof_of(asked, [content[:100], content[4_000:4_100], content[9_990:]])
    assert prove(Challenge(digest, bytes(32), (10_000,), 1), blobs) == bytes(32)
    assert prove(Challenge(bytes(32), bytes(32), (0,), 1), blobs) == bytes(32)
