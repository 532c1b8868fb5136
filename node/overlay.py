"""How this node is found and reached, on one screen: discovery, distances, relays, punching, the view from outside.

The transport's core (host, dialer, sessions, questions) exists before it; everything here stands on that.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import trio
from libp2p.abc import IHost, INetStream

from node import entropy
from node.addresses import ADDRESSES_PER_PEER, dialable_addresses, is_dialable, without_target
from node.clock import Clock
from node.dialer import Dialer
from node.discovery.finder import Finder
from node.discovery.mdns import LocalNetwork
from node.discovery.pings import Pings
from node.reach.dial_back import DialBackServer
from node.reach.outlook import Outlook
from node.reach.outlook import Place as Standing
from node.reach.punching import Puncher, Surroundings
from node.reach.relay_client import RelayClient
from node.reach.relay_server import RelayServer
from node.reach.relays import Relays
from node.requests import Requests
from node.sessions import Sessions
from protocol.errors import Refused, Unavailable
from protocol.greetings import Hello
from protocol.identity import Identity, peer_text
from protocol.overlay.nat_kind import NatKind
from protocol.overlay.own_record import MEMBERS, Profile
from protocol.overlay.relay_budget import RelayBudget, RelayLimits
from protocol.overlay.relay_choice import Candidate
from protocol.overlay.subnets import is_global_address
from protocol.units import SECOND, Micros, PeerId

Role = Literal["provider", "validator", "steward"]

RELAY: Final = "relay/1"
"""Capability and topic of peers that carry connections of others."""

NAT: Final = "nat/"
"""Before the kind of router in Hello's capabilities: the other side of a punch wants to know."""

RTT_UNKNOWN: Final = Micros(1 * SECOND)
"""How far a relay counts as long as nobody measured it: behind all that were."""

LOOK_S: Final = 2.0
"""Seconds between looks at what this node says about itself."""

LISTENING_S: Final = 2.0
"""Seconds between looks at the interfaces: libp2p parses every address anew, and several tasks ask every second."""

RELAYS_LOOK_S: Final = 30.0
"""Seconds between questions to the directory for relays, while this node has none."""

log: Final = logging.getLogger("shoal.reach")


@dataclass(frozen=True, slots=True)
class Core:
    """What exists before: connections, sessions, questions."""

    host: IHost
    dialer: Dialer
    sessions: Sessions
    requests: Requests
    nursery: trio.Nursery
    counts: Counter[str]
    register: Callable[[str, Callable[[INetStream], Awaitable[None]]], None]


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the owner said about this node and its place."""

    roles: tuple[Role, ...] = ()
    announce: tuple[str, ...] = ()
    bootstraps: tuple[PeerId, ...] = ()
    region: str = ""
    relays: bool = True
    """Carry connections of others while this node is public."""
    maps_ports: bool = False
    uses_mdns: bool = False
    data_port: int = 0
    listen_port: int = 0
    capabilities: tuple[str, ...] = ()
    """Words for Hello about what this host was found to be able to do."""


class Overlay:
    """Everything that makes a node findable and reachable; `run` keeps it so."""

    def __init__(self, identity: Identity, network: str, core: Core, said: Circumstances) -> None:
        self._me = identity.peer
        self._core = core
        self.requests = core.requests
        """Questions to peers, and answers to theirs."""
        self._said = said
        self._clock = Clock()
        dialer, sessions, counts = core.dialer, core.sessions, core.counts
        self._from_directory: dict[PeerId, Candidate] = {}
        self._listened: tuple[float, list[str]] = (-LISTENING_S, [])
        place = Standing(
            identity, network, said.listen_port, said.data_port, announce=said.announce, maps_ports=said.maps_ports
        )
        server = DialBackServer(identity, network, dialer, self._clock, counts)
        self.outlook = Outlook(
            place, dialer, core.requests, server, self._clock, lambda: list(sessions.up), self._listening
        )
        self.outlook.witnesses.punish = sessions.punish
        self.relay_server = RelayServer(
            core.host,
            RelayBudget(RelayLimits()),
            self._clock,
            self.addresses,
            self._gets_no_circuit,
            sessions.punish,
            counts,
        )
        self.relay_client = RelayClient(core.host, dialer.connect, sessions.punish, self._clock, entropy.dice())
        self.relays = Relays(self.relay_client, self._candidates, self._needs_no_relay, self._clock, counts)
        surroundings = Surroundings(
            observed=self.outlook.candidates,
            told=self.outlook.punch_addresses,
            nat_kind=lambda: self.outlook.nat.kind,
            kind_of=self._kind_of,
            known=dialer.book.of,
            listen_port=lambda: dialer.listen_port,
        )
        self.puncher = Puncher(
            core.host, core.nursery, self._clock, surroundings, self._upgraded, sessions.punish, counts
        )
        self.finder = Finder(identity, network, core.requests, dialer, self._clock, sessions.punish, counts)
        self.finder.twin_seen = self.outlook.twin_seen
        self.pings = Pings(network, said.region, dialer, self._clock, core.register, sessions.punish)
        self.local = LocalNetwork(self._me, network, self._learn)
        self._connect()

    # ── what others are told ─────────────────────────────────────────────────────────────────────────────────────────
    def addresses(self) -> list[str]:
        """Where others can dial us, the best first: announced, seen from outside, through relays, local."""
        here = self._listening()
        outside = [text for text in here if is_global_address(text)]
        local = [text for text in here if not is_global_address(text) and not _is_loopback(text)]
        through = self.relays.addresses()
        every = [*self._said.announce, *outside, *self.outlook.external_addresses(), *through, *local]
        return list(dict.fromkeys(map(without_target, every or here)))[:ADDRESSES_PER_PEER]

    @property
    def is_public(self) -> bool:
        """Others can dial us: witnesses signed it, the owner says so, or somebody came in at an address of our own."""
        if self.outlook.witnesses.machine.state == "public" or self._said.announce:
            return True
        return self.outlook.witnesses.machine.state == "unknown" and any(map(is_global_address, self._listening()))

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What our Hello says."""
        offered = (RELAY,) if self._said.relays and self.is_public else ()
        return ("bulk/1", f"{NAT}{self.outlook.nat.kind}", *self._said.capabilities, *offered)

    def profile(self) -> Profile:
        """What our record in the directory says."""
        capabilities, addresses = self.capabilities, self.addresses()
        topics = (MEMBERS, RELAY) if RELAY in capabilities else (MEMBERS,)
        told = [text for text in addresses if not _is_loopback(text)] or addresses
        return Profile(tuple(told), self._said.roles, capabilities, topics, self.pings.place)

    # ── work ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    async def run(self) -> None:
        """Stay found and reachable until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.outlook.run)
            nursery.start_soon(self.relay_server.run)
            nursery.start_soon(self.relays.run)
            nursery.start_soon(self.puncher.run)
            nursery.start_soon(self.finder.run, self.profile, self._said.bootstraps, self._neighbours)
            nursery.start_soon(self.pings.run, self._neighbours)
            nursery.start_soon(self._keep_saying)
            nursery.start_soon(self._look_for_relays)
            if self._said.uses_mdns:
                nursery.start_soon(self.local.run, self._listening)

    async def explore(self) -> list[PeerId]:
        """Peers at a random place of the network, their addresses learned."""
        return [contact.peer for contact in await self.finder.explore()]

    async def look_up(self, peer: PeerId) -> None:
        """Learn where a peer is from the directory, if that knows."""
        try:
            await self.finder.find(peer)
        except (Unavailable, Refused) as error:
            log.debug("%s is not in the directory: %s", peer_text(peer), error.detail)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _connect(self) -> None:
        """Handlers and hooks."""
        core = self._core
        core.register("/libp2p/circuit/relay/0.2.0/hop", self.relay_server.serve)
        core.register("/libp2p/circuit/relay/0.2.0/stop", self.relay_client.serve)
        core.register("/libp2p/dcutr", self.puncher.serve)
        core.dialer.dial_circuit = self.relay_client.dial
        core.dialer.look_up = self.look_up
        core.sessions.greeted.append(self._greeted)
        core.sessions.departed += [self.relays.disconnected, core.dialer.punched.discard]
        core.sessions.capabilities = self.capabilities

    def _learn(self, peer: PeerId, addresses: Iterable[str]) -> None:
        self._core.dialer.book.learn(peer, addresses)

    def _greeted(self, peer: PeerId, hello: Hello, stream: INetStream) -> None:
        self.outlook.greeted(peer, hello, stream)
        if RELAY in hello.capabilities:
            self.relays.poke()

    def _upgraded(self, peer: PeerId, is_punched: bool) -> None:
        """A direct connection stands beside a relayed one."""
        if is_punched:
            self._core.dialer.punched.add(peer)
        self._core.sessions.renew(peer)

    def _listening(self) -> list[str]:
        """Addresses of this host that are listened on, without the peer id."""
        if trio.current_time() >= self._listened[0] + LISTENING_S:
            found = dialable_addresses(str(address) for address in self._core.host.get_addrs())
            here = [text for text in map(without_target, found) if is_dialable(text)]
            self._listened = trio.current_time(), here
        return self._listened[1]

    def _neighbours(self) -> list[PeerId]:
        return list(self._core.sessions.up)

    def _needs_no_relay(self) -> bool:
        return self.is_public

    def _gets_no_circuit(self, peer: PeerId) -> bool:
        return RELAY not in self.capabilities or self._core.dialer.book.is_forbidden(peer)

    def _kind_of(self, peer: PeerId) -> NatKind:
        hello = self._core.sessions.up.get(peer)
        said = next((text for text in hello.capabilities if text.startswith(NAT)), "") if hello else ""
        kinds: tuple[NatKind, ...] = get_args(NatKind)
        for kind in kinds:
            if said == NAT + kind:
                return kind
        return "unknown"

    def _candidates(self) -> Sequence[Candidate]:
        """Peers that offer to relay: those that are up, then those that the directory knows."""
        found = dict(self._from_directory)
        for peer, hello in self._core.sessions.up.items():
            path = next((path for path in self._core.dialer.paths(peer) if path.kind != "relayed"), None)
            if RELAY in hello.capabilities and path is not None and not _is_loopback(path.address):
                found[peer] = Candidate(peer, self.pings.rtt_us(peer) or RTT_UNKNOWN, path.address)
        return [one for one in found.values() if not self._core.dialer.book.is_forbidden(one.peer)]

    async def _look_for_relays(self) -> None:
        """While this node is not public and has no relay, ask the directory for some."""
        while True:
            await trio.sleep(RELAYS_LOOK_S)
            if self.is_public or self.relays.addresses():
                continue
            try:
                contacts = await self.finder.find_topic(RELAY)
            except (Unavailable, Refused) as error:
                log.debug("no relays from the directory: %s", error.detail)
                continue
            self._from_directory = {
                contact.peer: Candidate(contact.peer, RTT_UNKNOWN, address)
                for contact in contacts
                for address in contact.record.addresses
                if is_dialable(address) and is_global_address(address)
            }
            self.relays.poke()

    async def _keep_saying(self) -> None:
        """When what we can do for others changes, greet those who are up again."""
        while True:
            await trio.sleep(LOOK_S)
            if self._core.sessions.capabilities != self.capabilities:
                self._core.sessions.capabilities = self.capabilities
                for peer in self._neighbours():
                    self._core.sessions.renew(peer)


def _is_loopback(address: str) -> bool:
    return address.startswith(("/ip4/127.", "/ip6/::1/"))
