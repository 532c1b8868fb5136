"""The control socket: how the owner's tools, the local page and a gateway talk to a running node.

Frames are a 4-byte big-endian length and a MessagePack map. A request is `{id, method, params}`; the answer is
`{id, result}`, `{id, error}` or, for streams, `{id, item}` … `{id, end}`. `{id, cancel: true}` ends a request early.
Only processes of the node's own user, or root, are let in. Methods and their parameters: `node.control_methods`.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Protocol, TypeVar

import msgspec
import trio
from msgspec import Meta, Struct

from protocol.errors import LocalError, Refused, RemoteViolation, ShoalError, Unavailable

if TYPE_CHECKING:
    from trio_typing import TaskStatus  # The stubs that libp2p brings for trio have it here.

FRAME_BYTES_MAX: Final = 8 << 20
"""One frame, 8 MiB: a job of 4096 chunks with its money lines, or one part of a blob, fits."""

CONNECTIONS_MAX: Final = 128
"""Clients at the same time: a gateway's streams take one each; beyond that somebody leaks them."""

REQUESTS_MAX: Final = 64
"""Requests in flight on one connection."""

WRITE_DEADLINE_S: Final = 10.0
"""Seconds that a client may leave a frame unread before its connection is closed: it must not hold memory for ever."""

SOCKET_PATH_BYTES_MAX: Final = 107
"""Linux keeps the address of a Unix socket in 108 bytes, the last of them zero."""

_CREDENTIALS: Final = struct.Struct("3i")
_EMPTY_MAP: Final = msgspec.Raw(b"\x80")

Plain = dict[str, object]
"""JSON-able values by name; `bytes` only under `data` and `receipt`."""

Emit = Callable[[Plain], Awaitable[None]]
"""Sends one item of a stream; returns when the client has room for it."""

P = TypeVar("P", bound=Struct)
log = logging.getLogger("node.control")


class Request(Struct, forbid_unknown_fields=True):
    """What a client sends."""

    id: Annotated[int, Meta(ge=0, le=2**53)]
    method: Annotated[str, Meta(max_length=64)] = ""
    params: msgspec.Raw = _EMPTY_MAP
    cancel: bool = False


class Carrier(Protocol):
    """What a connection becomes after a method that takes it over."""

    async def run(self, connection: trio.SocketStream, early: bytes) -> None:
        """Use the connection as bytes until done; `early` came behind the request. It is closed afterwards."""
        ...


TakeOver = Callable[[msgspec.Raw], Awaitable[tuple[Plain, Carrier]]]
"""Answers a method that keeps its connection: the result, and what happens then."""


@dataclass(frozen=True, slots=True)
class Handler:
    """One method: decodes its parameters and answers. Made by `unary`, `stream` or `takeover`."""

    run: Callable[[msgspec.Raw, Emit], Awaitable[Plain | None]]
    take_over: TakeOver | None = None


def unary(params: type[P], answer: Callable[[P], Awaitable[Plain]]) -> Handler:
    """A method with one result."""
    decoder = _params_decoder(params)

    async def run(raw: msgspec.Raw, emit: Emit) -> Plain:
        return await answer(_decoded(decoder, raw))

    return Handler(run)


def stream(params: type[P], follow: Callable[[P, Emit], Awaitable[None]]) -> Handler:
    """A method that emits items until it returns or the client has had enough."""
    decoder = _params_decoder(params)

    async def run(raw: msgspec.Raw, emit: Emit) -> None:
        await follow(_decoded(decoder, raw), emit)

    return Handler(run)


def takeover(params: type[P], take: Callable[[P], Awaitable[tuple[Plain, Carrier]]]) -> Handler:
    """A method whose result is the last frame on its connection, which carries raw bytes from then on."""
    decoder = _params_decoder(params)

    async def take_over(raw: msgspec.Raw) -> tuple[Plain, Carrier]:
        return await take(_decoded(decoder, raw))

    async def run(raw: msgspec.Raw, emit: Emit) -> None:
        fix = "Open a connection for it."
        raise Refused("this method takes a whole connection, and others run on it", code="connection_in_use", fix=fix)

    return Handler(run, take_over)


def error_map(error: ShoalError) -> Plain:
    """The `error` of a reply: {code, detail, fix, fault, numbers}."""
    match error:
        case Refused():
            fault, numbers = "caller", error.numbers
        case Unavailable():
            fault, numbers = "unavailable", {}
        case RemoteViolation():
            fault, numbers = "remote", {}
        case _:
            fault, numbers = "local", {}
    return {"code": error.code, "detail": error.detail, "fix": error.fix, "fault": fault, "numbers": numbers}


def pack(frame: Plain) -> bytes:
    """A frame as it travels. Refused (`over_limit`) when it is too long for one."""
    body = msgspec.msgpack.encode(frame)
    if len(body) > FRAME_BYTES_MAX:
        raise Refused(
            f"the answer has {len(body)} bytes, one frame holds {FRAME_BYTES_MAX}",
            code="over_limit",
            fix="Ask for less at once.",
            numbers={"bytes": len(body), "bytes_max": FRAME_BYTES_MAX},
        )
    return len(body).to_bytes(4, "big") + body


class ControlServer:
    """Serves a method table on a Unix socket. The caller holds the lock of the data directory (`node.data_lock`)."""

    def __init__(self, path: Path, methods: Mapping[str, Handler]) -> None:
        self._path = path
        self._methods = methods
        self._connections = 0

    async def serve(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Started (nursery.start) once clients can connect; the socket file goes with it."""
        listening = _listen(self._path)
        mine = self._path.stat().st_ino
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    accepted, _ = await listening.accept()
                    nursery.start_soon(self._converse, trio.SocketStream(accepted))
        finally:
            listening.close()
            _remove_if_mine(self._path, mine)

    async def _converse(self, connection: trio.SocketStream) -> None:
        async with connection:
            if not _is_ours(connection.socket):
                log.warning("control socket: refused a client of another user")
                return
            talk = _Conversation(connection, self._methods)
            if self._connections >= CONNECTIONS_MAX:
                await talk.send({"id": 0, "error": error_map(_busy("clients", CONNECTIONS_MAX))})
                return
            self._connections += 1
            try:
                await talk.run()
            finally:
                self._connections -= 1


class _Conversation:
    """One client. Requests run side by side; frames leave one at a time."""

    def __init__(self, connection: trio.SocketStream, methods: Mapping[str, Handler]) -> None:
        self._connection = connection
        self._methods = methods
        self._running: dict[int, trio.CancelScope] = {}
        self._turn = trio.Lock()
        self._over = trio.CancelScope()
        self._decoder = msgspec.msgpack.Decoder(Request)

    async def run(self) -> None:
        buffer = bytearray()
        carrier: Carrier | None = None
        with self._over:
            async with trio.open_nursery() as nursery:
                while (body := await self._next_frame(buffer)) is not None:
                    try:
                        request = self._decoder.decode(body)
                    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                        await self._fail(0, Refused(f"malformed request: {error}", code="malformed", fix=_FRAME_FIX))
                        break
                    handler = self._methods.get(request.method)
                    if handler is None or handler.take_over is None or self._running or request.cancel:
                        await self._take(request, nursery)
                    elif carrier := await self._taken_over(request, handler.take_over):
                        break
                if carrier is None:
                    self._over.cancel()
            if carrier is not None:
                await carrier.run(self._connection, bytes(buffer))

    async def _taken_over(self, request: Request, take_over: TakeOver) -> Carrier | None:
        """What goes on with the connection; None when the method failed, which has been answered."""
        taken: list[Carrier] = []

        async def take(raw: msgspec.Raw, emit: Emit) -> Plain:
            result, carrier = await take_over(raw)
            taken.append(carrier)
            return result

        await self._answer(request, Handler(take), trio.CancelScope())
        return taken[0] if taken else None

    async def _take(self, request: Request, nursery: trio.Nursery) -> None:
        scope = self._running.get(request.id)
        if request.cancel:
            if scope is not None:
                scope.cancel()
        elif scope is not None:
            await self._fail(
                0, Refused(f"request id {request.id} is in use", code="id_in_use", fix="Count ids upwards.")
            )
        elif len(self._running) >= REQUESTS_MAX:
            await self._fail(request.id, _busy("requests in flight", REQUESTS_MAX))
        elif (handler := self._methods.get(request.method)) is None:
            fix = "Methods: " + ", ".join(sorted(self._methods)) + "."
            await self._fail(request.id, Refused(f"no method {request.method!r}", code="unknown_method", fix=fix))
        else:
            self._running[request.id] = scope = trio.CancelScope()
            nursery.start_soon(self._answer, request, handler, scope)

    async def _answer(self, request: Request, handler: Handler, scope: trio.CancelScope) -> None:
        async def emit(item: Plain) -> None:
            await self.send({"id": request.id, "item": item})

        last: Plain = {"id": request.id, "end": True}
        try:
            with scope:
                result = await handler.run(request.params, emit)
                if result is not None:
                    last = {"id": request.id, "result": result}
        except ShoalError as error:
            if isinstance(error, LocalError):
                log.error("control method %s failed: %s", request.method, error, exc_info=error)
            last = {"id": request.id, "error": error_map(error)}
        except Exception as error:
            log.error("control method %s failed", request.method, exc_info=error)
            bug = LocalError(
                f"{request.method} failed: {error!r}", code="internal", fix="Report it; the node's log has the rest."
            )
            last = {"id": request.id, "error": error_map(bug)}
        finally:
            self._running.pop(request.id, None)
        await self.send(last)

    async def _fail(self, request_id: int, error: ShoalError) -> None:
        await self.send({"id": request_id, "error": error_map(error)})

    async def send(self, frame: Plain) -> None:
        """One frame out. Shielded, so that a frame is written whole and `node.stop` gets its answer; when the client
        is gone or does not read, the conversation is over."""
        try:
            data = pack(frame)
        except Refused as error:
            data = pack({"id": frame["id"], "error": error_map(error)})
        with trio.CancelScope(deadline=trio.current_time() + WRITE_DEADLINE_S, shield=True) as deadline:
            try:
                async with self._turn:
                    await self._connection.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._over.cancel()
        if deadline.cancelled_caught:
            log.warning("a control client left a frame unread for %g s and was disconnected", WRITE_DEADLINE_S)
            self._over.cancel()
        await trio.lowlevel.checkpoint_if_cancelled()

    async def _next_frame(self, buffer: bytearray) -> bytes | None:
        """The next body; None at the end, or after a length that no frame may have."""
        if not await self._fill(buffer, 4):
            return None
        size = int.from_bytes(buffer[:4], "big")
        if size > FRAME_BYTES_MAX:
            limit = f"a frame of {size} bytes, at most {FRAME_BYTES_MAX} are allowed"
            await self._fail(0, Refused(limit, code="over_limit", fix=_FRAME_FIX, numbers={"bytes": size}))
            return None
        if not await self._fill(buffer, 4 + size):
            return None
        body = bytes(buffer[4 : 4 + size])
        del buffer[: 4 + size]
        return body

    async def _fill(self, buffer: bytearray, size: int) -> bool:
        while len(buffer) < size:
            try:
                data = await self._connection.receive_some(65_536)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return False
            if not data:
                return False
            buffer += data
        return True


_FRAME_FIX: Final = "A frame is a 4-byte big-endian length and a MessagePack map {id, method, params}."


def _busy(what: str, allowed: int) -> Unavailable:
    return Unavailable(f"more than {allowed} {what}", code="busy", fix="Close what is not needed and try again.")


def _params_decoder(params: type[P]) -> msgspec.msgpack.Decoder[P]:
    if not params.__struct_config__.forbid_unknown_fields:
        raise LocalError(f"{params.__name__} must forbid unknown fields", code="loose_params")
    return msgspec.msgpack.Decoder(params)


def _decoded(decoder: msgspec.msgpack.Decoder[P], raw: msgspec.Raw) -> P:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(
            f"bad parameters: {error}", code="bad_params", fix="Compare with the table of methods."
        ) from error


def _listen(path: Path) -> trio.socket.SocketType:
    """A listening socket that only our user can open. A file left by a dead node is replaced."""
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise Refused(
            f"{path} has {len(os.fsencode(path))} bytes, Linux allows a socket {SOCKET_PATH_BYTES_MAX}",
            code="path_too_long",
            fix="Choose a data directory with a shorter path (--data).",
            numbers={"bytes": len(os.fsencode(path)), "bytes_max": SOCKET_PATH_BYTES_MAX},
        )
    if path.is_symlink() or path.exists():
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise Refused(
                f"{path} exists and is no socket",
                code="path_in_use",
                fix="Move that file away, or choose another --data.",
            )
        path.unlink()
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        plain.bind(str(path))
        path.chmod(0o600)  # Before listen: until then nobody can connect.
        plain.listen(64)
    except OSError as error:
        plain.close()
        raise Unavailable(
            f"cannot open the control socket {path}: {error.strerror}",
            code="no_socket",
            fix="Choose a data directory on a local disk.",
        ) from error
    return trio.socket.from_stdlib_socket(plain)


def _remove_if_mine(path: Path, inode: int) -> None:
    try:
        if path.lstat().st_ino == inode:
            path.unlink()
    except FileNotFoundError:
        log.debug("somebody removed %s before us", path)


def _is_ours(connection: trio.socket.SocketType) -> bool:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(raw)[1] in (os.getuid(), 0)
