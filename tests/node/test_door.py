"""The door of a real host: crowds, silence, rubbish, and places that come back."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from node import door
from node.blobs import BlobStore
from node.transport import Received, Transport, TransportConfig
from protocol.identity import Identity
from protocol.messages import BlocksRequest
from protocol.overlay.admission import GREETED_MAX, INBOUND_MAX
from protocol.units import GIB
from tests.node.waiting import SECONDS, happens

ALICE, BOB = Identity(b"a" * 32), Identity(b"b" * 32)
OTHER_ADDRESS = "127.0.0.2"
"""The crowd comes from here: an address of this machine that no honest peer uses."""


@asynccontextmanager
async def bob_serves(folder: Path) -> AsyncIterator[tuple[Transport, int]]:
    """Bob, listening on every address of this machine, and his port."""
    bob = Transport(
        BOB, "reef", TransportConfig(("/ip4/0.0.0.0/tcp/0",), neighbours_min=0), BlobStore(folder / "b", GIB)
    )
    async with bob.serving():
        yield bob, int(bob.addresses()[0].split("/")[4])


async def is_served(folder: Path, port: int, bob: Transport) -> bool:
    """True when a newcomer's message reaches Bob."""
    alice = Transport(
        ALICE, "reef", TransportConfig(("/ip4/127.0.0.1/tcp/0",), neighbours_min=0), BlobStore(folder / "a", GIB)
    )
    async with alice.serving():
        alice.learn(BOB.peer, (f"/ip4/127.0.0.1/tcp/{port}",))
        alice.send_nowait(BOB.peer, BlocksRequest(7))
        with trio.move_on_after(SECONDS):
            async for arrival in bob.inbox:
                if isinstance(arrival, Received) and arrival.message == BlocksRequest(7):
                    return True
    return False


async def crowd(stack: AsyncExitStack, port: int, count: int, says: bytes = b"") -> list[trio.SocketStream]:
    """So many connections from the other address."""
    found: list[trio.SocketStream] = []
    for _ in range(count):
        stream = await trio.open_tcp_stream("127.0.0.1", port, local_address=OTHER_ADDRESS)
        await stack.enter_async_context(stream)
        if says:
            try:
                await stream.send_all(says)
            except trio.BrokenResourceError:
                continue
        found.append(stream)
    return found


def knock(port: int, times: int) -> None:
    """Connect and go away again, from another thread, so that the listener accepts at the same time."""
    for _ in range(times):
        with socket.socket() as rude:
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # Leave no TIME_WAIT behind.
            rude.bind((OTHER_ADDRESS, 0))
            rude.connect(("127.0.0.1", port))


@pytest.mark.parametrize("says", [b"", b"\x13/multistream/1.0.0\n", b"GET / HTTP/1.1\r\n\r\n" * 50, b"\xff" * 4_096])
async def test_a_crowd_that_never_finishes_keeps_nobody_out(tmp_path: Path, says: bytes) -> None:
    async with bob_serves(tmp_path) as (bob, port), AsyncExitStack() as stack:
        await crowd(stack, port, GREETED_MAX * 2, says)
        assert await is_served(tmp_path, port, bob)


async def test_two_thousand_connections_leave_nothing_behind(tmp_path: Path) -> None:
    async with bob_serves(tmp_path) as (bob, port):
        await trio.to_thread.run_sync(knock, port, 2_000)
        assert await is_served(tmp_path, port, bob)
        await happens(lambda: not bob._serving.door.admission.greeted, SECONDS)
        assert bob._serving.door.admission.standing <= 1


async def test_places_come_back_when_connections_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """libp2p's own handler keeps a place for each connection that ever was; with few places that shows at once."""
    monkeypatch.setattr("protocol.overlay.admission.INBOUND_MAX", 3)
    async with bob_serves(tmp_path) as (bob, port):
        for _ in range(8):
            assert await is_served(tmp_path, port, bob)
            await happens(lambda: not bob._serving.door.admission.standing, SECONDS)
    assert INBOUND_MAX == 384


async def test_silence_ends_at_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "GREET_S", 0.3)
    async with bob_serves(tmp_path) as (bob, port), AsyncExitStack() as stack:
        streams = await crowd(stack, port, 5)
        with trio.fail_after(SECONDS):
            for stream in streams:
                while await stream.receive_some():  # libp2p greets first; then comes the end.
                    pass
        await happens(lambda: bob._serving.door.admission.greeted == 0)


async def test_a_crowd_before_the_door_does_not_make_the_next_one_wait(tmp_path: Path) -> None:
    async with bob_serves(tmp_path) as (_, port):
        waiting = [socket.create_connection(("127.0.0.1", port), SECONDS, (OTHER_ADDRESS, 0)) for _ in range(400)]
        for one in waiting:  # Nobody was accepted meanwhile: the kernel held them all.
            one.close()


async def test_libp2p_s_own_limits_forbid_nothing(tmp_path: Path) -> None:
    async with bob_serves(tmp_path / "b") as (_, port):
        config = TransportConfig(("/ip4/127.0.0.1/tcp/0",), neighbours_min=0)
        alice = Transport(ALICE, "reef", config, BlobStore(tmp_path / "a", GIB))
        async with alice.serving():
            dialer = alice._serving.dialer
            alice.learn(BOB.peer, (f"/ip4/127.0.0.1/tcp/{port}",))
            for _ in range(12):
                with trio.move_on_after(0.008):
                    await dialer.connect(BOB.peer)
            with trio.fail_after(SECONDS):
                await dialer.connect(BOB.peer)
