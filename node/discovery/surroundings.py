"""Everything about who else is there, put together: the directory, the local network, neighbours, distances.

    around = Surroundings(identity, network, Settings(region="eu-west"), ground)
    nursery.start_soon(around.run, facts, bootstraps)

Spec: specs/23-discovery.md.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import trio
from libp2p.abc import INetStream

from node.addresses import without_target
from node.clock import Clock
from node.dialer import Dialer
from node.discovery.finder import Finder
from node.discovery.mdns import LocalNetwork
from node.discovery.pings import Pings
from node.requests import Requests
from node.sessions import Sessions
from node.upkeep import Wanted, keep_neighbours
from protocol.errors import RemoteViolation
from protocol.identity import Identity
from protocol.messages import Hello
from protocol.overlay.own_record import MEMBERS, Profile
from protocol.overlay.peer_record import ADDRESSES_MAX
from protocol.overlay.place import Coordinate, Place
from protocol.units import Micros, PeerId

FINDABLE: Final = ("relay/1", "bulk/1")
"""Capabilities that are topics of the directory too: who needs such a peer looks there."""

log: Final = logging.getLogger("shoal.discovery")


@dataclass(frozen=True, slots=True)
class Settings:
    """What an owner may say."""

    region: str = ""
    """Such as `eu-west`; empty: not said."""
    is_local_network_used: bool = True
    """Announce and look on the local network (mDNS)."""
    interfaces: tuple[str, ...] = ()
    """IP addresses of the interfaces for that; empty: all."""
    neighbours: int = 8
    """Connections that the node keeps by itself."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What discovery stands on."""

    dialer: Dialer
    sessions: Sessions
    requests: Requests
    register: Callable[[str, Callable[[INetStream], Awaitable[None]]], None]
    """Serve a protocol by its full name."""
    counts: Counter[str]


Addresses = Callable[[], Iterable[str]]
"""Where others can reach this node now, best first, with or without the `/p2p/…` at the end."""


class Surroundings:
    """One node's knowledge of the others."""

    def __init__(self, identity: Identity, network: str, settings: Settings, ground: Ground) -> None:
        self._me = identity.peer
        self._network = network
        self._settings = settings
        self._ground = ground
        clock = Clock()
        self.finder = Finder(identity, network, ground.requests, ground.dialer, clock, self._punish, ground.counts)
        self.pings = Pings(network, settings.region, ground.dialer, clock, ground.register, self._punish)
        self.local = LocalNetwork(self._me, network, self._learn)

    async def run(self, addresses: Addresses, hello: Hello, bootstraps: Sequence[PeerId]) -> None:
        """Find others and be found, for ever."""
        up = self._ground.sessions.up

        def profile() -> Profile:
            return self.profile(addresses(), hello)

        wanted = Wanted(self._settings.neighbours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.finder.run, profile, bootstraps, lambda: list(up))
            nursery.start_soon(self.pings.run, lambda: list(up))
            nursery.start_soon(
                keep_neighbours, wanted, self._me, self._ground.dialer, self._ground.sessions, self._explore
            )
            if self._settings.is_local_network_used:
                nursery.start_soon(self.local.run, addresses, self._settings.interfaces)

    def profile(self, addresses: Iterable[str], hello: Hello) -> Profile:
        """What our record says now. The coordinate changes all the time and is left to pings and offers."""
        capabilities = self._ground.sessions.capabilities
        return Profile(
            addresses=tuple(dict.fromkeys(map(without_target, addresses)))[:ADDRESSES_MAX],
            roles=hello.roles,
            capabilities=capabilities,
            topics=(MEMBERS, *(name for name in FINDABLE if name in capabilities)),
            place=Place(self._settings.region),
        )

    @property
    def place(self) -> Place:
        """Region and coordinate, for our offer."""
        return self.pings.place

    @property
    def coordinate(self) -> Coordinate:
        """Where we are, for planning."""
        return self.pings.coordinate

    def skew_us(self) -> Micros | None:
        """Microseconds by which other clocks are ahead of ours; None while nobody knows."""
        return self.pings.skew_us()

    def statistics(self) -> dict[str, int]:
        """How things stand."""
        return self.finder.statistics() | {"mdns_heard": self.local.heard}

    async def _explore(self) -> list[PeerId]:
        found = await self.finder.explore()
        for contact in found:
            self._learn(contact.peer, contact.addresses)
        return [contact.peer for contact in found]

    def _learn(self, peer: PeerId, addresses: Iterable[str]) -> None:
        if peer != self._me and self._ground.dialer.book.learn(peer, addresses):
            self._ground.sessions.links.retry(peer)

    async def _punish(self, violation: RemoteViolation) -> None:
        await self._ground.sessions.punish(violation)
