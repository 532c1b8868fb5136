"""Real libp2p hosts on loopback for the tests of relays: one peer each, with what it needs to relay or be relayed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import trio
from libp2p.abc import IHost, INetStream
from libp2p.io.exceptions import IOException
from multiaddr import Multiaddr

from node import libp2p_patches
from node.clock import Clock
from node.libp2p_rim import in_nursery, libp2p_id, listen, make_host, only_error, protocol_id, remote_of
from node.reach.circuit_messages import DCUTR_PROTOCOL, HOP_PROTOCOL, STOP_PROTOCOL
from node.reach.punching import Puncher, Surroundings, is_public
from node.reach.relay_client import RelayClient
from node.reach.relay_server import RelayServer
from node.streams import read_some, reset, write_all
from protocol.errors import RemoteViolation, Unavailable
from protocol.identity import Identity
from protocol.overlay.nat_kind import NatKind
from protocol.overlay.relay_budget import RelayBudget, RelayLimits
from protocol.overlay.relay_choice import Candidate
from protocol.units import Micros, PeerId

ECHO = "/test/echo/1"


@dataclass
class Node:
    """A host that listens on loopback, and its relay client."""

    host: IHost
    peer: PeerId
    nursery: trio.Nursery
    clock: Clock = field(default_factory=Clock)
    counts: Counter[str] = field(default_factory=Counter)
    known: dict[PeerId, str] = field(default_factory=dict)
    shut_out: set[PeerId] = field(default_factory=set)
    upgraded: list[tuple[PeerId, bool]] = field(default_factory=list)
    punished: list[RemoteViolation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = RelayClient(self.host, self.connect, self.punish, self.clock, random.Random(self.peer))
        self.serve(STOP_PROTOCOL, self.client.serve)
        self.serve(ECHO, echo)

    @property
    def address(self) -> str:
        """Where it listens."""
        return str(self.host.get_addrs()[0]).partition("/p2p/")[0]

    def serve(self, protocol: str, handler: Callable[[INetStream], Awaitable[None]]) -> None:
        """Answer a protocol."""
        self.host.set_stream_handler(protocol_id(protocol), in_nursery(self.nursery, handler))

    def knows(self, *others: Node) -> None:
        """Addresses of others."""
        self.known |= {other.peer: other.address for other in others}

    async def connect(self, peer: PeerId) -> None:
        """Directly, as the dialer does."""
        name = libp2p_id(peer)
        if not self.host.get_network().get_connections(name):
            libp2p_patches.forget_failure(self.host, name)
            address = Multiaddr(f"{self.known[peer]}/p2p/{name}")
            await self.host.get_network().dial_addr(address, name)

    async def punish(self, violation: RemoteViolation) -> None:
        """Remember it."""
        self.punished.append(violation)

    def relays(self, limits: RelayLimits | None = None) -> RelayServer:
        """Let this node relay for others."""
        budget = RelayBudget(limits or RelayLimits())
        server = RelayServer(
            self.host, budget, self.clock, lambda: [self.address], self.shut_out.__contains__, self.punish, self.counts
        )
        self.serve(HOP_PROTOCOL, server.serve)
        self.nursery.start_soon(server.run)
        return server

    def punches(
        self,
        observed: Callable[[], Sequence[str]],
        kinds: tuple[NatKind, NatKind] = ("unknown", "unknown"),
        known: tuple[str, ...] = (),
        is_allowed: Callable[[str], bool] = is_public,
    ) -> Puncher:
        """Let this node punch; dials leave from the port that it listens on."""
        port = int(self.address.rpartition("/")[2])
        around = Surroundings(
            observed, observed, lambda: kinds[0], lambda peer: kinds[1], lambda peer: known, lambda: port, is_allowed
        )
        upgraded = self.upgraded.append
        puncher = Puncher(
            self.host, self.nursery, self.clock, around, lambda *what: upgraded(what), self.punish, self.counts
        )
        self.serve(DCUTR_PROTOCOL, puncher.serve)
        self.nursery.start_soon(puncher.run)
        return puncher

    def kinds(self, peer: PeerId) -> list[str]:
        """How it is connected to a peer."""
        connections = self.host.get_network().get_connections(libp2p_id(peer))
        return sorted(connection.get_connection_type().value for connection in connections)

    def peer_at(self, stream: INetStream) -> PeerId:
        """Who is at the other end."""
        return remote_of(stream)

    def candidate(self, rtt: int = 1, address: str = "") -> Candidate:
        """This node as a relay that others may choose."""
        return Candidate(self.peer, Micros(rtt), address or self.address)

    async def echoed(self, peer: PeerId, data: bytes) -> bytes:
        """Send bytes to a connected peer; what came back."""
        stream = await self.host.new_stream(libp2p_id(peer), [protocol_id(ECHO)])
        came = bytearray()

        async def send() -> None:
            for at in range(0, len(data), 16_384):
                await stream.write(data[at : at + 16_384])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while len(came) < len(data):
                came += await stream.read(65_536)
        await stream.close()
        return bytes(came)


async def echo(stream: INetStream) -> None:
    """Send everything back."""
    try:
        while piece := await stream.read(65_536):
            await stream.write(piece)
    except (IOException, EOFError):
        await stream.reset()


async def open_node(stack: AsyncExitStack, nursery: trio.Nursery, number: int, address: str) -> Node:
    """A node that listens on one address until the stack unwinds."""
    identity = Identity(bytes([number + 1]) * 32)
    host = make_host(identity, [address], bytes([number + 101]) * 32)
    stack.push_async_callback(libp2p_patches.close_listeners, host)
    await listen(host, [address], stack)
    return Node(host, identity.peer, nursery)


async def bridge(one: INetStream, other: INetStream, early: bytes, change: Callable[[bytes], bytes] = bytes) -> None:
    """Pass everything on, changed, until one of the two ends; `early` came from the other one already."""

    async def go(came: INetStream, to: INetStream, piece: bytes = b"") -> None:
        with suppress(Unavailable):
            while piece := piece or await read_some(came):
                await write_all(to, change(piece))
                piece = b""
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go, one, other)
        nursery.start_soon(go, other, one, early)
    await reset(one)
    await reset(other)


@asynccontextmanager
async def nodes(count: int) -> AsyncIterator[list[Node]]:
    """So many nodes on loopback, which know nothing of each other. One failure inside comes out as itself."""
    try:
        async with AsyncExitStack() as stack:
            nursery = await stack.enter_async_context(trio.open_nursery())
            stack.callback(nursery.cancel_scope.cancel)
            yield [await open_node(stack, nursery, number, "/ip4/127.0.0.1/tcp/0") for number in range(count)]
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise only_error(group) from None
