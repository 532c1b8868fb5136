"""One node's transport in a process of its own, which says statements on schedule and notes when it hears others'.

`python -m benchmarks.gossip_peer SEED INDEX`, steered by lines of JSON on standard input: `Wiring`, then `Schedule`;
answers with `Opened`, `Opened` again when all neighbours are up, and `Diary` at the end. All times are CLOCK_MONOTONIC
in ns, which all processes of a machine share.
"""

from __future__ import annotations

import hashlib
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import trio
from msgspec import Struct

from node.blobs import BlobStore
from node.clock import Clock
from node.transport import PeerUp, Statement, Transport, TransportConfig
from protocol import wire
from protocol.gossip.effects import GossipEffect
from protocol.gossip.rpc import Rpc
from protocol.identity import Identity, peer_from_text, peer_text
from protocol.messages import Capability, Offer
from protocol.offers import OFFER_LIFE
from protocol.units import GIB, MIB, Micros, PeerId

NETWORK: Final = "bench"
NEIGHBOURS_ALL: Final = 256
"""More than any peer here knows: it dials everybody whose address it was given, and nobody else."""

T = TypeVar("T")


class Opened(Struct, frozen=True):
    """Listening, and how many peers are up."""

    peer: str
    port: int
    up: int


class Wiring(Struct, frozen=True):
    """Whom to dial, and how many peers must be up before the measurement."""

    dial: dict[str, str]
    degree: int


class Schedule(Struct, frozen=True):
    """When to say something, and when to stop listening."""

    publish: tuple[int, ...]
    end: int


class Diary(Struct, frozen=True):
    """What this peer saw. Statements are named by the end of their signature."""

    up: dict[str, int]
    """When each neighbour came up, last time."""
    said: list[tuple[str, int]]
    taken: list[tuple[str, int]]
    """First arrival of each statement in the inbox, as the driver would read it."""
    copies: list[tuple[str, str, int]]
    """Every arrival of every statement before any check: (statement, forwarder, ns)."""
    mesh: list[list[str]]
    """The mesh of the topic when the schedule came, and at the end."""
    statistics: dict[str, int]
    cpu_s: float
    """Used between schedule and end."""
    size: int
    """Bytes of one of its statements on the wire."""


def identity_of(seed: int, index: int) -> Identity:
    """The same keys for the same seed."""
    return Identity(hashlib.blake2b(f"{seed}/gossip-peer/{index}".encode(), digest_size=32).digest())


class Listener:
    """Takes notes: `copy` at the door, `read` at the inbox."""

    def __init__(self, transport: Transport, me: str) -> None:
        self._transport = transport
        self._me = me
        self.up: dict[str, int] = {}
        self.copies: list[tuple[str, str, int]] = []
        self.taken: list[tuple[str, int]] = []
        parts = transport._parts
        assert parts is not None
        self._router = parts.gossip.router
        self._receive, self._publish = self._router.receive, self._router.publish
        self._router.receive = self.copy  # type: ignore[method-assign]
        self._router.publish = self.own  # type: ignore[method-assign]

    def copy(self, peer: PeerId, rpc: Rpc, now: Micros) -> list[GossipEffect]:
        """The router sees everything that comes in, before it looks for duplicates."""
        at = time.monotonic_ns()
        self.copies += [(message.data[-8:].hex(), peer_text(peer), at) for message in rpc.messages]
        return self._receive(peer, rpc, now)

    def own(self, topic: str, data: bytes, now: Micros) -> list[GossipEffect]:
        """Our own statement is at our own door."""
        self.copies.append((data[-8:].hex(), self._me, time.monotonic_ns()))
        return self._publish(topic, data, now)

    async def read(self) -> None:
        """The node's driver reads the same inbox."""
        async for arrival in self._transport.inbox:
            if isinstance(arrival, Statement):
                self.taken.append((arrival.signed.signature[-8:].hex(), time.monotonic_ns()))
            elif isinstance(arrival, PeerUp):
                self.up[peer_text(arrival.peer)] = time.monotonic_ns()

    def mesh(self) -> list[str]:
        """Peers in the mesh of the offers."""
        return sorted(peer_text(peer) for peer in self._router.mesh(f"/shoal/{NETWORK}/offers"))


def know_only(transport: Transport, allowed: Collection[str]) -> None:
    """Discovery finds the peers' own doors, past the relays: those addresses are not learned here."""
    book = transport._book
    learn = book.learn

    def learn_allowed(peer: PeerId, addresses: Iterable[str]) -> bool:
        return learn(peer, [address for address in addresses if address in allowed])

    book.learn = learn_allowed  # type: ignore[method-assign]


def offer(clock: Clock) -> Offer:
    """A small offer, newer than the one before."""
    now = clock.now()
    capability = Capability(4_000, 8 * GIB, 64 * GIB, 30_000, 900)
    return Offer(
        sequence=now, issued=now, expires=now + OFFER_LIFE, roles=("provider",), addresses=(), capability=capability,
        executors=("child",), runtimes=(), slots=1, slots_free=1, price_per_hour=500_000, serves=(),
    )  # fmt: skip


async def say(transport: Transport, identity: Identity, times: Iterable[int]) -> list[tuple[str, int]]:
    """Publish one offer at each time."""
    clock = Clock()
    said = []
    for due in times:
        await trio.sleep(max(0, due - time.monotonic_ns()) / 1e9)
        signed = wire.sign(identity, NETWORK, "offer", offer(clock))
        said.append((signed.signature[-8:].hex(), time.monotonic_ns()))
        await transport.publish("offers", signed)
    return said


async def all_up(transport: Transport, degree: int) -> None:
    """Until as many peers are up as there are links."""
    parts = transport._parts
    assert parts is not None
    while len(transport.connected()) < degree:
        await parts.sessions.changed.wait()


async def order(kind: type[T]) -> T:
    """The next line of standard input."""
    return msgspec.json.decode(await trio.to_thread.run_sync(sys.stdin.readline), type=kind)


def answer(value: Struct) -> None:
    """One line of standard output."""
    print(msgspec.json.encode(value).decode(), flush=True)


def cpu_s() -> float:
    """Seconds of processor time used so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def main(seed: int, index: int, folder: Path) -> None:
    """Open, connect, say and listen, report."""
    identity = identity_of(seed, index)
    config = TransportConfig(listen=("/ip4/127.0.0.1/tcp/0",), neighbours_min=NEIGHBOURS_ALL)
    transport = Transport(identity, NETWORK, config, BlobStore(folder, 64 * MIB))
    async with transport.serving(), trio.open_nursery() as nursery:
        listener = Listener(transport, peer_text(identity.peer))
        nursery.start_soon(listener.read)
        opened = Opened(peer_text(identity.peer), int(transport.addresses()[0].split("/")[4]), 0)
        answer(opened)
        wiring = await order(Wiring)
        know_only(transport, set(wiring.dial.values()))
        for text, address in wiring.dial.items():
            transport.learn(peer_from_text(text), (address,))
        await all_up(transport, wiring.degree)
        answer(msgspec.structs.replace(opened, up=len(transport.connected())))
        schedule = await order(Schedule)
        used, mesh = cpu_s(), [listener.mesh()]
        said = await say(transport, identity, schedule.publish)
        await trio.sleep(max(0, schedule.end - time.monotonic_ns()) / 1e9)
        mesh.append(listener.mesh())
        size = len(wire.encode(wire.sign(identity, NETWORK, "offer", offer(Clock()))))
        statistics = transport.statistics()
        answer(Diary(listener.up, said, listener.taken, listener.copies, mesh, statistics, cpu_s() - used, size))
        await trio.to_thread.run_sync(sys.stdin.readline)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    with tempfile.TemporaryDirectory() as name:
        trio.run(main, int(sys.argv[1]), int(sys.argv[2]), Path(name))
