"""The control socket seen from the other side, for tools that may block: the command line, scripts and tests.

Imports neither trio nor the transport: asking a node a question must start faster than the node did.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec
from msgspec import Struct

from protocol.errors import Refused, ShoalError, Unavailable

FRAME_BYTES_MAX: Final = 8 << 20
"""The same limit as `node.control`, which this module must not import."""

PART_BYTES: Final = 4 << 20
"""One part of an upload or download, as `node.control_methods` allows."""

DEADLINE_S: Final = 30.0
"""Seconds of silence before a request is given up: a node that takes longer is stuck."""

Plain = dict[str, object]


class NodeFault(ShoalError):
    """The node answered that something else than the caller is wrong. `fault`: remote | local."""

    def __init__(self, detail: str, *, code: str, fix: str, fault: str) -> None:
        super().__init__(detail, code=code, fix=fix)
        self.fault = fault


class ErrorFrame(Struct):
    """The `error` of a reply."""

    detail: str
    code: str = "error"
    fix: str = ""
    fault: str = "local"
    numbers: dict[str, int | str] = {}


class Frame(Struct):
    """Anything that a node sends."""

    id: int
    result: dict[str, object] | None = None
    item: dict[str, object] | None = None
    error: ErrorFrame | None = None
    end: bool = False


_decoder: Final = msgspec.msgpack.Decoder(Frame)


class ControlClient:
    """One connection to a node, used by one thread: one request at a time."""

    def __init__(self, path: Path, deadline_s: float = DEADLINE_S) -> None:
        self._path = path
        self._last_id = 0
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.settimeout(deadline_s)
        try:
            self._connection.connect(str(path))
        except OSError as error:
            self._connection.close()
            raise _unreachable(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; requests that still run are cancelled by the node."""
        self._connection.close()

    def call(self, method: str, params: Plain | None = None) -> Plain:
        """One request, one result. Raises Refused, Unavailable or NodeFault as the node says."""
        for frame in self._frames(method, params):
            if frame.result is not None:
                return frame.result
            break
        raise NodeFault(
            f"the node ended {method} without a result",
            code="node_protocol",
            fix="Use node and tool of the same version.",
            fault="local",
        )

    def iter_stream(self, method: str, params: Plain | None = None) -> Iterator[Plain]:
        """Items until the node ends the stream; waits for the next one as long as it takes."""
        deadline = self._connection.gettimeout()
        self._connection.settimeout(None)
        try:
            for frame in self._frames(method, params):
                if frame.item is not None:
                    yield frame.item
                if frame.end:
                    return
        finally:
            if self._connection.fileno() >= 0:
                self._connection.settimeout(deadline)

    def upload(self, data: bytes) -> str:
        """Give the node a blob; returns its digest as hexadecimal text."""
        upload = self.call("blob.begin", {"size": len(data)})["upload"]
        for offset in range(0, len(data), PART_BYTES):
            self.call("blob.part", {"upload": upload, "offset": offset, "data": data[offset : offset + PART_BYTES]})
        return str(self.call("blob.end", {"upload": upload})["digest"])

    def download(self, digest: str) -> Iterator[bytes]:
        """The bytes of a blob, part by part."""
        offset = 0
        while True:
            answer = self.call("blob.get", {"digest": digest, "offset": offset, "size": PART_BYTES})
            data, total = answer["data"], answer["total"]
            if not isinstance(data, bytes) or not isinstance(total, int) or (not data and offset < total):
                raise NodeFault(
                    f"blob.get answered without data at {offset}", code="node_protocol", fix="", fault="local"
                )
            if data:
                yield data
            offset += len(data)
            if offset >= total:
                return

    def _frames(self, method: str, params: Plain | None) -> Iterator[Frame]:
        self._last_id += 1
        body = msgspec.msgpack.encode({"id": self._last_id, "method": method, "params": params or {}})
        if len(body) > FRAME_BYTES_MAX:
            raise Refused(
                f"the request has {len(body)} bytes, at most {FRAME_BYTES_MAX} are allowed",
                code="over_limit",
                fix="Send files as blobs.",
            )
        try:
            self._connection.sendall(len(body).to_bytes(4, "big") + body)
            while True:
                frame = self._read()
                if frame.error is not None and frame.id in (0, self._last_id):
                    raise raised(frame.error)
                if frame.id == self._last_id:
                    yield frame
        except TimeoutError as error:
            fix = "Try again; if it stays so, look at the node's log."
            raise Unavailable(f"the node did not answer {method} in time", code="node_timeout", fix=fix) from error
        except (OSError, EOFError) as error:
            fix = "Look at the node's log, and start it again with `shoal node run`."
            raise Unavailable(f"the node went away during {method}", code="node_lost", fix=fix) from error

    def _read(self) -> Frame:
        size = int.from_bytes(self._exactly(4), "big")
        if size > FRAME_BYTES_MAX:
            raise NodeFault(
                f"the node sent a frame of {size} bytes",
                code="node_protocol",
                fix="Is this a node's socket?",
                fault="local",
            )
        try:
            return _decoder.decode(self._exactly(size))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NodeFault(
                f"the node sent a malformed frame: {error}",
                code="node_protocol",
                fix="Is this a node's socket?",
                fault="local",
            ) from error

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._connection.recv(min(size - len(data), 1 << 20))
            if not part:
                raise EOFError
            data += part
        return bytes(data)


def raised(error: ErrorFrame) -> ShoalError:
    """The exception for an error of the node."""
    if error.fault == "caller":
        return Refused(error.detail, code=error.code, fix=error.fix, numbers=error.numbers)
    if error.fault == "unavailable":
        return Unavailable(error.detail, code=error.code, fix=error.fix)
    return NodeFault(error.detail, code=error.code, fix=error.fix, fault=error.fault)


def _unreachable(path: Path, error: OSError) -> Unavailable:
    if isinstance(error, PermissionError):
        fix = "Use the account that runs the node."
    elif isinstance(error, FileNotFoundError | ConnectionRefusedError):
        fix = f"Start one with `shoal node run --data {path.parent}`, or name the right --data."
    else:
        fix = "Name the data directory of a running node with --data."
    return Unavailable(f"no node answers at {path} ({error.strerror or error})", code="node_unreachable", fix=fix)
