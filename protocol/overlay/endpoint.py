"""An address and a TCP port, as text of the form `/ip4/192.0.2.1/tcp/4301` and as a value that can be compared."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

SUBNET_BITS: Final = 16
"""IPv4 bits that one owner is assumed to hold: a /16 of addresses is what a hosting provider gives out like sand."""

SUBNET6_BITS: Final = 32
"""IPv6 bits of one owner: the smallest block that a registry gives to a provider."""

TEXT_MAX: Final = 64
"""Characters of the longest endpoint that is read: an IPv6 address of 39, a port of 5 and the words between."""

_CARRIER: Final = ipaddress.IPv4Network("100.64.0.0/10")
"""RFC 6598: the shared space between a carrier's NAT and its customers."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """Where somebody is reached or seen. `ip` is in its one canonical form."""

    ip: str
    port: int

    @property
    def text(self) -> str:
        """The multiaddress."""
        return f"/ip{6 if ':' in self.ip else 4}/{self.ip}/tcp/{self.port}"


def endpoint(text: str) -> Endpoint | None:
    """The endpoint that a multiaddress names; None for names, circuits, other transports and nonsense.

    >>> endpoint("/ip4/192.0.2.1/tcp/4301/p2p/12D3KooW")
    Endpoint(ip='192.0.2.1', port=4301)
    """
    head = text[: TEXT_MAX + 1].partition("/p2p/")[0] if "/p2p-circuit" not in text else ""
    parts = head.split("/")
    if len(head) > TEXT_MAX or len(parts) != 5 or parts[0] or parts[3] != "tcp":
        return None
    ip = canonical_ip(parts[2])
    is_port = parts[4].isascii() and parts[4].isdecimal() and len(parts[4]) <= 5
    if ip is None or parts[1] != ("ip6" if ":" in parts[2] else "ip4") or not is_port:
        return None
    port = int(parts[4])
    return Endpoint(ip, port) if 0 < port < 65_536 else None


def canonical_ip(text: str) -> str | None:
    """An address in its one form, IPv4 out of its IPv6 wrapping; None for anything else, zones included."""
    try:
        address = ipaddress.ip_address(text) if len(text) <= TEXT_MAX and "%" not in text else None
    except ValueError:
        return None
    if address is None:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def subnet(ip: str, bits: int = SUBNET_BITS) -> str:
    """The block that an address belongs to: what one owner can fill with peers of his own.

    >>> subnet("192.0.2.1"), subnet("2001:db8:1::1")
    ('192.0.0.0/16', '2001:db8::/32')
    """
    return str(ipaddress.ip_network(f"{ip}/{SUBNET6_BITS if ':' in ip else bits}", strict=False))


def is_global(ip: str) -> bool:
    """True for an address that the whole internet can route to."""
    return ipaddress.ip_address(ip).is_global


def is_carrier(ip: str) -> bool:
    """True inside 100.64.0.0/10: the outside of a home router that stands behind a carrier's NAT."""
    address = ipaddress.ip_address(ip)
    return isinstance(address, ipaddress.IPv4Address) and address in _CARRIER
