"""The fetcher's side of one connection, in a worker thread: ask, check and hand over chunks until none are left."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from node.bulk.assembly import Assembly
from node.bulk.link import Link
from node.bulk.tally import Tally
from protocol.bulk.chunks import (
    DIGEST_BYTES,
    Bye,
    Describe,
    Description,
    Sorry,
    Wait,
    Want,
    WantList,
    answer_decoder,
    chunk_count,
)
from protocol.errors import RemoteViolation, Unavailable

WAITS_MAX: Final = 10_000
"""Signs of life before a description: a list of 1 TiB needs as many."""


@dataclass(slots=True)
class Pull:
    """One lane of a transfer."""

    number: int
    link: Link
    assembly: Assembly
    allow: Callable[[int], None]
    """Returns when so many bytes may be asked for."""
    tally: Tally
    reserve: Callable[[int], None]
    """Promises disk space; may raise Refused. Called in this thread."""
    joined: Callable[[], None]
    """Told when this lane may work, and so may others: the blob's list is known."""
    is_clean: bool = False
    """Nothing is on its way: the connection can be used again."""

    def run(self) -> None:
        """Returns when there is nothing left to do. Unavailable, Refused or RemoteViolation otherwise."""
        said = self._description()
        self.assembly.judge(self.link.met.peer, said, lambda: self._list(said), self.reserve)
        self.assembly.join(self.number)
        self.joined()
        try:
            self._pull()
        finally:
            self.assembly.leave(self.number)

    def _description(self) -> Description:
        self.link.say(Describe(self.assembly.digest))
        for _ in range(WAITS_MAX):
            answer = self.link.hear(answer_decoder)
            if isinstance(answer, Description):
                return answer
            if not isinstance(answer, Wait):
                raise self._unexpected("no description")
        raise self._unexpected("no description for ever")

    def _list(self, said: Description) -> bytes:
        flat = memoryview(bytearray(DIGEST_BYTES * chunk_count(said.total)))
        self.link.say(WantList(self.assembly.digest))
        self._data(flat)
        return bytes(flat)

    def _pull(self) -> None:
        chunks = self.assembly.chunks
        if chunks is None:
            return
        buffers = self.assembly.buffers
        asked: deque[int] = deque()
        while True:
            while (index := self.assembly.next(self.number, is_idle=not asked)) is not None:
                size = chunks.size(index)
                if size:
                    self.allow(size)
                    self.link.say(Want(self.assembly.digest, index))
                asked.append(index)
            if not asked or self.assembly.is_complete:
                self.is_clean = not asked
                return
            index = asked.popleft()
            buffer = buffers.take()
            self._data(buffer[: chunks.size(index)])
            new = self.assembly.got(self.number, self.link.met.peer, self.link.channel.way, index, buffer)
            self.tally.received(self.link.channel.way, new)

    def _data(self, into: memoryview) -> None:
        """Fill with what was asked for."""
        answer = self.link.receive_data(into, answer_decoder)
        if isinstance(answer, Sorry):
            raise Unavailable(f"it says: {answer.reason}", code="no_blob")
        if answer is not None:
            raise self._unexpected("another message instead of data")

    def _unexpected(self, what: str) -> RemoteViolation:
        return RemoteViolation(self.link.met.peer, what, code="bulk_order")


def part(link: Link) -> None:
    """End a connection as it should be ended."""
    link.say(Bye(), is_last=True)
    link.hear(answer_decoder)
