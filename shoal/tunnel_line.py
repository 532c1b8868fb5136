"""The renter's line to one port or shell of a running chunk: through a gateway, or through an own node.

A line carries bytes; what they mean is the frames of specs/24-tunnels.md. Everything here runs under trio.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote, urlencode, urlsplit

import msgspec
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)

from node.control_client import FRAME_BYTES_MAX, Frame, raised
from protocol.errors import Unavailable
from shoal.session import problem_error

OPEN_S: Final = 65.0
"""Seconds until a line is open or refused; the gateway itself gives up on its node at 60."""

CLOSE_S: Final = 2.0
"""Seconds for a goodbye at the end of a line."""

READ_BYTES: Final = 64 << 10
MESSAGE_BYTES_MAX: Final = 1 << 20
"""One WebSocket message; a gateway sends 64 KiB."""

NORMAL: Final = 1000
"""WebSocket's code for an end in good order (RFC 6455, 7.4.1)."""

_frame: Final = msgspec.msgpack.Decoder(Frame)


@dataclass(frozen=True, slots=True)
class Target:
    """What to reach. `port` 0 = a shell."""

    job: str
    chunk: int
    port: int = 0
    command: str = ""
    has_terminal: bool = True
    rows: int = 24
    columns: int = 80
    term: str = "xterm-256color"

    def at(self, port: int) -> Target:
        """The same chunk at another port."""
        return replace(self, port=port)


class Line(Protocol):
    """An open line. Raises Unavailable when it breaks."""

    async def send(self, data: bytes) -> None: ...

    async def receive(self) -> bytes:
        """Some bytes, b'' at the end."""
        ...


class Caller(Protocol):
    """Opens lines. Raises Refused, Unavailable or a fault, in the provider's own words."""

    def opened(self, target: Target) -> AbstractAsyncContextManager[Line]: ...


@dataclass(frozen=True, slots=True)
class GatewayCaller:
    """Lines through a gateway: one WebSocket each."""

    url: str
    token: str

    @asynccontextmanager
    async def opened(self, target: Target) -> AsyncIterator[Line]:
        """A line for the block."""
        stream = await self._dialled()
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_after(OPEN_S):
                    socket = await self._shaken(nursery, stream, target)
                yield SocketLine(socket)
                with trio.move_on_after(CLOSE_S):
                    await socket.aclose()
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            error = only_error(group)
            if isinstance(error, ConnectionRejected):  # Raised by a task of the library, so it comes out here.
                raise problem_error(error.status_code, error.body or b"") from None
            raise error from None
        finally:
            await trio.aclose_forcefully(stream)

    async def _dialled(self) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
        parts = urlsplit(self.url)
        is_secure = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if is_secure else 80)
        try:
            if is_secure:
                return await trio.open_ssl_over_tcp_stream(host, port)
            return await trio.open_tcp_stream(host, port)
        except OSError as error:
            raise self._away(error) from error

    async def _shaken(
        self, nursery: trio.Nursery, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream], target: Target
    ) -> WebSocketConnection:
        parts = urlsplit(self.url)
        path = f"{parts.path}/v1/jobs/{quote(target.job, safe='')}/chunks/{target.chunk}/{_tail(target)}"
        headers = [(b"Authorization", b"Bearer " + self.token.encode())] if self.token else []
        try:
            return await wrap_client_stream(
                nursery, stream, parts.netloc, path, extra_headers=headers, max_message_size=MESSAGE_BYTES_MAX,
                receive_buffer_size=READ_BYTES,
            )  # fmt: skip
        except (HandshakeError, trio.BrokenResourceError) as error:
            if isinstance(error, ConnectionRejected):
                raise
            raise self._away(error) from error

    def _away(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"no gateway answers at {self.url}: {str(error) or type(error).__name__}", code="gateway_unreachable",
            fix="Check --gateway; `shoal devnet status` shows whether a local network runs.",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SocketLine:
    """A line over a WebSocket."""

    socket: WebSocketConnection

    async def send(self, data: bytes) -> None:
        """Returns when there is room for more."""
        try:
            await self.socket.send_message(data)
        except ConnectionClosed as error:
            raise _lost("gateway") from error

    async def receive(self) -> bytes:
        """b'' when the gateway has closed the line in good order."""
        try:
            message = await self.socket.get_message()
        except ConnectionClosed as error:
            if error.reason is not None and error.reason.code == NORMAL:
                return b""
            raise _lost("gateway") from error
        return message if isinstance(message, bytes) else b""


@dataclass(frozen=True, slots=True)
class NodeCaller:
    """Lines through an own node: one connection to its control socket each."""

    path: Path

    @asynccontextmanager
    async def opened(self, target: Target) -> AsyncIterator[Line]:
        """A line for the block."""
        try:
            stream = await trio.open_unix_socket(self.path)
        except OSError as error:
            raise Unavailable(
                f"no node answers at {self.path} ({error.strerror})", code="node_unreachable",
                fix=f"Start one with `shoal node run --data {self.path.parent}`, or name the right --data.",
            ) from error  # fmt: skip
        async with stream:
            line = StreamLine(stream)
            body = msgspec.msgpack.encode({"id": 1, "method": "tunnel.open", "params": msgspec.to_builtins(target)})
            await line.send(len(body).to_bytes(4, "big") + body)
            with trio.move_on_after(OPEN_S) as patience:
                await line.answered()
            if patience.cancelled_caught:
                raise Unavailable("the node did not answer in time", code="node_timeout", fix="Try again.")
            yield line


class StreamLine:
    """A line over a Unix socket."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._early = b""

    async def answered(self) -> None:
        """Read the node's answer; raise what it says."""
        data = await self._at_least(4)
        size = int.from_bytes(data[:4], "big")
        if size > FRAME_BYTES_MAX:
            raise _lost("node")
        data = await self._at_least(4 + size)
        self._early = data[4 + size :]
        frame = _frame.decode(data[4 : 4 + size])
        if frame.error is not None:
            raise raised(frame.error)

    async def send(self, data: bytes) -> None:
        """Returns when there is room for more."""
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise _lost("node") from error

    async def receive(self) -> bytes:
        """b'' when the node has closed the line."""
        if self._early:
            early, self._early = self._early, b""
            return early
        try:
            return bytes(await self._stream.receive_some(READ_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise _lost("node") from error

    async def _at_least(self, size: int) -> bytes:
        while len(self._early) < size:
            data = bytes(await self._stream.receive_some(READ_BYTES))
            if not data:
                raise _lost("node")
            self._early += data
        return self._early


def only_error(group: BaseExceptionGroup) -> BaseException:
    """The one error inside nested groups, or the group when there are several."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return group if isinstance(error, BaseExceptionGroup) else error


def _tail(target: Target) -> str:
    """The end of the path, and the query."""
    if target.port:
        return f"ports/{target.port}"
    query: dict[str, str | int] = {"terminal": "true" if target.has_terminal else "false", "term": target.term}
    query |= {"rows": target.rows, "columns": target.columns}
    if target.command:
        query["command"] = target.command
    return f"shell?{urlencode(query)}"


def _lost(what: str) -> Unavailable:
    return Unavailable(f"the {what} closed the tunnel", code="tunnel_lost", fix="Connect again.")
