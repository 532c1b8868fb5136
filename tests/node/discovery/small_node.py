"""A host with sessions, questions and discovery, and nothing else: what the tests of discovery are about.

As a program: `small_node.py '{"names": ["a"], "listen": "127.0.0.1", "bootstraps": [], "mdns": false, …}'` runs one or
more nodes until its input ends, and prints what each of them knows, as a line of JSON, twice a second.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))
    gc.disable()  # Until all is imported, as in a real node (shoal/imports.py).

from libp2p.abc import IHost, INetConn, INetStream, INetwork, INotifee
from multiaddr import Multiaddr

from node import entropy
from node.addresses import AddressBook, dialable_addresses, split_address, without_target
from node.arrivals import Arrival
from node.clock import Clock
from node.dialer import Dialer
from node.discovery.finder import Finder
from node.discovery.mdns import LocalNetwork
from node.discovery.pings import Pings
from node.libp2p_rim import in_nursery, listen, make_host, peer_of, protocol_id
from node.peer_cache import PeerCache
from node.requests import Requests
from node.sessions import PROTOCOL_VERSION, Sessions
from node.upkeep import Wanted, keep_connected, keep_neighbours
from protocol.greetings import Hello
from protocol.identity import Identity, peer_text
from protocol.overlay.own_record import MEMBERS, Profile
from protocol.units import PeerId

NETWORK = "reef"
Register = Callable[[str, Callable[[INetStream], Awaitable[None]]], None]
REPORT_S = 0.25


def identity_of(name: str) -> Identity:
    return Identity(name.encode().ljust(32, b"."))


@dataclass
class Plan:
    """What a process is told."""

    names: list[str]
    listen: str = "127.0.0.1"
    port: int = 0
    bootstraps: list[str] = field(default_factory=list)
    mdns: bool = False
    interfaces: tuple[str, ...] = ()
    cache: str = ""
    neighbours: int = 8
    region: str = ""


class SmallNode:
    """One node."""

    def __init__(self, name: str, plan: Plan) -> None:
        self.identity = identity_of(name)
        self.peer = self.identity.peer
        self.plan = plan
        self.book = AddressBook()
        self.counts: Counter[str] = Counter()
        self.hello = Hello(NETWORK, PROTOCOL_VERSION, "test", ("provider",))
        self.host: IHost
        self.dialer: Dialer
        self.sessions: Sessions
        self.around: Around

    def addresses(self) -> list[str]:
        return dialable_addresses(str(address) for address in self.host.get_addrs())

    def learn(self, other: SmallNode) -> None:
        self.book.learn(other.peer, other.addresses())

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        where = [f"/ip4/{self.plan.listen}/tcp/{self.plan.port}"]
        self.host = make_host(self.identity, where, entropy.seed())
        async with AsyncExitStack() as stack:
            nursery = await stack.enter_async_context(trio.open_nursery())
            stack.callback(nursery.cancel_scope.cancel)
            self.dialer = Dialer(self.host, self.book, entropy.dice())
            self.sessions = Sessions(self.hello, self.dialer, nursery, ignore, self.counts, 64)
            self.host.get_network().register_notifee(Connections(self.sessions, nursery))

            def register(name: str, handle: Callable[[INetStream], Awaitable[None]]) -> None:
                self.host.set_stream_handler(protocol_id(name), in_nursery(nursery, handle))

            register(self.sessions.protocol, self.sessions.accept)
            requests = Requests(NETWORK, self.dialer, self.sessions.punish, register, self.counts)
            self.around = Around(self, requests, register)
            await listen(self.host, where, stack)
            bootstraps = [split_address(text) for text in self.plan.bootstraps]
            if self.plan.cache:
                for peer, addresses in PeerCache(Path(self.plan.cache)).load().items():
                    self.book.learn(peer, addresses)
            for peer, address in bootstraps:
                self.book.learn(peer, (address,))
                if peer != self.peer:
                    nursery.start_soon(keep_connected, peer, self.dialer, self.sessions)
            nursery.start_soon(self.around.run, [peer for peer, _ in bootstraps])
            yield

    def report(self) -> dict[str, object]:
        skew = self.around.pings.skew_us()
        return {
            "peer": peer_text(self.peer),
            "addresses": self.addresses(),
            "up": sorted(peer_text(peer) for peer in self.sessions.up),
            "table": sorted(peer_text(entry.contact.peer) for entry in self.around.finder.directory.table),
            "skew": skew,
            "known": self.around.pings.coordinate.is_known,
            "cached": {peer_text(peer): list(known) for peer, known in self.book.all().items()},
            "splits": self.around.finder.check.splits,
        }


class Around:
    """Discovery as a node has it."""

    def __init__(self, node: SmallNode, requests: Requests, register: Register) -> None:
        self.node = node
        clock, punish = Clock(), node.sessions.punish
        self.finder = Finder(node.identity, NETWORK, requests, node.dialer, clock, punish, node.counts)
        self.pings = Pings(NETWORK, node.plan.region, node.dialer, clock, register, punish)
        self.local = LocalNetwork(node.peer, NETWORK, lambda peer, found: ignored(node.book.learn(peer, found)))

    async def run(self, bootstraps: list[PeerId]) -> None:
        node = self.node
        wanted = Wanted(node.plan.neighbours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.finder.run, self.profile, bootstraps, lambda: list(node.sessions.up))
            nursery.start_soon(self.pings.run, lambda: list(node.sessions.up))
            nursery.start_soon(keep_neighbours, wanted, node.peer, node.dialer, node.sessions, self.explore)
            if node.plan.mdns:
                nursery.start_soon(self.local.run, node.addresses, tuple(node.plan.interfaces))

    def profile(self) -> Profile:
        capabilities = self.node.sessions.capabilities
        addresses = tuple(without_target(text) for text in self.node.addresses())
        topics = (MEMBERS, *capabilities)
        return Profile(addresses, self.node.hello.roles, capabilities, topics, self.pings.place)

    async def explore(self) -> list[PeerId]:
        return [contact.peer for contact in await self.finder.explore()]


def ignored(_: bool) -> None:
    """Whether an address was new is of no interest."""


class Connections(INotifee):
    """Tells sessions about connections."""

    def __init__(self, sessions: Sessions, nursery: trio.Nursery) -> None:
        self._sessions = sessions
        self._nursery = nursery

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        self._nursery.start_soon(self._sessions.connected, peer_of(conn.muxed_conn.peer_id))

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        self._nursery.start_soon(self._sessions.disconnected, peer_of(conn.muxed_conn.peer_id))

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        """Not of interest."""

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        """Not of interest."""

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Not of interest."""

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Not of interest."""


async def ignore(arrival: Arrival) -> None:
    """Nobody drives these nodes."""


async def main(plan: Plan) -> None:
    """Run until the input ends."""
    nodes = [SmallNode(name, plan) for name in plan.names]

    async def tell() -> None:
        while True:
            for node in nodes:
                print(json.dumps(node.report()), flush=True)
            await trio.sleep(REPORT_S)

    async with AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node.serving())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stderr)
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)
    with contextlib.suppress(KeyboardInterrupt):
        trio.run(main, Plan(**json.loads(sys.argv[1])))
