"""Public addresses of simulated hosts: a failure domain (/24) of its own for each, and a few in each /16."""

from __future__ import annotations

from typing import Final

AREA_PEERS: Final = 4
"""Peers whose addresses lie in one /16: the customers of one operator in one town."""

FIRST: Final = 20
"""First number of the first address; the numbers from here on are public."""


def area_of(peer: int) -> int:
    """The number of a peer's /16."""
    return peer // AREA_PEERS


def address_of(peer: int) -> str:
    """The multiaddress that a peer offers.

    >>> address_of(5)
    '/ip4/20.1.1.7/tcp/4001'
    """
    area = area_of(peer)
    return f"/ip4/{FIRST + area // 256}.{area % 256}.{peer % AREA_PEERS}.7/tcp/4001"
