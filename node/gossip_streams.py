"""The router's streams: per neighbour one that we write, and whichever it opens to us. Spec: specs/22-gossip.md.

What waits for a neighbour is bounded in frames and bytes and goes out by rank: control, own statements, forwards. When
there is no room, the oldest frame of the lowest rank is dropped and counted.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

import trio
from libp2p.abc import IHost, INetConn, INetStream, INetwork, INotifee
from libp2p.connection_types import ConnectionType
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from node.libp2p_rim import HANDSHAKE_S, libp2p_id, peer_of, protocol_id, remote_of, rim
from node.streams import read_some, reset, write_all
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.gossip import rpc as rpcs
from protocol.gossip.effects import Rank
from protocol.gossip.protobuf import Malformed
from protocol.identity import peer_text
from protocol.units import KIB, MIB, PeerId

PROTOCOLS: Final = tuple(protocol_id(name) for name in ("/meshsub/1.2.0", "/meshsub/1.1.0"))
"""1.2 is 1.1 and IDONTWANT, which we honour and never need to send: what is large enough for it goes by stream."""

QUEUE_FRAMES_MAX: Final = 1_024
"""Frames that wait for one neighbour."""

QUEUE_BYTES_MAX: Final = 1 * MIB
"""Bytes that wait for one neighbour."""

WRITE_BYTES_MAX: Final = 64 * KIB
"""What waits goes out in one write of at most so much."""

OPENINGS: Final = 3
"""Attempts to open a stream while the connection stands; whoever refuses them all speaks no GossipSub."""

OPENING_S: Final = 1.0
"""From the end of a stream to the next attempt; longer after failures."""

INBOUND_MAX: Final = 4
"""Streams read from one neighbour at a time: one per connection and one that is being replaced."""

PACE: Final = 400
"""Units per second that are read from one stream: a unit is a frame, and each KiB of it. Twenty statements a second in
a mesh of twelve are less."""

PACE_BURST: Final = 4_000
"""Units at once: what a neighbour owes after a pause."""

log: Final = logging.getLogger("shoal.transport")


class Ears(Protocol):
    """Who hears about neighbours and what they say."""

    def connected(self, peer: PeerId, is_outbound: bool, address: str) -> None: ...

    def opened(self, peer: PeerId) -> None: ...

    def disconnected(self, peer: PeerId) -> None: ...

    async def heard(self, peer: PeerId, rpc: rpcs.Rpc) -> None: ...

    def punish(self, violation: RemoteViolation, /) -> None: ...


@runtime_checkable
class _Located(Protocol):
    """A connection that knows its other end."""

    def get_remote_address(self) -> tuple[str, int] | None: ...


class Outbox:
    """Frames that wait for one neighbour."""

    __slots__ = ("_bytes", "_frames", "_lanes", "dropped", "filled")

    def __init__(self, dropped: Callable[[], None]) -> None:
        self._lanes: tuple[deque[bytes], ...] = tuple(deque() for _ in Rank)
        self._frames = 0
        self._bytes = 0
        self.dropped = dropped
        self.filled = trio.Event()

    def __len__(self) -> int:
        return self._frames

    def put(self, frame: bytes, rank: Rank) -> None:
        """Queue a frame; without room for it, the oldest of the lowest rank gives way, which may be this one."""
        self._lanes[rank].append(frame)
        self._frames += 1
        self._bytes += len(frame)
        while self._frames > QUEUE_FRAMES_MAX or self._bytes > QUEUE_BYTES_MAX:
            self._pop(next(lane for lane in reversed(self._lanes) if lane))
            self.dropped()
        self.filled.set()

    def take(self) -> bytes:
        """What goes out in one write; empty when nothing waits."""
        batch: list[bytes] = []
        size = 0
        for lane in self._lanes:
            while lane and (not batch or size + len(lane[0]) <= WRITE_BYTES_MAX):
                batch.append(self._pop(lane))
                size += len(batch[-1])
        if not self._frames:
            self.filled = trio.Event()
        return b"".join(batch)

    def _pop(self, lane: deque[bytes]) -> bytes:
        frame = lane.popleft()
        self._frames -= 1
        self._bytes -= len(frame)
        return frame


class GossipStreams(INotifee):
    """Opens, reads and writes the streams of all neighbours, in tasks of the nursery that `serve` is given."""

    def __init__(self, host: IHost, ears: Ears, counts: Counter[str]) -> None:
        self._host = host
        self._ears = ears
        self._counts = counts
        self._outboxes: dict[PeerId, Outbox] = {}
        self._scopes: dict[PeerId, trio.CancelScope] = {}
        self._inbound: Counter[PeerId] = Counter()
        self._started = trio.Event()
        self._nursery: trio.Nursery | None = None
        for protocol in PROTOCOLS:
            host.set_stream_handler(protocol, self._accept)
        host.get_network().register_notifee(self)

    def serve(self, nursery: trio.Nursery) -> None:
        """From now on; whoever is connected already is a neighbour."""
        self._nursery = nursery
        self._started.set()
        for name in list(self._host.get_network().connections):
            self._meet(name)

    @property
    def queued(self) -> int:
        """Frames that wait for all neighbours."""
        return sum(len(outbox) for outbox in self._outboxes.values())

    def send(self, peer: PeerId, frame: bytes, rank: Rank) -> None:
        """Queue a frame for a neighbour. Nothing happens when it is gone."""
        outbox = self._outboxes.get(peer)
        if outbox is not None:
            outbox.put(frame, rank)

    # ── who is there ─────────────────────────────────────────────────────────────────────────────────────────────────
    async def connected(self, network: INetwork, conn: INetConn) -> None:
        """libp2p has a connection."""
        self._meet(conn.muxed_conn.peer_id)

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        """libp2p lost one: with the last, the neighbour is gone."""
        try:
            peer = peer_of(conn.muxed_conn.peer_id)
        except Refused:
            return
        scope = self._scopes.get(peer)
        if scope is not None and not self._is_connected(peer):
            scope.cancel()

    def _is_connected(self, peer: PeerId) -> bool:
        return any(not conn.is_closed for conn in self._connections(libp2p_id(peer)))

    def _connections(self, name: ID) -> list[INetConn]:
        found: list[INetConn] = self._host.get_network().connections.get(name, [])
        return found

    def _meet(self, name: ID) -> None:
        try:
            peer = peer_of(name)
        except Refused:
            return
        if self._nursery is None or peer in self._scopes:
            return
        self._scopes[peer] = trio.CancelScope()
        self._outboxes[peer] = Outbox(lambda: self._counts.update(("gossip_dropped",)))
        self._nursery.start_soon(self._write, peer, name)

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _write(self, peer: PeerId, name: ID) -> None:
        """Write to a neighbour until it is gone; a stream that breaks is opened again."""
        is_silent = False
        try:
            with self._scopes[peer]:
                self._ears.connected(peer, *self._origin(name))
                failures = 0
                while failures < OPENINGS:
                    failures = 0 if await self._write_stream(peer, name) else failures + 1
                    await trio.sleep(OPENING_S * max(1, failures))
                is_silent = self._is_connected(peer)
        finally:
            del self._scopes[peer], self._outboxes[peer]
            self._ears.disconnected(peer)
        if is_silent:
            self._counts["gossip_silent"] += 1
        elif self._is_connected(peer):  # It came back before this task had heard that it was gone.
            self._meet(name)

    async def _write_stream(self, peer: PeerId, name: ID) -> bool:
        """Until the stream breaks; False when nothing could be written on it, or it could not be opened at all."""
        is_good = False
        try:
            with rim("open a gossip stream"), trio.fail_after(HANDSHAKE_S):
                stream = await self._host.new_stream(name, PROTOCOLS)
            try:
                self._ears.opened(peer)
                outbox = self._outboxes[peer]
                while True:
                    data = outbox.take()
                    if data:
                        await write_all(stream, data)
                        is_good = True
                    else:
                        await outbox.filled.wait()
            finally:
                await reset(stream)
        except Unavailable as error:
            log.debug("gossip to %s: %s", peer_text(peer), error.detail)
        return is_good

    def _origin(self, name: ID) -> tuple[bool, str]:
        """(whether we dialled the peer, the IP address of its first connection or "")."""
        for conn in self._connections(name):
            with rim("address of a connection"):
                muxed = conn.muxed_conn
                is_direct = muxed.get_connection_type() == ConnectionType.DIRECT
                found = muxed.get_remote_address() if is_direct and isinstance(muxed, _Located) else None
                return muxed.is_initiator, found[0] if found else ""
        return False, ""

    # ── in ───────────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _accept(self, stream: INetStream) -> None:
        """Read what a neighbour says, in a task of our own."""
        await self._started.wait()
        assert self._nursery is not None
        done = trio.Event()
        self._nursery.start_soon(self._read, stream, done)
        await done.wait()

    async def _read(self, stream: INetStream, done: trio.Event) -> None:
        try:
            peer = remote_of(stream)
        except Refused:
            await reset(stream)
            done.set()
            return
        self._meet(stream.muxed_conn.peer_id)
        self._inbound[peer] += 1
        try:
            if self._inbound[peer] <= INBOUND_MAX:
                await self._read_frames(stream, peer)
        except (Malformed, RemoteViolation) as error:
            self._ears.punish(RemoteViolation(peer, f"gossip: {error}", code="malformed"))
        except Unavailable as error:
            log.debug("gossip from %s ended: %s", peer_text(peer), error.detail)
        finally:
            self._inbound[peer] -= 1
            if not self._inbound[peer]:
                del self._inbound[peer]
            done.set()
            await reset(stream)

    async def _read_frames(self, stream: INetStream, peer: PeerId) -> None:
        cutter = rpcs.FrameCutter()
        owed, at = 0.0, trio.current_time()
        while piece := await read_some(stream):
            for body in cutter.feed(piece):
                await self._ears.heard(peer, rpcs.decode(body))
                owed += 1 + len(body) / KIB
            now = trio.current_time()
            owed, at = max(0.0, owed - (now - at) * PACE), now
            if owed > PACE_BURST:  # Whoever says so much waits for us; the others do not wait for him.
                await trio.sleep((owed - PACE_BURST) / PACE)

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        """Streams announce themselves by their protocol."""

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        """The reader of the stream knows."""

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Nothing to do."""

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Nothing to do."""
