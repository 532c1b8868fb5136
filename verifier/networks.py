"""Which peers are taken for one operator's: those whose public addresses lie in the same network.

A /24 of IPv4 or a /48 of IPv6 is what one customer rents. It proves nothing and costs an honest network little: who
shares one with a claim's provider or steward does not audit that claim. Private addresses say nothing about who runs a
host, and a relayed address is the relay's, so neither counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final

PREFIXES: Final = {"ip4": 24, "ip6": 48}
"""Bits of an address that one operator's hosts share."""

RELAYED: Final = "p2p-circuit"
"""Part of an address at which a relay answers."""

CACHED: Final = 4096
"""Addresses whose network is remembered: a draw looks at those of every candidate."""


def networks(addresses: Iterable[str]) -> frozenset[str]:
    """The networks of the public addresses among these multiaddresses.

    >>> sorted(networks(("/ip4/20.1.2.3/tcp/1", "/ip4/20.1.2.9/udp/1/quic-v1", "/ip4/10.0.0.1/tcp/1")))
    ['20.1.2.0/24']
    """
    return frozenset(found for address in addresses if (found := _network(address)))


@lru_cache(CACHED)
def _network(address: str) -> str:
    parts = address.split("/")
    if len(parts) < 3 or parts[1] not in PREFIXES or RELAYED in parts:
        return ""
    try:
        number = ip_address(parts[2])
        here = ip_network(f"{number}/{PREFIXES[parts[1]]}", strict=False)
    except ValueError:
        return ""
    return str(here) if number.is_global else ""
