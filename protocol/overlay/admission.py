"""Who may come in: bounds on connections that are being greeted and that stand, per address, per subnet and in all.

A crowd from one address or subnet never keeps others out: it is cut first when the house is full. Addresses of the
local network are not bounded as a subnet, because a household or a laboratory shares them. Spec: specs/12-transport.md.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from protocol.units import SECOND, Micros

GREETED_MAX: Final = 128
"""Connections whose handshake is under way; one takes about 20 ms of a core, so this is two seconds of work."""

GREETED_PER_ADDRESS_MAX: Final = 16
"""Handshakes under way with one address: a household that restarts all its machines at once."""

INBOUND_MAX: Final = 384
"""Accepted connections that stand. The rest of libp2p's 512 is for those that this node dials: nobody can use it up."""

PER_ADDRESS_MAX: Final = 32
"""Accepted connections that stand, of one public address."""

PER_SUBNET_MAX: Final = 64
"""Accepted connections that stand, of one public /24 (IPv4) or /48 (IPv6): addresses next door are cheap."""

CROWD_MIN: Final = 16
"""Connections of one subnet from which on one of them makes room for somebody from elsewhere."""

ARRIVALS_BURST: Final = 40
"""Connections that one public address may open at once."""

ARRIVALS_PER_SECOND: Final = 10
"""Connections per second that one public address may open in the long run."""

LOCAL_FACTOR: Final = 16
"""Local addresses may open so many times more."""

ADDRESSES_MAX: Final = 4_096
"""Addresses whose rate is remembered."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One connection at the door."""

    number: int
    address: str
    subnet: str
    is_local: bool


@dataclass(frozen=True, slots=True)
class Turned:
    """Not let in, and why: a stable code."""

    code: str


@dataclass(frozen=True, slots=True)
class Greeted:
    """Let in as far as the handshake; `instead_of` has to go for it."""

    visit: Visit
    instead_of: Visit | None


@dataclass(slots=True)
class _Bucket:
    """Tokens of one address, and when they were counted."""

    tokens: float
    at: Micros


@dataclass(slots=True)
class Admission:
    """The door. `arrive`, then `stay` when the handshake is done, then `leave`; or `leave` at once."""

    _next: int = 0
    _greeted: dict[int, Visit] = field(default_factory=dict)
    _standing: dict[int, Visit] = field(default_factory=dict)
    _greeted_by: Counter[str] = field(default_factory=Counter)
    _standing_by: Counter[str] = field(default_factory=Counter)
    _rates: dict[str, _Bucket] = field(default_factory=dict)

    def arrive(self, address: str, now: Micros) -> Greeted | Turned:
        """A connection from `address` (IP text). Codes: too_fast, too_many_handshakes, full, too_many_connections."""
        visit = self._visit(address)
        if not self._take_token(visit, now):
            return Turned("too_fast")
        if self._greeted_by[address] >= GREETED_PER_ADDRESS_MAX:
            return Turned("too_many_handshakes")
        if not visit.is_local and (
            self._standing_by[address] >= PER_ADDRESS_MAX or self._standing_by[visit.subnet] >= PER_SUBNET_MAX
        ):
            return Turned("too_many_connections")
        victim = self._victim() if len(self._greeted) >= GREETED_MAX else None
        if len(self._standing) >= INBOUND_MAX:
            victim = self._crowded(visit)
            if victim is None:
                return Turned("full")
        if victim is not None:
            self.leave(victim)
        self._next += 1
        self._greeted[visit.number] = visit
        self._greeted_by[address] += 1
        return Greeted(visit, victim)

    def stay(self, visit: Visit) -> bool:
        """The handshake is done. False: it took so long that others needed the place, or the house is full now."""
        if self._greeted.pop(visit.number, None) is None:
            return False
        self._count(self._greeted_by, visit.address, -1)
        if len(self._standing) >= INBOUND_MAX:
            return False
        self._standing[visit.number] = visit
        for key in (visit.address, visit.subnet):
            self._count(self._standing_by, key, 1)
        return True

    def leave(self, visit: Visit) -> None:
        """The connection is gone, greeted or standing. Twice does no harm."""
        if self._greeted.pop(visit.number, None) is not None:
            self._count(self._greeted_by, visit.address, -1)
        if self._standing.pop(visit.number, None) is not None:
            for key in (visit.address, visit.subnet):
                self._count(self._standing_by, key, -1)

    @property
    def greeted(self) -> int:
        """Handshakes under way."""
        return len(self._greeted)

    @property
    def standing(self) -> int:
        """Accepted connections that stand."""
        return len(self._standing)

    def _visit(self, address: str) -> Visit:
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return Visit(self._next, address, f"{address}/", is_local=False)
        bits = 24 if found.version == 4 else 48
        subnet = str(ipaddress.ip_network((found, bits), strict=False))
        return Visit(self._next, address, subnet, is_local=not found.is_global)

    def _take_token(self, visit: Visit, now: Micros) -> bool:
        factor = LOCAL_FACTOR if visit.is_local else 1
        bucket = self._rates.pop(visit.address, None) or _Bucket(float(ARRIVALS_BURST * factor), now)
        elapsed = max(0, now - bucket.at) / SECOND
        bucket.tokens = min(ARRIVALS_BURST * factor, bucket.tokens + elapsed * ARRIVALS_PER_SECOND * factor)
        bucket.at = now
        self._rates[visit.address] = bucket
        while len(self._rates) > ADDRESSES_MAX:
            del self._rates[next(iter(self._rates))]
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def _victim(self) -> Visit:
        """The longest under way of the address that has most handshakes under way."""
        most = max(self._greeted_by.values())
        return next(visit for visit in self._greeted.values() if self._greeted_by[visit.address] == most)

    def _crowded(self, visit: Visit) -> Visit | None:
        """The newest connection of the subnet that has most, when that is a crowd beside the newcomer's."""
        crowds = Counter(standing.subnet for standing in self._standing.values())
        subnet, most = crowds.most_common(1)[0]
        if most < CROWD_MIN or most <= crowds[visit.subnet] + 1:
            return None
        return next(standing for standing in reversed(self._standing.values()) if standing.subnet == subnet)

    @staticmethod
    def _count(counter: Counter[str], key: str, change: int) -> None:
        counter[key] += change
        if not counter[key]:
            del counter[key]
