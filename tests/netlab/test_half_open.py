"""Why a dial from the listening port stays open when its caller gives up: what Linux routers make of a closed one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from socket import SO_REUSEPORT, SOL_SOCKET
from threading import Barrier

import trio
import trio.testing

from benchmarks.netlab.laboratory import Host, Laboratory
from node.reach.half_open import open_from

PORT = 4301
SOURCE = ("0.0.0.0", PORT)
PATIENCE_S = 60.0


async def listen() -> trio.SocketListener:
    sock = trio.socket.socket()
    sock.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
    await sock.bind(SOURCE)
    sock.listen()
    return trio.SocketListener(sock)


async def greet(target: str) -> bytes:
    with trio.fail_after(PATIENCE_S):
        async with await open_from(target, PORT, SOURCE) as stream:
            await stream.send_all(b"hello")
            return bytes(await stream.receive_some(5))


async def hasty(target: str, turn: Barrier) -> bytes:
    """Dials too early, gives up, and dials again when the other is already at it."""
    async with await listen():
        with trio.move_on_after(0.3) as early:
            await open_from(target, PORT, SOURCE)
        assert early.cancelled_caught
        await trio.to_thread.run_sync(turn.wait)
        await trio.to_thread.run_sync(turn.wait)
        return await greet(target)


async def punctual(target: str, turn: Barrier) -> bytes:
    said: list[bytes] = []

    async def dial() -> None:
        said.append(await greet(target))

    async with await listen():
        await trio.to_thread.run_sync(turn.wait)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dial)
            await trio.testing.wait_all_tasks_blocked(cushion=0.1)  # Its first packet is on the way.
            await trio.to_thread.run_sync(turn.wait)
    return said[0]


def test_a_dial_given_up_does_not_close_the_hole_for_the_next(lab: Laboratory) -> None:
    one, other = (lab.house(name, "port-restricted") for name in ("hasty", "punctual"))
    turn = Barrier(2, timeout=PATIENCE_S)

    def at_home(host: Host, main: object, target: str) -> bytes:
        with host.entered():
            return trio.run(main, target, turn)  # type: ignore[arg-type]

    with ThreadPoolExecutor(2) as threads:
        sides = [
            threads.submit(at_home, one.host, hasty, other.address),
            threads.submit(at_home, other.host, punctual, one.address),
        ]
        assert [side.result() for side in sides] == [b"hello", b"hello"]
