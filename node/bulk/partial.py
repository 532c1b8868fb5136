"""The unfinished file of a blob, and beside it a journal of the chunks that came and were right.

The journal opens with the list of chunk digests; then follow the numbers of chunks, four bytes each, every one appended
after its chunk was written. What it claims is hashed again before it is believed.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

from blake3 import blake3

from node.blobs import disk_errors
from protocol.bulk.chunks import CHUNKS_MAX, DIGEST_BYTES, ChunkList, chunk_count
from protocol.units import MIB, Digest

MAGIC: Final = b"shoalbk1"
NUMBER_BYTES: Final = 4
HEAD_BYTES: Final = len(MAGIC) + 8 + DIGEST_BYTES
"""Magic, size of the blob, commitment of the list."""

READ_BYTES: Final = 1 * MIB
"""Hash in pieces that stay in the processor's cache."""


class PartialFile:
    """Chunks of one blob on disk. `write` is safe to use from several threads; the rest is for one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._journal_path = path.with_name(f"{path.name}.journal")
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._journal = os.open(self._journal_path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._is_open = True
        self._lock = threading.Lock()

    def load(self, size_max: int) -> tuple[ChunkList, frozenset[int]] | None:
        """What an earlier attempt left, every chunk hashed again; None when there is nothing that can be used."""
        size = os.fstat(self._journal).st_size
        raw = os.pread(self._journal, min(size, HEAD_BYTES + CHUNKS_MAX * (DIGEST_BYTES + NUMBER_BYTES)), 0)
        chunks = _list_in(raw)
        if chunks is None or chunks.total > size_max:
            return None
        numbers = raw[HEAD_BYTES + len(chunks.flat) :]
        claimed = {
            int.from_bytes(numbers[at : at + NUMBER_BYTES], "big")
            for at in range(0, len(numbers) - NUMBER_BYTES + 1, NUMBER_BYTES)
        }
        buffer = memoryview(bytearray(chunks.size(0)))
        known = sorted(index for index in claimed if index < chunks.count)
        return chunks, frozenset(index for index in known if self._is_right(chunks, index, buffer))

    def begin(self, chunks: ChunkList) -> None:
        """Start afresh with this list. Refused (`disk_full`) when the disk has no room."""
        with disk_errors(chunks.total):
            os.ftruncate(self._fd, 0)
            os.ftruncate(self._journal, 0)
            os.ftruncate(self._fd, chunks.total)
            head = MAGIC + chunks.total.to_bytes(8, "big") + chunks.commitment
            os.write(self._journal, head + chunks.flat)

    def write(self, chunks: ChunkList, index: int, data: memoryview) -> None:
        """Keep a chunk that is right. Refused (`disk_full`) when the disk has no room."""
        with disk_errors(len(data)):
            at = chunks.offset(index)
            while data:
                written = os.pwrite(self._fd, data, at)
                data, at = data[written:], at + written
            os.write(self._journal, index.to_bytes(NUMBER_BYTES, "big"))

    def read(self, into: memoryview, offset: int) -> int:
        """Bytes from the file, for hashing; how many."""
        return os.preadv(self._fd, [into], offset)

    def settle(self, size: int) -> None:
        """Everything is right: make it last, and leave only the file."""
        with disk_errors(size):
            os.fsync(self._fd)
        self.close()
        self._journal_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Stop for now; what came stays for `load`. Nothing stays when not even a list came."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                if not os.fstat(self._journal).st_size:
                    self.path.unlink(missing_ok=True)
                    self._journal_path.unlink(missing_ok=True)
                os.close(self._fd)
                os.close(self._journal)

    def _is_right(self, chunks: ChunkList, index: int, buffer: memoryview) -> bool:
        size = chunks.size(index)
        return self.read(buffer[:size], chunks.offset(index)) == size and chunks.fits(index, buffer[:size])


def _list_in(raw: bytes) -> ChunkList | None:
    """The list at the head of a journal; None when it is not whole."""
    if len(raw) < HEAD_BYTES or not raw.startswith(MAGIC):
        return None
    total = int.from_bytes(raw[len(MAGIC) : len(MAGIC) + 8], "big")
    if total > CHUNKS_MAX * 4 * MIB:
        return None
    found = ChunkList(total, raw[HEAD_BYTES : HEAD_BYTES + DIGEST_BYTES * chunk_count(total)])
    return found if found.commitment == raw[len(MAGIC) + 8 : HEAD_BYTES] else None


class WholeHash:
    """Hashes a blob from its beginning as far as it is here, in a thread of its own, while the rest arrives."""

    def __init__(self, partial: PartialFile) -> None:
        self._partial = partial
        self._hasher = blake3()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self.offset = 0
        """Bytes hashed."""

    def advance(self, end: int) -> None:
        """Hash up to `end`; all of it is here."""
        while self.offset < end:
            size = self._partial.read(self._buffer[: min(READ_BYTES, end - self.offset)], self.offset)
            self._hasher.update(self._buffer[:size])
            self.offset += size

    def feed(self, data: memoryview) -> None:
        """Hash the next bytes of the file, which are these."""
        self._hasher.update(data)
        self.offset += len(data)

    def digest(self) -> Digest:
        """Of everything hashed."""
        return Digest(self._hasher.digest())
