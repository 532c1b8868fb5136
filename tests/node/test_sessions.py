"""Sessions that outlive their connections, between real hosts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from libp2p.abc import INetStream

from node.blobs import BlobStore
from node.dialer import SEARCH_S
from node.libp2p_rim import libp2p_id, remote_address
from node.transport import Arrival, Received, Transport, TransportConfig
from protocol.errors import RemoteViolation
from protocol.greetings import Hello
from protocol.identity import Identity
from protocol.messages import BlocksRequest
from protocol.units import GIB, PeerId
from tests.node.waiting import SECONDS, happens

ALICE, BOB = Identity(b"a" * 32), Identity(b"b" * 32)


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[Transport, Transport]]:
    """Two transports that know each other."""
    config = TransportConfig(listen=("/ip4/127.0.0.1/tcp/0",), neighbours_min=0)
    alice = Transport(ALICE, "reef", config, BlobStore(folder / "a", GIB))
    bob = Transport(BOB, "reef", config, BlobStore(folder / "b", GIB))
    async with alice.serving(), bob.serving():
        alice.learn(BOB.peer, bob.addresses())
        bob.learn(ALICE.peer, alice.addresses())
        yield alice, bob


async def cut(transport: Transport, peer: PeerId) -> None:
    """Close the sockets to a peer without a word, as a router that forgets them does."""
    for connection in list(transport._serving.host.get_network().get_connections(libp2p_id(peer))):
        await connection.close()


async def test_nothing_is_lost_or_repeated_when_connections_break(tmp_path: Path) -> None:
    async with two(tmp_path) as (alice, bob), trio.open_nursery() as nursery:
        total = 600

        async def say() -> None:
            for height in range(total):
                alice.send_nowait(BOB.peer, BlocksRequest(height))
                if height % 100 == 50:
                    await happens(lambda: BOB.peer in alice.connected())
                    await trio.sleep(0.05)
                    await cut(alice if height % 200 == 50 else bob, BOB.peer if height % 200 == 50 else ALICE.peer)

        nursery.start_soon(say)
        heights: list[int] = []
        with trio.fail_after(SECONDS):
            async for arrival in bob.inbox:
                if isinstance(arrival, Received) and isinstance(arrival.message, BlocksRequest):
                    heights.append(arrival.message.height)
                    if len(heights) == total:
                        break
        assert heights == list(range(total))
        assert alice.statistics().get("messages_lost", 0) == 0
        assert alice.statistics()["dials"] > 1


async def test_whoever_comes_back_at_once_is_greeted_every_time(tmp_path: Path) -> None:
    async with two(tmp_path) as (alice, _):
        dialer, sessions = alice._serving.dialer, alice._serving.sessions
        greetings: list[PeerId] = []

        def hear(peer: PeerId, hello: Hello, stream: INetStream) -> None:
            greetings.append(peer)

        async def greeted(count: int) -> None:
            await happens(lambda: len(greetings) >= count)

        sessions.greeted.append(hear)
        for _ in range(40):
            before = len(greetings)
            await cut(alice, BOB.peer)
            await dialer.connect(BOB.peer)
            await greeted(before + 1)


async def test_nobody_is_dialled_only_to_be_greeted(tmp_path: Path) -> None:
    async with two(tmp_path) as (alice, _):
        sessions = alice._serving.sessions
        sessions.renew(PeerId(bytes(32)))
        with trio.fail_after(SEARCH_S - 1):  # A search for it would take so long.
            await happens(lambda: sessions.links.known(PeerId(bytes(32))) is None)


async def test_faults_and_bans_of_strangers_take_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.sessions.FAULTY_MAX", 3)
    monkeypatch.setattr("node.addresses.FORBIDDEN_MAX", 3)
    async with two(tmp_path) as (alice, _):
        sessions = alice._serving.sessions
        for number in range(1, 9):
            await sessions.punish(RemoteViolation(PeerId(bytes((number,)) * 32), "rubbish", code="malformed"))
            alice._serving.dialer.book.forbid(PeerId(bytes((number,)) * 32))
        assert len(sessions._faults) == len(alice._serving.dialer.book._forbidden) == 3


async def test_a_stream_that_the_other_side_drops_is_replaced_without_a_further_word(tmp_path: Path) -> None:
    async with two(tmp_path) as (alice, bob):
        alice.send_nowait(BOB.peer, BlocksRequest(0))
        sessions = bob._serving.sessions
        await happens(lambda: ALICE.peer in sessions._readers, SECONDS)
        heard = sessions._heard[ALICE.peer]

        async def never(arrival: Arrival) -> None:
            await trio.sleep_forever()

        real, sessions._deliver = sessions._deliver, never
        alice.send_nowait(BOB.peer, BlocksRequest(1))
        link = alice._serving.sessions.links.known(BOB.peer)
        assert link is not None
        await happens(lambda: len(link) == 0 and link.outbox.unacknowledged > 0, SECONDS)
        sessions._deliver = real
        sessions._readers[ALICE.peer].scope.cancel()
        await happens(lambda: sessions._heard[ALICE.peer].count == 2, SECONDS)
        assert sessions._heard[ALICE.peer].session == heard.session


async def test_what_was_heard_is_acknowledged_and_forgotten(tmp_path: Path) -> None:
    async with two(tmp_path) as (alice, bob):
        for height in range(5):
            alice.send_nowait(BOB.peer, BlocksRequest(height))
        with trio.fail_after(SECONDS):
            async for arrival in bob.inbox:
                if isinstance(arrival, Received) and arrival.message == BlocksRequest(4):
                    break
        link = alice._serving.sessions.links.known(BOB.peer)
        assert link is not None
        outbox = link.outbox
        await happens(lambda: not outbox.unacknowledged)
        assert outbox.acked == 5


async def test_hello_says_what_the_sender_sees_and_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.overlay.LOOK_S", SECONDS)  # It says itself what the sender can, once it has looked.
    async with two(tmp_path) as (alice, bob):
        heard: list[tuple[PeerId, Hello, str]] = []

        def hear(peer: PeerId, hello: Hello, stream: INetStream) -> None:
            heard.append((peer, hello, remote_address(stream)))

        bob._serving.sessions.greeted.append(hear)
        alice._serving.sessions.capabilities = ("relay/1",)
        alice.send_nowait(BOB.peer, BlocksRequest(1))
        await happens(lambda: bool(heard))
        peer, hello, address = heard[0]
        assert peer == ALICE.peer
        assert hello.capabilities == ("relay/1",)
        assert hello.observed.startswith("/ip4/127.0.0.1/tcp/")
        assert address.startswith("/ip4/127.0.0.1/tcp/")
