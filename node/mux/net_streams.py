"""libp2p's wrapper around a stream, without its lock: `NetStream.read` and `write` for streams of our muxer.

libp2p 0.8.1 takes a lock to look at the state of a stream, and each look costs a turn of the scheduler. Nothing can
change the state between a look and the call, so a plain look is as good. Other muxers' streams go the old way.
"""

from __future__ import annotations

from typing import Final

from libp2p.network.stream.exceptions import StreamClosed, StreamEOF, StreamReset
from libp2p.network.stream.net_stream import NetStream, StreamState
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamEOF, MuxedStreamReset

from node.mux.stream import MuxedStream

_READABLE: Final = (StreamState.OPEN, StreamState.INIT, StreamState.CLOSE_WRITE, StreamState.CLOSE_BOTH)
_WRITABLE: Final = (StreamState.OPEN, StreamState.INIT, StreamState.CLOSE_READ)
_AFTER_END: Final = {StreamState.OPEN: StreamState.CLOSE_READ, StreamState.CLOSE_WRITE: StreamState.CLOSE_BOTH}
_AFTER_CLOSE: Final = {StreamState.OPEN: StreamState.CLOSE_WRITE, StreamState.CLOSE_READ: StreamState.CLOSE_BOTH}

_plain_read: Final = NetStream.read
_plain_write: Final = NetStream.write


async def lean_read(self: NetStream, n: int | None = None) -> bytes:
    """At most `n` bytes. StreamEOF, StreamReset."""
    muxed = self.muxed_stream
    if not isinstance(muxed, MuxedStream) or self._state not in _READABLE:
        return await _plain_read(self, n)
    try:
        return await muxed.read(n)
    except MuxedStreamEOF as error:
        self._state = _AFTER_END.get(self._state, self._state)
        raise StreamEOF from error
    except MuxedStreamReset as error:
        self._state = StreamState.RESET
        raise StreamReset from error


async def lean_write(self: NetStream, data: bytes) -> None:
    """Everything. StreamClosed, StreamReset."""
    muxed = self.muxed_stream
    if not isinstance(muxed, MuxedStream) or self._state not in _WRITABLE:
        await _plain_write(self, data)
        return
    try:
        await muxed.write(data)
    except MuxedStreamClosed as error:
        self._state = _AFTER_CLOSE.get(self._state, self._state)
        raise StreamClosed from error
    except MuxedStreamReset as error:
        self._state = StreamState.RESET
        raise StreamReset from error
