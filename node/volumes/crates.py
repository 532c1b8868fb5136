"""Crates on this machine: blobs become sealed shards, and shards become blobs again. Spec: specs/29-volumes.md."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Protocol

import trio

from node.blobs import BlobStore
from node.protection.fetching import bring
from node.protection.sealing import read_pack
from node.volumes.custody import Guarded
from node.volumes.heads import Way
from protocol import wire
from protocol.effects import Resume
from protocol.errors import Refused
from protocol.snapshots import Manifest, Pack, shard_of
from protocol.units import Digest, PeerId
from storage.cutting import Part
from storage.erasure import Code, ErasureCode
from storage.ids import Place
from storage.opening import Opening
from storage.pieces import PIECE_BYTES_MAX
from storage.pipeline import seal
from storage.trees import TREE_BYTES_MAX
from storage.volumes import Crate

EPOCH: Final = 1
"""A crate's place has no epochs: its 32 bytes are made of its content."""

_JOB: Final = bytes(16)


class Shards(Protocol):
    """Those who hold shards of volumes for this node."""

    def code(self) -> Code:
        """How a new pack is cut, by how many holders there are now."""
        ...

    def is_guarded(self, packs: Sequence[Pack]) -> bool:
        """Whether all of them are looked after."""
        ...

    def guard(self, crate: bytes, packs: Sequence[Pack]) -> None:
        """Have the packs kept from now on. At least k shards of each are blobs here."""
        ...

    def standing(self, packs: Sequence[Pack]) -> Guarded:
        """How they stand."""
        ...

    def release(self, crate: bytes, packs: Sequence[Pack]) -> None:
        """Nobody needs them any more."""
        ...


class CrateCustody:
    """See `node.volumes.custody.Custody`."""

    def __init__(self, blobs: BlobStore, erasure: ErasureCode, shards: Shards, way: Way) -> None:
        self._blobs = blobs
        self._erasure = erasure
        self._shards = shards
        self._way = way

    async def seal(
        self, place: bytes, number: int, secret: bytes, pieces: Sequence[Digest]
    ) -> tuple[tuple[Pack, ...], int]:
        """Encrypt blobs that are here into packs whose shards are blobs here afterwards; and the bytes of the index."""
        paths = [(digest, self._blobs.path(digest)) for digest in pieces]
        where = Place(place, 0, EPOCH, number)
        return await trio.to_thread.run_sync(self._seal, where, secret, paths, self._shards.code())

    async def guard(self, crate: Crate, holders: Sequence[PeerId]) -> Guarded:
        """Have holders keep the shards from now on; how it stands."""
        if not self._shards.is_guarded(crate.packs):
            await self._bring(crate, holders)
            self._shards.guard(crate.place, crate.packs)
        return self._shards.standing(crate.packs)

    async def release(self, crates: Sequence[Crate]) -> None:
        """Nobody needs these any more, neither here nor at holders."""
        for crate in crates:
            self._shards.release(crate.place, crate.packs)
            for pack in crate.packs:
                for shard in pack.shards:
                    self._blobs.remove(Digest(shard))

    async def open(self, crate: Crate, secret: bytes, holders: Sequence[PeerId]) -> tuple[Digest, ...]:
        """Bring a crate back: its pieces are blobs here afterwards. Refused or Unavailable when that cannot be."""
        await self._bring(crate, holders)
        return await trio.to_thread.run_sync(self._open, crate, secret)

    async def _bring(self, crate: Crate, holders: Sequence[PeerId]) -> None:
        """Have k shards of each pack here."""
        size = sum(pack.size for pack in crate.packs)
        manifest = Manifest(
            job=_JOB,
            escrow=crate.place,
            chunk=0,
            epoch=EPOCH,
            number=crate.number,
            step=0,
            progress_ppm=0,
            tier="volume",
            taken=0,
            size=size,
            index_bytes=crate.index_bytes,
            packs=crate.packs,
        )
        everywhere = tuple(tuple((index, peer) for index in range(pack.n) for peer in holders) for pack in crate.packs)
        await bring(Resume(manifest, everywhere), self._blobs, self._fetch, [])

    async def _fetch(self, digest: Digest, size_max: int, sources: tuple[PeerId, ...]) -> None:
        await self._way.fetch(digest, size_max, sources)

    # ── in a thread ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _seal(
        self, place: Place, secret: bytes, paths: Sequence[tuple[Digest, Path]], code: Code
    ) -> tuple[tuple[Pack, ...], int]:
        with ExitStack() as stack:
            parts = [Part(digest.hex(), 1, stack.enter_context(_mapped(path))) for digest, path in paths]
            sealing = seal(parts, place, secret, code, self._erasure)
            del parts
            for sealed in sealing:
                for index, shard in enumerate(sealed.shards[: sealed.pack.k]):  # The custodian makes the parity.
                    self._blobs.put_from_thread(Digest(shard_of(sealed.pack, index)), shard)
            return sealing.sealed.packs, sealing.sealed.index_bytes

    def _open(self, crate: Crate, secret: bytes) -> tuple[Digest, ...]:
        where = Place(crate.place, 0, EPOCH, crate.number)

        def pack(index: int) -> memoryview:
            return read_pack(self._blobs, crate.packs[index], self._erasure)

        found: list[Digest] = []
        for part in Opening(crate.packs, crate.index_bytes, where, secret, pack).whole():
            if len(part.data) > max(PIECE_BYTES_MAX, TREE_BYTES_MAX):
                raise Refused(f"a piece of {len(part.data)} bytes", code="volume_damaged")
            digest = wire.digest(bytes(part.data))
            if digest.hex() != part.name:
                raise Refused("a piece is not what its name says", code="volume_damaged", fix="Take another version.")
            self._blobs.put_from_thread(digest, part.data)
            found.append(digest)
        return tuple(found)


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    """A file's bytes, read when they are looked at."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            yield memoryview(b"")
            return
        yield memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))  # Unmapped when nobody refers to it.
