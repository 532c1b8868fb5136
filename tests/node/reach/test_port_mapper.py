"""Port mapping against a real router, miniupnpd behind nft: every method, refusal, restart, expiry, silence, lies."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from node.reach.pcp import open_line
from tests.node.reach.router_lab import INSIDE, OUTSIDE, Guest, guest, home, missing, until
from tests.node.waiting import SECONDS

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"no router laboratory: {missing()}")

MAPPER = ("h", "mapper_process.py")

FORGER = """
import socket, struct, sys, time
kind, source = sys.argv[1:]
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((source, 5351))
print("ready", flush=True)
while True:
    data, sender = sock.recvfrom(2000)
    if kind == "rubbish":
        for answer in (b"", b"\\2", bytes(24), b"\\2\\x81" + bytes(58), b"\\2\\x80" + bytes(2000), b"\\xff" * 60):
            sock.sendto(answer, sender)
"""


def three_failures(node: Guest) -> dict[str, str]:
    """Why each method gave nothing."""
    failed: dict[str, str] = {}
    while len(failed) < 3:
        event = node.next("failed")
        failed[str(event["method"])] = str(event["why"])
    return failed


def test_pcp_opens_both_ports_and_closes_them(tmp_path: Path) -> None:
    with home(tmp_path) as house, guest(house, *MAPPER, "4301", "4302") as node:
        assert not house.can_dial(4301)
        house.start_daemon()
        first, second = node.next("gained"), node.next("gained")
        assert {first["external"], second["external"]} == {f"{OUTSIDE}:4301", f"{OUTSIDE}:4302"}
        assert {first["method"], second["method"]} == {"pcp"}
        assert house.can_dial(4301)
        assert house.can_dial(4302)
        node.stop()
        until(lambda: "4301" not in house.mapped() and "4302" not in house.mapped(), "the ports are closed")
        assert not house.can_dial(4301)


def test_upnp_when_the_router_speaks_nothing_else(tmp_path: Path) -> None:
    with home(tmp_path) as house:
        house.start_daemon(nat_pmp=False)
        with guest(house, *MAPPER, "4301") as node:
            gained = node.next("gained")
            assert (gained["method"], gained["external"]) == ("upnp", f"{OUTSIDE}:4301")
            assert house.can_dial(4301)
            node.stop()
            until(lambda: "4301" not in house.mapped(), "the port is closed")


def test_a_router_that_restarts_is_mapped_again(tmp_path: Path) -> None:
    """Power cut: daemon and table are gone. It announces itself when it is back, so nobody waits for a check."""
    with home(tmp_path) as house:
        house.start_daemon()
        with guest(house, *MAPPER, "4301") as node:
            node.next("gained")
            house.stop_daemon()
            house.rules()
            assert not house.can_dial(4301)
            house.start_daemon()
            until(lambda: house.can_dial(4301), "mapped again")


def test_a_lease_ends_without_its_owner(tmp_path: Path) -> None:
    with home(tmp_path) as house:
        house.start_daemon(lifetime=5)
        with guest(house, *MAPPER, "4301") as node:
            node.next("gained")
            node.process.kill()
            node.process.wait()
            assert "4301" in house.mapped()
            until(lambda: "4301" not in house.mapped(), "the router ends the lease")


def test_a_router_that_refuses_and_then_does_not(tmp_path: Path) -> None:
    """By UPnP: asked by PCP to open what its rules forbid, miniupnpd 2.3.1 looks for another port for minutes."""
    with home(tmp_path) as house:
        house.start_daemon(nat_pmp=False, rule="deny")
        with guest(house, *MAPPER, "4301") as node:
            failed = three_failures(node)
            assert failed["pcp"] == failed["nat_pmp"] == "the router does not speak it"
            assert "refuses" in failed["upnp"]
            house.stop_daemon()
            house.start_daemon()
            assert node.next("gained")["method"] == "pcp"  # It restarted and said so.
            assert house.can_dial(4301)


def test_no_router_software_at_all(tmp_path: Path) -> None:
    with home(tmp_path) as house, guest(house, *MAPPER, "4301") as node:
        failed = three_failures(node)
        assert failed["pcp"] == failed["nat_pmp"] == "the router does not speak it"
        assert "UPnP" in failed["upnp"]
        node.stop()


def test_rubbish_from_the_router_is_survived(tmp_path: Path) -> None:
    with home(tmp_path) as house:
        words = house.inside("r", sys.executable, "-c", FORGER, "rubbish", INSIDE)
        with subprocess.Popen(words, stdout=subprocess.PIPE) as forger:
            assert forger.stdout is not None
            assert forger.stdout.readline() == b"ready\n"
            with guest(house, *MAPPER, "4301") as node:
                assert node.next("failed")["method"] == "pcp"
                forger.kill()
                forger.wait()
                house.start_daemon()
                assert node.next("gained")["external"] == f"{OUTSIDE}:4301"


async def test_a_reply_from_a_wrong_address_is_not_heard() -> None:
    """The line is connected: the kernel gives us the router's datagrams only."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as router,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as liar,
    ):
        router.bind(("127.0.0.1", 0))
        liar.bind(("127.0.0.1", 0))
        line = await open_line("127.0.0.1", router.getsockname()[1])
        await line.send(b"?")
        sender = router.recvfrom(10)[1]
        liar.sendto(b"lie", sender)
        router.sendto(struct.pack("!H", 7), sender)
        with trio.fail_after(SECONDS):
            assert await line.receive() == b"\0\7"
        line.close()
