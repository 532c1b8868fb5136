"""The doctor without a running node: addresses, key, routes, router and bootstraps, each bad case a clear line."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import trio

from node import doctor, doctor_network
from node.addresses import without_target
from node.blobs import BlobStore
from node.doctor_network import (
    Surroundings,
    check_addresses,
    check_bootstrap,
    check_identity,
    check_route,
    router_check,
)
from node.reach import gateway_route
from node.reach.gateway_route import Route, default_route, has_default6
from node.transport import Transport, TransportConfig
from protocol.identity import Identity, peer_text
from protocol.units import GIB, SECOND, Micros
from tests.node.waiting import SECONDS

ALICE, BOB = Identity(b"a" * 32), Identity(b"b" * 32)
NOW = Micros(1_800_000_000 * SECOND)
HEAD = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
DEFAULT = "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"


def test_the_route_with_the_least_metric() -> None:
    worse = "wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
    local = "eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    assert default_route(HEAD + worse + local + DEFAULT) == Route("eth0", "192.168.1.1")
    assert default_route(HEAD + local) is None
    assert default_route("") is None
    assert default_route(HEAD + "broken line\n") is None
    tunnel = "tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0\n"
    assert default_route(HEAD + tunnel) == Route("tun0", "")
    down = DEFAULT.replace("0003", "0002")
    assert default_route(HEAD + down) is None


def test_ipv6_default_route() -> None:
    line = "0" * 32 + " 00 " + "0" * 32 + " 00 fe80" + "0" * 27 + "1 00000400 00000000 00000000 00000003 "
    assert has_default6(line + "eth0\n")
    assert not has_default6(line + "lo\n")
    assert not has_default6("")


@pytest.mark.parametrize(
    "text", ["/ip4/999.1.1.1/tcp/4301", "/ip4/0.0.0.0/tcp/99999", "/ip4/0.0.0.0/udp/1", "/ip4/0.0.0.0", "rubbish", ""]
)
def test_a_malformed_listen_address_is_named(text: str) -> None:
    (line,) = check_addresses(Surroundings(Path(), listen=(text, "/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/4301")))
    assert (line["status"], repr(text) in line["detail"], bool(line["fix"])) == ("fail", True, True)


@pytest.mark.parametrize("text", ["/ip4/1.2.3.4/tcp/1", "/ip4/1.2.3.4/tcp/1/p2p/notapeer", "/ip4/1.2.3/tcp/1/p2p/x"])
def test_a_malformed_bootstrap_is_named(text: str) -> None:
    (line,) = check_addresses(Surroundings(Path(), bootstraps=(text,)))
    assert (line["status"], bool(line["fix"])) == ("fail", True)


def test_the_key_file(tmp_path: Path) -> None:
    assert check_identity(tmp_path) == []
    key = tmp_path / "identity.seed"
    key.write_text("ab" * 32 + "\n", encoding="ascii")
    key.chmod(0o644)
    (line,) = check_identity(tmp_path)
    assert (line["status"], "chmod 600" in line["fix"]) == ("fail", True)
    key.chmod(0o600)
    (line,) = check_identity(tmp_path)
    assert (line["status"], line["detail"].startswith("12D3KooW")) == ("ok", True)
    key.write_text("short", encoding="ascii")
    (line,) = check_identity(tmp_path)
    assert (line["status"], "backup" in line["fix"]) == ("fail", True)


def test_no_route_is_said() -> None:
    line = check_route(None, [])
    assert (line["status"], "no default route" in line["detail"], bool(line["fix"])) == ("warn", True, True)


async def test_without_a_route_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_network, "read_route", lambda: None)
    found = await doctor_network.examine(
        Surroundings(tmp_path, bootstraps=(f"/ip4/1.2.3.4/tcp/1/p2p/{peer_text(BOB.peer)}",))
    )
    assert [line["name"] for line in found] == ["route", "ipv6"]


def test_no_ipv6_is_fine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gateway_route, "ROUTES6", tmp_path / "absent")
    line = doctor_network.check_ipv6(["2606:4700::1"])
    assert (line["status"], "none" in line["detail"]) == ("ok", True)


def test_what_the_router_says() -> None:
    assert "neither PCP" in router_check("192.168.1.1", {})["detail"]
    good = router_check("192.168.1.1", {"PCP": "", "NAT-PMP": "44.1.2.3"})
    assert (good["status"], good["detail"]) == ("ok", "192.168.1.1 speaks PCP, NAT-PMP; outside it is 44.1.2.3")
    carrier = router_check("192.168.1.1", {"UPnP": "100.64.1.1"})
    assert (carrier["status"], "provider" in carrier["fix"]) == ("warn", True)


async def test_bootstraps_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Good, lying, dead, silent and no node at all: each has its own words."""
    monkeypatch.setattr(doctor_network, "BOOTSTRAP_S", SECONDS)
    config = TransportConfig(listen=("/ip4/127.0.0.1/tcp/0",), neighbours_min=0)
    transport = Transport(ALICE, "reef", config, BlobStore(tmp_path, GIB))
    with socket.create_server(("127.0.0.1", 0)) as mute:
        async with transport.serving():
            address = without_target(transport.addresses()[0])
            port = address.rpartition("/")[2]
            good = await check_bootstrap(f"{address}/p2p/{peer_text(ALICE.peer)}")
            named = await check_bootstrap(f"/dns4/localhost/tcp/{port}/p2p/{peer_text(ALICE.peer)}")
            liar = await check_bootstrap(f"{address}/p2p/{peer_text(BOB.peer)}")
        dead = await check_bootstrap(f"{address}/p2p/{peer_text(ALICE.peer)}")
        monkeypatch.setattr(doctor_network, "BOOTSTRAP_S", 4.0)
        nobody = await check_bootstrap(f"/ip4/127.0.0.1/tcp/{mute.getsockname()[1]}/p2p/{peer_text(ALICE.peer)}")
    nameless = await check_bootstrap(f"/dns4/nowhere.invalid/tcp/1/p2p/{peer_text(ALICE.peer)}")
    assert good is not None and named is not None and liar is not None
    assert dead is not None and nobody is not None and nameless is not None
    assert (good["status"], named["status"]) == ("ok", "ok")
    assert (liar["status"], "another key" in liar["detail"]) == ("fail", True)
    assert (dead["status"], "no node listens" in dead["detail"]) == ("warn", True)
    assert (nobody["status"], "no node" in nobody["detail"]) == ("warn", True)
    assert (nameless["status"], "DNS" in nameless["fix"]) == ("warn", True)
    assert await check_bootstrap("rubbish") is None


def test_a_taken_port_names_its_holder() -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        line = doctor.check_port(port)
        assert "process" in line["detail"]
        assert doctor.check_port(port, is_running=True)["status"] == "ok"


async def test_the_whole_report_ends_in_one_thing(tmp_path: Path) -> None:
    patient = doctor.Patient(tmp_path, NOW, live={"reachability": {"state": "private"}}, listen=("rubbish",))
    with trio.fail_after(SECONDS):
        report = await doctor.diagnose(patient)
    json.dumps(report)
    assert report["fix_first"] == "Write it like /ip4/0.0.0.0/tcp/4301."
    assert not report["healthy"]
