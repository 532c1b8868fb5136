"""Real processes: the network outlives its bootstraps, two halves become one, neighbours on a LAN meet unasked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import pytest
import trio

from node.peer_cache import PeerCache
from protocol.identity import peer_from_text, peer_text
from protocol.units import PeerId
from tests.node.discovery.small_node import Plan, identity_of
from tests.node.waiting import happens

PROGRAM = Path(__file__).with_name("small_node.py")
PATIENCE_S = 180
"""Processes start, and dial peers that are not there; a busy machine takes its time with both."""
Report = dict[str, object]


class Process:
    """A process of small nodes, and the last thing that each of them said."""

    def __init__(self, child: trio.Process) -> None:
        self.child = child
        self.said: dict[str, Report] = {}

    async def read(self) -> None:
        assert self.child.stdout is not None
        rest = b""
        async for piece in self.child.stdout:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                report: Report = json.loads(line)
                self.said[str(report["peer"])] = report

    def kill(self) -> None:
        self.child.send_signal(signal.SIGKILL)

    def addresses(self) -> list[str]:
        """The first address of each node."""
        return [str(_list(report, "addresses")[0]) for report in self.said.values()]

    def all(self, name: str) -> list[set[str]]:
        """A list that every node reports, as a set."""
        return [{str(one) for one in _list(report, name)} for report in self.said.values()]


def _list(report: Report, name: str) -> list[object]:
    value = report[name]
    assert isinstance(value, list)
    return value


@asynccontextmanager
async def running(plan: Plan, prefix: tuple[str, ...] = ()) -> AsyncIterator[Process]:
    """A process of nodes; it is killed at the end."""
    command = [*prefix, sys.executable, str(PROGRAM), json.dumps(asdict(plan))]
    child = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    process = Process(child)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(process.read)
        try:
            yield process
        finally:
            with trio.CancelScope(shield=True):
                child.kill()
                await child.wait()
            nursery.cancel_scope.cancel()


def ids(*names: str) -> set[str]:
    return {peer_text(identity_of(name).peer) for name in names}


async def test_a_newcomer_joins_through_the_cache_when_every_bootstrap_is_dead(tmp_path: Path) -> None:
    crowd = [f"n{number}" for number in range(6)]
    async with running(Plan(["boot0", "boot1"])) as boots:
        await happens(lambda: len(boots.said) == 2, PATIENCE_S)
        dead = boots.addresses()
        async with running(Plan(crowd, bootstraps=dead)) as living:
            everybody = ids("boot0", "boot1", *crowd)
            await happens(
                lambda: len(living.said) == 6 and all(len(known) >= 7 for known in living.all("table")), PATIENCE_S
            )
            boots.kill()
            await happens(lambda: not any(known & ids("boot0", "boot1") for known in living.all("up")), PATIENCE_S)
            remembered = next(iter(living.said.values()))["cached"]
            assert isinstance(remembered, dict)
            assert set(remembered) | {next(iter(living.said))} == everybody
            known = {peer_from_text(text): tuple(addresses) for text, addresses in remembered.items()}
            PeerCache(tmp_path / "peers.json").save(known)
            plan = Plan(["late"], bootstraps=dead, cache=str(tmp_path / "peers.json"))
            async with running(plan) as late:
                await happens(lambda: bool(late.said) and late.all("table")[0] >= ids(*crowd), PATIENCE_S)
                await happens(lambda: all(known >= ids("late") for known in living.all("table")), PATIENCE_S)


@pytest.fixture
def two_hosts() -> Iterator[tuple[tuple[str, ...], tuple[str, ...], Callable[[str], None]]]:
    """Two network namespaces with a cable between them, 10.77.0.1 and 10.77.0.2; `cable("up"|"down")`."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    names = [f"shoal-{os.getpid()}-{side}" for side in "ab"]
    if subprocess.run(["ip", "netns", "add", names[0]], capture_output=True).returncode:
        pytest.skip("this kernel gives no network namespace")

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        ip("netns", "add", names[1])
        ip("-n", names[0], "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", names[1])
        for number, name in enumerate(names, start=1):
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
        left, right = (("ip", "netns", "exec", name) for name in names)
        yield left, right, lambda state: ip("-n", names[0], "link", "set", "cable", state)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


async def test_two_halves_that_both_live_become_one(
    two_hosts: tuple[tuple[str, ...], tuple[str, ...], Callable[[str], None]],
) -> None:
    """Both sides have the same list of two bootstraps and reach one each; then the cable is plugged in."""
    left, right, cable = two_hosts
    cable("down")
    boots = [f"/ip4/10.77.0.{n}/tcp/4301/p2p/{peer_text(identity_of(f'boot{n}').peer)}" for n in (1, 2)]
    async with (
        running(Plan(["boot1"], "10.77.0.1", 4301, boots), left) as a,
        running(Plan(["a0", "a1"], "10.77.0.1", 0, boots), left) as b,
        running(Plan(["boot2"], "10.77.0.2", 4301, boots), right) as c,
        running(Plan(["c0", "c1"], "10.77.0.2", 0, boots), right) as d,
    ):
        west, east = ids("boot1", "a0", "a1"), ids("boot2", "c0", "c1")
        sides = ((west, (a, b)), (east, (c, d)))

        def is_whole(of: set[str], processes: tuple[Process, ...]) -> bool:
            told = [report for process in processes for report in process.said.items()]
            return len(told) == 3 and all({str(x) for x in _list(said, "table")} >= of - {me} for me, said in told)

        await happens(lambda: all(is_whole(own, processes) for own, processes in sides), PATIENCE_S)
        assert not any(known & east for process in (a, b) for known in process.all("table"))
        cable("up")
        await happens(lambda: all(is_whole(west | east, processes) for _, processes in sides), PATIENCE_S)


async def test_neighbours_on_one_network_meet_by_mdns(
    two_hosts: tuple[tuple[str, ...], tuple[str, ...], Callable[[str], None]],
) -> None:
    left, right, _ = two_hosts
    async with (
        running(Plan(["m0"], "10.77.0.1", mdns=True), left) as one,
        running(Plan(["m1"], "10.77.0.2", mdns=True), right) as other,
        running(Plan(["m2"], "10.77.0.2", mdns=False), right) as mute,
    ):
        await happens(lambda: one.all("up") == [ids("m1")] and other.all("up") == [ids("m0")], PATIENCE_S)
        await happens(lambda: one.all("table") == [ids("m1")], PATIENCE_S)
        await happens(lambda: bool(mute.said), PATIENCE_S)
        assert mute.all("up") == [set()]


async def test_a_process_that_is_told_nothing_is_alone() -> None:
    async with running(Plan(["alone"])) as alone:
        await happens(lambda: bool(alone.said), PATIENCE_S)
        assert alone.all("up") == alone.all("table") == [set()]
        assert PeerId(peer_from_text(next(iter(alone.said)))) == identity_of("alone").peer
