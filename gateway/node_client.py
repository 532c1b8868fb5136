"""The gateway's line to its node: requests and streams over the node's control socket, in asyncio.

One connection carries all requests and comes back by itself when the node restarts. Each stream has a connection of its
own, so that a slow reader holds up the node's writer of that stream and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final, Self

import msgspec

from protocol.errors import LocalError, ShoalError, Unavailable

FRAME_BYTES_MAX: Final = 8 << 20
"""Length limit of one frame on the control socket, 8 MiB."""

BACKOFF_FIRST_S: Final = 0.05
BACKOFF_LAST_S: Final = 2.0
"""Between two tries to reach the node: from 50 ms, doubling, to 2 s."""

log = logging.getLogger("gateway.node")
Plain = dict[str, object]


class NodeError(ShoalError):
    """The node answered with an error. `fault` says whose: caller, remote, local or unavailable."""

    def __init__(self, detail: str, *, code: str, fix: str, fault: str, numbers: dict[str, int | str]) -> None:
        super().__init__(detail, code=code, fix=fix)
        self.fault = fault
        self.numbers = numbers


class ErrorFrame(msgspec.Struct):
    """The `error` of a reply."""

    detail: str
    code: str = "error"
    fix: str = ""
    fault: str = "local"
    numbers: dict[str, int | float | str] = {}


class Frame(msgspec.Struct):
    """Anything that the node sends."""

    id: int
    result: dict[str, object] | None = None
    item: dict[str, object] | None = None
    error: ErrorFrame | None = None
    end: bool = False


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Frame)


def pack(frame: Plain) -> bytes:
    """A frame as it travels: 4-byte big-endian length, then MessagePack."""
    body = _encoder.encode(frame)
    return len(body).to_bytes(4, "big") + body


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """The next frame. Raises IncompleteReadError at the end, LocalError when the node breaks the framing."""
    size = int.from_bytes(await reader.readexactly(4), "big")
    if size > FRAME_BYTES_MAX:
        raise LocalError(
            f"the node sent a frame of {size} bytes, at most {FRAME_BYTES_MAX} are allowed", code="node_protocol"
        )
    try:
        return _decoder.decode(await reader.readexactly(size))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LocalError(f"the node sent a malformed frame: {error}", code="node_protocol") from error


def _raised(error: ErrorFrame) -> NodeError:
    numbers: dict[str, int | str] = {
        name: value if isinstance(value, int | str) else str(value) for name, value in error.numbers.items()
    }
    return NodeError(error.detail, code=error.code, fix=error.fix, fault=error.fault, numbers=numbers)


class NodeClient:
    """Asks the node. `async with client:` keeps the connection; every method may be called from any task."""

    def __init__(self, socket: Path, deadline_s: float, grace_s: float) -> None:
        self._socket = socket
        self._deadline_s = deadline_s
        self._grace_s = grace_s
        self._waiting: dict[int, asyncio.Future[Frame]] = {}
        self._last_id = 0
        self._writer: asyncio.StreamWriter | None = None
        self._connected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.last_error = "not connected yet"

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._stay_connected(), name="node-client")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @property
    def is_connected(self) -> bool:
        """Whether the node answers right now."""
        return self._connected.is_set()

    async def call(self, method: str, params: Plain | None = None, deadline_s: float | None = None) -> Plain:
        """One request, one result. Raises NodeError, or Unavailable when the node cannot be asked in time."""
        deadline = self._deadline_s if deadline_s is None else deadline_s
        await self._wait_connected(min(self._grace_s, deadline))
        self._last_id += 1
        request_id = self._last_id
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = answer
        try:
            async with asyncio.timeout(deadline):
                await self._send({"id": request_id, "method": method, "params": params or {}})
                frame = await answer
        except TimeoutError:
            await self._give_up(request_id)
            raise Unavailable(
                f"the node did not answer {method} within {deadline:g} s",
                code="node_timeout",
                fix="Try again; look at the node's log if it stays so.",
            ) from None
        finally:
            self._waiting.pop(request_id, None)
        if frame.error is not None:
            raise _raised(frame.error)
        return frame.result or {}

    async def stream(self, method: str, params: Plain | None = None) -> AsyncGenerator[Plain]:
        """Items until the node ends the stream. Close the iterator to cancel. Raises NodeError or Unavailable."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._socket))
        except OSError as error:
            raise self._unreachable(str(error)) from error
        try:
            writer.write(pack({"id": 1, "method": method, "params": params or {}}))
            await writer.drain()
            while True:
                frame = await read_frame(reader)
                if frame.error is not None:
                    raise _raised(frame.error)
                if frame.item is not None:
                    yield frame.item
                if frame.end:
                    return
        except (OSError, asyncio.IncompleteReadError) as error:
            raise self._unreachable(f"the connection was lost during {method}") from error
        finally:
            writer.close()

    async def taken_over(self, method: str, params: Plain) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of its own that carries raw bytes once the method is answered. Raises like `call`; the caller
        bounds the time and closes the writer."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._socket))
        except OSError as error:
            raise self._unreachable(str(error)) from error
        try:
            writer.write(pack({"id": 1, "method": method, "params": params}))
            await writer.drain()
            frame = await read_frame(reader)
            if frame.error is not None:
                raise _raised(frame.error)
        except (OSError, asyncio.IncompleteReadError) as error:
            writer.close()
            raise self._unreachable(f"the connection was lost during {method}") from error
        except BaseException:
            writer.close()
            raise
        return reader, writer

    async def _send(self, frame: Plain) -> None:
        if self._writer is None:
            raise self._unreachable(self.last_error)
        self._writer.write(pack(frame))
        try:
            await self._writer.drain()
        except OSError as error:
            raise self._unreachable(str(error)) from error

    async def _give_up(self, request_id: int) -> None:
        with contextlib.suppress(Unavailable):
            await self._send({"id": request_id, "cancel": True})

    async def _wait_connected(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._connected.wait()
        except TimeoutError:
            raise self._unreachable(self.last_error) from None

    def _unreachable(self, why: str) -> Unavailable:
        return Unavailable(
            f"the node cannot be reached: {why}",
            code="node_unreachable",
            fix="Start the node, or name its control socket with --socket.",
        )

    async def _stay_connected(self) -> None:
        pause = BACKOFF_FIRST_S
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(str(self._socket))
                self._connected.set()
                pause = BACKOFF_FIRST_S
                await self._read(reader)
            except asyncio.IncompleteReadError:
                self.last_error = "the node closed the connection"
            except (OSError, LocalError) as error:
                self.last_error = str(error)
            finally:
                self._lost()
            log.debug("node connection: %s; next try in %.2f s", self.last_error, pause)
            await asyncio.sleep(pause)
            pause = min(BACKOFF_LAST_S, pause * 2)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            frame = await read_frame(reader)
            answer = self._waiting.pop(frame.id, None)
            if answer is not None and not answer.done():
                answer.set_result(frame)

    def _lost(self) -> None:
        self._connected.clear()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(
                    Unavailable(
                        "the node went away before it answered",
                        code="node_lost",
                        fix="Try again: with the same Idempotency-Key it happens once.",
                    )
                )
        self._waiting.clear()
