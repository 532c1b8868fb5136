"""How the world sees this node: observed addresses, ports open in the router, and what random peers proved.

    outlook = Outlook(me, dialer, requests, …)      nursery.start_soon(outlook.run)
    sessions.greeted.append(outlook.greeted)      outlook.external_addresses()      outlook.status()

Spec: specs/21-reach.md.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import trio
from libp2p.abc import INetStream

from node import entropy
from node.clock import Clock
from node.dialer import Dialer
from node.libp2p_rim import remote_address
from node.reach.dial_back import DialBackServer, endpoints_of
from node.reach.gateway_route import read_addresses
from node.reach.port_mapper import PortMapper
from node.reach.reach_status import Plain, reach_status
from node.reach.sockets import local_port
from node.reach.witnesses import Witnesses
from node.requests import Requests
from protocol.greetings import Hello
from protocol.identity import Identity
from protocol.overlay.endpoint import SUBNET_BITS, Endpoint, endpoint, is_global
from protocol.overlay.lease import Gained, Lost
from protocol.overlay.nat_kind import Nat
from protocol.overlay.observed import AddressChanged, Observation, Observations
from protocol.overlay.reachability import Reachability
from protocol.overlay.verdicts import ADDRESSES_MAX, DialledBack
from protocol.units import PeerId

INTERFACES_S: Final = 10.0
"""Seconds between looks at the interfaces' addresses."""

TWINS_MAX: Final = 8
"""Places remembered from which somebody came with our own key."""

FORMER_MAX: Final = 8
"""Addresses remembered that were ours: a peer that still holds our old connection sees no twin."""

log: Final = logging.getLogger("shoal.reach")


@dataclass(frozen=True, slots=True)
class Place:
    """Who we are and where we listen."""

    identity: Identity
    network: str
    listen_port: int
    """TCP port of the control plane; 0 = nobody can be asked to dial us."""
    data_port: int = 0
    """TCP port of the data plane, mapped too; 0 = none."""
    subnet_bits: int = SUBNET_BITS
    """IPv4 bits that one owner is assumed to hold; a test network in a single /16 sets more."""
    announce: tuple[str, ...] = ()
    """Addresses that the owner knows of: a port opened by hand. They are proven like all others."""
    maps_ports: bool = False
    """Whether the router is asked for ports."""


class Outlook:
    """Everything about our own reachability. `connected` gives the peers that are up, `listening` where we listen."""

    def __init__(
        self,
        place: Place,
        dialer: Dialer,
        requests: Requests,
        server: DialBackServer,
        clock: Clock,
        connected: Callable[[], Iterable[PeerId]],
        listening: Callable[[], Iterable[str]],
    ) -> None:
        self._place = place
        self._dialer = dialer
        self._clock = clock
        self._listening = listening
        self.observations = Observations(read_addresses(), place.subnet_bits)
        ports = (place.listen_port, place.data_port) if place.maps_ports else ()
        self.mapper = PortMapper(ports, clock, self._mapping_changed)
        machine = Reachability(place.identity.peer, place.network, entropy.dice(), place.subnet_bits)
        self.witnesses = Witnesses(machine, requests, dialer, clock, connected, self.candidates, self._heard)
        self.changed = trio.Event()
        """Set and replaced when an address, a mapping or the NAT changed."""
        self._twins: dict[str, None] = {}
        self._former: deque[str] = deque(maxlen=FORMER_MAX)
        server.serve(requests)

    async def run(self) -> None:
        """Map ports, ask witnesses, watch the interfaces, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.mapper.run)
            nursery.start_soon(self.witnesses.run)
            while True:
                await trio.sleep(INTERFACES_S)
                self.observations.moved(read_addresses())
                self._react(self.observations.tick(self._clock.now()))

    # ── what is known ────────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def nat(self) -> Nat:
        """The router in front of us."""
        return self.observations.nat(self.mapper.status.router_ip)

    def candidates(self) -> tuple[str, ...]:
        """Addresses at which we may be reachable from outside, the likeliest first; what witnesses are asked about."""
        port = self._place.listen_port
        mapped = [
            Endpoint(lease.external_ip, lease.external_port).text
            for lease in self.mapper.status.leases
            if lease.internal_port == port and lease.external_ip
        ]
        listening = [found.text for text in self._listening() if (found := endpoint(text)) is not None]
        external = self.observations.external
        guess = [Endpoint(external, port).text] if external and port else []
        named = [found.text for text in self._place.announce if (found := endpoint(text)) is not None]
        every = [*named, *mapped, *listening, *self.observations.candidates(), *guess]
        outside = [text for text in every if (found := endpoint(text)) is not None and is_global(found.ip)]
        return tuple(dict.fromkeys(outside))[:ADDRESSES_MAX]

    def punch_addresses(self) -> tuple[str, ...]:
        """Where somebody who punches should knock, the likeliest first."""
        return tuple(dict.fromkeys((*self.candidates(), *self.observations.mappings())))[:ADDRESSES_MAX]

    def external_addresses(self) -> tuple[str, ...]:
        """What to tell others beside the addresses listened on: what is proven; while nothing is, what is likely."""
        machine = self.witnesses.machine
        return machine.public if machine.state == "public" else () if machine.state == "private" else self.candidates()

    def data_addresses(self) -> tuple[str, ...]:
        """Where the data port is open in the router; empty when it is not."""
        return tuple(
            Endpoint(lease.external_ip, lease.external_port).text
            for lease in self.mapper.status.leases
            if lease.internal_port == self._place.data_port and lease.external_ip
        )

    def status(self) -> Plain:
        """Everything for `doctor`, as plain values."""
        machine = self.witnesses.machine
        twins = [*self._twins, *(ip for ip in machine.twins if ip not in self._former)]
        return reach_status(self.nat, self.mapper.status, machine, twins)

    # ── what is heard ────────────────────────────────────────────────────────────────────────────────────────────────
    def greeted(self, peer: PeerId, hello: Hello, stream: INetStream) -> None:
        """A Hello came: how its sender sees us, and on which connection it said so."""
        looked = remote_address(stream)
        if not looked or not hello.observed:
            return
        port = local_port(stream.muxed_conn)
        is_inbound = not stream.muxed_conn.is_initiator
        is_stable = port == self._place.listen_port and not is_inbound
        said = Observation(peer, looked, hello.observed, port, is_stable, self._clock.now(), is_inbound)
        self._react(self.observations.receive(said))

    def twin_seen(self, address: str) -> None:
        """Somebody who is not us came in with our own key."""
        if address not in self._twins and len(self._twins) < TWINS_MAX:
            self._twins[address] = None
            log.error(
                "another node uses this node's key, at %s: stop one of them; two nodes with one key lose stake", address
            )

    def _heard(self, witness: PeerId, reply: DialledBack) -> None:
        now = self._clock.now()
        ends = self._dialer.direct_ends(witness)
        port, is_inbound = ends[0] if len(ends) == 1 else (0, False)  # Of several, nobody knows which one it saw.
        is_stable = port == self._place.listen_port and not is_inbound
        for end in endpoints_of(self._dialer, witness)[:1]:
            said = Observation(witness, end.text, reply.seen, port, is_stable, now, is_inbound)
            self._react(self.observations.seen_again(said))

    def _mapping_changed(self, effect: Gained | Lost) -> None:
        if isinstance(effect, Lost) and "restarted" in effect.why:
            self.observations.forget()
        self._announce()

    def _react(self, changes: list[AddressChanged]) -> None:
        for change in changes:
            if change.before:
                self._former.append(change.before)
            log.info(
                "the world sees this node at %s%s", change.after, f", no longer {change.before}" * bool(change.before)
            )
        if changes:
            self._announce()

    def _announce(self) -> None:
        self.witnesses.machine.address_changed(self._clock.now())
        self.changed.set()
        self.changed = trio.Event()
