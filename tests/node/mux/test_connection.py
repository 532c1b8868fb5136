"""Muxed connections between real hosts, over real sockets: data, ends, cancellation, abuse, and the stock muxer."""

from __future__ import annotations

import os
import random
from contextlib import suppress

import psutil
import pytest
import trio
import trio.testing
from libp2p.abc import INetStream
from libp2p.network.stream.exceptions import StreamClosed, StreamEOF, StreamReset
from libp2p.network.swarm import Swarm
from libp2p.peer.peerinfo import PeerInfo
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamReset

from node.libp2p_rim import peer_of
from node.mux.connection import violation_of
from protocol.overlay import yamux_limits as limits
from protocol.overlay import yamux_pulse
from protocol.overlay.yamux_frames import Flag, Kind, header
from protocol.overlay.yamux_stream import Phase
from protocol.units import MIB, SECOND, Micros
from tests.node.mux.muxed_hosts import addresses_of, connection_of, muxed, read_exactly, two_hosts
from tests.node.waiting import SECONDS


async def bounce(stream: INetStream, data: bytes) -> bytes:
    """Through the echo and back, the end as well."""
    got = b""
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            await stream.write(data)
            await stream.close_write()  # type: ignore[attr-defined]

        nursery.start_soon(write)
        got = await read_exactly(stream, len(data))
    with pytest.raises(StreamEOF):
        await stream.read(1)
    return got


@pytest.mark.parametrize(
    "stock", [(False, False), (True, False), (False, True)], ids=["ours", "stock-dials", "we-dial"]
)
async def test_megabytes_there_and_back(stock: tuple[bool, bool]) -> None:
    data = os.urandom(3 * MIB)
    with trio.fail_after(SECONDS):
        async with two_hosts(stock) as two:
            assert await bounce(await two.stream(), data) == data
            assert await bounce(await two.back(), data) == data


async def test_a_thousand_streams() -> None:
    done = 0
    with trio.fail_after(SECONDS):
        async with two_hosts() as two, trio.open_nursery() as nursery:

            async def one(number: int) -> None:
                nonlocal done
                stream = await two.stream()
                await stream.write(number.to_bytes(4, "big"))
                assert await read_exactly(stream, 4) == number.to_bytes(4, "big")
                await stream.close()
                done += 1

            for number in range(1_000):
                nursery.start_soon(one, number)
    assert done == 1_000


async def test_a_reader_may_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stock muxer ends a stream whose reader pauses for more than 5 s."""
    async with two_hosts() as two:
        release, got = trio.Event(), trio.Event()

        async def slow(stream: INetStream) -> None:
            await release.wait()
            assert await read_exactly(stream, MIB) == bytes(MIB)
            got.set()

        two.serve(slow, "/test/slow/1")
        stream = await two.stream("/test/slow/1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, bytes(MIB))
            with trio.move_on_after(6):
                await got.wait()
            assert not got.is_set()
            echoed = await two.stream()
            await echoed.write(b"meanwhile")
            assert await read_exactly(echoed, 9) == b"meanwhile"
            release.set()
            with trio.fail_after(SECONDS):
                await got.wait()


async def test_a_heartbeat_does_not_wait_for_bulk() -> None:
    async with two_hosts() as two, trio.open_nursery() as nursery:

        async def swallow(stream: INetStream) -> None:
            while await stream.read(1 << 20):
                pass

        two.serve(swallow, "/test/sink/1")
        beats = await two.stream()
        for _ in range(3):
            bulk = await two.stream("/test/sink/1")

            async def push(stream: INetStream = bulk) -> None:
                while True:
                    await stream.write(bytes(MIB))

            nursery.start_soon(push)
        with trio.fail_after(SECONDS):
            for number in range(20):
                await beats.write(bytes([number]))
                assert await read_exactly(beats, 1) == bytes([number])
        nursery.cancel_scope.cancel()


async def test_ends_and_resets() -> None:
    async with two_hosts() as two:
        stream = await two.stream()
        await stream.write(b"x")
        assert await stream.read(9) == b"x"
        await stream.reset()
        with pytest.raises(StreamReset):
            await stream.write(b"more")
        with pytest.raises(StreamReset):
            await stream.read(1)

        async def rude(stream: INetStream) -> None:
            await stream.read(1)
            await stream.reset()

        two.serve(rude, "/test/rude/1")
        stream = await two.stream("/test/rude/1")
        await stream.write(b"x")
        with pytest.raises(StreamReset), trio.fail_after(SECONDS):
            await stream.read(1)

        stream = await two.stream()
        await stream.close_write()  # type: ignore[attr-defined]
        with pytest.raises(StreamClosed):
            await stream.write(b"more")
        with pytest.raises(StreamEOF):
            await stream.read(1)
        assert muxed(stream).state.phase is Phase.ENDED


async def test_a_cancelled_write_or_read_leaves_the_rest_alone() -> None:
    async with two_hosts() as two:
        forever = trio.Event()

        async def never(stream: INetStream) -> None:
            await forever.wait()

        two.serve(never, "/test/never/1")
        stuck, other = await two.stream("/test/never/1"), await two.stream()
        with trio.move_on_after(0.2) as scope:
            await stuck.write(bytes(4 * MIB))
        assert scope.cancelled_caught
        with trio.move_on_after(0.05) as scope:
            await other.read(1)
        assert scope.cancelled_caught
        await other.write(b"still here")
        assert await read_exactly(other, 10) == b"still here"
        await stuck.reset()
        assert connection_of(two.one, two.two).session.outbox.waiting == 0


async def test_a_peer_that_ignores_the_window_is_thrown_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """300 MiB into a window of 256 KiB: the stock muxer kept them all."""
    process = psutil.Process()
    async with two_hosts() as two:
        forever = trio.Event()

        async def never(stream: INetStream) -> None:
            await forever.wait()

        two.serve(never, "/test/never/1")
        victim = connection_of(two.two, two.one)
        stream = muxed(await two.stream("/test/never/1"))
        before = process.memory_info().rss
        pushed = 0
        block = bytes(MIB)
        with trio.fail_after(SECONDS):
            with suppress(MuxedStreamReset):
                while pushed < 300 * MIB:
                    stream.state.credit_out = 1 << 30  # What the peer granted is ignored.
                    await stream.write(block)
                    pushed += MIB
            await victim.event_closed.wait()
        assert victim.violation is not None
        assert victim.violation.code == "mux_window"
        assert victim.violation.peer == peer_of(two.one.get_id())
        assert process.memory_info().rss - before < 64 * MIB
        assert pushed < 64 * MIB


async def test_a_peer_that_opens_too_much_hurts_nobody_else() -> None:
    async with two_hosts() as two:
        attacker = connection_of(two.one, two.two)
        victim = connection_of(two.two, two.one)
        network = two.two.get_network()
        assert isinstance(network, Swarm)
        wrapper = network.get_connections(two.one.get_id())[0]
        assert violation_of(wrapper) is None
        attacker.session.outbox.control += b"".join(
            header(Kind.CREDIT, Flag.OPEN, number, 0) for number in range(1_001, 9_001, 2)
        )
        attacker.pump()
        with trio.fail_after(SECONDS):
            await victim.event_closed.wait()
        assert victim.violation is not None
        assert victim.violation.code == "mux_flood"
        assert violation_of(wrapper) is victim.violation
        assert victim.session.places.open_streams() == []


async def test_closing_wakes_everybody_and_leaves_nothing() -> None:
    async with two_hosts() as two:
        ours, theirs = connection_of(two.one, two.two), connection_of(two.two, two.one)
        sockets = len(psutil.Process().net_connections("tcp"))
        stream = await two.stream()
        ended = []

        async def wait_for_data() -> None:
            with pytest.raises(StreamReset):
                await stream.read(1)
            ended.append("read")

        async def wait_for_stream() -> None:
            with pytest.raises(MuxedConnUnavailable):
                while True:
                    await ours.accept_stream()
            ended.append("accept")

        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_for_data)
                nursery.start_soon(wait_for_stream)
                await trio.testing.wait_all_tasks_blocked()
                await ours.close()
            await theirs.event_closed.wait()
        assert sorted(ended) == ["accept", "read"]
        with pytest.raises(MuxedConnUnavailable):
            await ours.open_stream()
        assert len(psutil.Process().net_connections("tcp")) == sockets - 2
        assert not ours.is_established
        assert ours.is_closed


async def test_what_was_written_before_closing_arrives() -> None:
    async with two_hosts() as two:
        got = trio.Event()

        async def goodbyes(stream: INetStream) -> None:
            assert await read_exactly(stream, 200_000) == bytes(200_000)
            got.set()

        two.serve(goodbyes, "/test/bye/1")
        stream = await two.stream("/test/bye/1")
        await stream.write(bytes(200_000))
        await connection_of(two.one, two.two).close()
        with trio.fail_after(SECONDS):
            await got.wait()


async def test_pings_are_answered() -> None:
    async with two_hosts() as two:
        connection = connection_of(two.one, two.two)
        connection.session.ping(Micros(int(trio.current_time() * SECOND)))
        connection.pump()
        stream = await two.stream()
        await stream.write(b"x")
        await stream.read(1)
        assert 0 < connection.rtt() < SECONDS


async def test_more_streams_than_places_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUTBOUND_MAX", 10)
    async with two_hosts() as two:
        places = connection_of(two.one, two.two).session.places
        with trio.fail_after(SECONDS):
            while places.outbound:  # libp2p asks who we are
                await trio.testing.wait_all_tasks_blocked(0.02)
        held = [await two.stream() for _ in range(10)]
        with trio.move_on_after(0.1) as scope:
            await two.stream()
        assert scope.cancelled_caught
        await held[0].reset()
        with trio.fail_after(SECONDS):
            await two.stream()


async def test_the_end_of_a_host_leaves_no_socket() -> None:
    """While streams are written, read and opened."""
    before = {each.fd for each in psutil.Process().net_connections("tcp")}
    with trio.fail_after(SECONDS):
        async with two_hosts() as two, trio.open_nursery() as nursery:
            forever = trio.Event()

            async def never(stream: INetStream) -> None:
                await forever.wait()

            two.serve(never, "/test/never/1")
            for _ in range(5):
                stream = await two.stream("/test/never/1")
                nursery.start_soon(stream.write, bytes(4 * MIB))
                nursery.start_soon((await two.back()).read, 1)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert {each.fd for each in psutil.Process().net_connections("tcp")} <= before


async def test_a_connection_that_was_closed_does_not_start() -> None:
    async with two_hosts() as two:
        connection = connection_of(two.one, two.two)
        await connection.close()
        await connection.close()
        with trio.fail_after(SECONDS):
            await connection.start()
        assert not connection.is_established


async def test_streams_that_are_reset_at_once_start_no_task() -> None:
    async with two_hosts() as two:
        attacker, victim = connection_of(two.one, two.two), connection_of(two.two, two.one)
        numbers = range(1_001, 1_201, 2)
        opened = b"".join(header(Kind.CREDIT, flag, n, 0) for n in numbers for flag in (Flag.OPEN, Flag.RESET))
        attacker.session.outbox.control += opened
        attacker.pump()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert victim.session.places.inbound == 0
        assert not victim._arrived
        assert victim.violation is None
        await attacker.event_closed.wait()  # Its own muxer knows nothing of those streams, and ends over the answers.
        await two.one.connect(PeerInfo(two.two.get_id(), addresses_of(two.two)))
        stream = await two.stream()
        await stream.write(b"x")
        assert await read_exactly(stream, 1) == b"x"


async def test_a_silent_peer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """TCP says nothing of a peer behind a relay, or of a process that hangs."""
    monkeypatch.setattr(yamux_pulse, "KEEPALIVE", Micros(200_000))
    async with two_hosts() as two:
        ours, theirs = connection_of(two.one, two.two), connection_of(two.two, two.one)
        with trio.fail_after(SECONDS):
            monkeypatch.setattr(theirs, "pump", lambda: None)
            monkeypatch.setattr(yamux_pulse, "SILENCE", Micros(200_000))  # Before, a slow machine may be as silent.
            await ours.event_closed.wait()
        assert ours.violation is None


async def test_sealed_rubbish_ends_its_connection_and_no_other() -> None:
    async with two_hosts() as honest, two_hosts() as rude:
        dice = random.Random(18)
        target = PeerInfo(honest.two.get_id(), addresses_of(honest.two))
        for _ in range(8):
            await rude.one.connect(target)
            attacker = connection_of(rude.one, honest.two)
            attacker.session.outbox.control += dice.randbytes(dice.choice([1, 13, 5_000, 300_000]))
            attacker.session.outbox.control += b"\xff" * 12 * 40_000  # Where a length was invented, it ends here.
            attacker.pump()
            with trio.fail_after(SECONDS):
                await attacker.event_closed.wait()
            with trio.fail_after(SECONDS):
                stream = await honest.stream()
                await stream.write(b"x")
                assert await read_exactly(stream, 1) == b"x"
                await stream.close()
