"""The provider's side of tunnels: lets the renter of a running chunk in, and nobody else. Spec: specs/24-tunnels.md."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from node.executors.door import Door
from node.libp2p_rim import remote_of, rim
from node.streams import FrameReader, frame, reset, write_all
from node.tunnels.ends import PortEnd, ShellEnd, Sockets, shell
from node.tunnels.pump import Pump
from protocol import wire
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.identity import peer_text
from protocol.overlay.tunnel import (
    REQUEST_BYTES_MAX,
    Access,
    Held,
    Opened,
    OpenShell,
    Request,
    Tunnel,
    request_decoder,
)
from protocol.overlay.tunnel_frames import FrameCutter, fault_of
from protocol.units import Micros, PeerId

if TYPE_CHECKING:
    from libp2p.abc import INetStream

TUNNELS_PER_LEASE: Final = 16
"""Open at the same time; a browser keeps six per page."""

WAITING_PER_LEASE: Final = 32
"""Beyond these, so many wait for their turn; one more is refused at once."""

TURN_S: Final = 10.0
"""Seconds that a request waits for its turn."""

TUNNELS_MAX: Final = 256
"""Open and being opened on one node; each costs two descriptors and a window in either direction."""

REQUEST_S: Final = 10.0
"""Seconds in which the request must come."""

log: Final = logging.getLogger("shoal.tunnels")


@dataclass(slots=True)
class _Place:
    """One task's way in, shared by its tunnels."""

    sockets: Sockets
    turns: trio.Semaphore = field(default_factory=lambda: trio.Semaphore(TUNNELS_PER_LEASE))
    waiting: int = 0


class TunnelServer:
    """Answers `/shoal/<network>/tunnel/1`. `held(job, chunk)` finds a lease of this node, `door(task)` the way in."""

    def __init__(
        self,
        network: str,
        nursery: trio.Nursery,
        held: Callable[[bytes, int], Held | None],
        door: Callable[[str], Door | None],
        now: Callable[[], Micros],
        punish: Callable[[RemoteViolation], Awaitable[None]],
        counts: Counter[str],
    ) -> None:
        self.protocol = tunnel_protocol(network)
        self._access = Access(network)
        self._nursery = nursery
        self._held = held
        self._door = door
        self._now = now
        self._punish = punish
        self._counts = counts
        self._places: dict[str, _Place] = {}
        self._open = 0

    async def serve(self, stream: INetStream) -> None:
        """One inbound stream, to its end."""
        try:
            peer = remote_of(stream)
            if self._open >= TUNNELS_MAX:
                raise Refused(f"{TUNNELS_MAX} tunnels at a time", code="tunnel_limit")
            self._open += 1
            try:
                await self._serve(stream, peer)
            finally:
                self._open -= 1
        except RemoteViolation as violation:
            await reset(stream)
            await self._punish(violation)
        except (Unavailable, Refused) as error:
            log.debug("a tunnel ended: %s", error.detail)
            await reset(stream)

    async def _serve(self, stream: INetStream, peer: PeerId) -> None:
        reader = FrameReader(stream, peer, REQUEST_BYTES_MAX)
        body = None
        with trio.move_on_after(REQUEST_S):
            body = await reader.read()
        if body is None:
            await reset(stream)
            return
        request = wire.decode(body, request_decoder, peer, REQUEST_BYTES_MAX)
        self._counts["tunnels_asked"] += 1
        try:
            held = self._access.admit(peer, request, self._held(request.job, request.chunk), self._now())
            door = self._door(held.task)
            if door is None:
                raise Unavailable("the chunk is being prepared", code="chunk_not_running", fix="Try again in a moment.")
            async with self._place(held.task, door) as place:
                await self._carry(stream, peer, request, held, (door, place, reader.rest()))
        except (Refused, Unavailable) as error:
            self._counts["tunnels_refused"] += 1
            log.info("%s gets no tunnel: %s", peer_text(peer), error.detail)
            await write_all(stream, frame(wire.encode(fault_of(error))))
            await close(stream)

    async def _carry(
        self, stream: INetStream, peer: PeerId, request: Request, held: Held, inside: tuple[Door, _Place, bytes]
    ) -> None:
        door, place, early = inside
        over = Unavailable(
            "the chunk has ended, or its lease has", code="lease_ended", fix="Look at `shoal job status`."
        )
        is_shell = isinstance(request, OpenShell)
        end = await _end_of(door, place, request)
        self._counts["tunnels_opened"] += 1
        try:
            await write_all(stream, frame(wire.encode(Opened(held.epoch))))
        except Unavailable:
            await end.close()
            raise
        tunnel = Tunnel("server", peer, is_shell, self._now())
        pump = Pump(tunnel, stream, FrameCutter(peer), end, self._now)
        try:
            await pump.run(door.closed, over, early)
        finally:
            self._counts["tunnel_bytes_sent"] += tunnel.counts.sent
            self._counts["tunnel_bytes_received"] += tunnel.counts.received

    @asynccontextmanager
    async def _place(self, task: str, door: Door) -> AsyncIterator[_Place]:
        """A turn at a task, within its budget."""
        place = self._places.get(task)
        if place is None:
            place = self._places[task] = _Place(Sockets(door))
            self._nursery.start_soon(self._tidy, task, place, door)
        if place.waiting >= WAITING_PER_LEASE:
            raise _full()
        place.waiting += 1
        try:
            with trio.fail_after(TURN_S):
                await place.turns.acquire()
        except trio.TooSlowError:
            raise _full() from None
        finally:
            place.waiting -= 1
        try:
            yield place
        finally:
            place.turns.release()

    async def _tidy(self, task: str, place: _Place, door: Door) -> None:
        """The process inside ends with the task."""
        try:
            await door.closed.wait()
        finally:
            del self._places[task]
            with trio.CancelScope(shield=True):
                await place.sockets.close()


async def _end_of(door: Door, place: _Place, request: Request) -> PortEnd | ShellEnd:
    """What the request asks for, inside the task."""
    if isinstance(request, OpenShell):
        return await shell(door, request)
    return await place.sockets.connect(request.port)


async def close(stream: INetStream) -> None:
    """Close a stream behind what was written last."""
    try:
        with rim("close"):
            await stream.close()
    except Unavailable:
        await reset(stream)


def tunnel_protocol(network: str) -> str:
    """The protocol's name on a network."""
    return f"/shoal/{network}/tunnel/1"


def _full() -> Unavailable:
    return Unavailable(
        f"{TUNNELS_PER_LEASE} tunnels into this chunk are open, and others wait",
        code="tunnel_limit",
        fix="Close connections that nobody uses, and try again.",
    )
