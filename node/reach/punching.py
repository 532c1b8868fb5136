"""Turns relayed connections into direct ones, in the background: hole punching, DCUtR on the wire.

    puncher = Puncher(host, nursery, clock, Surroundings(…), upgraded, punish, counts)
    host.set_stream_handler(DCUTR_PROTOCOL, in_nursery(nursery, puncher.serve));  nursery.start_soon(puncher.run)

The relayed connection is used all the while, and closed a moment after a direct one came about.
Spec: specs/20-relays.md.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio
from libp2p.abc import IHost, INetConn, INetStream, INetwork, INotifee
from libp2p.connection_types import ConnectionType
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.rcmgr import Direction
from multiaddr import Multiaddr

from node.clock import Clock
from node.libp2p_rim import peer_of, remote_of, rim
from node.reach.punch_dials import PunchDials
from node.reach.punch_talk import PunchTalk
from node.reach.relayed_connection import connections, is_connected_directly, is_relayed
from node.streams import reset
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.identity import peer_text
from protocol.overlay.endpoint import endpoint, is_global
from protocol.overlay.nat_kind import NatKind
from protocol.overlay.punch import (
    ADDRESSES_MAX,
    DIAL_US,
    GIVE_UP_US,
    Effect,
    Ended,
    Punch,
    PunchMemory,
)
from protocol.units import SECOND, PeerId

GRACE_S: Final = 5.0
"""A relayed connection is closed so long after a direct one came about: what is under way on it still arrives."""

LOOK_S: Final = 5.0
"""Relayed peers are looked through so often, for one that is worth another try."""

PUNCHES_MAX: Final = 16
"""Punches at a time, of both sides."""

log: Final = logging.getLogger("shoal.reach")


def is_public(address: str) -> bool:
    """What another peer may make us dial: an IP address of the whole internet, never one of our own network."""
    found = endpoint(address)
    return found is not None and is_global(found.ip)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a puncher has to know of the world, asked when it is needed."""

    observed: Callable[[], Sequence[str]]
    """Our own addresses as several others see them, `/ip4/…/tcp/…`, with the port that the router keeps for us."""
    told: Callable[[], Sequence[str]]
    """The addresses that the other side is told to dial: a port that a single peer sees is worth a knock."""
    nat_kind: Callable[[], NatKind]
    """What our own router does."""
    kind_of: Callable[[PeerId], NatKind]
    """What another peer says that its router does; "unknown" where it said nothing."""
    known: Callable[[PeerId], Sequence[str]]
    """Addresses of a peer in the book: tried beside the punch, in case that it is public after all."""
    listen_port: Callable[[], int]
    """Where this node listens, and where the dials leave from."""
    is_allowed: Callable[[str], bool] = is_public
    """Which addresses others may make us dial."""


@dataclass(slots=True)
class _Active:
    """A punch under way."""

    scope: trio.CancelScope
    is_ours: bool
    """Whether we began it."""
    has_yielded: bool = False
    ended: trio.Event = field(default_factory=trio.Event)


class Puncher:
    """Punches for the listener of every relayed connection, and answers when we are the other side.

    `upgraded(peer, is_punched)` hears when a direct connection came about beside a relayed one."""

    def __init__(
        self,
        host: IHost,
        nursery: trio.Nursery,
        clock: Clock,
        surroundings: Surroundings,
        upgraded: Callable[[PeerId, bool], None],
        punish: Callable[[RemoteViolation], Awaitable[None]],
        counts: Counter[str],
    ) -> None:
        self._host = host
        self._nursery = nursery
        self._clock = clock
        self._surroundings = surroundings
        self._upgraded = upgraded
        self._counts = counts
        self._memory = PunchMemory()
        self._dials = PunchDials(host, nursery, surroundings.listen_port)
        self._talk = PunchTalk(host, self._dials, punish, clock)
        host.get_network().register_notifee(_Notices(self.arrived))
        self._me = peer_of(host.get_id())
        self._active: dict[PeerId, _Active] = {}
        """Punches under way."""
        self._behind_relays: set[PeerId] = set()
        """Peers that were connected through a relay."""
        self._retiring: set[PeerId] = set()
        """Peers whose relayed connections are closed in a moment."""
        self._arrived = trio.Event()
        """Set and replaced when any peer is connected directly."""

    async def run(self) -> None:
        """Try again where it may work now, for ever."""
        while True:
            await trio.sleep(LOOK_S)
            for peer in list(self._behind_relays):
                self._consider(peer)

    async def upgrade(self, peer: PeerId) -> bool:
        """Have a direct connection, by whatever works within six seconds. False: the relayed one stays."""
        if self._initiates(peer) and peer not in self._active:
            await self._initiate(peer)
        elif not is_connected_directly(self._host, peer):
            with trio.move_on_after(GIVE_UP_US / SECOND):
                await self._until_direct(peer)
        return is_connected_directly(self._host, peer)

    async def serve(self, stream: INetStream) -> None:
        """The other side, which listens on the relayed connection, begins a punch."""
        peer = remote_of(stream)
        try:
            if not is_relayed(stream):
                raise Unavailable("a punch over a direct connection", code="not_relayed")
            if not await self._makes_room(peer):
                raise Unavailable("one is under way, or too many are", code="busy")
            punch = self._punch(peer)
            await self._drive(punch, punch.answer(self._clock.now()), stream, is_ours=False)
        except Unavailable as error:
            log.info("a punch of %s is not answered: %s", peer_text(peer), error.detail)
        finally:
            await reset(stream)

    async def close(self) -> None:
        """At the very end."""
        await self._dials.close()

    def arrived(self, peer: PeerId, is_relayed_one: bool) -> None:
        """A connection is there. A relayed one may be worth a punch; a direct one ends it, and the relayed one soon."""
        if is_relayed_one:
            self._behind_relays.add(peer)
            self._consider(peer)
            return
        self._dials.connected(peer)
        self._arrived.set()
        self._arrived = trio.Event()
        if peer not in self._retiring and connections(self._host, peer, ConnectionType.RELAYED):
            self._retiring.add(peer)
            self._upgraded(peer, peer in self._active)
            self._nursery.start_soon(self._retire, peer)

    def _initiates(self, peer: PeerId) -> bool:
        """Whether the punch is ours to begin: we listen on the relayed connection. With two, the smaller id does."""
        relayed = connections(self._host, peer, ConnectionType.RELAYED)
        inbound = [isinstance(one, SwarmConn) and one.direction == Direction.INBOUND for one in relayed]
        if not any(inbound) or is_connected_directly(self._host, peer):
            return False
        return all(inbound) or self._me < peer

    def _consider(self, peer: PeerId) -> None:
        """Begin a punch in the background where it is ours to begin, and may work."""
        if not connections(self._host, peer, ConnectionType.RELAYED):
            self._behind_relays.discard(peer)
            return
        addresses = frozenset(self._surroundings.observed())
        is_free = peer not in self._active and len(self._active) < PUNCHES_MAX
        if is_free and self._initiates(peer) and self._memory.may_try(peer, addresses, self._clock.now()):
            self._nursery.start_soon(self.upgrade, peer)

    def _punch(self, peer: PeerId) -> Punch:
        around = self._surroundings
        addresses = tuple(around.told())[:ADDRESSES_MAX]
        return Punch(peer, addresses, (around.nat_kind(), around.kind_of(peer)), around.is_allowed)

    async def _initiate(self, peer: PeerId) -> None:
        started = self._clock.now()
        self._counts["punches_tried"] += 1
        known = tuple(filter(self._surroundings.is_allowed, self._surroundings.known(peer)))[:ADDRESSES_MAX]
        self._dials.begin(peer, known, "client", DIAL_US / SECOND, is_from_port=False)
        punch = self._punch(peer)
        if await self._drive(punch, punch.initiate(started), None, is_ours=True):
            return  # The other side's punch goes on, and what comes of it is the other side's to remember.
        left = max(0, started + DIAL_US - self._clock.now()) if known else 0
        with trio.move_on_after(left / SECOND):
            await self._until_direct(peer)
        took = (self._clock.now() - started) / SECOND
        if is_connected_directly(self._host, peer):
            self._memory.succeeded(peer)
            self._counts["punches_succeeded"] += 1
            log.info("%s is connected directly after %.2f s", peer_text(peer), took)
        else:
            own = frozenset(self._surroundings.observed())
            self._memory.failed(peer, own, self._clock.now(), is_verdict=punch.is_verdict)
            self._counts["punches_failed"] += 1
            why = punch.state.why if isinstance(punch.state, Ended) else "it took too long"
            log.info("%s stays behind its relay after %.2f s: %s", peer_text(peer), took, why)

    async def _makes_room(self, peer: PeerId) -> bool:
        """Whether a punch of the other side's is answered.

        Both may have begun, each when it saw the other's relayed connection: the smaller key's punch goes on. Ours is
        given up for one that is answered only: a peer that asks for ever would else keep ours from being remembered."""
        ours = self._active.get(peer)
        is_busy = len(self._active) >= PUNCHES_MAX if ours is None else not ours.is_ours or self._me < peer
        if is_busy or not self._memory.may_answer(peer, self._clock.now()):
            return False
        if ours is not None:
            ours.has_yielded = True
            ours.scope.cancel()
            await ours.ended.wait()
        return peer not in self._active

    async def _drive(
        self, punch: Punch, effects: tuple[Effect, ...], stream: INetStream | None, *, is_ours: bool
    ) -> bool:
        """Do what the machine says until it ends, or a direct connection is there, whoever made it.

        True when it yielded to a punch that the other side began."""
        async with trio.open_nursery() as nursery:
            active = self._active[punch.peer] = _Active(nursery.cancel_scope, is_ours)
            try:

                async def watch() -> None:
                    await self._until_direct(punch.peer)
                    punch.connected()
                    nursery.cancel_scope.cancel()

                nursery.cancel_scope.deadline = trio.current_time() + GIVE_UP_US / SECOND
                nursery.start_soon(watch)
                await self._talk.hold(punch, effects, stream)
                nursery.cancel_scope.cancel()
            finally:
                del self._active[punch.peer]
                active.ended.set()
        return active.has_yielded

    async def _until_direct(self, peer: PeerId) -> None:
        while not is_connected_directly(self._host, peer):
            await self._arrived.wait()

    async def _retire(self, peer: PeerId) -> None:
        """Close what goes through relays, a moment after a direct connection came about, if it is still there."""
        try:
            await trio.sleep(GRACE_S)
            if is_connected_directly(self._host, peer):
                with rim("close a relayed connection"):
                    for connection in connections(self._host, peer, ConnectionType.RELAYED):
                        await connection.close()
        except Unavailable as error:
            log.debug("%s", error.detail)
        finally:
            self._retiring.discard(peer)


class _Notices(INotifee):
    """Passes on what libp2p says about new connections."""

    def __init__(self, arrived: Callable[[PeerId, bool], None]) -> None:
        self._arrived = arrived

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        try:
            peer = peer_of(conn.muxed_conn.peer_id)
        except Refused:
            return
        self._arrived(peer, conn.get_connection_type() == ConnectionType.RELAYED)

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        """Whoever is disconnected is not punched for."""

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        """Streams announce themselves by their protocol."""

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        """The reader of the stream knows."""

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """The surroundings know the port."""

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """The surroundings know the port."""
