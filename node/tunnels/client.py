"""The asking side of tunnels: opens one to a provider, joins it to a local tool. Spec: specs/24-tunnels.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from node.streams import READ_BYTES, FrameReader, frame, reset, write_all
from node.tunnels.pump import Pump
from node.tunnels.server import TURN_S, tunnel_protocol
from protocol import wire
from protocol.errors import RemoteViolation, Unavailable
from protocol.overlay.tunnel import Opened, OpenShell, Request, Tunnel, answer_decoder
from protocol.overlay.tunnel_frames import Frame, FrameCutter, Kind
from protocol.units import KIB, Micros, PeerId

if TYPE_CHECKING:
    from libp2p.abc import INetStream

ANSWER_S: Final = TURN_S + 15.0
"""Seconds for an answer: a turn, entering the sandbox, connecting inside."""

ANSWER_BYTES_MAX: Final = 2 * KIB
"""An encoded answer."""

_TOOL: Final = PeerId(bytes(32))


@dataclass(slots=True)
class OpenTunnel:
    """A tunnel that the provider has opened; `run` carries it."""

    peer: PeerId
    epoch: int
    is_shell: bool
    stream: INetStream
    early: bytes
    now: Callable[[], Micros]
    counts: Counter[str]
    punish: Callable[[RemoteViolation], Awaitable[None]]

    async def run(self, connection: trio.abc.HalfCloseableStream, early: bytes) -> None:
        """Join a local tool, which speaks frames; `early` = what it has said already. Returns when it is over."""
        end = ToolEnd(connection, self.is_shell, early)
        tunnel = Tunnel("asker", self.peer, self.is_shell, self.now())
        pump = Pump(tunnel, self.stream, FrameCutter(self.peer), end, self.now)
        never = Unavailable("never", code="never")
        try:
            await pump.run(trio.Event(), never, self.early)
        except RemoteViolation as violation:
            await self.punish(violation)
        finally:
            self.counts["tunnel_bytes_sent"] += tunnel.counts.sent
            self.counts["tunnel_bytes_received"] += tunnel.counts.received


class TunnelClient:
    """Opens tunnels. `open_stream(peer, protocol)` is the dialer's, so any path will do."""

    def __init__(
        self,
        network: str,
        open_stream: Callable[[PeerId, str], Awaitable[INetStream]],
        now: Callable[[], Micros],
        punish: Callable[[RemoteViolation], Awaitable[None]],
        counts: Counter[str],
    ) -> None:
        self._protocol = tunnel_protocol(network)
        self._open_stream = open_stream
        self._now = now
        self._punish = punish
        self._counts = counts

    async def open(self, provider: PeerId, request: Request) -> OpenTunnel:
        """Ask a provider. Refused or Unavailable in its own words, or because it cannot be reached."""
        stream = await self._reached(provider)
        try:
            with trio.move_on_after(ANSWER_S):
                await write_all(stream, frame(wire.encode(request)))
                reader = FrameReader(stream, provider, ANSWER_BYTES_MAX)
                body = await reader.read()
                if body is None:
                    raise Unavailable("the provider hung up", code="tunnel_lost", fix="Try again in a moment.")
                answer = wire.decode(body, answer_decoder, provider, ANSWER_BYTES_MAX)
                if not isinstance(answer, Opened):
                    raise answer.error()
                is_shell = isinstance(request, OpenShell)
                rest = reader.rest()
                return OpenTunnel(provider, answer.epoch, is_shell, stream, rest, self._now, self._counts, self._punish)
            raise Unavailable("the provider did not answer in time", code="no_answer", fix="Try again in a moment.")
        except RemoteViolation as violation:
            await reset(stream)
            await self._punish(violation)
            raise Unavailable("the provider answered rubbish", code="tunnel_lost") from violation
        except BaseException:
            await reset(stream)
            raise

    async def _reached(self, provider: PeerId) -> INetStream:
        try:
            return await self._open_stream(provider, self._protocol)
        except Unavailable as error:
            raise Unavailable(
                f"the provider of the chunk cannot be reached: {error.detail}",
                code="provider_unreachable",
                fix="Try again: if it is dead, the chunk is given to another provider within seconds.",
            ) from error


class ToolEnd:
    """A local tool at the other end of a byte stream, which speaks frames too."""

    def __init__(self, connection: trio.abc.HalfCloseableStream, is_shell: bool, early: bytes) -> None:
        self._connection = connection
        self._allowed: Collection[Kind] = (Kind.DATA, Kind.END, *((Kind.RESIZE,) if is_shell else ()))
        self._cutter = FrameCutter(_TOOL)
        self._early = early
        self._frames: list[Frame] = []
        self._has_ended = False

    async def run(self) -> None:
        """Nothing: `next` reads when it is asked."""

    async def next(self) -> Frame | None:
        while not self._frames:
            data, self._early = self._early or await self._receive(), b""
            if not data and self._has_ended and self._cutter.is_between:
                await trio.sleep_forever()  # The tool says no more; the other direction decides when it is over.
            if not data:
                raise Unavailable("the renter's tool has gone", code="tool_gone")
            try:
                self._frames = self._cutter.feed(data)
            except RemoteViolation as violation:
                raise Unavailable(violation.rule, code="tool_protocol") from violation
        frame = self._frames.pop(0)
        if frame.kind not in self._allowed or (self._has_ended and frame.kind is not Kind.RESIZE):
            raise Unavailable(f"the renter's tool sent {frame.kind.name} out of place", code="tool_protocol")
        self._has_ended |= frame.kind is Kind.END
        return frame

    async def take(self, frame: Frame) -> None:
        try:
            await self._connection.send_all(frame.pack())
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Unavailable("the renter's tool has gone", code="tool_gone") from error

    async def close(self) -> None:
        try:
            await self._connection.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            return  # It went first.

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._connection.receive_some(READ_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Unavailable("the renter's tool has gone", code="tool_gone") from error
