"""The validator's log of certified blocks: one append-only file, each append fsynced, each frame chained to the last.

Layout: a file header (magic, random id), then frames. A frame is one append: header (mark, own offset, payload length,
blocks, hash of the frame before, checksum keyed with the id), payload (each block with its length), SHA-256 over both.
A crash can damage only the last frame, which nobody was told about: it is cut. Damage before a later frame is another
matter: those blocks were acknowledged, so opening fails and says which. Spec: specs/08-blocks.md.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, overload

from node.entropy import salt
from protocol.errors import LocalError, Refused, Unavailable

FILE_MAGIC: Final = b"shoal-journal/1\n"
FRAME_MARK: Final = b"\xf5SJ\x01"
ID_BYTES: Final = 16
"""Random per file: whoever can put bytes into a block still cannot forge a frame header."""

_FIELDS: Final = struct.Struct(">4sQII32s")
_CHECK_BYTES: Final = 16
_HASH_BYTES: Final = 32
_HEADER_BYTES: Final = _FIELDS.size + _CHECK_BYTES
_LENGTH: Final = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class _Frame:
    start: int
    length: int
    count: int
    previous: bytes

    @property
    def end(self) -> int:
        return self.start + _HEADER_BYTES + self.length + _HASH_BYTES


class Journal(Sequence[bytes]):
    """Blocks in order; index 0 is block 1. Reads come from the file, so memory holds only offsets."""

    def __init__(self, path: Path) -> None:
        """Open or create, repair a torn tail. Raises `Refused` (in use, no journal) and `LocalError` (damaged)."""
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._offsets = array("Q")
        self._last = bytes(_HASH_BYTES)
        self.cut_bytes = 0
        """Bytes of a torn append that opening removed."""
        try:
            self._lock()
            self._id = self._open_header()
            self._end = len(FILE_MAGIC) + ID_BYTES
            self._scan()
        except BaseException:
            os.close(self._descriptor)
            raise

    def close(self) -> None:
        """Give the file back; further calls fail."""
        os.close(self._descriptor)

    def append(self, blocks: list[bytes]) -> None:
        """Make these blocks durable with one fsync. Raises `Unavailable` (`disk_full`) leaving the file as it was.

        A failed fsync is a `LocalError`: what the disk then holds is unknown, so the validator stops."""
        if not blocks:
            return
        payload = b"".join(part for block in blocks for part in (_LENGTH.pack(len(block)), block))
        frame = _Frame(self._end, len(payload), len(blocks), self._last)
        header = self._encode_header(frame)
        digest = hashlib.sha256(header + payload).digest()
        self._write(header + payload + digest)
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise LocalError(
                f"{self._path}: fsync failed: {error}", code="disk_failed", fix="Check the disk."
            ) from error
        self._index(frame, payload)
        self._last, self._end = digest, frame.end

    def read_all(self) -> list[bytes]:
        """Every block."""
        return list(self)

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        offset = self._offsets[index]
        (length,) = _LENGTH.unpack(os.pread(self._descriptor, _LENGTH.size, offset))
        return os.pread(self._descriptor, length, offset + _LENGTH.size)

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _write(self, data: bytes) -> None:
        view, offset = memoryview(data), self._end
        try:
            while view:
                written = os.pwrite(self._descriptor, view, offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            os.ftruncate(self._descriptor, self._end)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Unavailable(
                    f"{self._path}: no room for {len(data)} bytes more",
                    code="disk_full",
                    fix="Free disk space and start the node again: what was acknowledged is on the disk.",
                ) from error
            raise LocalError(
                f"{self._path}: write failed: {error}", code="disk_failed", fix="Check the disk."
            ) from error

    def _encode_header(self, frame: _Frame) -> bytes:
        fields = _FIELDS.pack(FRAME_MARK, frame.start, frame.length, frame.count, frame.previous)
        return fields + hashlib.sha256(self._id + fields).digest()[:_CHECK_BYTES]

    # ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(
                f"{self._path} is in use by another process", code="journal_in_use", fix="Stop the other node first."
            ) from None

    def _open_header(self) -> bytes:
        """The file's id; a new file, or one whose creation a crash cut short, gets one."""
        size = len(FILE_MAGIC) + ID_BYTES
        found = os.pread(self._descriptor, size, 0)
        if len(found) == size and found.startswith(FILE_MAGIC):
            return found[len(FILE_MAGIC) :]
        if os.fstat(self._descriptor).st_size > size or not (
            FILE_MAGIC.startswith(found) or found.startswith(FILE_MAGIC)
        ):
            raise Refused(f"{self._path} is no journal", code="no_journal", fix="Move the file aside.")
        file_id = salt()[:ID_BYTES]
        os.pwrite(self._descriptor, FILE_MAGIC + file_id, 0)
        os.fsync(self._descriptor)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return file_id

    def _scan(self) -> None:
        """Check every frame; cut a torn last one."""
        size = os.fstat(self._descriptor).st_size
        while self._end < size:
            frame = self._read_header(self._end)
            if frame is None or frame.end > size:
                self._cut(size)
                return
            body = os.pread(self._descriptor, frame.end - frame.start, frame.start)
            is_whole = (
                frame.previous == self._last
                and len(body) == frame.end - frame.start
                and hashlib.sha256(body[:-_HASH_BYTES]).digest() == body[-_HASH_BYTES:]
            )
            if not is_whole:
                self._cut(size)
                return
            self._index(frame, body[_HEADER_BYTES:-_HASH_BYTES])
            self._last, self._end = body[-_HASH_BYTES:], frame.end

    def _read_header(self, start: int) -> _Frame | None:
        """The frame that says it starts here, if its header is intact."""
        data = os.pread(self._descriptor, _HEADER_BYTES, start)
        if len(data) < _HEADER_BYTES:
            return None
        mark, offset, length, count, previous = _FIELDS.unpack_from(data)
        frame = _Frame(offset, length, count, previous)
        if mark != FRAME_MARK or offset != start or self._encode_header(frame) != data:
            return None
        return frame

    def _cut(self, size: int) -> None:
        """Remove what a crash left of the last append; refuse when there is a later one, for then it was done."""
        if not len(self) and self._is_whole_but_for_id(size):
            raise LocalError(
                f"{self._path}: the file's id is damaged, its blocks are not",
                code="journal_damaged",
                fix="Restore the file from a copy, or fetch the blocks again from the other validators.",
            )
        rest = os.pread(self._descriptor, size - self._end, self._end)
        place = rest.find(FRAME_MARK, 1)
        while place >= 0:
            if self._read_header(self._end + place) is not None:
                raise LocalError(
                    f"{self._path}: block {len(self) + 1} is damaged, later blocks are not",
                    code="journal_damaged",
                    fix="Restore the file from a copy, or fetch the blocks again from the other validators.",
                )
            place = rest.find(FRAME_MARK, place + 1)
        os.ftruncate(self._descriptor, self._end)
        os.fsync(self._descriptor)
        self.cut_bytes = size - self._end

    def _is_whole_but_for_id(self, size: int) -> bool:
        """Whether the first frame is complete: then its header fails only because the id in front of it rotted."""
        data = os.pread(self._descriptor, _HEADER_BYTES, self._end)
        if len(data) < _HEADER_BYTES:
            return False
        mark, offset, length, count, previous = _FIELDS.unpack_from(data)
        frame = _Frame(offset, length, count, previous)
        if mark != FRAME_MARK or offset != self._end or frame.end > size:
            return False
        body = os.pread(self._descriptor, frame.end - frame.start, frame.start)
        return hashlib.sha256(body[:-_HASH_BYTES]).digest() == body[-_HASH_BYTES:]

    def _index(self, frame: _Frame, payload: bytes) -> None:
        """Note where each block of a frame lies."""
        position = 0
        for _ in range(frame.count):
            self._offsets.append(frame.start + _HEADER_BYTES + position)
            (length,) = _LENGTH.unpack_from(payload, position)
            position += _LENGTH.size + length
