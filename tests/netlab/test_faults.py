"""Each fault does to raw sockets what it says, and ends where it says."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from benchmarks.netlab import faults
from benchmarks.netlab.laboratory import House, Laboratory
from benchmarks.netlab.punch import ping, tcp
from benchmarks.netlab.routers import Kind
from benchmarks.netlab.shaper import Link
from protocol.errors import Refused
from shoal.processes import shoal_environment
from tests.node.waiting import SECONDS

SILENCE_S = 0.3
CALLER = "import socket, sys; s = socket.create_connection((sys.argv[1], 4301)); s.send(b'on'); s.recv(1)"
CLOCK = "from node.clock import Clock; print(Clock().now() // 1_000_000)"


class Line:
    """One TCP connection from a house to the shop."""

    def __init__(self, caller: trio.socket.SocketType, accepted: trio.socket.SocketType, seen: tuple[str, int]) -> None:
        self.caller = caller
        self.accepted = accepted
        self.seen = seen
        """The caller's address as the shop sees it."""

    async def carries(self, seconds: float = SECONDS) -> bool:
        """Bytes go from the house to the shop and back."""
        with trio.move_on_after(seconds):
            await self.caller.send(b"x")
            if await self.accepted.recv(1) == b"x":
                await self.accepted.send(b"y")
                return await self.caller.recv(1) == b"y"
        return False


class Shop:
    """A public host that accepts."""

    def __init__(self, lab: Laboratory) -> None:
        self.host = lab.house("shop", "public").host
        self._open: list[trio.socket.SocketType] = [tcp(self.host, 4_301)]
        self._open[0].listen(8)

    async def accepted(self) -> trio.socket.SocketType:
        with trio.fail_after(SECONDS):
            connection, _ = await self._open[0].accept()
        self._open.append(connection)
        return connection

    async def dialled(self, house: House, port: int = 4_301) -> Line:
        caller = tcp(house.host, port)
        self._open.append(caller)
        with trio.fail_after(SECONDS):
            await caller.connect((self.host.address, 4_301))
            accepted, seen = await self._open[0].accept()
        self._open.append(accepted)
        return Line(caller, accepted, (seen[0], seen[1]))

    def close(self) -> None:
        for one in self._open:
            one.close()


@pytest.fixture
async def shop(lab: Laboratory) -> AsyncIterator[Shop]:
    made = Shop(lab)
    yield made
    made.close()


@pytest.mark.parametrize("kind", ["port-restricted", "remapping", "cgnat"])
async def test_a_rebooted_router_forgets_connections_without_a_word(lab: Laboratory, shop: Shop, kind: Kind) -> None:
    home = lab.house("home", kind)
    line = await shop.dialled(home)
    assert await line.carries()
    faults.reboot(home)
    assert not await line.carries(SILENCE_S)
    again = await shop.dialled(home, 4_302)
    assert await again.carries()
    assert (again.seen[1] == line.seen[1] + 1) is (kind == "port-restricted")


async def test_a_moved_house_is_seen_elsewhere(lab: Laboratory, shop: Shop) -> None:
    home = lab.house("home", "port-restricted")
    line = await shop.dialled(home)
    assert line.seen == (home.address, 4_301)
    new = faults.move(home)
    assert not await line.carries(SILENCE_S)
    assert (await shop.dialled(home, 4_302)).seen == (new, 4_302)
    with pytest.raises(Refused, match="own their addresses"):
        faults.move(lab.houses["shop"])


async def test_an_outage_ends_and_one_way_is_one_way(lab: Laboratory, shop: Shop) -> None:
    home = lab.house("home", "symmetric")
    line = await shop.dialled(home)
    with faults.outage(home):
        assert not await line.carries(SILENCE_S)
    with faults.outage(home, outbound=False):
        await line.caller.send(b"z")
        with trio.fail_after(SECONDS):
            assert await line.accepted.recv(8)
        await line.accepted.send(b"lost for now")
        with trio.move_on_after(SILENCE_S) as silence:
            await line.caller.recv(16)
        assert silence.cancelled_caught
    with trio.fail_after(SECONDS):
        assert await line.caller.recv(16)  # TCP repeats it.


async def test_a_pulled_cable_tells_nobody(lab: Laboratory, shop: Shop) -> None:
    home = lab.house("home", "full-cone")
    line = await shop.dialled(home)
    with faults.unplugged(home.host):
        assert not await line.carries(SILENCE_S)
    with trio.fail_after(SECONDS):
        assert await line.accepted.recv(1) == b"x"


async def test_a_host_with_two_homes_goes_on_from_the_other(lab: Laboratory, shop: Shop) -> None:
    home, mobile = lab.house("home", "port-restricted"), lab.house("mobile", "cgnat", lan="192.168.7")
    assert mobile.join(home.host) == "192.168.7.200"
    line = await shop.dialled(home)
    assert line.seen[0] == home.address
    with faults.unplugged(home.host):
        assert not await line.carries(SILENCE_S)
        assert (await shop.dialled(home, 4_302)).seen[0] == mobile.address
    port = 4_303
    with trio.fail_after(SECONDS):
        while (await shop.dialled(home, port)).seen[0] != home.address:  # The kernel notices a carrier within a second.
            await trio.sleep(0.05)
            port += 1


async def test_power_off_leaves_the_other_end_half_open(lab: Laboratory, shop: Shop, tmp_path: Path) -> None:
    home = lab.house("home", "full-cone")
    command = [sys.executable, "-c", CALLER, shop.host.address]
    home.host.start("caller", command, tmp_path / "log", shoal_environment())
    accepted = await shop.accepted()
    with trio.fail_after(SECONDS):
        assert await accepted.recv(8) == b"on"
    faults.power_off(home.host)
    assert not home.host.namespace.processes()
    with trio.move_on_after(SILENCE_S) as silence:
        await accepted.recv(8)
    assert silence.cancelled_caught, "the end of the connection was told"
    assert len(await ping(shop.host, home.address, 1)) == 1, "the router itself is up"


async def test_a_narrow_line_carries_small_packets_only_and_tcp_adapts(lab: Laboratory, shop: Shop) -> None:
    home = lab.house("home", "remapping", link=Link())
    faults.narrow(home, 576)
    line = await shop.dialled(home)
    await line.caller.send(bytes(20_000))
    got = 0
    with trio.fail_after(SECONDS):
        while got < 20_000:
            got += len(await line.accepted.recv(65_536))
    assert line.caller.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= 536


@pytest.mark.parametrize("seconds", [90.0, -3_600.0])
def test_a_skewed_clock_is_the_nodes_clock(seconds: float) -> None:
    plain = shoal_environment()
    told = [
        int(subprocess.run([sys.executable, "-P", "-c", CLOCK], env=one, capture_output=True, check=True).stdout)
        for one in (plain, faults.skewed(plain, seconds))
    ]
    assert abs(told[1] - told[0] - seconds) < 30


def test_a_wire_cannot_be_shaped(lab: Laboratory) -> None:
    with pytest.raises(Refused, match="hangs on a wire"):
        faults.shape(lab.house("home", "symmetric"), Link())
