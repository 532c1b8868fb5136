"""Buffers of one transfer: a lane fills one, and the hash of the whole reads it before it is used again.

A chunk that just came is still in memory, so reading it back from the file would only copy it. What the hash is too far
behind for is read from the file after all: a lane never waits for it.
"""

from __future__ import annotations

import threading
from typing import Final

KEPT_MAX: Final = 4
"""Chunks kept for the hash: 16 MiB of large ones. It is faster than any lane, so it is rarely behind by more."""


class Buffers:
    """Buffers of one size, made when they are needed and used again. Safe to use from several threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._free: list[memoryview] = []
        self._kept: dict[int, tuple[memoryview, int]] = {}

    def take(self) -> memoryview:
        """A buffer for one chunk; its contents are whatever they were."""
        with self._lock:
            if self._free:
                return self._free.pop()
        return memoryview(bytearray(self._size))

    def give(self, buffer: memoryview) -> None:
        """A buffer is not used any more."""
        with self._lock:
            if len(self._free) <= KEPT_MAX:
                self._free.append(buffer)

    def keep(self, index: int, buffer: memoryview, size: int) -> None:
        """A chunk of `size` bytes is in this buffer, which nobody writes to from now on; the hash gives it back."""
        with self._lock:
            if len(self._kept) < KEPT_MAX and index not in self._kept:
                self._kept[index] = buffer, size
                return
        self.give(buffer)

    def kept(self, index: int) -> tuple[memoryview, int] | None:
        """(buffer, bytes) of a chunk, for the hash, which gives the buffer back; None when it has to be read."""
        with self._lock:
            return self._kept.pop(index, None)

    def drop_below(self, index: int) -> None:
        """Chunks before this one are hashed: what was kept of them came twice."""
        with self._lock:
            for late in [known for known in self._kept if known < index]:
                self._free.append(self._kept.pop(late)[0])
