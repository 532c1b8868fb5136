"""What records travel on, as a worker thread sees it: a blocking socket, or a libp2p stream by way of trio."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Final, Literal, Protocol, TypeVar

import trio
from libp2p.abc import INetStream

from node.streams import read_some, reset, write_all
from protocol.bulk.records import RECORD_BYTES_MAX
from protocol.errors import ShoalError, Unavailable
from protocol.units import KIB

Way = Literal["direct", "stream"]

STALL_S: Final = 10.0
"""Seconds without a byte after which the other side is given up."""

STREAM_RECORD_BYTES: Final = 64 * KIB
"""Body of one record on a libp2p stream: other streams of the connection wait for one at most."""

T = TypeVar("T")


class Channel(Protocol):
    """Ordered bytes both ways. `send` and `receive` are for a worker, `abort` and `close` for the trio thread."""

    way: Way
    record_bytes: int
    """Body of the largest record that is sent here."""
    is_aborted: bool
    """`abort` was called."""

    def send(self, data: memoryview) -> None:
        """Send everything; Unavailable when the other side takes nothing for `STALL_S`."""

    def receive(self, into: memoryview) -> None:
        """Fill all of `into`; Unavailable when the other side ends, or sends nothing for `STALL_S`."""

    def abort(self) -> None:
        """Make a `send` or `receive` that waits in the worker, and all later ones, end with Unavailable."""

    async def close(self) -> None:
        """Leave nothing open. The worker is not using it any more."""


class SocketChannel:
    """A TCP connection of the data plane. Deadlines are the kernel's, so that the socket may block."""

    way: Way = "direct"
    record_bytes = RECORD_BYTES_MAX

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.is_aborted = False
        connected.setblocking(True)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.set_patience(STALL_S)

    def set_patience(self, seconds: float) -> None:
        """How long one `send` or `receive` waits for the other side."""
        span = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, span)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, span)

    def send(self, data: memoryview) -> None:
        """Send everything."""
        while data:
            try:
                data = data[self._socket.send(data) :]
            except OSError as error:
                raise _cut(error) from None

    def receive(self, into: memoryview) -> None:
        """Fill all of `into`; the kernel waits for all of it in one call."""
        while into:
            try:
                size = self._socket.recv_into(into, 0, socket.MSG_WAITALL)
            except OSError as error:
                raise _cut(error) from None
            if not size:
                raise Unavailable("it closed the connection", code="interrupted")
            into = into[size:]

    def abort(self) -> None:
        """Shut both directions: calls that wait return at once."""
        self.is_aborted = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # The other side was faster.

    async def close(self) -> None:
        """Free the descriptor."""
        self._socket.close()


class StreamChannel:
    """A libp2p stream: punched or relayed, whatever the control plane has."""

    way: Way = "stream"
    record_bytes = STREAM_RECORD_BYTES

    def __init__(self, stream: INetStream, rest: bytes = b"") -> None:
        self._stream = stream
        self._rest = bytearray(rest)
        self._scope: trio.CancelScope | None = None
        self.is_aborted = False

    def send(self, data: memoryview) -> None:
        """Send everything."""
        trio.from_thread.run(self._write, bytes(data))

    def receive(self, into: memoryview) -> None:
        """Fill all of `into`."""
        missing = len(into) - len(self._rest)
        if missing > 0:
            trio.from_thread.run(self._read, len(into))
        into[:] = self._rest[: len(into)]
        del self._rest[: len(into)]

    def abort(self) -> None:
        """Cancel what the worker waits for."""
        self.is_aborted = True
        if self._scope is not None:
            self._scope.cancel()

    async def close(self) -> None:
        """End the stream, politely if there is time."""
        if self.is_aborted:
            await reset(self._stream)
            return
        with trio.move_on_after(1):
            try:
                await self._stream.close()
            except (OSError, Unavailable):
                self.is_aborted = True
        await reset(self._stream)

    async def _write(self, data: bytes) -> None:
        with self._watched():
            await write_all(self._stream, data)
            return
        raise self._gone()

    async def _read(self, size: int) -> None:
        while len(self._rest) < size:
            piece = None
            with self._watched():
                piece = await read_some(self._stream)
            if piece is None:
                raise self._gone()
            if not piece:
                raise Unavailable("it closed the stream", code="interrupted")
            self._rest += piece

    def _watched(self) -> trio.CancelScope:
        """A scope that ends after `STALL_S`, or with `abort`."""
        self._scope = trio.move_on_after(STALL_S)
        if self.is_aborted:
            self._scope.cancel()
        return self._scope

    def _gone(self) -> Unavailable:
        if self.is_aborted:
            return Unavailable("the transfer was stopped", code="aborted")
        return Unavailable(f"nothing moved for {STALL_S:g} s", code="stalled")


def _cut(error: OSError) -> Unavailable:
    if isinstance(error, BlockingIOError):
        return Unavailable(f"nothing moved for {STALL_S:g} s", code="stalled")
    return Unavailable(f"the connection broke: {error.strerror or error}", code="interrupted")


async def in_worker(
    channel: Channel, limiter: trio.CapacityLimiter, work: Callable[[], T], wake: Callable[[], None] | None = None
) -> T:
    """Run `work`, which uses `channel`, in a thread. Cancelling us aborts the channel, which ends the thread.

    `wake` ends other waits of `work`."""
    results: list[T] = []
    failures: list[ShoalError] = []
    async with trio.open_nursery() as nursery:

        async def abort_when_cancelled() -> None:
            try:
                await trio.sleep_forever()
            finally:
                if not results and not failures:
                    channel.abort()
                    if wake is not None:
                        wake()

        nursery.start_soon(abort_when_cancelled)
        try:
            results.append(await trio.to_thread.run_sync(work, limiter=limiter))
        except ShoalError as error:
            failures.append(error)
        nursery.cancel_scope.cancel()
    if failures:
        raise failures[0]
    return results[0]
