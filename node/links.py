"""Links: per peer one queue and one long-lived outbound stream, dialled when it is needed.

What waits in a queue goes out in one write. A message stays in the outbox until the other side acknowledges it: when a
connection is lost, or a better path appears, the next stream goes on where the last one stopped.
Spec: specs/12-transport.md.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

import trio
from libp2p.abc import INetStream

from node.addresses import Backoff
from node.streams import frame, read_some, reset, write_all
from protocol import wire
from protocol.errors import Unavailable
from protocol.greetings import Ack, Skip
from protocol.identity import peer_text
from protocol.overlay.resume import SESSION_BYTES, Numbered, Outbox
from protocol.units import KIB, PeerId

WRITE_BYTES_MAX: Final = 256 * KIB
"""Coalesce at most one yamux window, so that a write never waits for the reader longer than necessary."""

WAIT_S: Final = 60.0
"""A message that could not be sent for a minute is dropped; its machine has asked again long since."""

ACK_S: Final = 2.0
"""Seconds that an acknowledgement waits for a message to travel with; the other side keeps what it sent until then."""

LIFE_MIN_S: Final = 1.0
"""A stream that the other side ends is replaced after a second of life at the earliest."""

log: Final = logging.getLogger("shoal.transport")

OpenStream = Callable[[PeerId, Outbox], Awaitable[INetStream]]


class Link:
    """The queue and the stream to one peer. `run` is its task; it ends when there is nothing left to do.

    `open_stream` gives a stream on which Hello has been sent; `lost(count, why)` hears about messages that are not
    going to arrive."""

    def __init__(
        self,
        peer: PeerId,
        open_stream: OpenStream,
        lost: Callable[[int, str], None],
        outbox: Outbox,
        backoff: Backoff,
    ) -> None:
        self.peer = peer
        self.outbox = outbox
        self._open_stream = open_stream
        self._lost = lost
        self._backoff = backoff
        self._last_words: bytes = b""
        self._ack: Ack | None = None
        self._filled = trio.Event()
        self._changed = trio.Event()
        self._idle = trio.Event()
        self._stream: INetStream | None = None
        self._number = 0
        self._is_urgent = False
        self._is_wanted = False

    def __len__(self) -> int:
        return len(self.outbox)

    def put(self, body: bytes) -> None:
        """Queue a message. When the queue is full, the oldest is dropped and reported."""
        if self.outbox.put(frame(body), trio.current_time()):
            self._lost(1, f"the queue is full ({self.outbox.items_max} messages)")
        self._fill()

    def say_last(self, body: bytes) -> None:
        """A message that is not numbered and never sent again, behind everything that waits."""
        self._last_words = frame(body)
        self._fill()

    def acknowledge(self, session: bytes, count: int, is_urgent: bool) -> None:
        """Tell the other side what has been heard: with the next message, or in `ACK_S`, or now when it is urgent."""
        self._ack = Ack(session, count)
        if is_urgent:
            self._is_urgent = True
            self._filled.set()
        elif self._idle.is_set():
            self._filled.set()

    def retry(self) -> None:
        """Something changed for the better (a connection, an address): do not wait any longer."""
        self._backoff.reset()
        self._changed.set()

    def reopen(self) -> None:
        """The connection under the stream is gone, or a better one is there: go on with a new stream."""
        self._stream = None
        self._filled.set()

    def renew(self) -> None:
        """Open a new stream even when there is nothing to say: there is a better path, or Hello says something else."""
        self._is_wanted = True
        self.reopen()

    def recover(self) -> None:
        """A connection came or went: unless our stream is on one that lives, greet anew, even when there is no more to
        say and this link is about to end."""
        self.retry()
        if self._stream is None or self._stream.muxed_conn.is_closed:
            self.renew()

    async def flush(self) -> None:
        """Wait until everything queued is handed to the connection."""
        await self._idle.wait()

    async def run(self) -> None:
        """Open, write, wait; until cancelled, or until there is no connection and nothing to send."""
        stream: INetStream | None = None
        try:
            while True:
                try:
                    stream = await self._open()
                    await self._use(stream)
                except Unavailable as error:
                    self._drop_old(error.detail)
                    if len(self.outbox):
                        self._changed = trio.Event()
                        with trio.move_on_after(self._backoff.next()):
                            await self._changed.wait()
                finally:
                    if stream is not None:
                        await reset(stream)
                        stream = None
                self.outbox.rewind()
                self._drop_old("the connection is gone")
                if not len(self.outbox) and not self._is_wanted:
                    return
                self._is_wanted = False
        finally:
            self._stream = None
            self._idle.set()

    async def _open(self) -> INetStream:
        self.outbox.rewind()
        self._number = self.outbox.first
        self._stream = stream = await self._open_stream(self.peer, self.outbox)
        self._is_wanted = False
        self._backoff.reset()
        return stream

    async def _use(self, stream: INetStream) -> None:
        """Write until the stream is replaced, or the other side ends it. Unavailable when writing fails."""
        broken: list[Unavailable] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, stream)
            try:
                await self._work(stream)
            except Unavailable as error:
                broken.append(error)
            nursery.cancel_scope.cancel()
        if broken:
            raise broken[0]

    async def _watch(self, stream: INetStream) -> None:
        """The other side says nothing here; when it ends the stream, what it did not acknowledge goes on another."""
        opened = trio.current_time()
        try:
            while await read_some(stream):
                pass
        except Unavailable as error:
            log.debug("the stream to %s ended: %s", peer_text(self.peer), error.detail)
        await trio.sleep_until(opened + LIFE_MIN_S)  # Whoever ends every stream at once is not asked in a hurry.
        if self._stream is stream and self.outbox.unacknowledged:
            self.renew()

    async def _work(self, stream: INetStream) -> None:
        """Write what comes until the stream is replaced."""
        while self._stream is stream:
            if len(self.outbox) or self._last_words or self._is_urgent:
                await self._write_batch(stream)
                continue
            self._idle.set()
            self._filled = trio.Event()
            with trio.move_on_after(ACK_S if self._ack else float("inf")) as waiting:
                await self._filled.wait()
            if waiting.cancelled_caught:
                self._is_urgent = True

    async def _write_batch(self, stream: INetStream) -> None:
        pieces: list[bytes] = []
        if self._ack is not None:
            pieces.append(frame(wire.encode(self._ack)))
        self._ack, self._is_urgent = None, False
        for item in self.outbox.take(WRITE_BYTES_MAX):
            pieces += self._numbered(item)
        if not len(self.outbox):
            pieces.append(self._last_words)
            self._last_words = b""
        await write_all(stream, b"".join(pieces))

    def _numbered(self, item: Numbered) -> list[bytes]:
        """A frame, behind a Skip where messages before it were given up."""
        expected, self._number = self._number, item.number + 1
        if item.number == expected:
            return [item.frame]
        return [frame(wire.encode(Skip(item.number))), item.frame]

    def _fill(self) -> None:
        if self._idle.is_set():
            self._idle = trio.Event()
        self._filled.set()

    def _drop_old(self, why: str) -> None:
        if count := self.outbox.expire(trio.current_time() - WAIT_S):
            self._lost(count, why)


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """What all links of a node share."""

    open_stream: OpenStream
    backoff: Callable[[], Backoff]
    session: Callable[[int], bytes]
    """Random bytes: the names of sessions."""
    queue_max: int


class Links:
    """All links of a node, each run by a task in `nursery` for as long as it has something to do."""

    def __init__(self, nursery: trio.Nursery, settings: LinkSettings, counts: Counter[str]) -> None:
        self._nursery = nursery
        self._settings = settings
        self._counts = counts
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
                self._settings.open_stream,
                lambda count, why: self._lost(peer, count, why),
                Outbox(self._settings.session(SESSION_BYTES), self._settings.queue_max),
                self._settings.backoff(),
            )
            self._links[peer] = link
            self._nursery.start_soon(self._run, link)
        return link

    def known(self, peer: PeerId) -> Link | None:
        """The link to a peer, when there is one."""
        return self._links.get(peer)

    def retry(self, peer: PeerId) -> None:
        """An address became known: a link that waits need not."""
        if peer in self._links:
            self._links[peer].retry()

    def reopen(self, peer: PeerId) -> None:
        """The last connection to a peer ended, or there is a better one."""
        if peer in self._links:
            self._links[peer].reopen()

    async def say_last(self, peers: Iterable[PeerId], body: bytes, seconds: float) -> None:
        """One more message to every peer that has a link, and a moment to hand it over."""
        links = [self._links[peer] for peer in peers if peer in self._links]
        for link in links:
            link.say_last(body)
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
