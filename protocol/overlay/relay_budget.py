"""What a relay gives away, and to whom: the limits that every public peer enforces when it relays for others.

    denied = budget.reserve(peer, "192.0.2.1", now)         circuit = budget.open(source, "192.0.2.1", target, now)
    budget.established(circuit, now)                        grant = budget.take(circuit, sender, 16_384, now)

Whoever sends pays: bytes are charged to the circuit, to its sender and to the sender's address.
Spec: specs/20-relays.md.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Final

from protocol.errors import LocalError
from protocol.gossip.buckets import Buckets
from protocol.overlay.endpoint import subnet
from protocol.overlay.relay_rates import Quota, Rate
from protocol.units import GIB, HOUR, KIB, MIB, SECOND, Micros, PeerId

CHUNK_BYTES: Final = 64 * KIB
"""Most bytes that one `take` may ask for: what a relay holds in memory per direction of a circuit."""

SENDERS_MAX: Final = 4_096
"""Peers and addresses whose bytes are remembered; when that many still owe something, a new one is refused."""


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """What one relay gives. A test makes them small, an owner with a fat line makes them large."""

    reservations: int = 256
    """Peers that can be reached through this relay at a time."""
    reservations_per_address: int = 8
    """Households with several machines fit in; a sybil on one machine does not fill the relay."""
    reservations_per_subnet: int = 32
    """A /16 holds at most an eighth of the places."""
    reservation_us: Micros = HOUR
    """A reservation ends after an hour unless it is refreshed."""
    circuits: int = 128
    """Circuits at a time, those that are not established yet included."""
    circuits_per_peer: int = 8
    """Circuits of one peer, as source and target together."""
    circuits_per_address: int = 16
    """Circuits that come from one address."""
    circuit_bytes: int = 256 * MIB
    """Bytes of a circuit, both directions together: control traffic of a day, or one small snapshot."""
    circuit_us: Micros = Micros(2 * HOUR)
    """A circuit ends after two hours; sessions go on over the next one."""
    circuit_rate: int = 2 * MIB
    """Bytes per second and circuit."""
    total_rate: int = 8 * MIB
    """Bytes per second of all circuits: what a home connection has to spare."""
    hourly_bytes_per_peer: int = GIB
    """Bytes that one peer may send per hour, after as many at once."""
    hourly_bytes_per_address: int = 2 * GIB
    """The same per address, so that new identities gain nothing."""
    opening_us: Micros = Micros(10 * SECOND)
    """A circuit whose target does not answer is given up after 10 s."""
    request_burst: int = 30
    """RESERVE and CONNECT of one peer at once; then one per second."""


class Denial(Enum):
    """Why not. The values are stable codes."""

    PERMISSION = "permission_denied"
    NO_RESERVATION = "no_reservation"
    RESOURCES = "resource_limit_exceeded"


@dataclass(frozen=True, slots=True)
class Denied:
    """A refusal, with the limit that was reached."""

    why: Denial
    detail: str


@dataclass(frozen=True, slots=True)
class Grant:
    """Bytes that may be passed on after a wait; the circuit ends behind them when they are fewer than asked for."""

    size: int
    wait: Micros


@dataclass(frozen=True, slots=True)
class Reserved:
    """A peer that can be reached through this relay until `until`."""

    address: str
    until: Micros


@dataclass(slots=True, eq=False)
class Circuit:
    """One pair of streams. `ends` is when it is cut, whatever happens."""

    source: PeerId
    target: PeerId
    source_address: str
    target_address: str
    ends: Micros
    bytes_left: int
    rate: Rate
    is_established: bool = False
    passed: int = 0
    """Bytes granted so far."""


class RelayBudget:
    """Decides about every reservation, circuit and byte of one relay. Pure: time comes in, decisions go out."""

    def __init__(self, limits: RelayLimits) -> None:
        self.limits = limits
        self._reserved: dict[PeerId, Reserved] = {}
        self._circuits: set[Circuit] = set()
        self._requests = Buckets(1, limits.request_burst, SENDERS_MAX)
        self._total = Rate(limits.total_rate)
        self._by_peer = Quota(limits.hourly_bytes_per_peer, HOUR, SENDERS_MAX)
        self._by_address = Quota(limits.hourly_bytes_per_address, HOUR, SENDERS_MAX)

    @property
    def reservations(self) -> dict[PeerId, Reserved]:
        """Who can be reached through this relay."""
        return dict(self._reserved)

    @property
    def circuits(self) -> frozenset[Circuit]:
        """What is open, established or not."""
        return frozenset(self._circuits)

    def reserve(self, peer: PeerId, address: str, now: Micros) -> Reserved | Denied:
        """Let a peer at an IP address be reached through this relay; asked again, it is a refresh."""
        self._expire(now)
        if not self._requests.take(peer, now):
            return Denied(Denial.RESOURCES, "too many requests")
        others = [held.address for holder, held in self._reserved.items() if holder != peer]
        block = subnet(address)
        limits = self.limits
        for count, limit, what in (
            (len(others), limits.reservations, "reservations"),
            (others.count(address), limits.reservations_per_address, "reservations of this address"),
            (
                sum(subnet(other) == block for other in others),
                limits.reservations_per_subnet,
                f"reservations of {block}",
            ),
        ):
            if count >= limit:
                return Denied(Denial.RESOURCES, f"{count} {what}, {limit} are given")
        reserved = self._reserved[peer] = Reserved(address, Micros(now + limits.reservation_us))
        return reserved

    def release(self, peer: PeerId) -> None:
        """The connection to a peer ended: nobody reaches it through this relay."""
        self._reserved.pop(peer, None)

    def open(self, source: PeerId, address: str, target: PeerId, now: Micros) -> Circuit | Denied:
        """Begin a circuit from a source at an IP address; it holds its place until `close`."""
        self._expire(now)
        if not self._requests.take(source, now):
            return Denied(Denial.RESOURCES, "too many requests")
        reserved = self._reserved.get(target)
        if reserved is None:
            return Denied(Denial.NO_RESERVATION, "the target has no reservation here")
        limits = self.limits
        ends = Counter(end for circuit in self._circuits for end in {circuit.source, circuit.target})
        from_there = sum(circuit.source_address == address for circuit in self._circuits)
        for count, limit, what in (
            (len(self._circuits), limits.circuits, "circuits"),
            (ends[source], limits.circuits_per_peer, "circuits of the source"),
            (ends[target], limits.circuits_per_peer, "circuits of the target"),
            (from_there, limits.circuits_per_address, "circuits from this address"),
        ):
            if count >= limit:
                return Denied(Denial.RESOURCES, f"{count} {what}, {limit} are given")
        if not self._may_send(source, address, now):
            return Denied(Denial.RESOURCES, "the bytes of this hour are used up")
        until = Micros(now + limits.opening_us)
        rate = Rate(limits.circuit_rate)
        circuit = Circuit(source, target, address, reserved.address, until, limits.circuit_bytes, rate)
        self._circuits.add(circuit)
        return circuit

    def established(self, circuit: Circuit, now: Micros) -> None:
        """The target answered: bytes may flow, and the circuit's time begins."""
        circuit.is_established = True
        circuit.ends = Micros(now + self.limits.circuit_us)

    def take(self, circuit: Circuit, sender: PeerId, size: int, now: Micros) -> Grant:
        """Grant bytes that one end of the circuit wants to pass. Fewer than asked for: the circuit is over."""
        if not 0 < size <= CHUNK_BYTES or sender not in (circuit.source, circuit.target):
            raise LocalError(f"{size} bytes asked for at once", code="relay_chunk")
        if not circuit.is_established or circuit not in self._circuits or now >= circuit.ends:
            return Grant(0, Micros(0))
        address = circuit.source_address if sender == circuit.source else circuit.target_address
        left = min(circuit.bytes_left, self._by_peer.left(sender, now), self._by_address.left(address, now))
        granted = min(size, left)
        if not granted:
            return Grant(0, Micros(0))
        circuit.bytes_left -= granted
        circuit.passed += granted
        self._by_peer.spend(sender, granted, now)
        self._by_address.spend(address, granted, now)
        wait = max(circuit.rate.take(granted, now), self._total.take(granted, now))
        return Grant(granted, wait)

    def close(self, circuit: Circuit) -> None:
        """A circuit ended; its place is free."""
        self._circuits.discard(circuit)

    def tick(self, now: Micros) -> list[Circuit]:
        """The circuits whose time is over, established or not: the driver cuts them, and then closes them here."""
        self._expire(now)
        self._by_peer.forget_paid(now)
        self._by_address.forget_paid(now)
        return [circuit for circuit in self._circuits if circuit.ends <= now]

    def _expire(self, now: Micros) -> None:
        for peer in [peer for peer, held in self._reserved.items() if held.until <= now]:
            del self._reserved[peer]

    def _may_send(self, peer: PeerId, address: str, now: Micros) -> bool:
        return self._by_peer.left(peer, now) > 0 and self._by_address.left(address, now) > 0
