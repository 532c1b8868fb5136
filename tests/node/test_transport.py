"""Real hosts over real sockets: gossip, direct messages, blobs, and peers that misbehave or vanish."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import trio
from libp2p.abc import INetStream
from libp2p.network.stream.exceptions import StreamError

from node.arrivals import Arrival
from node.blobs import BlobStore
from node.gossip import now
from node.libp2p_rim import protocol_id
from node.sessions import PROTOCOL_VERSION
from node.streams import FrameReader, frame, reset, write_all
from node.transport import PeerDown, PeerUp, Received, Statement, Transport, TransportConfig
from protocol import wire
from protocol.errors import LocalError, Refused, Unavailable
from protocol.gossip import rpc as rpcs
from protocol.gossip.effects import SendRpc
from protocol.greetings import Goodbye, Hello
from protocol.identity import Identity
from protocol.jobspec import Manifest, OutputFile
from protocol.messages import Beat, Bid, BlocksRequest, Capability, NoBid, Offer
from protocol.units import GIB, MIB, Digest, PeerId
from tests.node.waiting import SECONDS, happens, until

NETWORK = "reef"
LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)
T = TypeVar("T")


class Node:
    """A transport, its store and its identity."""

    def __init__(self, name: str, folder: Path, network: str = NETWORK, bootstraps: Iterable[str] = ()) -> None:
        self.identity = Identity(name.encode().ljust(32, b"."))
        self.peer = self.identity.peer
        self.blobs = BlobStore(folder / name, 1 * GIB)
        config = TransportConfig(listen=LOOPBACK, bootstraps=tuple(bootstraps), neighbours_min=0)
        self.transport = Transport(self.identity, network, config, self.blobs)

    async def expect(self, kind: type[T], where: Callable[[T], bool] = lambda _: True) -> T:
        """The next arrival of a kind; others are passed over."""
        with trio.fail_after(SECONDS):
            async for arrival in self.transport.inbox:
                if isinstance(arrival, kind) and where(arrival):
                    return arrival
        raise AssertionError("the inbox ended")

    async def nothing(self, kind: type[Arrival], seconds: float) -> None:
        """Nothing of a kind arrives for a while."""
        with trio.move_on_after(seconds):
            async for arrival in self.transport.inbox:
                assert not isinstance(arrival, kind), arrival

    async def count(self, name: str, at_least: int = 1) -> None:
        """Wait until a counter of the transport is high enough."""
        await happens(lambda: self.transport.statistics().get(name, 0) >= at_least)


@asynccontextmanager
async def serving(*nodes: Node) -> AsyncIterator[None]:
    """All nodes serve; each learns the addresses of the others."""
    async with AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node.transport.serving())
        for node in nodes:
            for other in nodes:
                node.transport.learn(other.peer, other.transport.addresses())
        yield


def offer(node: Node, sequence: int = 1) -> wire.Signed:
    """A small signed offer."""
    body = Offer(
        sequence=sequence, issued=1, expires=2**60, roles=(), addresses=(), capability=Capability(0, 0, 0, 0, 0),
        executors=(), runtimes=(), slots=0, slots_free=0, price_per_hour=0, serves=(),
    )  # fmt: skip
    return wire.sign(node.identity, NETWORK, "offer", body)


async def test_messages_arrive_in_order_both_ways(tmp_path: Path) -> None:
    a, b = Node("a", tmp_path), Node("b", tmp_path)
    async with serving(a, b):
        for height in range(500):
            a.transport.send_nowait(b.peer, BlocksRequest(height))
        for height in range(500):
            received = await b.expect(Received)
            assert received == Received(a.peer, BlocksRequest(height))
        b.transport.send_nowait(a.peer, BlocksRequest(7))
        assert (await a.expect(Received)).message == BlocksRequest(7)
        assert a.transport.connected() == [b.peer]
        hello = a.transport.hello_of(b.peer)
        assert hello is not None
        assert hello.network == NETWORK
        assert a.transport.statistics()["dials"] == 1


async def test_a_message_to_oneself_arrives(tmp_path: Path) -> None:
    a = Node("a", tmp_path)
    async with serving(a):
        a.transport.send_nowait(a.peer, BlocksRequest(1))
        assert await a.expect(Received) == Received(a.peer, BlocksRequest(1))


async def test_gossip_reaches_everyone_through_one_bootstrap(tmp_path: Path) -> None:
    hub = Node("hub", tmp_path)
    async with hub.transport.serving():
        leaves = [Node(f"leaf{number}", tmp_path, bootstraps=hub.transport.addresses()) for number in range(3)]
        async with AsyncExitStack() as stack:
            for leaf in leaves:
                await stack.enter_async_context(leaf.transport.serving())
            for leaf in leaves:
                await leaf.expect(PeerUp)
            await publish_until_heard(leaves[0], [hub, *leaves])


async def publish_until_heard(speaker: Node, listeners: list[Node]) -> None:
    """Say new offers until one of them reached everyone: a mesh needs a heartbeat or two to form."""
    heard: dict[PeerId, set[int]] = {node.peer: set() for node in listeners}

    async def listen(node: Node) -> None:
        async for arrival in node.transport.inbox:
            if isinstance(arrival, Statement) and arrival.signed.signer == speaker.peer:
                assert arrival.topic == "offers"
                assert isinstance(arrival.body, Offer)
                assert arrival.body.sequence not in heard[node.peer], "the same statement arrived twice"
                heard[node.peer].add(arrival.body.sequence)

    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            for node in listeners:
                nursery.start_soon(listen, node)
            sequence = 0
            while not await until(lambda: bool(set.intersection(*heard.values())), 0.1):
                sequence += 1
                await speaker.transport.publish("offers", offer(speaker, sequence))
            nursery.cancel_scope.cancel()


async def test_fifty_own_statements_at_once_are_all_delivered(tmp_path: Path) -> None:
    a, b = Node("a", tmp_path), Node("b", tmp_path)
    async with serving(a, b):
        a.transport.send_nowait(b.peer, BlocksRequest(0))
        await publish_until_heard(a, [b])
        for sequence in range(1_000, 1_050):
            await a.transport.publish("offers", offer(a, sequence))
        seen: set[int] = set()
        while len(seen) < 50:
            body = (await b.expect(Statement)).body
            assert isinstance(body, Offer)
            if body.sequence >= 1_000:
                seen.add(body.sequence)


async def test_our_own_invalid_statement_is_our_error(tmp_path: Path) -> None:
    a = Node("a", tmp_path)
    async with serving(a):
        with pytest.raises(LocalError, match="bad signature"):
            await a.transport.publish("jobs", offer(a))
        with pytest.raises(LocalError, match="no topic"):
            await a.transport.publish("weather", offer(a))


async def test_a_forged_statement_is_dropped_and_its_forwarder_loses_its_place(tmp_path: Path) -> None:
    a, b, forger = Node("a", tmp_path), Node("b", tmp_path), Node("forger", tmp_path)
    async with serving(a, b, forger):
        forger.transport.send_nowait(a.peer, BlocksRequest(0))
        a.transport.send_nowait(b.peer, BlocksRequest(0))
        await publish_until_heard(forger, [a])
        await publish_until_heard(a, [b])
        router, streams = forger.transport._serving.gossip.router, forger.transport._serving.gossip.streams
        honest = offer(a, 77)
        for number in range(4):
            forged = wire.Signed(a.peer, honest.body, bytes([number]) * 64)
            for effect in router.publish(f"/shoal/{NETWORK}/offers", wire.encode(forged), now()):
                if isinstance(effect, SendRpc):
                    streams.send(a.peer, rpcs.frame(effect.rpc), effect.rank)
        await a.expect(PeerDown, lambda down: down.peer == forger.peer)
        assert a.transport.statistics()["statements_refused"] >= 3
        assert forger.peer not in a.transport.connected()
        assert b.transport.statistics().get("statements_refused", 0) == 0


async def test_a_killed_process_is_down_at_once_and_up_again_when_it_returns(tmp_path: Path) -> None:
    a = Node("a", tmp_path)
    script = Path(__file__).with_name("transport_process.py")
    async with serving(a):
        command = [sys.executable, str(script), str(tmp_path / "child"), NETWORK, *a.transport.addresses()]
        first = await trio.to_thread.run_sync(lambda: subprocess.Popen(command))
        try:
            up = await a.expect(PeerUp)
            first.send_signal(signal.SIGKILL)
            with trio.fail_after(SECONDS):
                assert await a.expect(PeerDown) == PeerDown(up.peer)
        finally:
            first.kill()
            first.wait()
        second = await trio.to_thread.run_sync(lambda: subprocess.Popen(command))
        try:
            assert await a.expect(PeerUp) == up
        finally:
            second.kill()
            second.wait()


async def test_messages_wait_for_a_peer_that_comes_later(tmp_path: Path) -> None:
    a, b = Node("a", tmp_path), Node("b", tmp_path)
    async with a.transport.serving():
        a.transport.send_nowait(b.peer, BlocksRequest(1))
        assert a.transport.statistics()["messages_queued"] == 1
        async with b.transport.serving():
            a.transport.learn(b.peer, b.transport.addresses())
            assert await b.expect(Received) == Received(a.peer, BlocksRequest(1))


async def test_a_full_queue_drops_the_oldest_and_says_so(tmp_path: Path) -> None:
    a, b = Node("a", tmp_path), Node("b", tmp_path)
    a.transport = Transport(a.identity, NETWORK, TransportConfig(listen=LOOPBACK, queue_max=10), a.blobs)
    async with a.transport.serving():
        for height in range(15):
            a.transport.send_nowait(b.peer, BlocksRequest(height))
        assert a.transport.statistics()["messages_lost"] == 5
        async with b.transport.serving():
            a.transport.learn(b.peer, b.transport.addresses())
            assert (await b.expect(Received)).message == BlocksRequest(5)


async def test_a_message_that_is_too_large_is_our_error(tmp_path: Path) -> None:
    a, b = Node("a", tmp_path), Node("b", tmp_path)
    async with serving(a):
        with pytest.raises(LocalError, match="at most 65536"):
            a.transport.send_nowait(b.peer, NoBid(bytes(16), "x", "y" * 70_000))


async def test_a_foreign_network_is_refused_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    a, stranger = Node("a", tmp_path), Node("stranger", tmp_path, network="other")
    async with serving(a, stranger):
        a.transport.send_nowait(stranger.peer, BlocksRequest(0))
        await a.count("foreign_peers")
        assert a.transport.connected() == []
        await stranger.nothing(Received, 0.3)
    assert "speaks /shoal/other/5, this node speaks /shoal/reef/5" in caplog.text


async def open_direct(node: Node, to: Node) -> INetStream:
    """A raw direct stream, for a peer that does not keep to the rules."""
    parts = node.transport._serving
    return await parts.dialer.open_stream(to.peer, f"/shoal/{NETWORK}/{PROTOCOL_VERSION}")


HELLO = wire.encode(Hello(NETWORK, PROTOCOL_VERSION, "rude", ()))
BEAT = wire.encode(Beat(bytes(32), 0, 1, 0, "running"))


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        ((BEAT,), "the first message is Beat"),
        ((HELLO, b"\xc1"), "malformed"),
        ((HELLO, BEAT[:-1] + b"\xcd\x00\x01"), "canonical"),
        ((HELLO, HELLO), "second Hello"),
        ((HELLO, bytes(70_000)), "frame of 70000 bytes"),
    ],
)
async def test_a_peer_that_breaks_a_rule_is_shut_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, sent: tuple[bytes, ...], why: str
) -> None:
    a, rude = Node("a", tmp_path), Node("rude", tmp_path)
    async with serving(a, rude):
        stream = await open_direct(rude, a)
        await a.expect(PeerUp)
        await stream.write(b"".join(frame(body) for body in sent))
        await a.count("violations")
        await a.expect(PeerDown)
        assert a.transport.connected() == []
        rude.transport.send_nowait(a.peer, BlocksRequest(1))
        await a.nothing(Received, 0.3)
    assert why in caplog.text


@pytest.mark.parametrize(
    "protocol",
    [
        "/meshsub/1.1.0",
        "/ipfs/id/1.0.0",
        "/ipfs/id/push/1.0.0",
        "/ipfs/ping/1.0.0",
        f"/shoal/reef/{PROTOCOL_VERSION}",
        "/shoal/reef/bulk/1",
        "/shoal/reef/ticket/1",
    ],
)
async def test_garbage_on_any_protocol_ends_no_node(tmp_path: Path, protocol: str) -> None:
    a, b, rude = Node("a", tmp_path), Node("b", tmp_path), Node("rude", tmp_path)
    dice = random.Random(protocol)
    async with serving(a, b, rude):
        for number in range(12):
            body = dice.randbytes(dice.randrange(1, 300))
            try:
                stream = await rude.transport._serving.dialer.open_stream(a.peer, protocol)
                await write_all(stream, body if number % 2 else bytes([len(body) % 128]) + body)
                await reset(stream) if number % 3 else await stream.close()
            except (Unavailable, StreamError):
                break  # Shut out already.
        b.transport.send_nowait(a.peer, BlocksRequest(1))
        assert (await a.expect(Received)).sender == b.peer


async def test_another_version_is_told_why(tmp_path: Path) -> None:
    a, old = Node("a", tmp_path), Node("old", tmp_path)
    said: list[bytes] = []

    async def listen(stream: INetStream) -> None:
        frames = FrameReader(stream, a.peer)
        while (body := await frames.read()) is not None:
            said.append(body)

    async with serving(a, old):
        old.transport._serving.host.set_stream_handler(protocol_id(f"/shoal/{NETWORK}/{PROTOCOL_VERSION}"), listen)
        stream = await open_direct(old, a)
        await stream.write(frame(wire.encode(Hello(NETWORK, PROTOCOL_VERSION + 1, "old", ()))))
        await happens(lambda: any(b"goodbye" in body for body in said))
        await a.count("foreign_peers")
        goodbye = wire.decode(said[-1], wire.decoder(Goodbye), a.peer)
        assert goodbye.reason == "you: reef/6, here: reef/5"


async def test_goodbye_is_a_clean_end(tmp_path: Path) -> None:
    a, b = Node("a", tmp_path), Node("b", tmp_path)
    async with serving(a):
        async with serving(b):
            b.transport.learn(a.peer, a.transport.addresses())
            b.transport.send_nowait(a.peer, BlocksRequest(1))
            await a.expect(Received)
        with trio.fail_after(SECONDS):
            assert await a.expect(PeerDown) == PeerDown(b.peer)
    assert not [thread for thread in threading.enumerate() if "_background_cleanup" in thread.name]


async def test_blob_of_five_megabytes(tmp_path: Path) -> None:
    a, b = Node("a", tmp_path), Node("b", tmp_path)
    data = bytes(range(250)) * 20_000
    digest = a.blobs.put(data)
    async with serving(a, b):
        results: list[int] = []

        async def fetch() -> None:
            results.append((await b.transport.fetch(digest, 10 * MIB, [a.peer])).size)

        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fetch)
                nursery.start_soon(fetch)
        assert results == [len(data)] * 2
        assert b.blobs.read(digest, 10 * MIB) == data
        assert b.transport.statistics()["blob_bytes_received"] == len(data), "two callers share one transfer"


async def test_what_nobody_has_or_is_too_large_is_an_error_with_reasons(tmp_path: Path) -> None:
    a, b = Node("a", tmp_path), Node("b", tmp_path)
    digest = a.blobs.put(b"x" * 100)
    async with serving(a, b):
        with pytest.raises(Unavailable, match="does not have the blob"):
            await b.transport.fetch(Digest(bytes(32)), MIB, [a.peer])
        with pytest.raises(Unavailable, match="there is no source"):
            await b.transport.fetch(Digest(bytes(32)), MIB, [b.peer])
        with pytest.raises(Refused) as refusal:
            await b.transport.fetch(digest, 99, [a.peer])
        assert refusal.value.numbers == {"size": 100, "size_max": 99}


async def test_an_output_brings_all_its_files(tmp_path: Path) -> None:
    a, b = Node("a", tmp_path), Node("b", tmp_path)
    contents = [bytes([number]) * (number * 1_000) for number in range(20)]
    files = tuple(OutputFile(f"{n:02}", a.blobs.put(data), len(data)) for n, data in enumerate(contents))
    digest = a.blobs.put(wire.encode(Manifest(files)))
    async with serving(a, b):
        with trio.fail_after(SECONDS):
            fetched = await b.transport.fetch(digest, MIB, [a.peer], is_output=True)
        assert fetched.size == sum(map(len, contents))
        assert all(b.blobs.read(Digest(file.digest), MIB) == data for file, data in zip(files, contents, strict=True))
        with pytest.raises(Refused, match="are allowed"):
            await b.transport.fetch(digest, 1_000, [a.peer], is_output=True)
        rubbish = a.blobs.put(b"\x01rubbish")
        with pytest.raises(Refused, match="no output manifest"):
            await b.transport.fetch(rubbish, MIB, [a.peer], is_output=True)
        lie = a.blobs.put(wire.encode(Manifest((OutputFile("f", files[3].digest, 2_999),))))
        with pytest.raises(Refused):
            await b.transport.fetch(lie, MIB, [a.peer], is_output=True)


async def test_a_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    a, b = Node("a", tmp_path), Node("b", tmp_path)
    async with serving(a):
        address = a.transport.addresses()[0].rpartition("/p2p/")[0]
        b.transport = Transport(b.identity, NETWORK, TransportConfig(listen=(address,)), b.blobs)
        with pytest.raises(Unavailable, match="Address already in use"):
            async with b.transport.serving():
                raise AssertionError("two nodes listen on one port")


def test_a_bootstrap_without_a_peer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no address of a peer"):
        Node("a", tmp_path, bootstraps=["/ip4/127.0.0.1/tcp/4001"])


def test_using_it_before_it_serves_is_our_error(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="outside"):
        Node("a", tmp_path).transport.send_nowait(PeerId(bytes(32)), Bid(bytes(16), 1, 1, "child", bytes(32), 1))


async def test_a_node_without_a_living_bootstrap_works_and_remembers_peers(tmp_path: Path) -> None:
    b = Node("b", tmp_path)
    dead = f"/ip4/127.0.0.1/tcp/1/p2p/{'12D3KooWMbbPVGsZYh3ChQjue712NHHGNybRRXwnuSpezYjGbCDS'}"
    config = TransportConfig(listen=LOOPBACK, bootstraps=(dead,), peer_cache=tmp_path / "peers.json")
    identity = Identity(b"r" * 32)
    async with serving(b):
        first = Transport(identity, NETWORK, config, BlobStore(tmp_path / "r", GIB))
        async with first.serving():
            first.learn(b.peer, b.transport.addresses())
            assert (await b.expect(PeerUp)).peer == identity.peer
        await b.expect(PeerDown)
        second = Transport(identity, NETWORK, config, BlobStore(tmp_path / "r", GIB))
        async with second.serving():
            assert (await b.expect(PeerUp)).peer == identity.peer
