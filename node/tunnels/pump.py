"""Moves the frames of one open tunnel: between the stream to the other node and this node's own end.

Nothing is read that has no room to go to, in either direction, so a tunnel holds a window at most. Spec:
specs/24-tunnels.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import trio

from node.libp2p_rim import rim
from node.streams import read_some, reset
from node.tunnels.ends import End
from protocol.errors import RemoteViolation, ShoalError, Unavailable
from protocol.overlay.tunnel import Counts, Tunnel
from protocol.overlay.tunnel_frames import Frame, FrameCutter, Kind, fault
from protocol.units import SECOND, Micros

if TYPE_CHECKING:
    from libp2p.abc import INetStream

WRITE_S: Final = 60.0
"""A write that takes longer has lost its link: the window of a tunnel always fits the link's own."""

CLOSE_S: Final = 2.0
"""Seconds for the last frame of a tunnel that ends early."""


class Pump:
    """One tunnel on its way. `run` returns when it is over, however that came."""

    def __init__(
        self, tunnel: Tunnel, stream: INetStream, cutter: FrameCutter, end: End, now: Callable[[], Micros]
    ) -> None:
        self._tunnel = tunnel
        self._stream = stream
        self._cutter = cutter
        self._end = end
        self._now = now
        self._turn = trio.Lock()
        self._credited = trio.Event()

    async def run(self, ended: trio.Event, why: ShoalError, early: bytes = b"") -> Counts:
        """Until both directions have ended, one side gives up, nothing moves for long, or `ended` is set (`why` is then
        told). `early` = bytes that came behind the opening. RemoteViolation when the other node breaks the rules."""
        trouble: list[ShoalError] = []
        try:
            async with trio.open_nursery() as nursery:
                scope = nursery.cancel_scope
                nursery.start_soon(self._until_done, scope, trouble, self._end.run)
                nursery.start_soon(self._until_done, scope, trouble, self._outwards)
                nursery.start_soon(self._until_done, scope, trouble, lambda: self._inwards(early))
                nursery.start_soon(self._until_done, scope, trouble, self._until_idle)
                nursery.start_soon(self._until_ended, scope, trouble, ended, why)
        finally:
            with trio.CancelScope(shield=True):
                await self._leave(trouble[0] if trouble else None)
        for error in trouble:
            if isinstance(error, RemoteViolation):
                raise error
        return self._tunnel.counts

    async def _until_done(
        self, scope: trio.CancelScope, trouble: list[ShoalError], work: Callable[[], Awaitable[None]]
    ) -> None:
        try:
            await work()
        except ShoalError as error:
            trouble.append(_broken_off(error) if error.code == "link" else error)
        if trouble or self._tunnel.is_over:
            scope.cancel()

    async def _until_ended(
        self, scope: trio.CancelScope, trouble: list[ShoalError], ended: trio.Event, why: ShoalError
    ) -> None:
        await ended.wait()
        trouble.append(why)
        scope.cancel()

    async def _outwards(self) -> None:
        while (frame := await self._end.next()) is not None:
            is_bytes = frame.kind in (Kind.DATA, Kind.STDERR)
            while is_bytes and self._tunnel.room < len(frame.payload):
                self._credited = trio.Event()
                await self._credited.wait()
            await self._say(frame)
            if self._tunnel.is_over:
                return

    async def _inwards(self, early: bytes) -> None:
        data = early or await read_some(self._stream)
        while data:
            for frame in self._cutter.feed(data):
                await self._hear(frame)
            if self._tunnel.is_over:
                return
            data = await read_some(self._stream)
        raise _broken_off(None)

    async def _hear(self, frame: Frame) -> None:
        heard = self._tunnel.receive(frame, self._now())
        if heard is None:
            self._credited.set()
            return
        await self._end.take(heard)
        if heard.kind in (Kind.DATA, Kind.STDERR) and (thanks := self._tunnel.taken(len(heard.payload), self._now())):
            await self._write(thanks)

    async def _until_idle(self) -> None:
        while not self._tunnel.is_idle(now := self._now()):
            left = (self._tunnel.next_wake - now) / SECOND
            await trio.sleep(left)
        raise Unavailable(
            "nothing went through the tunnel for 10 minutes",
            code="tunnel_idle",
            fix="Connect again; `ssh` keeps a connection alive with ServerAliveInterval.",
        )

    async def _say(self, frame: Frame) -> None:
        await self._write(self._tunnel.send(frame, self._now()))

    async def _write(self, data: bytes) -> None:
        async with self._turn:
            with rim("write"), trio.fail_after(WRITE_S):
                await self._stream.write(data)

    async def _leave(self, trouble: ShoalError | None) -> None:
        """Tell both sides why, where they can still hear it, and close both."""
        with trio.move_on_after(CLOSE_S):
            if trouble is not None and not isinstance(trouble, RemoteViolation):
                await self._tell(trouble)
        await self._end.close()
        if trouble is None:
            try:
                with rim("close"), trio.fail_after(CLOSE_S):
                    await self._stream.close()
            except Unavailable:
                await reset(self._stream)
        else:
            await reset(self._stream)

    async def _tell(self, trouble: ShoalError) -> None:
        frame = fault(trouble)
        for tell in (self._end.take, self._last):
            try:
                await tell(frame)
            except ShoalError:
                continue  # That side is gone, which is what it would have been told.

    async def _last(self, frame: Frame) -> None:
        if not self._tunnel.is_over:
            await self._say(frame)
            with rim("close"):
                await self._stream.close()


def _broken_off(cause: ShoalError | None) -> Unavailable:
    """The link between the two nodes has gone."""
    detail = f"the tunnel broke off: {cause.detail}" if cause is not None else "the tunnel broke off"
    return Unavailable(detail, code="tunnel_lost", fix="Connect again; the chunk may have moved.")
