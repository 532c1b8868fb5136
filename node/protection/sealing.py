"""From a folder of our own to blobs: sealed in a thread, each data shard put down as it comes; and the way back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import trio

from node.blobs import BlobStore
from node.protection.contents import TABLE_BYTES_MAX, Contents, FolderWriter, parts
from node.protection.phases import OnPhase, unnoticed
from node.protection.safetensors_header import bad
from node.protection.threads import apply
from protocol.effects import LeaseKey
from protocol.snapshots import Manifest, Pack, Tier, shard_of
from protocol.units import Digest
from storage.erasure import COPIES, ErasureCode
from storage.ids import Place
from storage.opening import Opening
from storage.packs import Known, KnownPack
from storage.pipeline import seal
from storage.sealing import Options, Sealed

_OPTIONS: Final = Options(apply=apply)


@dataclass(frozen=True, slots=True)
class SealedFolder:
    """One snapshot as it lies in the blob store."""

    place: Place
    tier: Tier
    step: int
    size: int
    index_bytes: int
    packs: tuple[Pack, ...]

    @property
    def number(self) -> int:
        """Which one of the epoch."""
        return self.place.number


class Sealer:
    """Seals the snapshots of one lease, one after the other."""

    def __init__(self, blobs: BlobStore, lease: LeaseKey, secret: bytes, erasure: ErasureCode) -> None:
        self._blobs = blobs
        self._lease = lease
        self._secret = secret
        self.code = COPIES
        """How the next one is cut into shards: it follows from how many holders there are."""
        self.on_phase: OnPhase = unnoticed
        self.only_grows = False
        """Whether a snapshot holds all that the one before held: then looking for that always pays in the end."""
        self._erasure = erasure
        self._number = 0
        self._known: Known | None = None

    async def seal(self, folder: Path, contents: Contents, tier: Tier, step: int) -> SealedFolder:
        """Seal a folder of our own. Refused when it cannot be; then no new blob stays."""
        self._number += 1
        escrow, chunk, epoch = self._lease
        place = Place(escrow, chunk, epoch, self._number)
        made: list[Digest] = []
        known = self._known if self._known and all(map(self._is_here, self._known.packs)) else None
        try:
            done = await trio.to_thread.run_sync(self._seal, folder, contents, place, (known, made))
        except BaseException:
            for digest in made:
                self._blobs.remove(digest)
            raise
        self._known = replace(done.known, poor=0) if self.only_grows else done.known
        self.on_phase("sealed")
        return SealedFolder(place, tier, step, contents.size, done.index_bytes, done.packs)

    def _is_here(self, known: KnownPack) -> bool:
        """Whether an earlier pack can still be referred to: it may have been given up since."""
        return all(self._blobs.has(Digest(shard_of(known.pack, index))) for index in range(known.pack.k))

    def _seal(self, folder: Path, contents: Contents, place: Place, use: tuple[Known | None, list[Digest]]) -> Sealed:
        known, made = use
        sealing = seal(parts(folder, contents), place, self._secret, self.code, self._erasure, known, _OPTIONS)
        for sealed in sealing:
            for index, shard in enumerate(sealed.shards[: sealed.pack.k]):
                digest = Digest(shard_of(sealed.pack, index))
                if self._blobs.put_from_thread(digest, shard):
                    made.append(digest)
                self.on_phase("shard")
        return sealing.sealed


def read_pack(blobs: BlobStore, pack: Pack, erasure: ErasureCode) -> memoryview:
    """The ciphertext of a pack of which k shards are blobs here. Refused (`snapshot_bad`) otherwise; blocks."""
    found = [index for index in range(pack.n) if blobs.has(Digest(shard_of(pack, index)))]
    here = found[: pack.k]  # Data shards come first, and need no decoding.
    if len(here) < pack.k:
        raise bad(f"{len(here)} of the {pack.k} shards of a pack are here")
    size = pack.shard_size
    whole = memoryview(bytearray(pack.k * size))
    shards: dict[int, memoryview] = {}
    for index in here:
        into = whole[index * size : (index + 1) * size] if index < pack.k else memoryview(bytearray(size))
        _read_shard(blobs.path(Digest(shard_of(pack, index))), into)
        shards[index] = into
    missing = [index for index in range(pack.k) if index not in shards]
    for index, shard in zip(missing, erasure.decode(shards, pack.k, pack.n, missing) if missing else (), strict=True):
        whole[index * size : (index + 1) * size] = shard
    return whole[: pack.size]


def _read_shard(path: Path, into: memoryview) -> None:
    with path.open("rb", buffering=0) as file:
        done = 0
        while done < len(into) and (count := file.readinto(into[done:])):
            done += count
        if done != len(into) or file.read(1):
            raise bad("a shard of the snapshot has not the size that its manifest says")


def place_of(manifest: Manifest) -> Place:
    """Where the keys of a snapshot come from."""
    return Place(manifest.escrow, manifest.chunk, manifest.epoch, manifest.number)


def lay_out(
    sealed: SealedFolder, secret: bytes, blobs: BlobStore, erasure: ErasureCode, target: Path, bytes_max: int
) -> Contents:
    """Open a snapshot whose shards are here into a new folder. Refused for what does not authenticate; blocks."""
    writer = FolderWriter(target, bytes_max)

    def pack(index: int) -> memoryview:
        return read_pack(blobs, sealed.packs[index], erasure)

    size_max = bytes_max + TABLE_BYTES_MAX
    opening = Opening(sealed.packs, sealed.index_bytes, sealed.place, secret, pack, size_max, apply)
    for piece in opening.pieces():
        writer.write(piece.part.name, piece.offset, piece.data)
    return writer.finish()
