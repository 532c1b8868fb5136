"""The standby's part: make the shards of a pack that are missing here from those that are, and check every digest."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import trio

from node.blobs import BlobStore, disk_errors
from protocol.errors import Unavailable
from protocol.snapshots import Challenge, Pack, proof_of, shard_of
from protocol.units import Digest
from storage import parity
from storage.erasure import ErasureCode


async def encode(pack: Pack, blobs: BlobStore, erasure: ErasureCode) -> None:
    """All n shards of a pack of which any k are blobs here. Refused (`shards_disagree`, `disk_full`) or Unavailable
    (`too_few_shards`); then no new blob stays."""
    code = parity.code_of(pack)
    here = {index: path for index in range(pack.n) if (path := _path(blobs, pack, index))}
    if len(here) < code.k:
        raise Unavailable(f"{len(here)} shards are here, {code.k} are needed", code="too_few_shards")
    missing = [index for index in range(pack.n) if index not in here]
    if not missing or code.kind == "copy":
        return
    with blobs.space(len(missing) * pack.shard_size):
        temporaries = {index: blobs.partial(Digest(pack.shards[index])).with_suffix(".put") for index in missing}
        try:
            await trio.to_thread.run_sync(_make, pack, here, temporaries, erasure)
        except BaseException:
            for temporary in temporaries.values():
                temporary.unlink(missing_ok=True)
            raise
    for index, temporary in temporaries.items():
        digest = Digest(pack.shards[index])
        if blobs.has(digest):
            temporary.unlink(missing_ok=True)
        else:
            blobs.adopt(temporary, digest, pack.shard_size)


def prove(challenge: Challenge, blobs: BlobStore) -> bytes:
    """The answer to a challenge, 32 bytes; zeros when the shard is not here, or not as large as the challenge says.
    Blocks for a few small reads."""
    digest = Digest(challenge.shard)
    if not blobs.has(digest):
        return bytes(32)
    size = blobs.size(digest)
    if any(offset >= size for offset in challenge.offsets):
        return bytes(32)
    try:
        with blobs.path(digest).open("rb") as file:
            return proof_of(challenge, _pieces(file, challenge))
    except OSError:
        return bytes(32)


def _pieces(file: IO[bytes], challenge: Challenge) -> Iterator[bytes]:
    for offset in challenge.offsets:
        file.seek(offset)
        yield file.read(challenge.span)


def _path(blobs: BlobStore, pack: Pack, index: int) -> Path | None:
    digest = Digest(shard_of(pack, index))
    return blobs.path(digest) if blobs.has(digest) else None


def _make(pack: Pack, here: Mapping[int, Path], into: Mapping[int, Path], erasure: ErasureCode) -> None:
    """In a thread: from the data shards block by block, where all of them are here; else by decoding."""
    with ExitStack() as stack, disk_errors(len(into) * pack.shard_size):
        views = {index: stack.enter_context(_mapped(path)) for index, path in here.items()}
        files = {index: stack.enter_context(path.open("wb")) for index, path in into.items()}

        def write(shard: int, offset: int, block: memoryview) -> None:
            if shard in files:
                files[shard].seek(offset)
                files[shard].write(block)

        if all(index in views for index in range(pack.k)):
            parity.write_parity([views[index] for index in range(pack.k)], pack, erasure, write)
            return
        for index, shard in parity.reconstruct(views, pack, erasure, sorted(into)).items():
            write(index, 0, memoryview(shard))


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    """The bytes of a file, read as they are needed."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as page:
        view = memoryview(page)
        try:
            yield view
        finally:
            view.release()
