"""The data port against strangers: a thousand connects, silence, half a handshake, rubbish; honest peers beside."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.lowlevel

from node.bulk import listener, meeting
from node.transport import Transport, TransportConfig
from protocol import wire
from protocol.bulk.handshake import Open
from protocol.errors import Unavailable
from protocol.units import KIB
from tests.node.waiting import SECONDS, happens

if TYPE_CHECKING:
    from tests.node.bulk.conftest import Node, Serving

Make = Callable[..., "Node"]


async def test_an_honest_peer_is_served_beside_a_thousand_silent_connections(node: Make, serving: Serving) -> None:
    a, b = node("a"), node("b")
    digest = a.blobs.put(bytes(100_000))
    async with serving(a, b):
        with ExitStack() as stack:
            for number in range(1_000):
                stranger = stack.enter_context(socket.socket())
                stranger.setblocking(False)
                stranger.connect_ex(("127.0.0.1", a.plane.port))
                if number % 100 == 0:
                    await trio.lowlevel.checkpoint()
            assert await b.fetch(digest, a) == 100_000
            assert b.count("bulk_connections_direct") == 1, "straight through the crowd"
            await happens(lambda: a.plane._listener.pending <= listener.PENDING_PER_ADDRESS)
            assert a.count("bulk_handshakes_evicted") > 0
        await happens(lambda: a.plane._listener.pending == 0)


async def test_silence_and_half_a_handshake_end_by_themselves(
    node: Make, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "MEETING_S", 0.3)
    a = node("a")
    async with serving(a):
        where = "127.0.0.1", a.plane.port
        with socket.create_connection(where) as silent, socket.create_connection(where) as half:
            half.sendall((60).to_bytes(4, "big") + b"half")
            await happens(lambda: a.count("bulk_handshakes_failed") == 2)
            assert half.recv(10) == silent.recv(10) == b""
        assert a.plane._listener.connections == 0


async def test_rubbish_and_unknown_tickets_are_refused(node: Make, serving: Serving) -> None:
    a = node("a")
    dice = random.Random(1)
    sent = [dice.randbytes(40), bytes([0, 0, 255, 255]), (8).to_bytes(4, "big") + dice.randbytes(8)]
    opening = wire.encode(Open(bytes(16), bytes(32), ("aes-128-gcm",)))
    sent.append(len(opening).to_bytes(4, "big") + opening)
    async with serving(a):
        for number, data in enumerate(sent, start=1):
            with socket.create_connection(("127.0.0.1", a.plane.port)) as stranger:
                stranger.sendall(data)
                await happens(partial(has_failed, a, number))
        assert a.count("violations") == 0, "nobody can be blamed for what a stranger sends"


def has_failed(node: Node, number: int) -> bool:
    """So many handshakes failed."""
    return node.count("bulk_handshakes_failed") == number


async def test_connections_of_one_peer_are_bounded(node: Make, serving: Serving) -> None:
    a, b = node("a"), node("b")
    digest = a.blobs.put(bytes(10 * KIB))
    async with serving(a, b):
        links = [await b.plane._open_link(a.peer, (digest,)) for _ in range(listener.CONNECTIONS_PER_PEER + 2)]
        await happens(lambda: a.plane._listener.pending == 0)
        assert a.plane._listener.connections == listener.CONNECTIONS_PER_PEER
        for link in links:
            assert link is not None
            await link.channel.close()


async def test_shutdown_ends_connections_that_are_open(node: Make, serving: Serving) -> None:
    a, b = node("a"), node("b")
    digest = a.blobs.put(bytes(10))
    async with serving(b):
        with trio.fail_after(SECONDS):
            async with serving(a):
                b.transport.learn(a.peer, a.transport.addresses())
                link = await b.plane._open_link(a.peer, (digest,))
                assert link is not None
                port = a.plane.port
        await link.channel.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port))


async def test_a_port_that_is_taken_is_told_with_a_way_out(node: Make, serving: Serving) -> None:
    a, b = node("a"), node("b")
    async with serving(a):
        config = TransportConfig(listen=("/ip4/127.0.0.1/tcp/0",), bulk_port=a.plane.port)
        with pytest.raises(Unavailable, match="cannot listen for data") as caught:
            async with Transport(b.identity, "reef", config, b.blobs).serving():
                raise AssertionError("two nodes listen on one port")
        assert caught.value.fix
