"""A hole in a router, and what a machine that wants one asks its driver to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from protocol.units import Micros

Method = Literal["pcp", "nat_pmp", "upnp"]
METHODS: Final[tuple[Method, ...]] = ("pcp", "nat_pmp", "upnp")
"""In the order in which they are tried: the newest says most."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A hole in the router: what arrives at the external endpoint comes to `internal_port` here."""

    method: Method
    internal_port: int
    external_ip: str
    """Empty while a NAT-PMP router has not said it."""
    external_port: int
    expires: Micros


@dataclass(frozen=True, slots=True)
class Transmit:
    """Effect: a datagram to the router's port 5351."""

    data: bytes


@dataclass(frozen=True, slots=True)
class MapByUpnp:
    """Effect: ask by UPnP; answer with `upnp_mapped` or `upnp_failed`."""

    internal_port: int
    external_port: int
    lifetime_s: int


@dataclass(frozen=True, slots=True)
class UnmapByUpnp:
    """Effect: delete by UPnP; nobody waits for the answer."""

    external_port: int


@dataclass(frozen=True, slots=True)
class Gained:
    """Effect: a port is open, or open elsewhere than before."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Lost:
    """Effect: a port that was open is so no more; it is being asked for again."""

    lease: Lease
    why: str


MappingEffect = Transmit | MapByUpnp | UnmapByUpnp | Gained | Lost
