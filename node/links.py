"""Links: per peer one queue and one long-lived outbound stream, dialled when it is needed.

What waits in a queue goes out in one write. A message is delivered in order or lost together with its connection; it is
never sent twice. Spec: specs/12-transport.md.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import trio
from libp2p.abc import INetStream

from node.addresses import Backoff
from node.streams import frame, reset, write_all
from protocol.errors import Unavailable
from protocol.identity import peer_text
from protocol.units import KIB, PeerId

WRITE_BYTES_MAX: Final = 256 * KIB
"""Coalesce at most one yamux window, so that a write never waits for the reader longer than necessary."""

WAIT_S: Final = 60.0
"""A message that could not be sent for a minute is dropped; its machine has asked again long since."""

log: Final = logging.getLogger("shoal.transport")


class Link:
    """The queue and the stream to one peer. `run` is its task; it ends when there is nothing left to do.

    `open_stream` gives a stream on which Hello has been sent; `lost(count, why)` hears about messages that are not
    going to arrive."""

    def __init__(
        self,
        peer: PeerId,
        open_stream: Callable[[PeerId], Awaitable[INetStream]],
        lost: Callable[[int, str], None],
        queue_max: int,
        backoff: Backoff,
    ) -> None:
        self.peer = peer
        self._open_stream = open_stream
        self._lost = lost
        self._queue: deque[tuple[float, bytes]] = deque()
        self._queue_max = queue_max
        self._backoff = backoff
        self._filled = trio.Event()
        self._changed = trio.Event()
        self._idle = trio.Event()
        self._stream: INetStream | None = None

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, body: bytes) -> None:
        """Queue a message. When the queue is full, the oldest is dropped and reported."""
        if len(self._queue) >= self._queue_max:
            self._queue.popleft()
            self._lost(1, f"the queue is full ({self._queue_max} messages)")
        self._queue.append((trio.current_time(), frame(body)))
        if self._idle.is_set():
            self._idle = trio.Event()
        self._filled.set()

    def retry(self) -> None:
        """Something changed for the better (a connection, an address): do not wait any longer."""
        self._backoff.reset()
        self._changed.set()

    def disconnected(self) -> None:
        """The connection under the stream is gone."""
        self._stream = None
        self._filled.set()

    async def flush(self) -> None:
        """Wait until everything queued is handed to the connection."""
        await self._idle.wait()

    async def run(self) -> None:
        """Open, write, wait; until cancelled, or until there is no connection and nothing to send."""
        try:
            while True:
                try:
                    await self._work()
                except Unavailable as error:
                    self._drop_old(error.detail)
                    if self._queue:
                        self._changed = trio.Event()
                        with trio.move_on_after(self._backoff.next()):
                            await self._changed.wait()
                if not self._queue:
                    return
        finally:
            self._idle.set()
            if self._stream is not None:
                await reset(self._stream)

    async def _work(self) -> None:
        """Write what comes until the connection ends."""
        self._stream = await self._open_stream(self.peer)
        self._backoff.reset()
        while (stream := self._stream) is not None:
            if self._queue:
                await self._write_batch(stream)
            else:
                self._idle.set()
                self._filled = trio.Event()
                await self._filled.wait()

    async def _write_batch(self, stream: INetStream) -> None:
        batch: list[bytes] = []
        size = 0
        while self._queue and (not batch or size + len(self._queue[0][1]) <= WRITE_BYTES_MAX):
            batch.append(self._queue.popleft()[1])
            size += len(batch[-1])
        try:
            await write_all(stream, b"".join(batch))
        except Unavailable as error:
            self._stream = None
            self._lost(len(batch), error.detail)
            await reset(stream)
            raise

    def _drop_old(self, why: str) -> None:
        limit = trio.current_time() - WAIT_S
        count = 0
        while self._queue and self._queue[0][0] < limit:
            self._queue.popleft()
            count += 1
        if count:
            self._lost(count, why)


class Links:
    """All links of a node, each run by a task in `nursery` for as long as it has something to do."""

    def __init__(
        self,
        nursery: trio.Nursery,
        open_stream: Callable[[PeerId], Awaitable[INetStream]],
        backoff: Callable[[], Backoff],
        counts: Counter[str],
        queue_max: int,
    ) -> None:
        self._nursery = nursery
        self._open_stream = open_stream
        self._backoff = backoff
        self._counts = counts
        self._queue_max = queue_max
        self._links: dict[PeerId, Link] = {}

    @property
    def queued(self) -> int:
        """Messages that wait in all links."""
        return sum(len(link) for link in self._links.values())

    def to(self, peer: PeerId) -> Link:
        """The link to a peer, started when there is none."""
        link = self._links.get(peer)
        if link is None:
            link = Link(
                peer,
                self._open_stream,
                lambda count, why: self._lost(peer, count, why),
                self._queue_max,
                self._backoff(),
            )
            self._links[peer] = link
            self._nursery.start_soon(self._run, link)
        return link

    def retry(self, peer: PeerId) -> None:
        """An address became known: a link that waits need not."""
        if peer in self._links:
            self._links[peer].retry()

    def disconnected(self, peer: PeerId) -> None:
        """The last connection to a peer ended."""
        if peer in self._links:
            self._links[peer].disconnected()

    async def say_last(self, peers: Iterable[PeerId], body: bytes, seconds: float) -> None:
        """One more message to every peer that has a link, and a moment to hand it over."""
        links = [self._links[peer] for peer in peers if peer in self._links]
        for link in links:
            link.put(body)
        with trio.move_on_after(seconds):
            for link in links:
                await link.flush()

    async def _run(self, link: Link) -> None:
        try:
            await link.run()
        finally:
            del self._links[link.peer]

    def _lost(self, peer: PeerId, count: int, why: str) -> None:
        self._counts["messages_lost"] += count
        log.warning("%d messages to %s are lost: %s", count, peer_text(peer), why)
