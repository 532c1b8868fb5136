"""The holder's side of one connection, in a worker thread: questions in, descriptions, lists and chunks out."""

from __future__ import annotations

import io
import os
from functools import partial
from typing import Final

from node.blobs import BlobStore
from node.bulk.gate import Gate
from node.bulk.link import Link
from node.bulk.lists import ChunkLists
from node.bulk.tally import Tally
from protocol.bulk.chunks import (
    ABSENT_COMMITMENT,
    Bye,
    ChunkList,
    Describe,
    Description,
    Sorry,
    Wait,
    Want,
    WantList,
    question_decoder,
)
from protocol.bulk.tickets import ABSENT
from protocol.errors import RemoteViolation, Unavailable
from protocol.units import Digest

QUESTIONS_MAX: Final = 1_000_000
"""Questions on one connection: 4 TB in the largest chunks."""


class Serving:
    """Answers one link until its peer says Bye or falls silent."""

    def __init__(self, link: Link, store: BlobStore, lists: ChunkLists, gate: Gate, tally: Tally) -> None:
        self._link = link
        self._store = store
        self._lists = lists
        self._gate = gate
        self._tally = tally
        self._file: tuple[Digest, io.FileIO] | None = None

    def run(self) -> None:
        """Returns after Bye; Unavailable when the connection ends otherwise, RemoteViolation on a broken rule."""
        try:
            for _ in range(QUESTIONS_MAX):
                match self._link.hear(question_decoder):
                    case Describe(digest=digest):
                        self._describe(self._allowed(digest))
                    case WantList(digest=digest):
                        self._send_list(self._allowed(digest))
                    case Want(digest=digest, index=index):
                        self._send_chunk(self._allowed(digest), index)
                    case Bye():
                        self._link.say(Bye(), is_last=True)
                        return
            raise RemoteViolation(self._link.met.peer, "too many questions", code="over_limit")
        finally:
            if self._file is not None:
                self._file[1].close()

    def _is_wanted(self) -> bool:
        return not self._link.channel.is_aborted

    def _allowed(self, digest: bytes) -> Digest:
        """RemoteViolation for a blob that the ticket does not name."""
        if digest not in self._link.scope:
            raise RemoteViolation(self._link.met.peer, "it asks for what its ticket does not name", code="no_ticket")
        return Digest(digest)

    def _describe(self, digest: Digest) -> None:
        try:
            chunks = self._lists.of(digest, lambda: self._link.say(Wait()))
        except (Unavailable, OSError):
            self._link.say(Description(ABSENT, ABSENT_COMMITMENT))
            return
        self._link.say(Description(chunks.total, chunks.commitment))

    def _send_list(self, digest: Digest) -> None:
        chunks = self._chunks(digest)
        if chunks is None:
            return
        flat = memoryview(chunks.flat)
        step = self._link.channel.record_bytes
        for start in range(0, len(flat), step):
            piece = flat[start : start + step]
            self._link.send_data(len(piece), partial(_copy, piece))

    def _send_chunk(self, digest: Digest, index: int) -> None:
        chunks = self._chunks(digest)
        if chunks is None:
            return
        if index >= chunks.count:
            raise RemoteViolation(
                self._link.met.peer, f"it asks for chunk {index} of {chunks.count}", code="bulk_order"
            )
        file = self._opened(digest)
        if file is None:
            self._link.say(Sorry("the blob cannot be read"))
            return
        offset, end = chunks.offset(index), chunks.offset(index) + chunks.size(index)
        while offset < end:
            size = min(self._link.channel.record_bytes, end - offset)
            self._gate.wait(self._link.met.peer, size, self._is_wanted)
            self._link.send_data(size, partial(_read, file.fileno(), offset))
            self._tally.sent(self._link.channel.way, size)
            offset += size

    def _chunks(self, digest: Digest) -> ChunkList | None:
        """The list of a blob; says Sorry and gives None when it is not here any more."""
        try:
            return self._lists.of(digest, lambda: None)
        except (Unavailable, OSError):
            self._link.say(Sorry("the blob is not here"))
            return None

    def _opened(self, digest: Digest) -> io.FileIO | None:
        if self._file is not None and self._file[0] == digest:
            return self._file[1]
        if self._file is not None:
            self._file[1].close()
            self._file = None
        try:
            file = io.FileIO(self._store.path(digest))
        except (Unavailable, OSError):
            return None
        self._file = digest, file
        self._tally.add("blobs_served")
        return file


def _copy(piece: memoryview, into: memoryview) -> int:
    into[:] = piece
    return len(piece)


def _read(fd: int, offset: int, into: memoryview) -> int:
    try:
        return os.preadv(fd, [into], offset)
    except OSError as error:
        raise Unavailable(f"the blob cannot be read: {error.strerror}", code="no_blob") from error
