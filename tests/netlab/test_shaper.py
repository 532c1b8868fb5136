"""A shaped link keeps its promises: delay, jitter, loss, rate, size, and the same fate for the same seed."""

from __future__ import annotations

import statistics

import pytest
import trio

from benchmarks.netlab.laboratory import House, Laboratory
from benchmarks.netlab.punch import ping, tcp
from benchmarks.netlab.shaper import Flow, Link, both

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
        with trio.fail_after(30):
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


async def test_delay_and_jitter(lab: Laboratory, home: House) -> None:
    assert home.link is not None
    home.link.set(both(Flow(delay_ms=20, jitter_ms=4)))
    trips = await ping(home.host, lab.houses["shop"].host.address, 100)
    assert len(trips) == 100
    assert min(trips) >= 40
    assert 42 <= statistics.median(trips) <= 48
    assert 2 <= statistics.quantiles(trips, n=10)[-1] - statistics.quantiles(trips, n=10)[0] <= 12


async def test_loss_follows_the_seed(lab: Laboratory, home: House) -> None:
    assert home.link is not None
    target = lab.houses["shop"].host.address
    counts = []
    for seed in (7, 7, 8):
        home.link.set(Link(up=Flow(loss=0.3), seed=seed))
        counts.append(len(await ping(home.host, target, 400, gap_s=0.001, wait_s=1.0)))
    assert counts[0] == counts[1]
    assert all(250 <= count <= 310 for count in counts)
    before = home.link.set(Link())
    assert before.lost[0] == sum(400 - count for count in counts) and before.lost[1] == 0


async def test_a_capped_uplink_carries_a_megabit(lab: Laboratory, home: House) -> None:
    assert home.link is not None
    home.link.set(Link(up=Flow(rate_kbit=1_000, queue_bytes=1 << 20)))
    took = await seconds_to_send(lab, 2 * MBIT)
    assert 0.5 <= 2 / took <= 1.0
    counts = home.link.set(Link())
    assert counts.bytes[0] >= 2 * MBIT


async def test_an_open_link_is_no_bottleneck_for_a_home(lab: Laboratory, home: House) -> None:
    took = await seconds_to_send(lab, 100 * MBIT)
    assert 100 / took > 20, "Mbit/s"


async def test_a_size_limit_is_silent(lab: Laboratory, home: House) -> None:
    assert home.link is not None
    home.link.set(both(Flow(size_max=600)))
    with pytest.raises(trio.TooSlowError), trio.fail_after(1):
        await seconds_to_send(lab, MBIT)
    assert home.link.set(Link()).lost[0] > 0
    assert len(await ping(home.host, lab.houses["shop"].host.address, 5)) == 5


async def test_directions_are_apart(lab: Laboratory, home: House) -> None:
    assert home.link is not None
    home.link.set(Link(up=Flow(loss=1.0)))
    assert await ping(home.host, lab.houses["shop"].host.address, 3, wait_s=0.2) == []
    counts = home.link.set(Link())
    assert counts.lost == (3, 0)
