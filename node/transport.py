"""The network as the driver sees it: send, publish, fetch, and one inbox. Everything that speaks libp2p is behind it.

    async with transport.serving():
        transport.send_nowait(peer, message)
        async for arrival in transport.inbox: ...

Spec: specs/12-transport.md.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio
from libp2p.abc import IHost, INetConn, INetStream, INetwork, INotifee
from multiaddr import Multiaddr

from node import entropy, libp2p_patches
from node.addresses import AddressBook, require_listenable, split_address
from node.arrivals import Arrival, PeerDown, PeerUp, Received, Statement
from node.blobs import BlobStore
from node.bulk.plane import BulkPlane
from node.dialer import Dialer, PeerPath
from node.door import Door
from node.gossip import Gossip
from node.libp2p_rim import in_nursery, listen, listening_port, make_host, only_error, peer_of, protocol_id
from node.mux.connection import violation_of
from node.overlay import Circumstances, Core, Overlay, Role
from node.peer_cache import PeerCache
from node.requests import Requests
from node.sessions import PROTOCOL_VERSION, Sessions
from node.upkeep import keep_cache, keep_connected, keep_neighbours
from protocol.completions import Fetched
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.greetings import Hello
from protocol.identity import Identity, peer_text
from protocol.messages import Message
from protocol.overlay.place import NOWHERE, Place
from protocol.units import Digest, PeerId
from protocol.wire import Signed

__all__ = ["Arrival", "PeerDown", "PeerUp", "Received", "Role", "Statement", "Transport", "TransportConfig"]

INBOX_ITEMS: Final = 4_096
"""Arrivals that wait for the driver. When it is full, peers are read no further, and their senders wait."""

QUEUE_MAX: Final = 1_024
"""Messages that wait for one peer; the oldest is dropped and reported beyond that."""

NEIGHBOURS_MIN: Final = 8
"""Connections that a node keeps by itself: a gossip mesh of 6 and two to spare."""

log: Final = logging.getLogger("shoal.transport")


@dataclass(frozen=True, slots=True)
class TransportConfig:
    """Where to listen, whom to ask first, how to introduce oneself."""

    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/0",)
    announce: tuple[str, ...] = ()
    """Addresses to tell others besides those found out: a port that the owner opened by hand."""
    bootstraps: tuple[str, ...] = ()
    """`/ip4/…/tcp/…/p2p/12D3KooW…`; all are tried, for ever."""
    peer_cache: Path | None = None
    """File of last known addresses; None keeps none."""
    software: str = "shoal"
    roles: tuple[Role, ...] = ()
    region: str = ""
    relays: bool = True
    """Carry connections of peers behind routers while others can reach this node."""
    maps_ports: bool = False
    """Ask the router for open ports."""
    uses_mdns: bool = False
    """Find peers on the local network, and be found there."""
    up_rate: int | None = None
    """Bytes per second that bulk data may leave with; None: no cap."""
    down_rate: int | None = None
    """Bytes per second that bulk data may come with; None: no cap."""
    bulk_port: int = 0
    """TCP port of the data plane, on the hosts listened on; 0: any."""
    capabilities: tuple[str, ...] = ()
    """Words for Hello about what this host was found to be able to do."""
    queue_max: int = QUEUE_MAX
    neighbours_min: int = NEIGHBOURS_MIN


@dataclass(frozen=True, slots=True)
class _Parts:
    """What exists while the transport serves."""

    host: IHost
    door: Door
    dialer: Dialer
    sessions: Sessions
    gossip: Gossip
    blobs: BulkPlane
    requests: Requests
    core: Core


class Transport:
    """One node's place in one network; everything but `learn` and `inbox` needs `serving()`."""

    def __init__(self, identity: Identity, network: str, config: TransportConfig, blobs: BlobStore) -> None:
        self._identity = identity
        self._network = network
        self._config = config
        self._store = blobs
        for text in config.listen:
            require_listenable(text)
        self._bootstraps = [split_address(text) for text in config.bootstraps]
        self._book = AddressBook()
        self._counts: Counter[str] = Counter()
        self._arrivals, self.inbox = trio.open_memory_channel[Arrival](INBOX_ITEMS)
        self._parts: _Parts | None = None
        self.overlay: Overlay | None = None
        """How this node is found and reached; None outside `serving()`."""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listen, connect and stay connected until the block ends; then say goodbye and leave nothing open.

        Unavailable when an address cannot be listened on. The inbox ends with the block."""
        try:
            async with self._arrivals, AsyncExitStack() as stack:
                await self._open(stack)
                try:
                    yield
                finally:
                    with trio.CancelScope(shield=True):
                        await self._serving.sessions.goodbye()
                    self._parts = self.overlay = None
        except BaseExceptionGroup as group:
            raise only_error(group) from None

    def addresses(self) -> list[str]:
        """Where others can dial us, each ending in `/p2p/<peer>`."""
        suffix = f"/p2p/{peer_text(self._identity.peer)}"
        return [text + suffix for text in self._opened.addresses()]

    def connected(self) -> list[PeerId]:
        """Peers that are up."""
        return list(self._serving.sessions.up)

    def is_connected(self, peer: PeerId) -> bool:
        """Whether a peer is up."""
        return peer in self._serving.sessions.up

    def hello_of(self, peer: PeerId) -> Hello | None:
        """How a peer that is up introduced itself."""
        return self._serving.sessions.up.get(peer)

    @property
    def place(self) -> Place:
        """Where this node is, by its owner's word and its own measurements."""
        return self.overlay.pings.place if self.overlay else NOWHERE

    def paths(self, peer: PeerId) -> list[PeerPath]:
        """The open connections to a peer, the best first."""
        return self._serving.dialer.paths(peer)

    def learn(self, peer: PeerId, addresses: Iterable[str]) -> None:
        """Where a peer can be reached, from its offer for example."""
        if peer != self._identity.peer and self._book.learn(peer, addresses) and self._parts is not None:
            self._parts.sessions.links.retry(peer)

    def send_nowait(self, peer: PeerId, message: Message) -> None:
        """Queue a direct message: ordered per peer, lost only with its connection. To oneself: into the inbox."""
        if peer != self._identity.peer:
            self._serving.sessions.send(peer, message)
            return
        try:
            self._arrivals.send_nowait(Received(peer, message))
        except trio.WouldBlock:
            self._counts["messages_lost"] += 1
            log.warning("a message to ourselves is lost: %d arrivals wait for the driver", INBOX_ITEMS)

    async def publish(self, topic: str, signed: Signed) -> None:
        """Gossip a statement on `offers`, `jobs` or `heads`; it comes back through our own inbox too."""
        await self._serving.gossip.publish(topic, signed)

    async def fetch(
        self,
        digest: Digest,
        size_max: int,
        sources: Sequence[PeerId],
        is_output: bool = False,
        job: bytes = b"",
    ) -> Fetched:
        """Bring a blob here, and for an output every file of its manifest. Sources are asked in the order given.

        Jobs share a capped link evenly. Raises Unavailable when no source delivers, Refused when the blob is too large,
        malformed or does not fit the disk."""
        others = [source for source in sources if source != self._identity.peer]
        return await self._serving.blobs.fetch(digest, size_max, others, is_output, job)

    async def open_stream(self, peer: PeerId, protocol: str) -> INetStream:
        """A stream of its own to a peer, over the best path. Unavailable when there is none."""
        return await self._serving.dialer.open_stream(peer, protocol)

    def serve_streams(self, protocol: str, handle: Callable[[INetStream], Awaitable[None]]) -> None:
        """Answer inbound streams of a protocol."""
        self._serving.core.register(protocol, handle)

    async def punish(self, violation: RemoteViolation) -> None:
        """A peer broke a rule of a protocol that others serve here."""
        await self._serving.sessions.punish(violation)

    def bytes_sent(self) -> int:
        """Bytes of blobs that left so far."""
        return self._counts["blob_bytes_sent"]

    def statistics(self) -> dict[str, int]:
        """Counters since the start, and how things stand now."""
        parts = self._serving
        return dict(self._counts) | {
            "peers_up": len(parts.sessions.up),
            "peers_known": len(self._book.all()),
            "messages_queued": parts.sessions.links.queued,
            "dials": parts.dialer.dials,
            "dials_failed": parts.dialer.failures,
        }

    @property
    def _serving(self) -> _Parts:
        if self._parts is None:
            raise LocalError("the transport is used outside `serving()`", code="not_serving")
        return self._parts

    @property
    def _opened(self) -> Overlay:
        if self.overlay is None:
            raise LocalError("the transport is used outside `serving()`", code="not_serving")
        return self.overlay

    def _assemble(self, host: IHost, nursery: trio.Nursery) -> _Parts:
        dialer = Dialer(host, self._book, entropy.dice())
        hello = Hello(self._network, PROTOCOL_VERSION, self._config.software, self._config.roles)
        sessions = Sessions(hello, dialer, nursery, self._deliver, self._counts, self._config.queue_max)
        gossip = Gossip(
            host,
            self._network,
            self._deliver,
            lambda violation: nursery.start_soon(sessions.punish, violation),
            self._counts,
        )
        host.get_network().register_notifee(_Connections(self._identity.peer, sessions, self._twin_seen, nursery))

        def register(name: str, handle: Callable[[INetStream], Awaitable[None]]) -> None:
            host.set_stream_handler(protocol_id(name), in_nursery(nursery, handle))

        register(sessions.protocol, sessions.accept)
        requests = Requests(self._network, dialer, sessions.punish, register, self._counts)
        gossip.carry_bodies(requests)
        blobs = BulkPlane(self._network, self._identity, self._store, dialer, requests, sessions.punish, self._counts)
        blobs.up.set_rate(self._config.up_rate)
        blobs.down.set_rate(self._config.down_rate)
        register(blobs.protocol, blobs.serve)
        core = Core(host, dialer, sessions, requests, nursery, self._counts, register)
        return _Parts(host, Door(host, self._counts), dialer, sessions, gossip, blobs, requests, core)

    def _place(self, parts: _Parts) -> Circumstances:
        """What the configuration says, and the ports that came of it."""
        config = self._config
        return Circumstances(
            roles=config.roles,
            announce=config.announce,
            bootstraps=tuple(peer for peer, _ in self._bootstraps if peer != self._identity.peer),
            region=config.region,
            relays=config.relays,
            maps_ports=config.maps_ports,
            uses_mdns=config.uses_mdns,
            data_port=parts.blobs.port,
            listen_port=parts.dialer.listen_port,
            capabilities=config.capabilities,
        )

    async def _open(self, stack: AsyncExitStack) -> None:
        """Put everything to work; `stack` undoes it in the opposite order."""
        host = make_host(self._identity, self._config.listen, entropy.seed())
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        stack.push_async_callback(libp2p_patches.close_listeners, host)
        parts = self._assemble(host, nursery)
        stack.push_async_callback(parts.dialer.close)
        await listen(host, self._config.listen, stack)
        parts.door.widen()
        await stack.enter_async_context(parts.gossip.serving(nursery))
        self._parts = parts
        parts.dialer.listen_port = listening_port(host)
        hosts = [text.split("/")[2] for text in self._config.listen]
        await stack.enter_async_context(parts.blobs.serving(hosts, self._config.bulk_port, self.addresses))
        self.overlay = Overlay(self._identity, self._network, parts.core, self._place(parts))
        parts.blobs.mapped = self.overlay.outlook.data_addresses
        stack.push_async_callback(self.overlay.puncher.close)
        # Ends before what it looks at: it reads the listeners' addresses, which closed ones do not have.
        around = await stack.enter_async_context(trio.open_nursery())
        stack.callback(around.cancel_scope.cancel)
        around.start_soon(self.overlay.run)
        if self._config.peer_cache is not None:
            cache = PeerCache(self._config.peer_cache)
            stack.callback(lambda: cache.save(self._book.all()))
            for peer, addresses in cache.load().items():
                self.learn(peer, addresses)
            nursery.start_soon(keep_cache, cache, self._book.all, lambda: list(parts.sessions.up))
        for peer, address in self._bootstraps:
            self.learn(peer, (address,))
        me = self._identity.peer
        for peer in {peer for peer, _ in self._bootstraps} - {me}:
            nursery.start_soon(keep_connected, peer, parts.dialer, parts.sessions)
        explore = self.overlay.explore
        nursery.start_soon(keep_neighbours, self._config.neighbours_min, me, parts.dialer, parts.sessions, explore)
        log.info("%s listens on %s", peer_text(me), ", ".join(self.addresses()))

    def _twin_seen(self, address: str) -> None:
        if self.overlay is not None:
            self.overlay.outlook.twin_seen(address)

    async def _deliver(self, arrival: Arrival) -> None:
        """Into the inbox; what arrives while the node shuts down is dropped."""
        try:
            await self._arrivals.send(arrival)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("%s arrived after the end", type(arrival).__name__)


class _Connections(INotifee):
    """libp2p tells us about connections. It waits for the answer, so the work happens in our own nursery."""

    def __init__(self, me: PeerId, sessions: Sessions, twin_seen: Callable[[str], None], nursery: trio.Nursery) -> None:
        self._me = me
        self._twin_seen = twin_seen
        self._sessions = sessions
        self._nursery = nursery

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        try:
            peer = peer_of(conn.muxed_conn.peer_id)
        except Refused:
            await conn.close()
            return
        if peer == self._me:
            self._twin_seen(next((str(address) for address in conn.get_transport_addresses()), "an unknown address"))
            await conn.close()
            return
        self._nursery.start_soon(self._sessions.connected, peer)

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        try:
            peer = peer_of(conn.muxed_conn.peer_id)
        except Refused:
            return
        self._nursery.start_soon(self._sessions.disconnected, peer)
        if (violation := violation_of(conn)) is not None:
            self._nursery.start_soon(self._sessions.punish, violation)

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        """Streams announce themselves by their protocol."""

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        """The reader of the stream knows."""

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """`serving` knows."""

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """`serving` knows."""
