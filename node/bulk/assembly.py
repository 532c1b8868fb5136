"""One blob put together by several worker threads: the list they agreed on, the plan, the file, and who said what."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

from node.bulk.buffers import Buffers
from node.bulk.channel import Way
from node.bulk.partial import PartialFile, WholeHash
from node.clock import Clock
from protocol.bulk.chunks import ChunkList, Description, chunk_bytes, chunk_count
from protocol.bulk.plan import ChunkPlan
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.units import Digest, PeerId

LOOK_S: Final = 1.0
"""How often a lane that waits for work looks around by itself, seconds."""


class Assembly:
    """Shared by the lanes of one transfer; every method is safe to call from any thread."""

    def __init__(self, digest: Digest, size_max: int, partial: PartialFile, clock: Clock) -> None:
        self.digest = digest
        self._size_max = size_max
        self._partial = partial
        self._clock = clock
        self._changed = threading.Condition()
        self._adoption = threading.Lock()
        """Held by workers only, for as long as it takes to get a list and make room for the blob."""
        self._plan: ChunkPlan | None = None
        self._hash = WholeHash(partial)
        self._buffers = Buffers(0)
        self._is_stopped = False
        self.chunks: ChunkList | None = None
        """The list that was adopted."""
        self.agreed: set[PeerId] = set()
        """Sources that stated the adopted list."""
        self.dissented: set[PeerId] = set()
        """Sources that stated another one."""
        self.by_source: Counter[tuple[PeerId, Way]] = Counter()

    def load(self) -> int:
        """Go on where an earlier attempt stopped; bytes that need not be fetched again."""
        found = self._partial.load(self._size_max)
        if found is None:
            return 0
        chunks, have = found
        with self._changed:
            self._adopt(chunks, have)
            return sum(chunks.size(index) for index in have)

    def reset(self) -> None:
        """Nothing of this is believed any more."""
        with self._changed:
            self.chunks = self._plan = None
            self._hash = WholeHash(self._partial)
            self.agreed.clear()
            self.dissented.clear()

    def start(self) -> None:
        """A round begins."""
        self._is_stopped = False

    def stop(self) -> None:
        """Wake whoever waits: the round ends."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    @property
    def is_stopped(self) -> bool:
        """No round is under way."""
        return self._is_stopped

    @property
    def is_complete(self) -> bool:
        """Every chunk came and fitted the list."""
        with self._changed:
            return self._plan is not None and self._plan.is_complete

    def judge(
        self, peer: PeerId, said: Description, get_list: Callable[[], bytes], reserve: Callable[[int], None]
    ) -> None:
        """A source described the blob: it joins, or may not.

        `get_list` asks it for its list, when we have none; `reserve` promises disk space and may raise Refused.
        Refused: too large. Unavailable: it states another list than the one we work with. RemoteViolation: nonsense."""
        self._check_size(said)
        if chunk_count(said.total) == 1:
            self._list_of(peer, said, get_list)
        with self._adoption:
            chunks = self.chunks
            if chunks is None:
                chunks = self._list_of(peer, said, get_list)
                reserve(chunks.total)
                self._partial.begin(chunks)
                with self._changed:
                    self._adopt(chunks)
                    self._changed.notify_all()
            self._compare(peer, said, chunks)

    def join(self, lane: int) -> None:
        """A lane is ready for work."""
        with self._changed:
            if self._plan is not None:
                self._plan.join(lane, self._clock.now())

    def leave(self, lane: int) -> None:
        """A lane ends; what it had not brought is free for others."""
        with self._changed:
            if self._plan is not None:
                self._plan.leave(lane)
            self._changed.notify_all()

    def next(self, lane: int, is_idle: bool) -> int | None:
        """The next chunk for a lane. A lane that `is_idle` waits until there is one; None then means the end."""
        with self._changed:
            while self._plan is not None and not self._is_stopped and not self._plan.is_complete:
                index = self._plan.next(lane, self._clock.now())
                if index is not None or not is_idle:
                    return index
                self._changed.wait(LOOK_S)
            return None

    @property
    def buffers(self) -> Buffers:
        """Where chunks are received."""
        return self._buffers

    def got(self, lane: int, peer: PeerId, way: Way, index: int, buffer: memoryview) -> int:
        """A chunk came, at the start of a buffer of `buffers`, which is ours from now on; bytes that are new.

        RemoteViolation when it is not what its own source had stated."""
        chunks = self.chunks
        if chunks is None:
            raise Unavailable("the transfer began anew", code="aborted")
        data = buffer[: chunks.size(index)]
        if not chunks.fits(index, data):
            raise RemoteViolation(peer, f"wrong bytes in chunk {index} of {self.digest.hex()}", code="wrong_blob")
        with self._changed:
            is_known = self._plan is None or self._plan.has(index)
        if not is_known:
            self._partial.write(chunks, index, data)
        with self._changed:
            if self.chunks is not chunks or self._plan is None:
                return 0
            is_new = self._plan.got(lane, index, self._clock.now())
            if is_new and chunks.count > 1:
                self._buffers.keep(index, buffer, len(data))
            else:
                self._buffers.give(buffer)
            if is_new:
                self.by_source[peer, way] += len(data)
            self._changed.notify_all()
            return len(data) if is_new else 0

    def stalled(self) -> list[int]:
        """Lanes that were asked for chunks and deliver none."""
        with self._changed:
            return [] if self._plan is None else self._plan.stalled(self._clock.now())

    def hash_along(self) -> None:
        """Hash the beginning of the blob as it grows, until the end or `stop`."""
        ready = 0
        while True:
            with self._changed:
                while not self._is_stopped and not (self._plan is not None and self._plan.has(ready)):
                    if self._plan is not None and self._plan.is_complete:
                        return
                    self._changed.wait(LOOK_S)
                if self._is_stopped or self.chunks is None or self.chunks.count == 1:
                    return
                start, end = self.chunks.offset(ready), self.chunks.offset(ready) + self.chunks.size(ready)
                whole, buffers = self._hash, self._buffers
            found = buffers.kept(ready)
            if found is not None and whole.offset == start:
                whole.feed(found[0][: found[1]])
            else:
                whole.advance(end)
            if found is not None:
                buffers.give(found[0])
            ready += 1
            buffers.drop_below(ready)

    def is_right(self) -> bool:
        """Whether the complete blob hashes to its name."""
        chunks = self.chunks
        if chunks is None or not self.is_complete:
            return False
        if chunks.count > 1:
            self._hash.advance(chunks.total)
            return self._hash.digest() == self.digest
        return chunks.flat == self.digest

    def _adopt(self, chunks: ChunkList, have: frozenset[int] = frozenset()) -> None:
        """Work with this list from now on."""
        self.chunks = chunks
        self._plan = ChunkPlan(chunks.count, chunk_bytes(chunks.total), have)
        self._buffers = Buffers(min(chunks.size(0), chunks.total) or 1)

    def _check_size(self, said: Description) -> None:
        if said.total < 0:
            raise Unavailable("it does not have the blob", code="no_blob")
        if said.total > self._size_max:
            raise Refused(
                f"blob {self.digest.hex()} has {said.total} bytes, {self._size_max} are allowed",
                code="blob_too_large",
                numbers={"size": said.total, "size_max": self._size_max},
            )

    def _list_of(self, peer: PeerId, said: Description, get_list: Callable[[], bytes]) -> ChunkList:
        """A blob that is one chunk needs no list: its digest is known."""
        flat = bytes(self.digest) if chunk_count(said.total) == 1 else get_list()
        return ChunkList.received(said.total, flat, said.commitment, peer)

    def _compare(self, peer: PeerId, said: Description, chunks: ChunkList) -> None:
        if (said.total, said.commitment) == (chunks.total, chunks.commitment):
            self.agreed.add(peer)
            return
        self.dissented.add(peer)
        raise Unavailable("it states another list of chunks than the first source", code="other_list")
