"""The router on real hosts: one process and several, large statements, rates, streams that break, strangers."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
import trio
from libp2p.abc import IHost

from node import libp2p_patches
from node.addresses import AddressBook, dialable_addresses
from node.arrivals import Statement
from node.dialer import Dialer
from node.gossip import OWN_BURST, OWN_RATE, PACE_S, STALE, Gossip, is_stale, now
from node.gossip_streams import PROTOCOLS, QUEUE_BYTES_MAX, QUEUE_FRAMES_MAX, Outbox
from node.libp2p_rim import listen, make_host, rim
from node.streams import reset
from protocol import wire
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.gossip import params
from protocol.gossip import rpc as rpcs
from protocol.gossip.announcement import INLINE_BYTES_MAX, Announcement
from protocol.gossip.effects import Rank, SendRpc
from protocol.gossip.rpc import Envelope, Rpc
from protocol.identity import Identity
from protocol.messages import Capability, Offer, Runtime
from protocol.units import Micros, PeerId
from tests.node.test_transport import Node, publish_until_heard, serving
from tests.node.waiting import SECONDS, happens, until

NETWORK = "reef"
TOPIC = f"/shoal/{NETWORK}/offers"
TOO_MANY = 300
"""Statements above what may be said: so many that no slow machine earns the turns for all of them meanwhile."""


def statement(identity: Identity, sequence: int, runtimes: int = 0) -> wire.Signed:
    """An offer; each runtime adds 100 bytes."""
    body = Offer(
        sequence=sequence, issued=1, expires=2**60, roles=(), addresses=(), capability=Capability(0, 0, 0, 0, 0),
        executors=(), runtimes=tuple(Runtime("r" * 60, bytes([n]) * 32) for n in range(runtimes)), slots=0,
        slots_free=0, price_per_hour=0, serves=(),
    )  # fmt: skip
    return wire.sign(identity, NETWORK, "offer", body)


class Speaker:
    """A host with a router and nothing else."""

    def __init__(self, name: str) -> None:
        self.identity = Identity(name.encode().ljust(32, b"."))
        self.peer = self.identity.peer
        self.heard: list[Statement] = []
        self.violations: list[RemoteViolation] = []
        self.counts: Counter[str] = Counter()
        self.changed = trio.Event()
        self.host: IHost
        self.gossip: Gossip
        self.dialer: Dialer

    async def deliver(self, arrival: Statement) -> None:
        self.heard.append(arrival)
        self.changed.set()
        self.changed = trio.Event()

    async def hears(self, count: int, seconds: float = SECONDS) -> list[Statement]:
        """Wait for so many statements."""
        with trio.fail_after(seconds):
            while len(self.heard) < count:
                await self.changed.wait()
        return self.heard

    async def say(self, sequence: int, runtimes: int = 0) -> wire.Signed:
        signed = statement(self.identity, sequence, runtimes)
        await self.gossip.publish("offers", signed)
        return signed

    def send(self, peer: PeerId, data: bytes) -> None:
        """A message that no judge of ours has seen."""
        self.gossip.streams.send(peer, rpcs.frame(Rpc(messages=(Envelope(TOPIC, data),))), Rank.OWN)


@asynccontextmanager
async def speaking(*names: str) -> AsyncIterator[list[Speaker]]:
    """Speakers that listen on loopback; nobody is connected yet."""
    speakers = [Speaker(name) for name in names]
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        for number, speaker in enumerate(speakers):
            speaker.host = make_host(speaker.identity, ["/ip4/127.0.0.1/tcp/0"], bytes(31) + speaker.peer[:1])
            speaker.gossip = Gossip(speaker.host, NETWORK, speaker.deliver, speaker.violations.append, speaker.counts)
            stack.push_async_callback(libp2p_patches.close_listeners, speaker.host)
            speaker.dialer = Dialer(speaker.host, AddressBook(), Random(number))
            stack.push_async_callback(speaker.dialer.close)
            await listen(speaker.host, ["/ip4/127.0.0.1/tcp/0"], stack)
            await stack.enter_async_context(speaker.gossip.serving(nursery))
        yield speakers


async def connect(a: Speaker, b: Speaker) -> None:
    """`a` dials `b`, and both are in each other's mesh."""
    a.dialer.book.learn(b.peer, dialable_addresses(str(address) for address in b.host.get_addrs()))
    await a.dialer.connect(b.peer)
    await happens(lambda: a.peer in b.gossip.router.mesh(TOPIC) and b.peer in a.gossip.router.mesh(TOPIC))


async def test_a_statement_reaches_everybody_in_a_chain_once() -> None:
    async with speaking("a", "b", "c", "d") as speakers:
        for one, other in pairwise(speakers):
            await connect(one, other)
        signed = await speakers[0].say(1)
        for place, speaker in enumerate(speakers):
            (heard,) = await speaker.hears(1)
            assert heard.signed == signed and heard.topic == "offers"
            assert heard.forwarder == speakers[max(0, place - 1)].peer
        assert not await until(lambda: any(len(speaker.heard) != 1 for speaker in speakers), 0.1)


async def test_a_burst_arrives_and_the_next_waits_its_turn() -> None:
    async with speaking("a", "b") as (a, b):
        await connect(a, b)
        began = trio.current_time()  # A slow machine earns turns while it says the burst.
        for sequence in range(OWN_BURST):
            await a.say(sequence)
        for sequence in range(1_000, 1_005):
            await a.say(sequence)
        assert 4 / OWN_RATE <= trio.current_time() - began < SECONDS
        await b.hears(OWN_BURST + 5)
        assert b.counts["statements_over_rate"] == 0


async def test_who_says_far_too_much_is_told_so() -> None:
    refused: list[Refused] = []
    async with speaking("a") as (a,):

        async def say(sequence: int) -> None:
            try:
                await a.say(sequence)
            except Refused as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            for sequence in range(OWN_BURST + TOO_MANY):
                nursery.start_soon(say, sequence)
            await happens(lambda: len(refused) > 5)
            nursery.cancel_scope.cancel()
        assert {error.code for error in refused} == {"too_fast"}
        assert a.counts["statements_too_fast"] == len(refused) <= TOO_MANY - PACE_S * OWN_RATE + 2


async def test_an_author_over_its_rate_is_not_passed_on_and_nobody_is_blamed() -> None:
    async with speaking("a", "b", "c") as (a, b, c):
        await connect(a, b)
        await connect(b, c)
        began = trio.current_time()
        for sequence in range(params.AUTHOR_BURST + TOO_MANY):
            a.send(b.peer, wire.encode(statement(a.identity, sequence)))
        await happens(lambda: b.counts["statements_over_rate"] >= 30)
        await c.hears(params.AUTHOR_BURST)
        earned = params.AUTHOR_RATE * (trio.current_time() - began)
        assert len(c.heard) <= params.AUTHOR_BURST + earned + 10
        assert b.gossip.router.scores.value(a.peer, now()) >= 0 and b.violations == []


@pytest.mark.parametrize("what", ["forged", "garbage", "other kind", "too large"])
async def test_what_is_wrong_is_not_passed_on_and_its_forwarder_is_told_of(what: str) -> None:
    async with speaking("a", "b", "c") as (a, b, c):
        await connect(a, b)
        await connect(b, c)
        good = statement(c.identity, 7)
        bad = {
            "forged": wire.encode(wire.Signed(c.peer, good.body, bytes(64))),
            "garbage": b"\xc1garbage",
            "other kind": wire.encode(wire.sign(a.identity, NETWORK, "notice", b"x")),
            "too large": wire.encode(statement(a.identity, 1, runtimes=30)),
        }[what]
        a.send(b.peer, bad)
        await happens(lambda: b.counts["statements_refused"] == 1)
        assert [violation.peer for violation in b.violations] == [a.peer]
        assert a.peer not in b.gossip.router.mesh(TOPIC)
        await c.say(1)
        await b.hears(1)
        assert c.counts["statements_refused"] == 0 and len(c.heard) == 1


async def test_a_stream_that_breaks_is_opened_again() -> None:
    async with speaking("a", "b") as (a, b):
        await connect(a, b)
        for conn in a.host.get_network().connections[b.host.get_id()]:
            for stream in conn.get_streams():
                if stream.get_protocol() in PROTOCOLS:
                    await reset(stream)
        sequence = 0
        with trio.fail_after(SECONDS):
            while not b.heard:
                sequence += 1
                await a.say(sequence)
                with trio.move_on_after(0.5):
                    await b.changed.wait()
        assert a.peer in b.gossip.router.neighbours


async def test_a_peer_that_goes_is_forgotten() -> None:
    async with speaking("a", "b") as (a, b):
        await connect(a, b)
        with rim("close"):
            await a.host.disconnect(b.host.get_id())
        await happens(lambda: not a.gossip.router.neighbours and not b.gossip.router.neighbours)
        await connect(b, a)
        await a.say(1)
        await b.hears(1)


async def test_garbage_and_giants_end_the_stream_and_are_told_of() -> None:
    async with speaking("a", "b") as (a, b):
        await connect(a, b)
        for data in (b"\xff" * 20, b"\x80\x80\x80\x01", b"\x03\x0b\x0b\x0b"):
            stream = await a.host.new_stream(b.host.get_id(), PROTOCOLS)
            await stream.write(data)
            await happens(lambda: bool(b.violations))
            assert b.violations.pop().peer == a.peer
        await a.say(1)
        await b.hears(1)


async def test_a_signed_envelope_is_refused() -> None:
    async with speaking("a", "b") as (a, b):
        await connect(a, b)
        message = b"\x0a\x01a" + b"\x12\x01x" + b"\x22" + bytes([len(TOPIC)]) + TOPIC.encode()
        body = b"\x12" + bytes([len(message)]) + message
        a.gossip.streams.send(b.peer, bytes([len(body)]) + body, Rank.OWN)
        await happens(lambda: bool(b.violations))
        assert b.violations[0].code == "signed_envelope" and b.heard == []


def test_a_full_outbox_drops_forwards_first() -> None:
    dropped: list[int] = []
    outbox = Outbox(lambda: dropped.append(1))
    outbox.put(b"control", Rank.CONTROL)
    for number in range(QUEUE_FRAMES_MAX):
        outbox.put(b"f%d" % number, Rank.FORWARD)
    outbox.put(b"own", Rank.OWN)
    assert len(outbox) == QUEUE_FRAMES_MAX and len(dropped) == 2
    assert outbox.take().startswith(b"controlownf2")
    assert len(outbox) == 0 and outbox.take() == b""
    outbox.put(bytes(QUEUE_BYTES_MAX + 1), Rank.FORWARD)
    assert len(outbox) == 0


async def test_large_statements_travel_by_stream_and_once(tmp_path: Path) -> None:
    a, b, c = (Node(name, tmp_path) for name in ("a", "b", "c"))
    async with serving(a, b, c):
        await publish_until_heard_all(a, b, c)
        signed = statement(a.identity, 1_000, runtimes=32)
        assert len(wire.encode(signed)) > INLINE_BYTES_MAX
        await a.transport.publish("offers", signed)
        for node in (a, b, c):
            heard = await node.expect(Statement, lambda one: one.signed.signer == a.peer and one.body.sequence == 1_000)  # type: ignore[union-attr]
            assert heard.signed == signed
        assert [node.transport.statistics().get("bodies_fetched", 0) for node in (a, b, c)] == [0, 1, 1]


async def publish_until_heard_all(a: Node, b: Node, c: Node) -> None:
    """Connect all three and wait for their meshes."""
    for one, other in ((a, b), (b, c), (a, c)):
        with rim("connect"):
            await one.transport._serving.dialer.connect(other.peer)
    await publish_until_heard(a, [b, c])


async def test_an_announcement_of_nothing_costs_its_forwarder(tmp_path: Path) -> None:
    a, b, c = (Node(name, tmp_path) for name in ("a", "b", "c"))
    async with serving(a, b, c):
        await publish_until_heard_all(a, b, c)
        gossip = b.transport._serving.gossip
        for number in range(8):
            data = wire.encode(Announcement(a.peer, bytes([number]) * 32, 4_000))
            for effect in a.transport._serving.gossip.router.publish(TOPIC, data, now()):
                if isinstance(effect, SendRpc):
                    a.transport._serving.gossip.streams.send(b.peer, rpcs.frame(effect.rpc), effect.rank)
        await happens(lambda: gossip.router.counts["statements_retry"] == 8)
        assert gossip.router.scores.value(a.peer, now()) < 0
        assert c.transport.statistics().get("statements_refused", 0) == 0


async def test_own_nonsense_is_our_error() -> None:
    async with speaking("a") as (a,):
        with pytest.raises(LocalError, match="no topic"):
            await a.gossip.publish("weather", statement(a.identity, 1))
        with pytest.raises(LocalError, match="bad signature"):
            await a.gossip.publish("jobs", statement(a.identity, 1))
        with pytest.raises(LocalError, match="bytes"):
            await a.say(1, runtimes=32)
        assert a.heard == []


async def test_a_killed_process_leaves_the_mesh(tmp_path: Path) -> None:
    a = Node("a", tmp_path)
    script = Path(__file__).with_name("transport_process.py")
    async with serving(a):
        command = [sys.executable, str(script), str(tmp_path / "child"), NETWORK, *a.transport.addresses()]
        child = await trio.to_thread.run_sync(lambda: subprocess.Popen(command))
        try:
            router = a.transport._serving.gossip.router
            await happens(lambda: len(router.mesh(TOPIC)) == 1)
            child.kill()
            await happens(lambda: router.neighbours == ())
        finally:
            child.kill()
            child.wait()


def test_what_has_just_ended_is_news_and_what_ended_long_ago_is_not() -> None:
    body = Offer(
        sequence=1, issued=5, expires=5, roles=(), addresses=(), capability=Capability(0, 0, 0, 0, 0),
        executors=(), runtimes=(), slots=0, slots_free=0, price_per_hour=0, serves=(),
    )  # fmt: skip
    assert not is_stale(body, Micros(5 + STALE))
    assert is_stale(body, Micros(6 + STALE))


async def test_a_statement_that_ended_long_ago_is_passed_to_nobody(tmp_path: Path) -> None:
    a, b = Node("a", tmp_path), Node("b", tmp_path)
    body = Offer(
        sequence=1, issued=5, expires=5, roles=(), addresses=(), capability=Capability(0, 0, 0, 0, 0),
        executors=(), runtimes=(), slots=0, slots_free=0, price_per_hour=0, serves=(),
    )  # fmt: skip
    async with serving(a, b):
        await publish_until_heard(a, [b])
        await a.transport.publish("offers", wire.sign(a.identity, NETWORK, "offer", body))
        await happens(lambda: b.transport.statistics().get("statements_stale", 0) == 1)
