"""Direct messages: one long-lived outbound stream per peer, frames of a 4-byte length and a message.

What waits in a link's queue goes out in one write. A message is delivered in order or lost together with the
connection; it is never sent twice. Spec: specs/12-transport.md.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import trio
from libp2p.abc import INetStream

from node.addresses import Backoff
from node.libp2p_rim import rim
from protocol.errors import RemoteViolation, Unavailable
from protocol.units import KIB, PeerId
from protocol.wire import MESSAGE_BYTES_MAX

LENGTH_BYTES: Final = 4
"""Big-endian length in front of every frame."""

READ_BYTES: Final = 64 * KIB
"""One read takes what one write of the other side coalesced."""

WRITE_BYTES_MAX: Final = 256 * KIB
"""Coalesce at most one yamux window, so that a write never waits for the reader longer than necessary."""

WRITE_S: Final = 10.0
"""A write that takes longer means that the other side is gone or stuck: the connection is given up."""

WAIT_S: Final = 60.0
"""A message that could not be sent for a minute is dropped; its machine has asked again long since."""


def frame(body: bytes) -> bytes:
    """A body with its length in front."""
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


class FrameReader:
    """Cuts a stream into frames. `read` gives None at the end of the stream."""

    def __init__(self, stream: INetStream, sender: PeerId, size_max: int = MESSAGE_BYTES_MAX) -> None:
        self._stream = stream
        self._sender = sender
        self._size_max = size_max
        self._buffer = bytearray()

    async def read(self) -> bytes | None:
        """The next frame's body. RemoteViolation when it is announced longer than allowed; Unavailable on a reset."""
        if not await self._fill(LENGTH_BYTES):
            return None
        size = int.from_bytes(self._buffer[:LENGTH_BYTES], "big")
        if size > self._size_max:
            raise RemoteViolation(
                self._sender, f"frame of {size} bytes, at most {self._size_max} are allowed", code="over_limit"
            )
        if not await self._fill(LENGTH_BYTES + size):
            return None
        body = bytes(self._buffer[LENGTH_BYTES : LENGTH_BYTES + size])
        del self._buffer[: LENGTH_BYTES + size]
        return body

    def rest(self) -> bytes:
        """What was read behind the last frame, for a stream that goes on with raw bytes."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    async def _fill(self, size: int) -> bool:
        while len(self._buffer) < size:
            piece = await read_some(self._stream)
            if not piece:
                return False
            self._buffer += piece
        return True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (body := await self.read()) is not None:
            yield body


async def read_some(stream: INetStream) -> bytes:
    """The next bytes of a stream; empty at its end, Unavailable on a reset."""
    with rim("read"):
        try:
            return await stream.read(READ_BYTES)
        except EOFError:
            return b""


async def write_all(stream: INetStream, data: bytes) -> None:
    """Write everything before `WRITE_S` passes; Unavailable otherwise."""
    with rim("write"), trio.fail_after(WRITE_S):
        await stream.write(data)


async def reset(stream: INetStream) -> None:
    """Give a stream up. Shielded and bounded, because it runs while tasks are cancelled."""
    with trio.CancelScope(deadline=trio.current_time() + 1, shield=True):
        try:
            with rim("reset"):
                await stream.reset()
        except Unavailable:
            return  # It was gone already, which is what reset is for.


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
        dice: random.Random,
    ) -> None:
        self.peer = peer
        self._open_stream = open_stream
        self._lost = lost
        self._queue: deque[tuple[float, bytes]] = deque()
        self._queue_max = queue_max
        self._backoff = Backoff(dice)
        self._filled = trio.Event()
        self._changed = trio.Event()
        self._idle = trio.Event()
        self._stream: INetStream | None = None
        self.written = 0
        """Messages that were handed to the connection."""

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
        self.written += len(batch)

    def _drop_old(self, why: str) -> None:
        limit = trio.current_time() - WAIT_S
        count = 0
        while self._queue and self._queue[0][0] < limit:
            self._queue.popleft()
            count += 1
        if count:
            self._lost(count, why)
