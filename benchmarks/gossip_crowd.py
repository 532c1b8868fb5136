"""Many hosts with routers in one process, for bench_gossip: `python -m benchmarks.gossip_crowd KIND FIRST COUNT`.

KIND: `ours`, or `libp2p` for py-libp2p's own Pubsub and GossipSub, as the node used them before. Steered by lines of
JSON: answers with `Doors`, takes `Dials`, answers when all are connected, takes a `Plan`, answers with `Notes`.
"""

from __future__ import annotations

import hashlib
import logging
import resource
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from random import Random
from typing import TypeVar

import msgspec
import trio
from blake3 import blake3
from libp2p.abc import IHost, ISubscriptionAPI
from libp2p.pubsub import pubsub, rpc_queue
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.tools.anyio_service import background_trio_service
from msgspec import Struct

from node import libp2p_patches
from node.addresses import AddressBook
from node.arrivals import Statement
from node.dialer import Dialer
from node.gossip import Gossip
from node.libp2p_rim import listen, make_host
from protocol import identity as identities
from protocol import wire
from protocol.errors import RemoteViolation, Unavailable
from protocol.identity import Identity, peer_from_text, peer_text
from protocol.messages import Capability, Offer, message_decoder
from protocol.units import PeerId

NETWORK = "bench"
TOPIC = f"/shoal/{NETWORK}/offers"
LOOPBACK = "/ip4/127.0.0.1/tcp/0"
T = TypeVar("T")


class Doors(Struct, frozen=True):
    """Peer and address of every host."""

    doors: tuple[tuple[str, str], ...]


class Dials(Struct, frozen=True):
    """(own host by place, peer, address); and how many neighbours each of our hosts is to have at least."""

    dials: tuple[tuple[int, str, str], ...]
    degrees: tuple[int, ...]


class Plan(Struct, frozen=True):
    """(host by place, number of the statement, CLOCK_MONOTONIC in ns); and when to stop."""

    publish: tuple[tuple[int, int, int], ...]
    end: int


class Notes(Struct, frozen=True):
    """What was said and heard: (number, ns); processor seconds between plan and end; statistics."""

    said: list[tuple[int, int]]
    heard: list[tuple[int, int]]
    cpu_s: float
    size: int
    statistics: dict[str, int]


class Forgetful(dict[bytes, bool]):
    """Every host of a process verifies by itself, as if it were alone."""

    def __setitem__(self, key: bytes, value: bool) -> None:
        """Nothing is kept."""


def identity_of(number: int) -> Identity:
    """The same keys in every run."""
    return Identity(hashlib.blake2b(f"crowd/{number}".encode(), digest_size=32).digest())


def offer(number: int) -> Offer:
    """A small offer; signed it has 374 bytes."""
    return Offer(
        sequence=number, issued=number, expires=2**60, roles=(), addresses=(),
        capability=Capability(1, 2, 3, 4, 5), executors=(), runtimes=(), slots=0, slots_free=0, price_per_hour=0,
        serves=(),
    )  # fmt: skip


class Crowd:
    """The hosts of this process and what they heard."""

    def __init__(self, first: int, count: int) -> None:
        self.identities = [identity_of(first + place) for place in range(count)]
        self.hosts = [make_host(one, [LOOPBACK], one.seed) for one in self.identities]
        self.dialers = [Dialer(host, AddressBook(), Random(first)) for host in self.hosts]
        self.heard: list[tuple[int, int]] = []
        self.counts: Counter[str] = Counter()
        self.say: list[Callable[[wire.Signed], Awaitable[None]]] = []
        self.statistics: Callable[[], dict[str, int]] = lambda: dict(self.counts)

    def note(self, number: int) -> None:
        """A statement came."""
        self.heard.append((number, time.monotonic_ns()))


async def ours(crowd: Crowd, stack: AsyncExitStack, nursery: trio.Nursery) -> None:
    """The node's own router."""
    routers: list[Gossip] = []

    async def deliver(statement: Statement) -> None:
        if isinstance(statement.body, Offer):
            crowd.note(statement.body.sequence)

    for host in crowd.hosts:
        gossip = Gossip(host, NETWORK, deliver, lambda violation: crowd.counts.update(("violations",)), crowd.counts)
        routers.append(gossip)
        await stack.enter_async_context(gossip.serving(nursery))
        crowd.say.append(lambda signed, gossip=gossip: gossip.publish("offers", signed))  # type: ignore[misc]

    def statistics() -> dict[str, int]:
        total = Counter(crowd.counts)
        for gossip in routers:
            total.update(gossip.router.counts)
            total["mesh_members"] += len(gossip.router.mesh(TOPIC))
        return dict(total)

    crowd.statistics = statistics


def message_id(message: rpc_pb2.Message) -> bytes:
    """By content."""
    return blake3("\0".join(message.topicIDs).encode() + b"\0" + message.data).digest(length=20)


async def libp2p(crowd: Crowd, stack: AsyncExitStack, nursery: trio.Nursery) -> None:
    """py-libp2p's router with the settings and the wider queues that the node gave it."""
    pubsub.SUBSCRIPTION_CHANNEL_SIZE = 1_024
    rpc_queue.PriorityQueue.__init__.__defaults__ = (1_024,)
    rpc_queue.RpcQueue.__init__.__defaults__ = (1_024, rpc_queue.DefaultMaxMessageSize)
    signed_decoder = wire.decoder(wire.Signed)

    def is_valid(forwarder: object, message: rpc_pb2.Message) -> bool:
        nobody = PeerId(bytes(32))
        try:
            signed = wire.decode(message.data, signed_decoder, nobody)
            wire.open_signed(signed, NETWORK, "offer", message_decoder, nobody)
        except RemoteViolation:
            return False
        return True

    async def follow(subscription: ISubscriptionAPI) -> None:
        while True:
            message = await subscription.get()
            signed = wire.decode(message.data, signed_decoder, PeerId(bytes(32)))
            body = message_decoder.decode(signed.body)
            if isinstance(body, Offer):
                crowd.note(body.sequence)

    for host in crowd.hosts:
        router = GossipSub(
            protocols=[PROTOCOL_ID_V11],
            degree=6,
            degree_low=5,
            degree_high=12,
            gossip_history=5,
            heartbeat_interval=1,
            adaptive_gossip_enabled=False,
            spam_protection_enabled=False,
            eclipse_protection_enabled=False,
        )
        old = pubsub.Pubsub(host, router, seen_ttl=120, strict_signing=True, msg_id_constructor=message_id)
        stack.callback(old.seen_messages.stop)
        await stack.enter_async_context(background_trio_service(old))
        await stack.enter_async_context(background_trio_service(router))
        await old.wait_until_ready()
        old.set_topic_validator(TOPIC, is_valid, is_async_validator=False)
        nursery.start_soon(follow, await old.subscribe(TOPIC))
        crowd.say.append(lambda signed, old=old: old.publish(TOPIC, wire.encode(signed)))  # type: ignore[misc]


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


async def dial(crowd: Crowd, dials: Dials) -> None:
    """Connect as told, and wait until every host has its neighbours."""
    for place, peer, address in dials.dials:
        crowd.dialers[place].book.learn(peer_from_text(peer), (address,))
        for attempt in range(5):
            try:
                await crowd.dialers[place].connect(peer_from_text(peer))
                break
            except Unavailable:
                await trio.sleep(0.2 * (attempt + 1))

    def is_open(host: IHost, degree: int) -> bool:
        return len(host.get_network().connections) >= degree

    with trio.move_on_after(20):
        pairs = list(zip(crowd.hosts, dials.degrees, strict=True))
        while not all(is_open(host, degree) for host, degree in pairs):  # noqa: ASYNC110  there is no event
            await trio.sleep(0.05)


async def speak(crowd: Crowd, plan: Plan) -> list[tuple[int, int]]:
    """Say everything in its time."""
    said: list[tuple[int, int]] = []

    async def at(place: int, number: int, due: int) -> None:
        await trio.sleep(max(0, due - time.monotonic_ns()) / 1e9)
        signed = wire.sign(crowd.identities[place], NETWORK, "offer", offer(number))
        said.append((number, time.monotonic_ns()))
        await crowd.say[place](signed)

    async with trio.open_nursery() as nursery:
        for place, number, due in plan.publish:
            nursery.start_soon(at, place, number, due)
    await trio.sleep(max(0, plan.end - time.monotonic_ns()) / 1e9)
    return said


async def main(kind: str, first: int, count: int) -> None:
    """Open, connect, say and hear, report."""
    identities._checked = Forgetful()  # type: ignore[misc]
    crowd = Crowd(first, count)
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        for host, dialer in zip(crowd.hosts, crowd.dialers, strict=True):
            stack.push_async_callback(libp2p_patches.close_listeners, host)
            stack.push_async_callback(dialer.close)
            await listen(host, [LOOPBACK], stack)
        await {"ours": ours, "libp2p": libp2p}[kind](crowd, stack, nursery)
        addresses = [str(host.get_addrs()[0]).split("/p2p/")[0] for host in crowd.hosts]
        names = [peer_text(one.peer) for one in crowd.identities]
        answer(Doors(tuple(zip(names, addresses, strict=True))))
        await dial(crowd, await order(Dials))
        answer(Doors(()))
        plan = await order(Plan)
        used = cpu_s()
        said = await speak(crowd, plan)
        size = len(wire.encode(wire.sign(crowd.identities[0], NETWORK, "offer", offer(1 << 40))))
        answer(Notes(said, crowd.heard, cpu_s() - used, size, crowd.statistics()))
        await trio.to_thread.run_sync(sys.stdin.readline)


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    trio.run(main, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
