"""The NAT laboratory: an internet of its own with houses behind routers, on one machine.

    with Laboratory() as lab:
        shop = lab.house("shop", "public").host
        home = lab.house("home", "symmetric", hosts=2, link=both(Flow(delay_ms=40, loss=0.01)))
        with home.hosts[0].entered():
            subprocess.Popen(...)

Every house hangs on the internet by a wire, or by a shaped link when one is given. All private networks are
192.168.1.0/24, as they are in real homes: a private address of another house leads to a stranger, or nowhere. Public
addresses are 11.<house>.0.0/25; nothing of this leaves the machine.
"""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from benchmarks.netlab import ground, routers
from benchmarks.netlab.ground import Namespace
from benchmarks.netlab.port_mapper import PortMapper
from benchmarks.netlab.routers import Kind
from benchmarks.netlab.shaped import ShapedLink
from benchmarks.netlab.shaper import Link
from protocol.errors import Refused, Unavailable
from shoal.processes import Child, end_all

HOUSES_MAX: Final = 200
"""One /16 each below 11.0.0.0/8: what counts peers by subnet sees as many subnets as houses."""

HOSTS_MAX: Final = 60
"""In one house."""

LAN: Final = "192.168.1"
"""Of every home that is not told otherwise."""

JOINED: Final = 200
"""Last number of the address of a host that joins as its second home."""

MTU: Final = 1_500
_KEYS: Final = range(0x4000, 0x8000, 0x0100)
"""Of remapping routers: listen ports below 16384 and ephemeral ones above 32767 all stay above 1023."""

_numbers: Final = itertools.count()


class Host:
    """One computer in a house."""

    def __init__(self, house: House, number: int, namespace: Namespace, address: str) -> None:
        self.house = house
        self.number = number
        self.name = house.name if number == 0 else f"{house.name}-{number + 1}"
        self.namespace = namespace
        self.address = address
        """In its own network; public where the house is."""
        self._children: list[Child] = []

    def entered(self) -> AbstractContextManager[None]:
        """The calling thread works on this computer."""
        return self.namespace.entered()

    def socket(self, kind: socket.SocketKind) -> socket.socket:
        """A socket of this computer, usable from here."""
        return self.namespace.socket(kind)

    def start(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Child:
        """A process on this computer; it ends with the laboratory at the latest."""
        with self.entered():
            child = Child(name, command, log, dict(environment))
        self._children.append(child)
        return child

    def end_processes(self) -> None:
        """End what was started here: asked first, killed after a while."""
        end_all([child.pid for child in self._children if child.exit_code is None])
        for child in self._children:
            child.reap()
        self._children.clear()

    def kill_processes(self) -> None:
        """SIGKILL to everything that was started here."""
        for child in self._children:
            child.kill()
        self._children.clear()

    def plug(self, is_in: bool) -> None:
        """Push the network cable in, or pull it: no packet tells anybody."""
        self.house.router.ip(f"link set h{self.number} {'up' if is_in else 'down'}")


class House:
    """A router and the hosts behind it; behind a carrier's router too, with CGNAT."""

    def __init__(
        self, number: int, name: str, kind: Kind, internet: Namespace, dice: random.Random, lan: str = LAN
    ) -> None:
        self.number = number
        self.lan = f"11.{number}.0" if kind == "public" else lan
        self.name = name
        self.kind: Kind = kind
        self.internet = internet
        self.router = ground.fresh(next(_numbers), f"{name}.router")
        self.carrier = ground.fresh(next(_numbers), f"{name}.carrier") if kind == "cgnat" else None
        self.edge = self.carrier or self.router
        """The namespace whose `wan` has the public address."""
        self.address = f"11.{number}.0.2"
        self.hosts: tuple[Host, ...] = ()
        self.link: ShapedLink | None = None
        self.mapper: PortMapper | None = None
        self.mtu = MTU
        self.key = 0
        self._dice = dice

    @property
    def host(self) -> Host:
        """The first one."""
        return self.hosts[0]

    @property
    def device(self) -> str:
        """The internet's end of the link."""
        return f"h{self.number}"

    def build(self, count: int, link: Link | None) -> None:
        """Make everything and switch it on."""
        public = self.kind == "public"
        first = 130 if public else 10
        self.hosts = tuple(
            Host(self, n, ground.fresh(next(_numbers), f"{self.name}.{n}"), f"{self.lan}.{first + n}")
            for n in range(count)
        )
        ground.ip(*(f"netns add {one.name}" for one in self.namespaces()))
        for one in self.namespaces():
            one.wake()
        self._connect(link)
        if self.carrier is not None:
            self._put_behind(self.carrier)
        gateway = f"{self.lan}.{129 if public else 1}"
        self._lay_lan(f"{gateway}/{25 if public else 24}", gateway)
        self.load_rules(fresh_ports=True)

    def namespaces(self) -> list[Namespace]:
        """All that belong to the house."""
        edge = [self.router] if self.carrier is None else [self.router, self.carrier]
        return [*edge, *(host.namespace for host in self.hosts)]

    def load_rules(self, *, fresh_ports: bool) -> None:
        """Load the router's rules again; with `fresh_ports` a remapping router uses other outside ports from now on."""
        if fresh_ports:
            self.key = self._dice.choice([key for key in _KEYS if key != self.key])
        self.router.nft(routers.rules(self.kind, self.key, self.mtu))
        if self.carrier is not None:
            self.carrier.nft(routers.rules("remapping", self.key, self.mtu))
        if self.mapper is not None:
            self.mapper.hook()

    def join(self, host: Host) -> str:
        """A second line for a host of another house, used while its first has no carrier; its address here."""
        address = f"{self.lan}.{JOINED + host.number}"
        self.router.ip(
            f"link add j{host.number} type veth peer name eth1 netns {host.namespace.name}",
            f"link set j{host.number} master lan",
            f"link set j{host.number} up",
        )
        host.namespace.set("ipv4/conf/all/ignore_routes_with_linkdown", 1)
        host.namespace.ip(
            "link set eth1 up",
            f"addr add {address}/24 dev eth1",
            f"route add default via {self.lan}.1 dev eth1 metric 100",
        )
        return address

    def close(self) -> None:
        """End what runs, then take the house away."""
        for host in self.hosts:
            host.end_processes()
        if self.mapper is not None:
            self.mapper.close()
        for one in self.namespaces():
            one.remove()
        if self.link is not None:
            self.link.close()

    def _connect(self, link: Link | None) -> None:
        """The line to the internet: a wire, or a shaped link."""
        net, near = self.internet, self.edge
        if link is None:
            net.ip(f"link add {self.device} type veth peer name wan netns {near.name}")
        else:
            self.link = ShapedLink(near, "wan", net, self.device, link)
        net.ip(
            f"link set {self.device} up",
            f"addr add 11.{self.number}.0.1/25 dev {self.device}",
            f"route add 11.{self.number}.0.128/25 via 11.{self.number}.0.2",
        )
        near.ip(
            "link set wan up",
            f"addr add {self.address}/25 dev wan",
            f"route add default via 11.{self.number}.0.1",
        )
        _routes(near)

    def _put_behind(self, carrier: Namespace) -> None:
        """Between the home's router and the internet stands the carrier's."""
        self.router.ip(f"link add wan type veth peer name lan netns {carrier.name}")
        carrier.ip("link set lan up", "addr add 100.64.0.1/24 dev lan")
        self.router.ip("link set wan up", "addr add 100.64.0.2/24 dev wan")
        self.router.ip("route add default via 100.64.0.1")
        _routes(self.router)

    def _lay_lan(self, router: str, gateway: str) -> None:
        """A switch in the router, and a cable to every host."""
        lines = ["link add lan type bridge", "link set lan up", f"addr add {router} dev lan"]
        for host in self.hosts:
            lines.append(f"link add h{host.number} type veth peer name eth0 netns {host.namespace.name}")
            lines += [f"link set h{host.number} master lan", f"link set h{host.number} up"]
        self.router.ip(*lines)
        length = router.rpartition("/")[2]
        for host in self.hosts:
            host.namespace.ip(
                "link set eth0 up",
                f"addr add {host.address}/{length} dev eth0",
                f"route add default via {gateway}",
            )


def _routes(namespace: Namespace) -> None:
    """Make it a router: forward, and do not take connections over that it has not seen from the start."""
    namespace.set("ipv4/ip_forward", 1)
    namespace.set("netfilter/nf_conntrack_tcp_loose", 0)


class Laboratory:
    """An internet with houses. Always cleaned up; what a killed run left behind is swept at the next start."""

    def __init__(self, seed: int = 0) -> None:
        if why := ground.missing():
            raise Unavailable(f"no laboratory: {why}", code="no_laboratory")
        self._dice = random.Random(seed)
        self.internet = ground.fresh(next(_numbers), "internet")
        self.houses: dict[str, House] = {}

    def __enter__(self) -> Self:
        ground.sweep()
        ground.ip(f"netns add {self.internet.name}")
        self.internet.wake()
        self.internet.set("ipv4/ip_forward", 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for house in self.houses.values():
            house.close()
        self.houses.clear()
        self.internet.remove()

    def house(
        self,
        name: str,
        kind: Kind,
        hosts: int = 1,
        link: Link | None = None,
        *,
        maps_ports: bool = False,
        lan: str = LAN,
    ) -> House:
        """Build a house. `maps_ports`: its router speaks UPnP, NAT-PMP and PCP; Unavailable without miniupnpd. `lan`:
        the first three numbers of its private /24."""
        number = len(self.houses) + 1
        if number > HOUSES_MAX or not 1 <= hosts <= HOSTS_MAX or name in self.houses:
            raise Refused(f"no room for house {name!r} with {hosts} hosts", code="laboratory")
        house = House(number, name, kind, self.internet, self._dice, lan)
        self.houses[name] = house
        house.build(hosts, link)
        if maps_ports:
            house.mapper = PortMapper(house.router, house.address)
        return house
