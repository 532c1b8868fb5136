"""Local ports that lead into a running chunk, and one line over standard input and output. Runs under trio.

Every local connection opens a line of its own, so a chunk that has moved is found where it is now.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from protocol.errors import Refused, RemoteViolation, ShoalError, Unavailable
from protocol.overlay.tunnel_frames import PAYLOAD_BYTES_MAX, Frame, FrameCutter, Kind, fault_decoder
from protocol.units import PeerId
from protocol.wire import decode
from shoal.tunnel_line import Caller, Line, Target, only_error

PATIENCE_S: Final = 20.0
"""Seconds that a local connection waits for a chunk that is between two providers: a dead one is fenced in about 5."""

PAUSE_S: Final = 0.5
CONNECTIONS_MAX: Final = 64
"""Local connections at the same time; more wait in the backlog."""

PASSING: Final = frozenset({"chunk_not_running", "provider_unreachable", "tunnel_lost", "no_answer", "no_entry"})
"""Causes that pass by themselves while a chunk starts or moves."""

NOBODY: Final = PeerId(bytes(32))
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Forward:
    """A local port and the chunk's port behind it. `local` 0 = any free one."""

    local: int
    remote: int


class Bytes(Protocol):
    """A local connection."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray: ...

    async def send_all(self, data: bytes) -> None: ...

    async def send_eof(self) -> None: ...


def forward_of(text: str) -> Forward:
    """`8080:8888`, or `9000` for the same number on both sides.

    >>> forward_of("8080:8888"), forward_of("9000")
    (Forward(local=8080, remote=8888), Forward(local=9000, remote=9000))
    """
    local, _, remote = text.rpartition(":")
    numbers = [local or remote, remote]
    if not all(part.isascii() and part.isdecimal() and int(part) <= 65_535 for part in numbers) or not int(remote):
        raise Refused(
            f"{text!r:.60} is no port and no pair of ports",
            code="usage",
            fix="Write 8888, or 8080:8888 for another local port.",
        )
    return Forward(int(numbers[0]), int(numbers[1]))


class Forwarder:
    """Serves local ports until cancelled. `say` tells a person what becomes of connections."""

    def __init__(self, caller: Caller, target: Target, say: Say) -> None:
        self._caller = caller
        self._target = target
        self._say = say
        self._limit = trio.CapacityLimiter(CONNECTIONS_MAX)

    async def probe(self, port: int) -> None:
        """Refused when the port can never be reached; what may pass is only said."""
        try:
            async with self._caller.opened(self._target.at(port)):
                return
        except Unavailable as error:
            self._say(f"port {port}: {error.detail}; connections will try again")

    async def serve(self, address: str, forwards: tuple[Forward, ...], ready: Callable[[list[int]], None]) -> None:
        """Listen, tell the local ports in order, and forward. Unavailable when a port is taken."""
        listeners = [await _listening(address, forward.local) for forward in forwards]
        ready([int(listener.socket.getsockname()[1]) for listener in listeners])
        async with trio.open_nursery() as nursery:
            for listener, forward in zip(listeners, forwards, strict=True):
                nursery.start_soon(self._accept, listener, forward.remote)

    async def _accept(self, listener: trio.SocketListener, port: int) -> None:
        async def connected(stream: trio.SocketStream) -> None:
            async with self._limit, stream:
                await self._carry(stream, port)

        await trio.serve_listeners(connected, [listener])

    async def _carry(self, stream: trio.SocketStream, port: int) -> None:
        try:
            await self.once(stream, port)
        except ShoalError as error:
            self._say(f"port {port}: {error.detail}. {error.fix}".strip())
        except trio.BrokenResourceError:
            self._say(f"port {port}: the local program broke the connection")

    async def once(self, stream: Bytes, port: int) -> None:
        """One connection, from opening to both ends. Raises what ended it early."""
        ends = trio.current_time() + PATIENCE_S
        while True:
            has_opened = False
            try:
                async with self._caller.opened(self._target.at(port)) as line:
                    has_opened = True
                    await joined(stream, line)
                    return
            except Unavailable as error:
                if has_opened or error.code not in PASSING or trio.current_time() > ends:
                    raise
            await trio.sleep(PAUSE_S)


async def joined(stream: Bytes, line: Line) -> None:
    """Copy both ways until both have ended; raises the reason when the far side gives one."""
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_up, stream, line)
            await _down(stream, line)
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise only_error(group) from None


async def _up(stream: Bytes, line: Line) -> None:
    while data := await stream.receive_some(PAYLOAD_BYTES_MAX):
        await line.send(Frame(Kind.DATA, bytes(data)).pack())
    await line.send(Frame(Kind.END).pack())


async def _down(stream: Bytes, line: Line) -> None:
    async def take(frame: Frame) -> None:
        if frame.kind is Kind.DATA:
            await stream.send_all(frame.payload)
        elif frame.kind is Kind.END:
            await stream.send_eof()

    await each_frame(line, Kind.END, take)


async def each_frame(line: Line, last: Kind, take: Callable[[Frame], Awaitable[None]]) -> None:
    """Hand over every frame until the line ends; a FAULT is raised as the error that it is, and so is an end before a
    frame of kind `last`."""
    cutter, has_ended = FrameCutter(NOBODY), False
    while data := await line.receive():
        try:
            frames = cutter.feed(data)
        except RemoteViolation as error:
            raise Unavailable(f"the other side speaks no tunnel: {error.rule}", code="tunnel_protocol") from error
        for frame in frames:
            if frame.kind is Kind.FAULT:
                raise decode(frame.payload, fault_decoder, NOBODY).error()
            has_ended |= frame.kind is last
            await take(frame)
    if not has_ended:
        raise Unavailable("the tunnel broke off", code="tunnel_lost", fix="Connect again; the chunk may have moved.")


async def _listening(address: str, port: int) -> trio.SocketListener:
    try:
        return (await trio.open_tcp_listeners(port, host=address))[0]
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {address} port {port}: {error.strerror}",
            code="port_taken",
            fix=f"Choose another local port, like {port + 10_000 if port < 50_000 else port - 10_000}:{port}.",
        ) from error


class Standard:
    """Standard input and output as one connection. Read and written in threads: they may be files or terminals."""

    def __init__(self, reading: int = 0, writing: int = 1) -> None:
        self._reading = reading
        self._writing = writing

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """b'' at the end of the input."""
        return await trio.to_thread.run_sync(
            os.read, self._reading, max_bytes or PAYLOAD_BYTES_MAX, abandon_on_cancel=True
        )

    async def send_all(self, data: bytes) -> None:
        """Everything; BrokenResourceError when nobody reads."""
        left = memoryview(data)
        while left:
            try:
                left = left[await trio.to_thread.run_sync(os.write, self._writing, left) :]
            except OSError as error:
                raise trio.BrokenResourceError from error

    async def send_eof(self) -> None:
        """The program behind a pipe sees the end when this process does."""
