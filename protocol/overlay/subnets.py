"""Networks of addresses: what is cheap to have many of, and so counts once. Spec: specs/23-discovery.md.

Anybody makes a thousand peer ids in a second; addresses in many networks cost money. Loopback and local networks are
exempt, because everybody there is somebody's neighbour anyway.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

SUBNET_PEERS_MAX: Final = 2
"""Peers of one network in a bucket, and in the result of a lookup."""

IP4_PREFIX: Final = 24
"""Bits of an IPv4 network: the smallest block that is routed."""

IP6_PREFIX: Final = 48
"""Bits of an IPv6 network: what one customer gets."""


@lru_cache(maxsize=8_192)
def subnet_of(address: str) -> str:
    """The network of `/ip4/…/tcp/…` or of a circuit's relay; a name counts as one; '' when the address is exempt.

    >>> subnet_of("/ip4/11.22.33.44/tcp/4301"), subnet_of("/ip4/192.168.1.2/tcp/4301")
    ('11.22.33.0/24', '')
    """
    parts = address.split("/")
    if len(parts) < 3:
        return address
    try:
        known = ipaddress.ip_address(parts[2])
    except ValueError:
        return parts[2].lower()
    if not known.is_global:
        return ""
    prefix = IP4_PREFIX if known.version == 4 else IP6_PREFIX
    return str(ipaddress.ip_network((known, prefix), strict=False))


def subnets_of(addresses: Iterable[str]) -> frozenset[str]:
    """Every network that a peer claims; empty when all of its addresses are exempt."""
    return frozenset(subnet for address in addresses if (subnet := subnet_of(address)))


def is_crowded(subnets: frozenset[str], others: Iterable[frozenset[str]]) -> bool:
    """True when one of these networks is already that of `SUBNET_PEERS_MAX` others."""
    if not subnets:
        return False
    count = dict.fromkeys(subnets, 0)
    for other in others:
        for subnet in subnets & other:
            count[subnet] += 1
    return max(count.values()) >= SUBNET_PEERS_MAX


def is_global_address(address: str) -> bool:
    """True when an address leads out of the local network; a name does, as far as anybody knows."""
    return bool(subnet_of(address))


def usable(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """The addresses of another peer that are worth dialling: a public peer's private ones mean somebody else here."""
    public = tuple(address for address in addresses if is_global_address(address))
    return public or addresses
