"""Frames on a stream: a 4-byte big-endian length, then a message. Spec: specs/03-wire.md."""

from __future__ import annotations

from typing import Final

import trio
from libp2p.abc import INetStream

from node.libp2p_rim import rim
from protocol.errors import RemoteViolation, Unavailable
from protocol.units import KIB, PeerId
from protocol.wire import MESSAGE_BYTES_MAX

LENGTH_BYTES: Final = 4
"""Big-endian length in front of every frame."""

READ_BYTES: Final = 64 * KIB
"""One read takes what one write of the other side coalesced."""

WRITE_S: Final = 10.0
"""A write that takes longer means that the other side is gone or stuck: the connection is given up."""


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
