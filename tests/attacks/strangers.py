"""What attackers are made of: sockets from other addresses, hosts with fresh keys, raw frames on a real connection."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, NoReturn

import trio
from libp2p.abc import IHost, INetStream
from multiaddr import Multiaddr

from node import entropy
from node.libp2p_rim import dial, libp2p_id, make_host, protocol_id, rim
from node.mux.connection import Connection
from node.sessions import PROTOCOL_VERSION
from node.streams import frame, read_some, write_all
from protocol import wire
from protocol.errors import RemoteViolation, Unavailable
from protocol.gossip import rpc as rpcs
from protocol.greetings import Hello
from protocol.identity import Identity
from protocol.overlay.peer_record import PeerRecord, sign_record
from protocol.overlay.yamux_frames import Flag, Kind, header
from protocol.units import HOUR, PeerId
from protocol.wire import Signed
from tests.attacks.ground import PATIENCE_S, Report

STREAM_BYTES: Final = 256 * 1024
"""The window that every new stream has."""

_seeds = itertools.count(1)
_sources = itertools.count(2)


@dataclass(frozen=True)
class Target:
    """Who is attacked, and for how long."""

    network: str
    peer: PeerId
    host: str
    port: int
    data_port: int
    seconds: float = 1.0

    @property
    def session(self) -> str:
        return f"/shoal/{self.network}/{PROTOCOL_VERSION}"

    def beside(self, name: str) -> str:
        """The full name of a question's protocol."""
        return f"/shoal/{self.network}/{name}/1"


Attack = Callable[[Target], Awaitable[Report]]


def source() -> str:
    """An address of this machine that nobody used before."""
    number = next(_sources)
    return f"127.0.{number // 250}.{number % 250 + 2}"


def fresh_identity() -> Identity:
    """Nobody yet knows its faults."""
    return Identity((b"stranger %d" % next(_seeds)).ljust(32, b"."))


async def knock(target: Target, address: str, port: int = 0) -> trio.SocketStream:
    """A TCP connection from one of our addresses, to the control port unless another is named."""
    return await trio.open_tcp_stream(target.host, port or target.port, local_address=address)


async def is_ended(stream: trio.SocketStream, seconds: float) -> bool:
    """True when the other side ends it in time, whatever it says before."""
    with trio.move_on_after(seconds):
        try:
            while await stream.receive_some(65_536):
                continue
        except trio.BrokenResourceError:
            pass
        return True
    return False


async def count_ended(streams: list[trio.SocketStream], seconds: float) -> int:
    """How many of them the other side ends in time."""
    ended = 0

    async def look(stream: trio.SocketStream) -> None:
        nonlocal ended
        if await is_ended(stream, seconds):
            ended += 1

    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(look, stream)
    return ended


class Stranger:
    """A host of ours that is connected to the victim."""

    def __init__(self, identity: Identity, host: IHost, muxed: Connection, target: Target) -> None:
        self.identity = identity
        self.host = host
        self.muxed = muxed
        self.target = target
        self._next = 1_001

    @property
    def is_cut(self) -> bool:
        """True when the victim ended the connection, or broke it."""
        return self.muxed.session.is_over or self.muxed.is_closed

    async def cut_within(self, seconds: float) -> bool:
        """True when the connection ends in time."""
        with trio.move_on_after(seconds):
            await self.muxed.event_closed.wait()
        return self.is_cut

    async def open(self, protocol: str) -> INetStream:
        """A stream that speaks it; Unavailable when the victim does not want."""
        with rim(f"open {protocol}"), trio.fail_after(PATIENCE_S):
            return await self.host.new_stream(libp2p_id(self.target.peer), [protocol_id(protocol)])

    async def greet(self, **said: object) -> INetStream:
        """A session's stream with Hello on it."""
        stream = await self.open(self.target.session)
        await write_all(stream, frame(wire.encode(hello(self.target, **said))))
        return stream

    async def gossip(self) -> INetStream:
        """Greeted, and a stream for gossip."""
        await self.greet()
        return await self.open("/meshsub/1.2.0")

    def raw(self, data: bytes) -> None:
        """Bytes of our own into the secured connection, past our muxer, which hears nothing from now on.

        Unavailable when the connection is gone."""
        if self.is_cut:
            raise Unavailable("the connection is gone", code="link")
        self.muxed.session.receive = lambda data, now: []  # type: ignore[method-assign]
        if not self.muxed._is_flushing and not self.muxed._carrier.send_now(data):
            self.muxed._is_flushing = True
            self.muxed._work.set()

    async def pour(self, data: bytes) -> None:
        """The same, waiting until all of it is with the kernel."""
        while self.muxed._is_flushing and not self.is_cut:
            drained = self.muxed._drained
            with trio.move_on_after(1):
                await drained.wait()
        self.raw(data)
        await trio.lowlevel.checkpoint()

    def number(self) -> int:
        """A stream number that our muxer does not use."""
        self._next += 2
        return self._next

    def deaf(self) -> None:
        """From now on nothing is read from the socket."""

        async def never() -> NoReturn:
            await trio.sleep_forever()

        self.muxed._carrier.receive = never  # type: ignore[method-assign]


def hello(target: Target, **said: object) -> Hello:
    """A Hello like everybody's, but for what is said."""
    fields: dict[str, object] = {"network": target.network, "version": PROTOCOL_VERSION, "software": "x", "roles": ()}
    return Hello(**(fields | {"session": entropy.seed()[:16]} | said))  # type: ignore[arg-type]


@asynccontextmanager
async def stranger(target: Target, identity: Identity | None = None, address: str = "") -> AsyncIterator[Stranger]:
    """A fresh host, connected from an address of its own."""
    identity = identity or fresh_identity()
    host = make_host(identity, (), entropy.seed())
    name = libp2p_id(target.peer)
    async with host.run([]):
        with rim("dial"):
            where = Multiaddr(f"/ip4/{target.host}/tcp/{target.port}/p2p/{name}")
            await dial(host, where, name, (address or source(), 0))
        connections = host.get_network().get_connections(name)
        if not connections:
            raise Unavailable("the victim did not let us in", code="link")
        muxed = connections[0].muxed_conn
        assert isinstance(muxed, Connection)
        yield Stranger(identity, host, muxed, target)


async def crowd(target: Target, count: int, act: Callable[[Stranger], Awaitable[None]], spread: int = 0) -> int:
    """So many strangers act at once; how many were let in. `spread`: on so many addresses; 0: each its own."""
    addresses = [source() for _ in range(spread)]
    inside = 0

    async def one(number: int) -> None:
        nonlocal inside
        try:
            async with stranger(target, address=addresses[number % spread] if spread else "") as guest:
                inside += 1
                await act(guest)
        except* (Unavailable, RemoteViolation):
            refused.append(number)

    refused: list[int] = []
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one, number)
    return inside


async def silence_after(stream: INetStream, seconds: float) -> bool:
    """True when the victim ends the stream in time, whatever it says before."""
    with trio.move_on_after(seconds):
        try:
            while await read_some(stream):
                continue
        except Unavailable:
            pass
        return True
    return False


def data(number: int, body: bytes, flags: int = 0) -> bytes:
    """A data frame, whole."""
    return header(Kind.DATA, flags, number, len(body)) + body


def opening(number: int) -> bytes:
    """A frame that opens a stream."""
    return header(Kind.CREDIT, Flag.OPEN, number, 0)


def record(who: Identity, network: str, now: int, **said: object) -> Signed:
    """A peer's record, true or not."""
    fields: dict[str, object] = {
        "sequence": now,
        "issued": now,
        "expires": now + HOUR,
        "addresses": ("/ip4/127.0.0.1/tcp/9",),
    }
    return sign_record(who, network, PeerRecord(**(fields | said)))  # type: ignore[arg-type]


async def say(stream: INetStream, rpc: rpcs.Rpc) -> None:
    """One RPC of gossip."""
    await write_all(stream, rpcs.frame(rpc))
