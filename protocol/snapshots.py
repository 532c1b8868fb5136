"""What peers say about snapshots, shards and standbys. Spec: specs/27-custody.md.

A snapshot is a set of *packs* of ciphertext; a pack is cut into `n` shards of which any `k` give it back. Shards are
blobs: named by the BLAKE3 digest of their bytes, carried by the data plane like any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, Literal

from blake3 import blake3
from msgspec import UNSET, Meta, Struct, UnsetType

from protocol import wire
from protocol.identity import Identity, is_signed_by
from protocol.jobspec import Bytes32, NonNegative, Text
from protocol.operations import INHERITED_MAX, Hash, Inherited, Key, Reason, Signature
from protocol.units import PeerId

PACKS_MAX: Final = 16
"""Packs of one snapshot: earlier ones are carried along as long as something in them is still current."""

SHARDS_MAX: Final = 64
"""Shards of one pack."""

SHARDS_PER_MESSAGE: Final = 256
"""Shards that one message renews or releases."""

JobKey = Annotated[bytes, Meta(min_length=16, max_length=16)]
ChunkIndex = Annotated[int, Meta(ge=0, le=4096)]
Epoch = Annotated[int, Meta(ge=1, le=1_000)]
Purpose = Literal["rolling", "anchor", "volume"]
Tier = Literal["framework", "application", "process", "volume"]


class Pack(Struct, frozen=True, forbid_unknown_fields=True):
    """One erasure-coded piece of ciphertext. `copy`: k = 1 and every shard is the whole pack (one digest)."""

    size: NonNegative
    """Bytes of ciphertext, without the padding to k equal shards."""
    shard_size: NonNegative
    code: Literal["rs", "copy"]
    k: Annotated[int, Meta(ge=1, le=SHARDS_MAX)]
    n: Annotated[int, Meta(ge=1, le=SHARDS_MAX)]
    shards: Annotated[tuple[Bytes32, ...], Meta(min_length=1, max_length=SHARDS_MAX)]
    """Digests in shard order, the k data shards first; one digest for `copy`."""


class Manifest(Struct, frozen=True, forbid_unknown_fields=True, tag="snapshot"):
    """One snapshot of one running chunk, signed by the worker (kind `snapshot`). Says where to begin, never what is in
    it: the table of contents is encrypted, the last `index_bytes` of the last pack."""

    job: JobKey
    escrow: Hash
    chunk: ChunkIndex
    epoch: Epoch
    number: NonNegative
    """Counts up within an epoch."""
    step: NonNegative
    """Steps of the job done at the cut, over all its epochs."""
    progress_ppm: Annotated[int, Meta(ge=0, le=1_000_000)]
    """Share of the chunk that is done, where the loops tell; else 0."""
    tier: Tier
    taken: NonNegative
    size: NonNegative
    """Bytes of state."""
    index_bytes: NonNegative
    packs: Annotated[tuple[Pack, ...], Meta(min_length=1, max_length=PACKS_MAX)]
    inherited: Annotated[tuple[Inherited, ...], Meta(min_length=1, max_length=INHERITED_MAX)] | UnsetType = UNSET
    """Of a job with units: who answers for the units done so far, oldest first; the last one is the worker itself."""


class Keep(Struct, frozen=True, forbid_unknown_fields=True, tag="keep"):
    """Please hold a shard until `until` (µs of wall time): fetch it from one of `sources`. Answer: Kept or NotKept."""

    shard: Bytes32
    size: NonNegative
    until: NonNegative
    purpose: Purpose
    sources: Annotated[tuple[Key, ...], Meta(max_length=8)]


class Kept(Struct, frozen=True, forbid_unknown_fields=True, tag="kept"):
    """A receipt: the holder has the shard, verified, and promises it until `until`. Signed (kind `kept`) over the
    canonical encoding of (shard, size, until)."""

    shard: Bytes32
    size: NonNegative
    until: NonNegative
    signature: Signature


class NotKept(Struct, frozen=True, forbid_unknown_fields=True, tag="not_kept"):
    """The holder will not, or cannot any more."""

    shard: Bytes32
    code: Reason
    detail: Reason


class Renew(Struct, frozen=True, forbid_unknown_fields=True, tag="renew"):
    """Hold these longer. Answered by one Kept (or NotKept) each."""

    shards: Annotated[tuple[Bytes32, ...], Meta(min_length=1, max_length=SHARDS_PER_MESSAGE)]
    until: NonNegative


class Release(Struct, frozen=True, forbid_unknown_fields=True, tag="release"):
    """These are not needed any more. Only who asked to keep them may say so."""

    shards: Annotated[tuple[Bytes32, ...], Meta(min_length=1, max_length=SHARDS_PER_MESSAGE)]


class Spread(Struct, frozen=True, forbid_unknown_fields=True, tag="spread"):
    """To the standby: fetch the data shards from me, make the parity yourself, hold all of it until `until`."""

    escrow: Hash
    chunk: ChunkIndex
    epoch: Epoch
    pack: Pack
    until: NonNegative


class SpreadDone(Struct, frozen=True, forbid_unknown_fields=True, tag="spread_done"):
    """The standby holds every shard of the pack, and every one hashes as the worker said; others may fetch from it.
    `code` is empty, or says why it will not."""

    shard: Bytes32
    """The pack's first shard."""
    code: Reason


class Challenge(Struct, frozen=True, forbid_unknown_fields=True, tag="challenge"):
    """Prove that you still have a shard: keyed BLAKE3 (key `nonce`) over the pieces of `span` bytes at `offsets`."""

    shard: Bytes32
    nonce: Bytes32
    offsets: Annotated[tuple[NonNegative, ...], Meta(min_length=1, max_length=8)]
    span: Annotated[int, Meta(ge=1, le=65_536)]


class ChallengeAnswer(Struct, frozen=True, forbid_unknown_fields=True, tag="challenge_answer"):
    """The keyed hash, or zeros when the shard is gone."""

    shard: Bytes32
    nonce: Bytes32
    proof: Bytes32


class PackHolders(Struct, frozen=True, forbid_unknown_fields=True):
    """Who gave a receipt for which shard of a pack: pairs of shard index and receipt."""

    receipts: Annotated[
        tuple[tuple[Annotated[int, Meta(ge=0, le=SHARDS_MAX)], Kept], ...], Meta(max_length=2 * SHARDS_MAX)
    ]


class SnapshotNotice(Struct, frozen=True, forbid_unknown_fields=True, tag="snapshot_notice"):
    """From the worker to steward, standby and watchers: a snapshot is durable, and these receipts say so."""

    body: Annotated[bytes, Meta(max_length=32_768)]
    """The encoded `Manifest`."""
    signature: Signature
    holders: Annotated[tuple[PackHolders, ...], Meta(max_length=PACKS_MAX)]
    """One entry per pack, in their order."""
    is_rehearsed: bool = False
    """Whether a dry restore of the job's first snapshot came out equal on the worker."""


class Protection(Struct, frozen=True, forbid_unknown_fields=True, tag="protection"):
    """From the worker to the steward, when it changes and now and then: how safe the running chunk is, in words for
    its renter. It proves nothing; what counts is a `SnapshotNotice`."""

    job: JobKey
    chunk: ChunkIndex
    epoch: Epoch
    reason: Text
    """Why the chunk is not protected, or not as it should be; empty: nothing speaks against it."""
    kept: Text
    """Where the newest durable snapshot is (27-custody); empty: there is none."""


class StandBy(Struct, frozen=True, forbid_unknown_fields=True, tag="stand_by"):
    """From the steward: be ready to take this chunk over. Fetch its inputs, start it as far as its first loop, wait."""

    job: JobKey
    escrow: Hash
    chunk: ChunkIndex
    epoch: Epoch
    provider: Key
    outputs: Annotated[tuple[Bytes32, ...], Meta(max_length=4096)] = ()
    sources: Annotated[tuple[Key, ...], Meta(max_length=64)] = ()


class StandDown(Struct, frozen=True, forbid_unknown_fields=True, tag="stand_down"):
    """From the steward: that chunk needs no standby any more."""

    job: JobKey
    chunk: ChunkIndex
    epoch: Epoch


class StandbyChange(Struct, frozen=True, forbid_unknown_fields=True, tag="standby_change"):
    """From the steward to the worker: this peer stands by from now on, or nobody does."""

    job: JobKey
    chunk: ChunkIndex
    epoch: Epoch
    standby: Annotated[tuple[Key, ...], Meta(max_length=1)] = ()


def required(k: int, n: int) -> int:
    """Distinct failure domains whose receipts make a pack durable: k + ⌈(n−k)/2⌉.

    >>> required(8, 14), required(1, 3)
    (11, 2)
    """
    return k + (n - k + 1) // 2


def shard_of(pack: Pack, index: int) -> bytes:
    """The digest of shard `index`; of a copy they are all the same. IndexError when there is no such shard."""
    if not 0 <= index < pack.n:
        raise IndexError(f"shard {index} of a pack of {pack.n}")
    return pack.shards[0] if pack.code == "copy" else pack.shards[index]


def is_sound(pack: Pack) -> bool:
    """Whether the numbers of a pack, which types cannot check, agree with each other."""
    count = 1 if pack.code == "copy" else pack.n
    fits = (
        pack.k == 1 and pack.shard_size == pack.size if pack.code == "copy" else pack.k * pack.shard_size >= pack.size
    )
    return pack.k <= pack.n and len(pack.shards) == count == len(set(pack.shards)) and pack.shard_size > 0 and fits


def receipt(identity: Identity, network: str, shard: bytes, size: int, until: int) -> Kept:
    """This peer's signed word that it holds a shard of `size` bytes until `until`."""
    data = wire.signing_bytes(network, "kept", wire.encode((shard, size, until)))
    return Kept(shard, size, until, Signature(identity.peer, identity.sign(data)))


def is_receipt(network: str, kept: Kept, pack: Pack) -> bool:
    """Whether a receipt is about a shard of this pack, whole, and signed by the holder that it names."""
    data = wire.signing_bytes(network, "kept", wire.encode((kept.shard, kept.size, kept.until)))
    is_ours = kept.shard in pack.shards and kept.size == pack.shard_size
    return is_ours and is_signed_by(PeerId(kept.signature.signer), data, kept.signature.signature)


def proof_of(challenge: Challenge, pieces: Iterable[bytes]) -> bytes:
    """The answer to a challenge: `pieces` are the `span` bytes at each offset, shorter only at the shard's end."""
    hasher = blake3(key=challenge.nonce)
    for piece in pieces:
        hasher.update(piece)
    return hasher.digest()
