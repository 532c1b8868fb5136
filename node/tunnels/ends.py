"""What a tunnel ends in at the provider: a connection to a port of the chunk, or a shell beside it.

An end gives frames and takes frames; the pump does not know which kind it has. Spec: specs/24-tunnels.md.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
from typing import Final, Protocol

import trio

from node.executors.door import Door
from node.tunnels.namespaces import ENTER_S, Keeper, entered, exit_code
from protocol.errors import Unavailable
from protocol.overlay.tunnel import OpenShell
from protocol.overlay.tunnel_frames import PAYLOAD_BYTES_MAX, Frame, Kind, exit_frame

CONNECT_S: Final = 5.0
"""Seconds to connect within one machine: only a full backlog takes any time."""

_END_OF_INPUT: Final = b"\x04"


class End(Protocol):
    """One side of a tunnel that is not the network. Raises Unavailable when it breaks."""

    async def run(self) -> None:
        """Whatever has to happen all the time while the tunnel is open."""
        ...

    async def next(self) -> Frame | None:
        """The next frame for the other side; None when there will be no more."""
        ...

    async def take(self, frame: Frame) -> None:
        """A frame of the other side; returns when it has been taken."""
        ...

    async def close(self) -> None:
        """Leave nothing behind."""
        ...


class Sockets:
    """Connections into one task, all made by one process inside."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._keeper: Keeper | None = None
        self._turn = trio.Lock()

    async def connect(self, port: int) -> PortEnd:
        """A connection to a port of the task's loopback. Unavailable while nothing listens there."""
        for family, host in ((b"4", "127.0.0.1"), (b"6", "::1")):
            made = await self._socket(family)
            try:
                with trio.fail_after(CONNECT_S):
                    await made.connect((host, port))
            except (OSError, trio.TooSlowError):
                made.close()
                continue
            except BaseException:
                made.close()
                raise
            return PortEnd(trio.SocketStream(made))
        raise Unavailable(
            f"nothing listens on port {port} of the chunk",
            code="nothing_listens",
            fix="Wait until the program has started, and let it listen on 127.0.0.1; the job's log tells more.",
        )

    async def _socket(self, family: bytes) -> trio.socket.SocketType:
        async with self._turn:
            if self._keeper is None:
                self._keeper = await entered(self._door, None)
            keeper = self._keeper
            try:
                with trio.fail_after(ENTER_S):
                    await keeper.line.send(family)
                    answer, handed = await keeper.receive(1)
                if answer != family or len(handed) != 1:
                    raise Unavailable("the sandbox has no loopback", code="no_entry", fix="Ask the owner of the host.")
            except (OSError, trio.TooSlowError) as error:
                await self._end()
                raise Unavailable(f"the sandbox cannot be entered: {error!r}", code="no_entry") from error
            except BaseException:
                await self._end()  # The answer to this question must not be taken for one to the next.
                raise
        made = socket.socket(fileno=handed[0])
        made.setblocking(False)
        return trio.socket.from_stdlib_socket(made)

    async def close(self) -> None:
        """End the process inside; connections that it made go on."""
        async with self._turn:
            await self._end()

    async def _end(self) -> None:
        if self._keeper is not None:
            keeper, self._keeper = self._keeper, None
            await keeper.close()


class PortEnd:
    """One connection to a port."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._is_done = False

    async def run(self) -> None:
        """Nothing: `next` reads when it is asked."""

    async def next(self) -> Frame | None:
        if self._is_done:
            return None
        try:
            data = await self._stream.receive_some(PAYLOAD_BYTES_MAX)
        except trio.BrokenResourceError as error:
            raise _broken(error) from error
        self._is_done = not data
        return Frame(Kind.DATA, bytes(data)) if data else Frame(Kind.END)

    async def take(self, frame: Frame) -> None:
        try:
            if frame.kind is Kind.DATA:
                await self._stream.send_all(frame.payload)
            elif frame.kind is Kind.END:
                await self._stream.send_eof()
        except trio.BrokenResourceError as error:
            raise _broken(error) from error

    async def close(self) -> None:
        await trio.aclose_forcefully(self._stream)


class ShellEnd:
    """A program in the sandbox, with a terminal of its own or with three pipes."""

    def __init__(self, keeper: Keeper, handed: list[int], has_terminal: bool) -> None:
        self._keeper = keeper
        self._terminal = handed[0] if has_terminal else -1
        streams = [trio.lowlevel.FdStream(descriptor) for descriptor in handed]
        self._input = streams[0]
        self._outputs = [(Kind.DATA, streams[0])] if has_terminal else list(zip(_KINDS, streams[1:], strict=True))
        self._streams = streams
        self._frames_in, self._frames = trio.open_memory_channel[Frame](0)

    async def run(self) -> None:
        """Read the program's outputs until all are closed, then learn how it ended."""
        async with self._frames_in:
            async with trio.open_nursery() as nursery:
                for kind, stream in self._outputs:
                    nursery.start_soon(self._read, kind, stream)
            await self._frames_in.send(Frame(Kind.END))
            answer, _ = await self._keeper.receive(0)
            await self._frames_in.send(exit_frame(exit_code(answer)))

    async def _read(self, kind: Kind, stream: trio.lowlevel.FdStream) -> None:
        try:
            while data := await stream.receive_some(PAYLOAD_BYTES_MAX):
                await self._frames_in.send(Frame(kind, bytes(data)))
        except trio.BrokenResourceError:
            return  # A terminal ends with an error when its last program has closed it.

    async def next(self) -> Frame | None:
        try:
            return await self._frames.receive()
        except trio.EndOfChannel:
            return None

    async def take(self, frame: Frame) -> None:
        try:
            if frame.kind is Kind.DATA:
                await self._input.send_all(frame.payload)
            elif frame.kind is Kind.RESIZE and self._terminal >= 0:
                fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *frame.size, 0, 0))
            elif frame.kind is Kind.END and self._terminal >= 0:
                await self._input.send_all(_END_OF_INPUT)
            elif frame.kind is Kind.END:
                await self._input.aclose()
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            return  # The program reads no more; how it ended is told by `next`.

    async def close(self) -> None:
        for stream in self._streams:
            await trio.aclose_forcefully(stream)
        await self._keeper.close()


_KINDS: Final = (Kind.DATA, Kind.STDERR)


async def shell(door: Door, wanted: OpenShell) -> ShellEnd:
    """A program inside the task, started. Refused or Unavailable like `entered`."""
    keeper = await entered(door, wanted)
    try:
        with trio.fail_after(ENTER_S):
            answer, handed = await keeper.receive(3)
        if answer != b"m":
            raise Unavailable(f"the shell did not start: {keeper.why()}", code="no_entry", fix="Try again in a moment.")
    except trio.TooSlowError:
        await keeper.close()
        raise Unavailable("the shell did not start in time", code="no_entry", fix="Try again.") from None
    except BaseException:
        await keeper.close()
        raise
    for descriptor in handed:
        os.set_inheritable(descriptor, False)
    return ShellEnd(keeper, handed, wanted.has_terminal)


def _broken(error: BaseException) -> Unavailable:
    return Unavailable(
        "the program in the chunk broke the connection", code="connection_reset", fix="The job's log may say why."
    )
