"""A shaped link keeps its promises: delay, jitter, loss, rate, size, and the same fate for the same seed.

That it is not slower than it says is looked at by `make netlab`: it rests on what else the machine does."""

from __future__ import annotations

import statistics

import pytest
import trio

from benchmarks.netlab.laboratory import House, Laboratory
from benchmarks.netlab.punch import ping, tcp
from benchmarks.netlab.shaper import Flow, Link, both
from tests.node.waiting import SECONDS, happens, until

pytestmark = pytest.mark.alone

MBIT = 125_000
"""Bytes."""


@pytest.fixture
def home(lab: Laboratory) -> House:
    """A house on a shaped link, and a public one on a wire."""
    lab.house("shop", "public")
    return lab.house("home", "port-restricted", link=Link())


async def seconds_to_send(lab: Laboratory, size: int) -> float:
    """From the house to the shop over one TCP connection, until the last byte has come."""
    shop = lab.houses["shop"].host
    door, caller = tcp(shop, 0), tcp(lab.houses["home"].host, 0)
    door.listen(1)
    await caller.connect((shop.address, door.getsockname()[1]))
    connection, _ = await door.accept()
    began = trio.current_time()

    async def send() -> None:
        stream = trio.SocketStream(caller)
        await stream.send_all(bytes(size))
        await stream.send_eof()

    try:
        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                got = 0
                while data := await connection.recv(65_536):
                    got += len(data)
        assert got == size
        return trio.current_time() - began
    finally:
        for one in (door, caller, connection):
            one.close()


async def trips(lab: Laboratory, home: House) -> list[float]:
    """A hundred, in milliseconds, over a line with a delay that differs."""
    assert home.link is not None
    home.link.set(both(Flow(delay_ms=20, jitter_ms=4)))
    return await ping(home.host, lab.houses["shop"].host.address, 100)


async def test_nothing_is_quicker_than_its_delay_and_all_arrives(lab: Laboratory, home: House) -> None:
    took = await trips(lab, home)
    assert len(took) == 100
    assert min(took) >= 40
    assert statistics.median(took) >= 42
    assert statistics.quantiles(took, n=10)[-1] - statistics.quantiles(took, n=10)[0] >= 2


@pytest.mark.netlab
async def test_nothing_is_much_later_than_its_delay(lab: Laboratory, home: House) -> None:
    """On a machine that does nothing else."""
    took = await trips(lab, home)
    assert statistics.median(took) <= 48
    assert statistics.quantiles(took, n=10)[-1] - statistics.quantiles(took, n=10)[0] <= 12


async def test_loss_follows_the_seed(lab: Laboratory, home: House) -> None:
    assert home.link is not None
    target = lab.houses["shop"].host.address
    counts = []
    for seed in (7, 7, 8):
        home.link.set(Link(up=Flow(loss=0.3), seed=seed))
        counts.append(len(await ping(home.host, target, 400, gap_s=0.001, wait_s=None)))
    assert counts[0] == counts[1]
    assert all(250 <= count <= 310 for count in counts)
    before = home.link.set(Link())
    assert before.lost[0] >= sum(400 - count for count in counts) and before.lost[1] == 0


async def test_a_capped_uplink_carries_a_megabit(lab: Laboratory, home: House) -> None:
    assert home.link is not None
    home.link.set(Link(up=Flow(rate_kbit=1_000, queue_bytes=1 << 20)))
    assert 2 / await seconds_to_send(lab, 2 * MBIT) <= 1.0
    counts = home.link.set(Link(up=Flow(rate_kbit=1_000, queue_bytes=1 << 20)))
    assert counts.bytes[0] >= 2 * MBIT


@pytest.mark.netlab
async def test_a_capped_uplink_carries_nearly_a_megabit(lab: Laboratory, home: House) -> None:
    """On a machine that does nothing else."""
    assert home.link is not None
    home.link.set(Link(up=Flow(rate_kbit=1_000, queue_bytes=1 << 20)))
    assert 2 / await seconds_to_send(lab, 2 * MBIT) >= 0.5


@pytest.mark.netlab
async def test_an_open_link_is_no_bottleneck_for_a_home(lab: Laboratory, home: House) -> None:
    took = await seconds_to_send(lab, 100 * MBIT)
    assert 100 / took > 20, "Mbit/s"


async def test_a_size_limit_is_silent(lab: Laboratory, home: House) -> None:
    assert home.link is not None
    narrow = both(Flow(size_max=600))
    home.link.set(narrow)
    arrived: list[float] = []

    async def send() -> None:
        arrived.append(await seconds_to_send(lab, MBIT))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await happens(lambda: home.link is not None and home.link.set(narrow).lost[0] > 0)
        assert not await until(lambda: bool(arrived), 0.5), "what is too large arrived"
        nursery.cancel_scope.cancel()
    home.link.set(Link())
    assert len(await ping(home.host, lab.houses["shop"].host.address, 5)) == 5


async def test_directions_are_apart(lab: Laboratory, home: House) -> None:
    assert home.link is not None
    home.link.set(Link(up=Flow(loss=1.0)))
    assert await ping(home.host, lab.houses["shop"].host.address, 3, wait_s=0.2) == []
    counts = home.link.set(Link())
    assert counts.lost == (3, 0)
