"""Chunk lists of blobs that are here: computed once by whichever worker needs one first, and remembered."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from blake3 import blake3

from node.blobs import BlobStore
from protocol.bulk.chunks import ChunkList, chunk_bytes, chunk_count
from protocol.units import MIB, Digest

LISTS_BYTES_MAX: Final = 16 * MIB
"""Lists that are remembered: those of 2 TB of large blobs."""

SIGN_OF_LIFE_S: Final = 2.0
"""How often whoever waits for a list is told that it is worked on."""

TOLD_BYTES: Final = 128 * MIB
"""The same in bytes read: even a disk of 20 MB/s reads so much before the other side's patience ends."""


class ChunkLists:
    """Lists by digest. Safe to use from several threads."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: OrderedDict[Digest, ChunkList] = OrderedDict()
        self._bytes = 0
        self._busy: dict[Digest, threading.Event] = {}

    def keep(self, digest: Digest, chunks: ChunkList) -> None:
        """Remember a list that is known to be right."""
        with self._lock:
            if digest in self._known:
                return
            self._known[digest] = chunks
            self._bytes += len(chunks.flat)
            while self._bytes > LISTS_BYTES_MAX and len(self._known) > 1:
                self._bytes -= len(self._known.popitem(last=False)[1].flat)

    def of(self, digest: Digest, sign_of_life: Callable[[], None]) -> ChunkList:
        """The list of a blob that is here; reads all of it the first time. Unavailable when it is not here."""
        while True:
            with self._lock:
                found = self._known.get(digest)
                if found is not None:
                    self._known.move_to_end(digest)
                    return found
                done = self._busy.get(digest)
                if done is None:
                    self._busy[digest] = threading.Event()
                    break
            while not done.wait(SIGN_OF_LIFE_S):
                sign_of_life()
        try:
            chunks = self._compute(digest, sign_of_life)
            self.keep(digest, chunks)
            return chunks
        finally:
            with self._lock:
                self._busy.pop(digest).set()

    def _compute(self, digest: Digest, sign_of_life: Callable[[], None]) -> ChunkList:
        total = self._store.size(digest)
        if chunk_count(total) == 1:
            return ChunkList.of_one(total, digest)
        size = chunk_bytes(total)
        buffer = memoryview(bytearray(size))
        flat = bytearray()
        told = 0
        fd = os.open(self._store.path(digest), os.O_RDONLY)
        try:
            for index in range(chunk_count(total)):
                read = os.preadv(fd, [buffer], index * size)
                flat += blake3(buffer[:read]).digest()
                told += read
                if told >= TOLD_BYTES:
                    sign_of_life()
                    told = 0
        finally:
            os.close(fd)
        return ChunkList(total, bytes(flat))
