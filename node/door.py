"""The door of a host: every accepted connection passes here, is greeted within a deadline, and gives its place back.

Who may come in is decided by `protocol.overlay.admission`; this is its driver.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

import trio
from libp2p.abc import IHost, IMuxedConn
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.swarm import Swarm
from multiaddr import Multiaddr

from node import libp2p_patches
from node.libp2p_rim import rim
from protocol.errors import LocalError, Unavailable
from protocol.overlay.admission import Admission, Turned, Visit
from protocol.units import SECOND, Micros

QUEUE: Final = 4_096
"""Connections that the kernel holds until they are accepted; libp2p asks for 128, and a crowd that fills those makes
everybody else's first packet get lost, which costs a second. The kernel's own limit (`somaxconn`) is 4096 too."""

GREET_S: Final = 10.0
"""Deadline of an accepted connection's handshake: five round trips over the worst link, three times over."""

CLOSE_S: Final = 1.0
"""Deadline for closing a connection that nobody wants."""

log: Final = logging.getLogger("shoal.transport")


class Door:
    """Takes over a host's accepted connections. `counts` hears how many were turned away, by reason."""

    def __init__(self, host: IHost, counts: Counter[str]) -> None:
        network = host.get_network()
        if not isinstance(network, Swarm):
            raise LocalError(f"libp2p's network is a {type(network).__name__}, not a Swarm", code="libp2p_version")
        self._network = network
        network.set_resource_manager(None)  # Its counts leak: after 8 unlucky dials it forbids a peer for ever (0.8.1).
        self._counts = counts
        self._scopes: dict[int, trio.CancelScope] = {}
        self.admission = Admission()
        libp2p_patches.answer_the_door(host, self.handle)

    def widen(self) -> None:
        """Lengthen the kernel's queues before the door. Call it when the host listens."""
        for listener in self._network.listeners.values():
            for listening in getattr(listener, "listeners", ()):
                if isinstance(listening, trio.SocketListener):
                    listening.socket.listen(QUEUE)

    async def handle(self, stream: ReadWriteCloser, listening: Multiaddr) -> None:
        """One accepted connection from its first byte to its end; libp2p closes the socket when this returns."""
        remote = stream.get_remote_address()
        found = self.admission.arrive(remote[0] if remote else "", Micros(int(trio.current_time() * SECOND)))
        if isinstance(found, Turned):
            self._counts[f"turned_away_{found.code}"] += 1
            await _close(stream)
            return
        if found.instead_of is not None and (scope := self._scopes.get(found.instead_of.number)) is not None:
            self._counts["turned_away_crowd"] += 1
            scope.cancel()
        try:
            muxed = await self._greet(stream, listening, found.visit)
            if muxed is not None:
                await self._host(muxed, found.visit)
        finally:
            self.admission.leave(found.visit)
            await _close(stream)

    async def _host(self, muxed: IMuxedConn, visit: Visit) -> None:
        """Until the connection ends by itself, or somebody else needs its place more."""
        with trio.CancelScope() as scope:
            self._scopes[visit.number] = scope
            try:
                await _ended(muxed)
            finally:
                del self._scopes[visit.number]
        if scope.cancelled_caught:
            with rim("close"):
                await muxed.close()

    async def _greet(self, stream: ReadWriteCloser, listening: Multiaddr, visit: Visit) -> IMuxedConn | None:
        """The connection after its handshake; None when that failed, took too long, or the place is gone."""
        muxed: IMuxedConn | None = None
        with trio.move_on_after(GREET_S) as scope:
            self._scopes[visit.number] = scope
            try:
                with rim("handshake of an accepted connection"):
                    muxed = await self._network.upgrade_inbound_raw_conn(RawConnection(stream, False), listening)
            except Unavailable as error:
                self._counts["handshakes_failed"] += 1
                log.debug("%s", error.detail)
            finally:
                del self._scopes[visit.number]
        if muxed is not None and not self.admission.stay(visit):
            with rim("close"):
                await muxed.close()
            return None
        return muxed


async def _ended(muxed: IMuxedConn) -> None:
    """Wait for the end of a connection: every muxer that libp2p 0.8.1 has, and ours, keep this event."""
    closed = getattr(muxed, "event_closed", None)
    if isinstance(closed, trio.Event):
        await closed.wait()


async def _close(stream: ReadWriteCloser) -> None:
    with trio.CancelScope(deadline=trio.current_time() + CLOSE_S, shield=True):
        try:
            with rim("close"):
                await stream.close()
        except Unavailable:
            return  # It was closed already.
