"""A stream as libp2p and its users see it: read, write, half-close, reset. It waits; all else is its session's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

import trio
from libp2p.abc import IMuxedStream
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamEOF, MuxedStreamReset

from protocol.errors import LocalError
from protocol.overlay.yamux_limits import BUFFER_BYTES_MAX
from protocol.overlay.yamux_stream import Phase, Stream

if TYPE_CHECKING:
    from node.mux.connection import Connection

TURN_BYTES: Final = 256 * 1024
"""Bytes that a task reads or writes without waiting before other tasks run."""

CALL_BYTES: Final = 64
"""Bytes that a call counts for besides, so that many small ones are a turn as well."""


class MuxedStream(IMuxedStream):
    """One stream of a connection. Any number of tasks may use it; a read gives each byte to one of them."""

    def __init__(self, connection: Connection, state: Stream) -> None:
        self.muxed_conn = connection
        self.stream_id = state.id
        self.state = state
        self._connection = connection
        self._session = connection.session
        self._readable: trio.Event | None = None
        self._writable: trio.Event | None = None
        self._unyielded = 0

    async def read(self, n: int | None = None) -> bytes:
        """At most `n` bytes as soon as there are any; all for None or -1. MuxedStreamEOF, MuxedStreamReset."""
        size = BUFFER_BYTES_MAX if n is None or n < 0 else n
        state = self.state
        if self._unyielded >= TURN_BYTES:
            await self._yield()
        while not state.buffered:
            if state.has_ended:
                raise MuxedStreamEOF("the peer finished")
            if state.phase is not Phase.OPEN:
                raise MuxedStreamReset("the stream was reset")
            if size == 0:
                return b""
            if self._readable is None:
                self._readable = trio.Event()
            await self._readable.wait()
            self._unyielded = 0
        data = self._session.read(state, size)
        self._unyielded += len(data) + CALL_BYTES
        self._connection.pump()
        return data

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Hand everything to the connection, as fast as the peer has room. MuxedStreamReset, -Closed."""
        view = memoryview(data if isinstance(data, bytes) else bytes(data))
        state, session = self.state, self._session
        if self._unyielded >= TURN_BYTES:
            await self._yield()
        self._unyielded += len(view) + CALL_BYTES
        while True:
            if state.has_finished:
                raise MuxedStreamClosed("the stream is closed for writing")
            if state.phase is not Phase.OPEN:
                raise MuxedStreamReset("the stream was reset")
            taken = session.write(state, view)
            if taken:
                self._connection.pump()
                view = view[taken:]
            if not view:
                break
            if not (self.is_closed or session.outbox.has_room(state)):
                await self._wait_for_room()

    async def close_write(self) -> None:
        """Nothing more is written; reading goes on."""
        self._session.finish(self.state)
        self._connection.pump()

    async def close(self) -> None:
        """We are done. What came can still be read; a peer that does not finish as well may find it reset later."""
        self._session.release(self.state)
        self._connection.pump()

    async def reset(self) -> None:
        """Give it up, both ways."""
        self._session.reset(self.state)
        self._connection.pump()

    def set_deadline(self, ttl: int) -> None:
        """Not here: every wait of trio can have a deadline. LocalError."""
        raise LocalError("a muxed stream keeps no deadline", code="no_deadline", fix="Use trio.fail_after.")

    def get_remote_address(self) -> tuple[str, int] | None:
        """The address of the connection's other end."""
        return self._connection.get_remote_address()

    @property
    def is_closed(self) -> bool:
        """Whether it ended, one way or the other."""
        return self.state.phase is not Phase.OPEN

    def wake_reader(self) -> None:
        """There is something to read, or there never will be."""
        if self._readable is not None:
            self._readable.set()
            self._readable = None

    def wake_writer(self) -> None:
        """There may be room."""
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    async def _yield(self) -> None:
        self._unyielded = 0
        await trio.lowlevel.checkpoint()

    async def _wait_for_room(self) -> None:
        self._unyielded = 0
        if self._writable is None:
            self._writable = trio.Event()
        if self.state.credit_out:
            self._connection.wants_room(self)
        await self._writable.wait()

    async def __aenter__(self) -> Self:
        return self
