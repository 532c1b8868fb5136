"""Dials that nobody answers, given up and taken up again: real sockets, and a listener whose queue is full."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import trio
import trio.testing

from node.reach import half_open
from tests.node.silent_port import SilentPort, free_port
from tests.node.waiting import SECONDS, happens

GIVEN_UP_S = 0.05


@pytest.fixture
def silent() -> Iterator[SilentPort]:
    with ExitStack() as stack:
        yield SilentPort(stack)


async def give_up(port: int, source: tuple[str, int]) -> None:
    with trio.move_on_after(GIVEN_UP_S) as deadline:
        await half_open.open_from("127.0.0.1", port, source)
    assert deadline.cancelled_caught


async def test_a_dial_that_is_answered_leaves_from_its_port() -> None:
    source = ("127.0.0.1", free_port())
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    dial = half_open.open_from("127.0.0.1", listener.socket.getsockname()[1], source)
    async with listener, await dial as stream, await listener.accept() as other:
        assert other.socket.getpeername() == source
        await stream.send_all(b"hello")
        assert await other.receive_some(5) == b"hello"
    assert half_open.kept() == 0


async def test_a_dial_that_is_refused_is_not_kept() -> None:
    with pytest.raises(ConnectionRefusedError):
        await half_open.open_from("127.0.0.1", free_port(), ("127.0.0.1", 0))
    assert half_open.kept() == 0


async def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="Address already in use") as caught:
            await half_open.open_from("127.0.0.1", 9, taken.getsockname())
    assert caught.value.errno == errno.EADDRINUSE


async def test_a_dial_given_up_goes_on_and_the_next_one_gets_it(
    silent: SilentPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half_open, "ANSWERED_S", SECONDS)
    source = ("127.0.0.1", free_port())
    await give_up(silent.port, source)
    assert half_open.kept() == 1
    listener = silent.wake()
    other = await listener.accept()  # The kernel asked again: the dial came through while nobody waited for it.
    async with other, await half_open.open_from("127.0.0.1", silent.port, source) as stream:
        assert half_open.kept() == 0
        assert other.socket.getpeername() == source == stream.socket.getsockname()
        await other.send_all(b"there")
        assert await stream.receive_some(5) == b"there"


async def test_a_dial_that_nobody_answered_makes_room_for_a_fresh_one(silent: SilentPort) -> None:
    source = ("127.0.0.1", free_port())
    for _ in range(3):
        await give_up(silent.port, source)
        assert half_open.kept() == 1
    half_open.end_all(source[1] + 1)
    assert half_open.kept() == 1
    half_open.end_all(source[1])
    await happens(lambda: half_open.kept() == 0)
    with socket.socket() as again:
        again.bind(source)


async def test_an_answer_that_nobody_wants_ends_by_a_reset(silent: SilentPort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_open, "ANSWERED_S", 0.0)
    await give_up(silent.port, ("127.0.0.1", free_port()))
    async with await silent.wake().accept() as other:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await other.receive_some(1)
        assert isinstance(caught.value.__cause__, ConnectionResetError)
    assert half_open.kept() == 0


async def test_the_oldest_are_ended_when_there_are_too_many(
    silent: SilentPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half_open, "KEPT_MAX", 2)
    sources = [("127.0.0.1", free_port()) for _ in range(3)]
    for source in sources:
        await give_up(silent.port, source)
    assert half_open.kept() == 2
    await trio.testing.wait_all_tasks_blocked()
    with socket.socket() as free, socket.socket() as held:
        free.bind(sources[0])
        with pytest.raises(OSError, match="Address already in use"):
            held.bind(sources[2])


async def test_the_time_for_which_routers_remember_ends(silent: SilentPort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_open, "KEPT_S", 0.0)
    await give_up(silent.port, ("127.0.0.1", free_port()))
    await happens(lambda: half_open.kept() == 0)
