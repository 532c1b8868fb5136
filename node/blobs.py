"""Blobs on this disk: files named by the BLAKE3 digest of their content, complete or not there at all.

A blob appears by one rename, so a crash leaves no half blob under its name. What is on its way sits in `partial/` and
survives a restart, so a transfer goes on where it stopped.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio
from blake3 import blake3

from protocol.errors import Refused, Unavailable
from protocol.units import MIB, Digest
from protocol.wire import digest as digest_of

READ_BYTES: Final = 1 * MIB
"""Hash and copy in pieces of 1 MiB: BLAKE3 runs at full speed, memory stays small."""


class BlobStore:
    """Content-addressed files below `folder`, at most `bytes_max` bytes of them.

    Use from one thread; only `has`, `size` and `path` may be asked from others."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._promised = 0
        self._names = itertools.count()
        try:
            (folder / "partial").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"cannot keep blobs in {folder}: {error.strerror}",
                code="data_unusable",
                fix="Move away what is in the way, or choose another --data.",
            ) from error
        self._sizes = dict(_scan(folder))
        self._total = sum(self._sizes.values())

    @property
    def total_bytes(self) -> int:
        """Bytes of all complete blobs."""
        return self._total

    def has(self, digest: Digest) -> bool:
        """True when the whole blob is here."""
        return digest in self._sizes

    def size(self, digest: Digest) -> int:
        """Bytes of a blob; Unavailable when it is not here."""
        if digest not in self._sizes:
            raise Unavailable(
                f"blob {digest.hex()} is not here",
                code="no_blob",
                fix="Upload the file first, or ask a peer that has it.",
            )
        return self._sizes[digest]

    def path(self, digest: Digest) -> Path:
        """The file of a blob, to be read only; Unavailable when it is not here."""
        self.size(digest)
        return self._path(digest)

    def read(self, digest: Digest, size_max: int) -> bytes:
        """The content of a small blob; Refused when it is larger than `size_max` bytes."""
        size = self.size(digest)
        if size > size_max:
            raise Refused(
                f"blob {digest.hex()} has {size} bytes, {size_max} are allowed here",
                code="blob_too_large",
                numbers={"size": size, "size_max": size_max},
            )
        return self._path(digest).read_bytes()

    def put(self, data: bytes) -> Digest:
        """Keep these bytes; a blob that is here already is not written again."""
        digest = digest_of(data)
        if digest not in self._sizes:
            with self.space(len(data)), disk_errors(len(data)):
                temporary = self._folder / "partial" / f"{digest.hex()}.put"
                with temporary.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                self.adopt(temporary, digest, len(data))
        return digest

    async def put_file(self, path: Path) -> tuple[Digest, int]:
        """Keep a copy of a file; (digest, bytes). Hashing and copying happen in a thread.

        The copy is hashed, not the original: a file that changes meanwhile gives one consistent blob or another."""
        size = await trio.to_thread.run_sync(lambda: path.stat().st_size)
        temporary = self._folder / "partial" / f"{next(self._names)}.copy"
        with self.space(size), disk_errors(size):
            try:
                digest, size = await trio.to_thread.run_sync(_copy_and_hash, path, temporary)
                if digest not in self._sizes:
                    self.adopt(temporary, digest, size)
            finally:
                temporary.unlink(missing_ok=True)
        return digest, size

    def put_from_thread(self, digest: Digest, data: memoryview) -> bool:
        """Keep bytes whose digest is known, written in one of trio's worker threads and adopted in the store's own.
        False when they are here already."""
        if self.has(digest):
            return False
        temporary = self.partial(digest).with_suffix(".put")
        with disk_errors(len(data)):
            try:
                with temporary.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                trio.from_thread.run_sync(self._adopt_new, temporary, digest, len(data))
            finally:
                temporary.unlink(missing_ok=True)
        return True

    def _adopt_new(self, temporary: Path, digest: Digest, size: int) -> None:
        with self.space(size):
            if not self.has(digest):
                self.adopt(temporary, digest, size)

    def remove(self, digest: Digest) -> None:
        """Forget a blob; nothing happens when it is not here."""
        size = self._sizes.pop(digest, None)
        if size is not None:
            self._total -= size
            self._path(digest).unlink(missing_ok=True)

    @contextmanager
    def space(self, size: int) -> Iterator[None]:
        """Promise `size` bytes to one writer while it writes; Refused (`disk_full`) when they do not fit."""
        used = self._total + self._promised
        if used + size > self._bytes_max:
            raise Refused(
                f"{size} bytes do not fit: {used} of {self._bytes_max} bytes are used",
                code="disk_full",
                fix="Raise the node's storage limit or remove results that nobody needs.",
                numbers={"size": size, "used": used, "bytes_max": self._bytes_max},
            )
        self._promised += size
        try:
            yield
        finally:
            self._promised -= size

    def partial(self, digest: Digest) -> Path:
        """Where the unfinished file of a blob that is being fetched belongs; one transfer at a time per digest."""
        return self._folder / "partial" / digest.hex()

    def _path(self, digest: Digest) -> Path:
        name = digest.hex()
        return self._folder / name[:2] / name

    def adopt(self, temporary: Path, digest: Digest, size: int) -> None:
        """Take over a finished file whose content hashes to `digest`."""
        path = self._path(digest)
        path.parent.mkdir(exist_ok=True)
        temporary.chmod(0o444)
        temporary.replace(path)
        self._sizes[digest] = size
        self._total += size


def _scan(folder: Path) -> Iterator[tuple[Digest, int]]:
    """Complete blobs below a folder. Leftovers of interrupted writes are deleted, unfinished transfers are kept."""
    for path in (folder / "partial").iterdir():
        if path.suffix in {".put", ".copy"}:
            path.unlink()
    for path in folder.glob("??/*"):
        if len(path.name) == 64 and path.name.startswith(path.parent.name):
            yield Digest(bytes.fromhex(path.name)), path.stat().st_size


def _hash_file(path: Path) -> tuple[blake3, int]:
    hasher, size = blake3(), 0
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            hasher.update(piece)
            size += len(piece)
    return hasher, size


def _copy_and_hash(source: Path, target: Path) -> tuple[Digest, int]:
    with source.open("rb") as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer, READ_BYTES)
        writer.flush()
        os.fsync(writer.fileno())
    hasher, size = _hash_file(target)
    return Digest(hasher.digest()), size


@contextmanager
def disk_errors(size: int) -> Iterator[None]:
    """A full disk is a refusal with numbers; any other error of the disk stays what it is."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise Refused(
            f"the disk is full: {size} bytes could not be written",
            code="disk_full",
            fix="Free space on the node's disk.",
            numbers={"size": size},
        ) from error
