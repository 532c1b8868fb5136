"""Connections that break in the middle of anything are nobody's fault: no violation, nobody shut out."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from node.addresses import AddressBook, without_target
from node.blobs import BlobStore
from node.transport import Received, Transport, TransportConfig
from protocol.identity import Identity
from protocol.messages import BlocksRequest
from protocol.units import GIB
from tests.node.waiting import SECONDS

ALICE, BOB = Identity(b"a" * 32), Identity(b"b" * 32)
CONFIG = TransportConfig(listen=("/ip4/127.0.0.1/tcp/0",), neighbours_min=0)
CUTS = 40
LIFE_S = 0.5
"""A line also breaks after so long, while nobody says anything."""

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a reset."""


class Line:
    """A wire to a host that breaks after a number of bytes: with a FIN, with a reset, or one direction first."""

    def __init__(self, port: int, dice: random.Random) -> None:
        self.port = port
        self.breaks = 0
        self._dice = dice

    async def carry(self, near: trio.SocketStream) -> None:
        """One connection."""
        far = await trio.open_tcp_stream("127.0.0.1", self.port)
        left = [self._dice.choice((self._dice.randint(1, 600), self._dice.randint(600, 20_000)))]
        try:
            async with trio.open_nursery() as nursery:
                nursery.cancel_scope.deadline = trio.current_time() + LIFE_S

                async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
                    try:
                        async for piece in source:
                            taken = piece[: left[0]]
                            left[0] -= len(taken)
                            await sink.send_all(taken)
                            if not left[0]:
                                break
                    except (trio.BrokenResourceError, trio.ClosedResourceError):
                        pass
                    nursery.cancel_scope.cancel()

                nursery.start_soon(pump, near, far)
                nursery.start_soon(pump, far, near)
        finally:
            self.breaks += 1
            for end in (near, far):
                if self._dice.random() < 0.5:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.socket.close()


@asynccontextmanager
async def broken_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Transport, Transport, Line]]:
    """Alice, who reaches Bob through a line that breaks again and again; Bob cannot dial her."""
    alice = Transport(ALICE, "reef", CONFIG, BlobStore(folder / "a", GIB))
    bob = Transport(BOB, "reef", CONFIG, BlobStore(folder / "b", GIB))
    async with alice.serving(), bob.serving(), trio.open_nursery() as nursery:
        line = Line(int(without_target(bob.addresses()[0]).rpartition("/")[2]), random.Random(7))
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, line.carry, listeners)
        port = listeners[0].socket.getsockname()[1]
        alice.learn(BOB.peer, [f"/ip4/127.0.0.1/tcp/{port}"])
        monkeypatch.setattr(AddressBook, "learn", lambda *_: False)  # Else she hears of Bob's own address in no time.
        yield alice, bob, line
        nursery.cancel_scope.cancel()


async def test_nobody_is_punished_for_a_line_that_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with broken_line(tmp_path, monkeypatch) as (alice, bob, line):
        heights: list[int] = []
        sent = 0
        with trio.move_on_after(SECONDS):
            while line.breaks < CUTS:
                alice._serving.sessions.links.retry(BOB.peer)  # No back-off: each dial is another place to break at.
                if sent < len(heights) + 900:
                    alice.send_nowait(BOB.peer, BlocksRequest(sent))
                    sent += 1
                with trio.move_on_after(0.02):
                    while len(heights) < sent:
                        arrival = await bob.inbox.receive()
                        if isinstance(arrival, Received) and isinstance(arrival.message, BlocksRequest):
                            heights.append(arrival.message.height)
        assert line.breaks >= CUTS
        assert heights == list(range(len(heights))), "everything once, in order"
        assert len(heights) > CUTS
        for node, other in ((alice, BOB.peer), (bob, ALICE.peer)):
            assert node.statistics().get("violations", 0) == 0
            assert not node._serving.dialer.book.is_forbidden(other)
