"""Real hosts in one process: directory, pings and cross-checks over real sockets, and peers that send rubbish."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from libp2p.abc import INetStream

from node.clock import Clock
from node.discovery.finder import TICK_S
from node.discovery.mdns import said_by, service_info, service_type
from node.discovery.pings import EXCHANGES, FRAMES_MAX
from node.libp2p_rim import protocol_id
from node.streams import FrameReader, frame, reset, write_all
from protocol import wire
from protocol.overlay.own_record import MEMBERS, OwnRecord, Profile
from protocol.overlay.peer_record import key_of
from protocol.overlay.place import Coordinate, Place
from protocol.overlay.questions import Find, Found, Ping, Pong
from protocol.units import SECOND, Micros, PeerId
from tests.node.discovery.small_node import NETWORK, Plan, SmallNode, identity_of
from tests.node.waiting import SECONDS, happens


@asynccontextmanager
async def crowd(*names: str, region: str = "") -> AsyncIterator[list[SmallNode]]:
    """Nodes that know the first one and nothing else."""
    async with AsyncExitStack() as stack:
        nodes: list[SmallNode] = []
        for name in names:
            bootstraps = nodes[0].addresses()[:1] if nodes else []
            node = SmallNode(name, Plan([name], bootstraps=bootstraps, region=region))
            await stack.enter_async_context(node.serving())
            nodes.append(node)
        yield nodes


def table(node: SmallNode) -> set[PeerId]:
    return {entry.contact.peer for entry in node.around.finder.directory.table}


async def test_everybody_is_found_with_addresses_roles_and_region() -> None:
    async with crowd("a", "b", "c", "d", region="eu-west") as nodes:
        await happens(lambda: all(len(table(node)) == 3 for node in nodes))
        one, other = nodes[1], nodes[3]
        contact = await one.around.finder.find(other.peer)
        assert contact is not None
        assert f"{contact.addresses[0]}/p2p/" in other.addresses()[0]
        assert (contact.record.roles, contact.record.place.region) == (("provider",), "eu-west")
        assert await one.around.finder.find(identity_of("nobody").peer) is None
        assert {contact.peer for contact in await one.around.finder.explore()} <= {node.peer for node in nodes}
        members = await one.around.finder.find_topic(MEMBERS)
        assert other.peer in {contact.peer for contact in members}
        assert one.peer not in {contact.peer for contact in members}


async def test_strangers_are_asked_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """To hear of many peers at once is no reason to dial them all at once."""
    monkeypatch.setattr("node.discovery.finder.CHECK_S", SECONDS)
    async with crowd("a", "b") as (a, _):
        finder = a.around.finder
        await happens(lambda: len(table(a)) == 1)
        now = Clock().now()
        for number in range(8):
            record = OwnRecord(identity_of(f"stranger {number}"), NETWORK)
            record.sign(Profile(addresses=(f"/ip4/127.0.0.1/tcp/{number + 1}",)), now)
            finder._perform(finder.directory.meet(record.contact.signed, now, a.peer))
        assert len(finder._checks) == 8
        await happens(lambda: len(finder._checks) == 7)
        await trio.sleep(2 * TICK_S)
        assert len(finder._checks) == 7


async def test_a_question_that_comes_while_the_node_ends_is_answered() -> None:
    """Streams are served a moment longer than the directory looks for others, which a newcomer's record asks for."""
    async with crowd("a") as (a,):
        finder = a.around.finder
    finder._dialer.is_connected = lambda peer: True  # type: ignore[method-assign]
    record = OwnRecord(identity_of("newcomer"), NETWORK)
    record.sign(Profile(addresses=("/ip4/127.0.0.1/tcp/1",)), Clock().now())
    reply = await finder._answer(record.contact.peer, Find(key_of(a.peer), record.contact.signed))
    assert isinstance(reply, Found)


async def test_a_new_address_is_told_and_an_old_record_forgotten() -> None:
    async with crowd("a", "b") as (a, b):
        await happens(lambda: len(table(a)) == 1)
        before = b.around.finder.directory.own.record.sequence
        b.sessions.capabilities = ("relay/1",)
        await happens(lambda: b.around.finder.directory.own.record.sequence > before)
        found: list[PeerId] = []
        with trio.fail_after(SECONDS):
            while not found:
                found = [contact.peer for contact in await a.around.finder.find_topic("relay/1")]
        assert found == [b.peer]


async def test_pings_measure_distance_and_clocks() -> None:
    async with crowd("a", "b", "c", "d", region="eu-west") as nodes:
        await happens(lambda: all(len(node.sessions.up) == 3 for node in nodes))
        exchange = await nodes[0].around.pings.measure(nodes[1].peer)
        assert exchange is not None
        assert 0 < exchange.rtt < SECONDS * SECOND
        assert exchange.place.region == "eu-west"
        for node in nodes:
            for other in nodes * 3:
                if other is not node:
                    await node.around.pings.measure(other.peer)
        assert all(node.around.pings.coordinate.is_known for node in nodes)
        skews = [node.around.pings.skew_us() for node in nodes]
        assert all(skew is not None and abs(skew) < SECOND for skew in skews)
        assert nodes[0].around.pings.rtt_us(nodes[1].peer) is not None
        assert nodes[0].around.pings.place_of(nodes[1].peer) is not None
        assert nodes[0].around.pings.place.region == "eu-west"


async def test_a_clock_that_is_wrong_is_noticed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "shoal.discovery")
    async with crowd("a", "b", "c", "d") as nodes:
        late = nodes[0].around.pings
        monkeypatch.setattr(late, "_clock", Slow(late._clock.now))
        await happens(lambda: len(nodes[0].sessions.up) == 3)
        for node in nodes[1:]:
            await late.measure(node.peer)
        found = late.skew_us()
        assert found is not None
        assert abs(found - 5 * SECOND) < 2 * SECOND
        await late.measure(nodes[1].peer)
        assert len(caplog.messages) == 1, "said once, by the one whose clock it is"
        assert "s behind those of 3 neighbours" in caplog.messages[0] and "Set the clock by NTP" in caplog.messages[0]


class Slow:
    """A clock five seconds behind."""

    def __init__(self, now: Callable[[], Micros]) -> None:
        self._now = now

    def now(self) -> Micros:
        return Micros(self._now() - 5 * SECOND)


async def test_rubbish_on_a_ping_stream_is_punished_and_pings_go_on() -> None:
    async with crowd("a", "b", "c") as (a, b, c):
        await happens(lambda: len(a.sessions.up) == 2)
        stream = await b.dialer.open_stream(a.peer, a.around.pings.protocol)
        await write_all(stream, frame(b"rubbish"))
        await happens(lambda: a.counts["violations"] == 1)
        await reset(stream)
        assert await c.around.pings.measure(a.peer) is not None


async def test_a_ping_stream_carries_a_few_and_ends() -> None:
    async with crowd("a", "b") as (a, b):
        await happens(lambda: len(a.sessions.up) == 1)
        stream = await b.dialer.open_stream(a.peer, a.around.pings.protocol)
        frames = FrameReader(stream, a.peer)
        for _ in range(FRAMES_MAX):
            await write_all(stream, frame(wire.encode(Ping(1, Place()))))
            assert await frames.read()
        with trio.fail_after(SECONDS):
            assert await frames.read() is None
        await reset(stream)


async def test_a_neighbour_that_answers_with_lies_is_punished() -> None:
    async with crowd("a", "b", "c") as (a, b, _):
        await happens(lambda: len(a.sessions.up) == 2)

        async def lie(stream: INetStream) -> None:
            frames = FrameReader(stream, a.peer)
            for _ in range(EXCHANGES):
                await frames.read()
                await write_all(stream, frame(wire.encode(Pong(1, 1, Place(coordinate=Coordinate(5, 5, 5, 0)))) + b"x"))
            await stream.close()

        b.host.set_stream_handler(protocol_id(b.around.pings.protocol), lie)
        assert await a.around.pings.measure(b.peer) is None
        assert a.counts["violations"] == 1
        assert a.around.pings.coordinate == a.around.pings.map.coordinate


async def test_a_forged_answer_costs_its_sender_its_place() -> None:
    async with crowd("a", "b", "c") as (a, b, c):
        await happens(lambda: all(len(table(node)) == 2 for node in (a, b, c)))

        async def lie(stream: INetStream) -> None:
            await FrameReader(stream, a.peer).read()
            stolen = c.around.finder.directory.own.signed
            await write_all(stream, frame(b"\0" + wire.encode(Found(stolen))))
            await stream.close()

        b.host.set_stream_handler(protocol_id(f"/shoal/{NETWORK}/find/1"), lie)
        assert await a.around.finder.find(c.peer) is not None
        await happens(lambda: b.peer not in table(a) and a.counts["violations"] >= 1)


def test_announcements_on_the_local_network() -> None:
    kind, me = service_type(NETWORK), identity_of("a").peer
    addresses = [
        "/ip4/192.168.1.2/tcp/4301/p2p/x",
        "/ip4/127.0.0.1/tcp/4301",
        "/ip4/11.22.33.44/tcp/4301",
        "/ip4/10.0.0.9/tcp/4302",
    ]
    info = service_info(kind, me, addresses)
    assert info is not None
    assert len(kind.split(".")[0]) <= 16  # RFC 6763: fifteen characters after the underscore.
    assert said_by(info, kind) == (me, ("/ip4/192.168.1.2/tcp/4301",))
    alone = service_info(kind, me, ["/ip4/127.0.0.1/tcp/4301"])
    assert alone is not None
    assert said_by(alone, kind) == (me, ("/ip4/127.0.0.1/tcp/4301",))
    assert service_info(kind, me, ["/ip6/::1/tcp/1", "/ip4/1.2.3.4/tcp/1/p2p/x/p2p-circuit"]) is None
    info.name = f"nobody.{kind}"
    assert said_by(info, kind) is None
    assert service_type("reef") != service_type("lake")
