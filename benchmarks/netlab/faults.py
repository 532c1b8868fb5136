"""What goes wrong in homes, as operations on a laboratory. None of them tells the hosts: no FIN, no reset, no ICMP."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.netlab import routers
from benchmarks.netlab.laboratory import Host, House
from benchmarks.netlab.shaper import Link, Passed
from protocol.errors import Refused

LAST_ADDRESS: Final = 126
"""Of a house's public /25."""

SKEWED: Final = Path(__file__).with_name("skew")


@contextmanager
def outage(house: House, *, inbound: bool = True, outbound: bool = True) -> Iterator[None]:
    """The house's line is dead, or with one of the two false passes packets one way only."""
    house.edge.nft(routers.outage(inbound, outbound))
    try:
        yield
    finally:
        house.edge.nft(routers.outage(False, False))


def reboot(house: House) -> None:
    """The router forgets every connection and mapping; a remapping one comes back with other outside ports. What
    passes through it later without a new handshake is dropped in silence."""
    house.load_rules(fresh_ports=True)
    for one in (house.router, house.carrier):
        if one is not None:
            one.flush_connections()


def move(house: House) -> str:
    """The provider gives the house another public address, and everything that hung on the old one is gone."""
    if house.kind == "public":
        raise Refused("the hosts of a public house own their addresses", code="laboratory")
    before, number = house.address, int(house.address.rpartition(".")[2])
    house.address = f"11.{house.number}.0.{2 + (number - 1) % (LAST_ADDRESS - 1)}"
    house.edge.ip(
        f"addr del {before}/25 dev wan",
        f"addr add {house.address}/25 dev wan",
        f"route replace default via 11.{house.number}.0.1",
    )
    house.edge.flush_connections()
    return house.address


def shape(house: House, link: Link) -> Passed:
    """Another delay, loss or rate from now on; what became of the packets so far."""
    if house.link is None:
        raise Refused(f"{house.name} hangs on a wire: build it with a link", code="laboratory")
    return house.link.set(link)


def narrow(house: House, mtu: int) -> None:
    """The line takes packets of at most `mtu` bytes, and says so to whoever sends larger ones."""
    house.mtu = mtu
    house.edge.ip(f"link set wan mtu {mtu}")
    house.internet.ip(f"link set {house.device} mtu {mtu}")
    house.load_rules(fresh_ports=False)


def power_off(host: Host) -> None:
    """The host loses power: its connections stay half open at the other end."""
    host.plug(False)
    host.kill_processes()


@contextmanager
def unplugged(host: Host) -> Iterator[None]:
    """The host is off the net for a while, as a laptop that sleeps; its processes go on."""
    host.plug(False)
    try:
        yield
    finally:
        host.plug(True)


def skewed(environment: Mapping[str, str], seconds: float) -> dict[str, str]:
    """The environment of a Python process whose wall clock is `seconds` ahead (negative: behind)."""
    path = os.pathsep.join(part for part in (str(SKEWED), environment.get("PYTHONPATH", "")) if part)
    return {**environment, "PYTHONPATH": path, "NETLAB_SKEW_S": str(seconds)}
