"""The way out of this machine: the default route, as the Linux kernel writes it down."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from protocol.overlay.endpoint import canonical_ip, is_global

ROUTES: Final = Path("/proc/net/route")
"""proc(5); always that of the reader's own network namespace."""

ROUTES6: Final = Path("/proc/net/ipv6_route")

_UP: Final = 0x1
_REJECT: Final = 0x200


@dataclass(frozen=True, slots=True)
class Route:
    """Where everything goes that has no nearer way."""

    interface: str
    gateway: str
    """The router's IPv4 address; empty on a link without one (a tunnel, a modem)."""


def default_route(table: str) -> Route | None:
    """The default route with the least metric in the text of /proc/net/route; None when there is none."""
    found: list[tuple[int, Route]] = []
    for line in table.splitlines()[1:]:
        words = line.split()
        try:
            interface, target, gateway, flags = words[0], int(words[1], 16), int(words[2], 16), int(words[3], 16)
            metric, mask = int(words[6]), int(words[7], 16)
        except (IndexError, ValueError):
            continue
        if target or mask or not flags & _UP or flags & _REJECT:
            continue
        ip = str(ipaddress.IPv4Address(gateway.to_bytes(4, "little"))) if gateway else ""
        found.append((metric, Route(interface, ip)))
    return min(found, key=lambda item: item[0])[1] if found else None


def has_default6(table: str) -> bool:
    """Whether the text of /proc/net/ipv6_route holds a usable default route."""
    for line in table.splitlines():
        words = line.split()
        if len(words) == 10 and words[0] == "0" * 32 and words[1] == "00" and words[9] != "lo":
            return True
    return False


def read_route() -> Route | None:
    """The default route now."""
    try:
        return default_route(ROUTES.read_text(encoding="ascii"))
    except OSError:
        return None


def read_addresses() -> list[str]:
    """Every address of this machine's interfaces, loopback and link-local left out."""
    every = [entry.address for entries in psutil.net_if_addrs().values() for entry in entries]
    found = [ip for text in every if (ip := canonical_ip(text)) is not None]
    return [ip for ip in found if not (ipaddress.ip_address(ip).is_loopback or ipaddress.ip_address(ip).is_link_local)]


def has_ipv6(addresses: list[str]) -> bool:
    """Whether the IPv6 internet can be reached from here: a global address and a way out."""
    try:
        table = ROUTES6.read_text(encoding="ascii")
    except OSError:
        return False
    return has_default6(table) and any(":" in ip and is_global(ip) for ip in addresses)
