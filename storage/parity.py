"""Parity of a pack, block by block, with the digest of every shard; and the way back from any k of them.

The worker computes all n digests and signs them, the standby makes the parity again for itself: a shard that is not
what the worker said is told from its digest, whoever made it. Spec: specs/26-shards.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from blake3 import blake3

from protocol.errors import LocalError, Refused, Unavailable
from protocol.snapshots import Pack, is_sound
from protocol.units import KIB, Digest
from storage.erasure import Code, ErasureCode

BLOCK_BYTES: Final = 128 * KIB
"""Of each shard at a time: encoded and hashed while it is in the cache."""

Write = Callable[[int, int, memoryview], None]
"""Takes (shard, offset, bytes) of parity; the bytes are valid until it returns."""


def shard_size(size: int, k: int) -> int:
    """Bytes of one data shard of `size` bytes of ciphertext.

    >>> shard_size(17, 8), shard_size(16, 8)
    (3, 2)
    """
    return -(-size // k)


def memory(size: int) -> memoryview:
    """Room for `size` bytes with whatever is in them: a bytearray would be written to once more than needed, which for
    a pack takes as long as encoding it."""
    return np.empty(size, np.uint8).data


def code_of(pack: Pack) -> Code:
    """The code of a pack. Refused (`bad_pack`) when its fields contradict each other: it came from a peer."""
    kind = "copy" if pack.k == 1 else "rs"
    if not is_sound(pack) or pack.code != kind or pack.size < 1 or pack.shard_size != shard_size(pack.size, pack.k):
        raise Refused(
            f"a pack of {pack.size} bytes contradicts itself",
            code="bad_pack",
            numbers={"size": pack.size, "shard_size": pack.shard_size, "k": pack.k, "n": pack.n},
        )
    return Code(pack.k, pack.n)


def protect(data: Sequence[memoryview], parity: Sequence[memoryview], erasure: ErasureCode) -> tuple[Digest, ...]:
    """Fill the parity shards of k data shards; the digests of all of them in order. k = 1 has no parity."""

    def keep(shard: int, offset: int, block: memoryview) -> None:
        parity[shard - len(data)][offset : offset + len(block)] = block

    return _stream(data, len(data) + len(parity), erasure, keep)


def parity_of(data: Sequence[memoryview], pack: Pack, erasure: ErasureCode) -> list[bytearray]:
    """The n - k parity shards of a pack, in memory; see `write_parity`."""
    code = code_of(pack)
    found = [bytearray(pack.shard_size) for _ in range(len(pack.shards) - code.k)]

    def keep(shard: int, offset: int, block: memoryview) -> None:
        found[shard - code.k][offset : offset + len(block)] = block

    write_parity(data, pack, erasure, keep)
    return found


def write_parity(data: Sequence[memoryview], pack: Pack, erasure: ErasureCode, write: Write) -> None:
    """Make the parity of a pack from its k data shards and hand it out in blocks.

    Refused (`shards_disagree`) at the end when one of the n digests is not the pack's: what was written is worthless
    then, and a data shard that disagrees is not the one of that digest."""
    code = code_of(pack)
    if len(data) != code.k or any(len(view) != pack.shard_size for view in data):
        raise LocalError(f"{code.k} data shards of {pack.shard_size} bytes are needed", code="bad_shards")
    digests = _stream(data, len(pack.shards), erasure, write)
    wrong = [index for index, pair in enumerate(zip(digests, pack.shards, strict=True)) if pair[0] != pair[1]]
    if wrong:
        raise Refused(
            f"{len(wrong)} of {len(digests)} shards are not what the worker signed, the first is shard {wrong[0]}",
            code="shards_disagree",
            fix="The worker's manifest is wrong, or a data shard is not what it is named.",
            numbers={"wrong": len(wrong), "first": wrong[0], "k": code.k, "n": code.n},
        )


def reconstruct(
    shards: Mapping[int, memoryview], pack: Pack, erasure: ErasureCode, wanted: Sequence[int] | None = None
) -> dict[int, bytearray]:
    """The wanted shards (without: all that are missing) from any k sound ones; each has its digest.

    A shard whose bytes are not what its digest says counts as missing. Unavailable (`too_few_shards`) below k."""
    code = code_of(pack)
    sound = _sound(shards, pack)
    missing = [index for index in range(len(pack.shards)) if index not in sound] if wanted is None else list(wanted)
    found = dict(zip(missing, erasure.decode(sound, code.k, code.n, missing), strict=True))
    for index, shard in found.items():
        if blake3(shard).digest() != pack.shards[index]:
            raise Refused(
                f"shard {index} comes out other than the worker signed",
                code="shards_disagree",
                numbers={"first": index, "k": code.k, "n": code.n},
            )
    return found


def reassemble(shards: Mapping[int, memoryview], pack: Pack, erasure: ErasureCode) -> memoryview:
    """The ciphertext of a pack from any k sound shards, without its padding. One buffer; nothing else is copied.

    What was decoded is not hashed: every record that is opened from it is authenticated, and every chunk verified."""
    code = code_of(pack)
    sound = _sound(shards, pack)
    if len(sound) < code.k:
        raise Unavailable(f"{len(sound)} shards are sound, {code.k} are needed", code="too_few_shards")
    if code.kind == "copy":
        return sound[0]
    whole = memory(code.k * pack.shard_size)
    rows = [whole[index * pack.shard_size : (index + 1) * pack.shard_size] for index in range(code.k)]
    missing = [index for index in range(code.k) if index not in sound]
    for index in range(code.k):
        if index in sound:
            rows[index][:] = sound[index]
    erasure.decode_into(sound, code, missing, [rows[index] for index in missing])
    return whole[: pack.size]


def _stream(data: Sequence[memoryview], n: int, erasure: ErasureCode, write: Write) -> tuple[Digest, ...]:
    k, size = len(data), len(data[0])
    hashers = [blake3() for _ in range(n)]
    rows = [memoryview(bytearray(min(BLOCK_BYTES, size))) for _ in range(n - k)]
    for start in range(0, size, BLOCK_BYTES):
        blocks = [view[start : start + BLOCK_BYTES] for view in data]
        parity = [row[: len(blocks[0])] for row in rows]
        erasure.encode_into(blocks, parity)
        for hasher, block in zip(hashers, (*blocks, *parity), strict=True):
            hasher.update(block)
        for shard, block in enumerate(parity, start=k):
            write(shard, start, block)
    return tuple(Digest(hasher.digest()) for hasher in hashers)


def _sound(shards: Mapping[int, memoryview], pack: Pack) -> dict[int, memoryview]:
    """Those whose digest is the pack's; of copies, one as shard 0."""
    if pack.code == "copy":
        whole = [view for view in shards.values() if blake3(view).digest() == pack.shards[0]]
        return dict(enumerate(whole[:1]))
    return {
        index: view
        for index, view in shards.items()
        if 0 <= index < len(pack.shards) and blake3(view).digest() == pack.shards[index]
    }
