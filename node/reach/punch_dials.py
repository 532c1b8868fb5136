"""The dials of a hole punch: again and again from the listening port, until one comes through or the time is over.

A dial may merge with the other side's into one connection, so the caller says which role it plays in the handshake.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final
from weakref import WeakSet

import trio
from libp2p.abc import IHost
from libp2p.io.trio import TrioTCPStream
from multiaddr import Multiaddr

from node import libp2p_patches
from node.libp2p_rim import libp2p_id, rim
from node.reach.relayed_connection import is_connected_directly, swarm_of
from node.reach.sockets import abort
from protocol.errors import Unavailable
from protocol.overlay.punch import Role
from protocol.units import PeerId

PAUSE_S: Final = 0.1
"""Between two dials of one address, when the first was refused at once: some routers answer before they open."""

SETTLE_S: Final = 3.0
"""A direct connection is there, or the other end has answered: a dial under way may be the one, and has so long."""

log: Final = logging.getLogger("shoal.reach")


class _Opened(set[TrioTCPStream]):
    """The sockets of one dial. As soon as the other end has answered, its scope gets the time of a handshake more: the
    hole is open, and on a busy machine the rest takes longer than a round of dials."""

    def __init__(self, scope: trio.CancelScope) -> None:
        super().__init__()
        self._scope = scope

    def add(self, stream: TrioTCPStream) -> None:
        super().add(stream)
        self._scope.deadline = max(self._scope.deadline, trio.current_time() + SETTLE_S)


class PunchDials:
    """Dials of all punches. They run in `nursery`, so that the end of a punch does not end the dial that made it."""

    def __init__(self, host: IHost, nursery: trio.Nursery, listen_port: Callable[[], int]) -> None:
        self._host = host
        self._nursery = nursery
        self._listen_port = listen_port
        self._scopes: dict[PeerId, set[trio.CancelScope]] = {}
        self._sockets: WeakSet[TrioTCPStream] = WeakSet()

    def begin(
        self, peer: PeerId, addresses: tuple[str, ...], role: Role, seconds: float, *, is_from_port: bool
    ) -> None:
        """Dial every address, until the peer is connected directly or `seconds` are over."""
        for address in addresses:
            source = _source(address, self._listen_port()) if is_from_port else None
            self._nursery.start_soon(self._repeat, peer, address, role, source, trio.current_time() + seconds)

    def connected(self, peer: PeerId) -> None:
        """A direct connection is there: let the dial that made it finish, and start no other."""
        for scope in self._scopes.get(peer, ()):
            scope.deadline = trio.current_time() + SETTLE_S

    async def close(self) -> None:
        """At the very end: close what libp2p left open."""
        for stream in list(self._sockets):
            await stream.close()

    async def _repeat(
        self, peer: PeerId, address: str, role: Role, source: tuple[str, int] | None, deadline: float
    ) -> None:
        scopes = self._scopes.setdefault(peer, set())
        with trio.CancelScope(deadline=deadline) as scope:
            scopes.add(scope)
            while not is_connected_directly(self._host, peer):
                try:
                    await self._dial(peer, address, role, source, _Opened(scope))
                except Unavailable as error:
                    log.debug("%s", error.detail)
                await trio.sleep(PAUSE_S)
        scopes.discard(scope)
        if not scopes:
            self._scopes.pop(peer, None)

    async def _dial(
        self, peer: PeerId, address: str, role: Role, source: tuple[str, int] | None, opened: _Opened
    ) -> None:
        name = libp2p_id(peer)
        target = Multiaddr(f"{address}/p2p/{name}")
        network = swarm_of(self._host)
        is_done = False
        try:
            with rim(f"dial {address} to punch"), libp2p_patches.remember_sockets(opened):
                libp2p_patches.forget_failure(self._host, name)
                if role == "client":
                    await network.dial_addr(target, name, source)
                else:
                    await network.dial_addr_as_responder(target, name, source)
            is_done = True
        finally:
            self._sockets.update(opened)
            if not is_done and not is_connected_directly(self._host, peer):
                await abort(stream.stream for stream in opened)


def _source(address: str, port: int) -> tuple[str, int] | None:
    if not port:
        return None
    return ("::" if address.startswith("/ip6/") else "0.0.0.0", port)
