"""Two libp2p hosts on loopback, each with our muxer or the stock one, and one connection between them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import trio
from libp2p.abc import IHost, IMuxedConn, INetStream, ISecureConn
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.stream_muxer import muxer_multistream
from libp2p.stream_muxer.yamux.yamux import Yamux
from multiaddr import Multiaddr

from node import libp2p_patches
from node.libp2p_rim import libp2p_id, listen, make_host, protocol_id
from node.mux.connection import Connection
from node.mux.stream import MuxedStream
from protocol.identity import Identity
from tests.node.waiting import SECONDS

PROTOCOL = "/test/echo/1"
ANY = "/ip4/127.0.0.1/tcp/0"


@dataclass(frozen=True)
class Two:
    """The hosts; `one` dialled `two`."""

    one: IHost
    two: IHost

    async def stream(self, protocol: str = PROTOCOL) -> INetStream:
        """From one to two."""
        return await self.one.new_stream(self.two.get_id(), [protocol_id(protocol)])

    async def back(self, protocol: str = PROTOCOL) -> INetStream:
        """From two to one."""
        return await self.two.new_stream(self.one.get_id(), [protocol_id(protocol)])

    def serve(self, handler: Callable[[INetStream], Awaitable[None]], protocol: str = PROTOCOL) -> None:
        """At both."""
        for host in (self.one, self.two):
            host.set_stream_handler(protocol_id(protocol), handler)


@asynccontextmanager
async def two_hosts(stock: tuple[bool, bool] = (False, False)) -> AsyncIterator[Two]:
    """Two connected hosts; `stock` says which of them has libp2p's own muxer."""
    libp2p_patches.install()
    identities = (Identity(os.urandom(32)), Identity(os.urandom(32)))
    plain = {libp2p_id(identity.peer) for identity, is_plain in zip(identities, stock, strict=True) if is_plain}

    def choose(
        secured: ISecureConn, peer: ID, is_initiator: bool, on_close: Callable[[], Awaitable[None]]
    ) -> Connection | Yamux:
        kind = Yamux if secured.get_local_peer() in plain else Connection
        return kind(secured, peer, is_initiator=is_initiator, on_close=on_close)

    hosts = [make_host(identity, [ANY], os.urandom(32)) for identity in identities]
    was = vars(muxer_multistream)["Yamux"]
    vars(muxer_multistream)["Yamux"] = choose
    try:
        async with AsyncExitStack() as stack:
            for host in hosts:
                stack.push_async_callback(libp2p_patches.close_listeners, host)
                await listen(host, [ANY], stack)
            two = Two(hosts[0], hosts[1])
            two.serve(echo)
            with trio.fail_after(SECONDS):
                await hosts[0].connect(PeerInfo(hosts[1].get_id(), addresses_of(hosts[1])))
            assert [isinstance(conn, Yamux) for conn in connections(two)] == list(stock)
            yield two
            for connection in connections(two) if any(stock) else []:
                await connection.close()  # libp2p's own leaves its socket open at the end of its host
    finally:
        vars(muxer_multistream)["Yamux"] = was


def addresses_of(host: IHost) -> list[Multiaddr]:
    """Where a host listens."""
    return [address for listener in host.get_network().listeners.values() for address in listener.get_addrs()]


def connections(two: Two) -> list[IMuxedConn]:
    """The muxed connections of one and two, as they are."""
    found: list[IMuxedConn] = []
    for host, other in ((two.one, two.two), (two.two, two.one)):
        network = host.get_network()
        assert isinstance(network, Swarm)
        found += [connection.muxed_conn for connection in network.get_connections(other.get_id())[:1]]
    return found


def connection_of(host: IHost, other: IHost) -> Connection:
    """The muxed connection of one to the other."""
    network = host.get_network()
    assert isinstance(network, Swarm)
    found = network.get_connections(other.get_id())[0].muxed_conn
    assert isinstance(found, Connection)
    return found


def muxed(stream: INetStream) -> MuxedStream:
    """What is under libp2p's wrapper."""
    found = vars(stream)["muxed_stream"]
    assert isinstance(found, MuxedStream)
    return found


async def echo(stream: INetStream) -> None:
    """Everything comes back, then the end."""
    try:
        while data := await stream.read(65_536):
            await stream.write(data)
    except EOFError:
        pass
    await stream.close()


async def read_exactly(stream: INetStream, size: int) -> bytes:
    """All of it, or EOFError."""
    parts = []
    while size:
        parts.append(await stream.read(size))
        size -= len(parts[-1])
    return b"".join(parts)
