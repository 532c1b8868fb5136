"""`shoal doctor` in houses of every kind, beside a running node and without one: it finds what the laboratory built."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct

from benchmarks.netlab.laboratory import Host, Laboratory
from benchmarks.netlab.routers import KINDS, ROUTERS, Kind
from benchmarks.netlab.village import PORT, Village
from node.doctor_reach import KINDS as NAT_TEXTS
from shoal.processes import shoal_command, shoal_environment, until

pytestmark = pytest.mark.netlab

SEEN = {"none": "none", "independent": "cone", "dependent": "symmetric"}
"""How a node calls what the laboratory calls the mapping."""


class Found(Struct):
    """One line of the report."""

    name: str
    status: str
    detail: str
    fix: str = ""


class Report(Struct):
    """What `shoal doctor --json` says."""

    checks: list[Found]
    fix_first: str

    def __getitem__(self, name: str) -> Found:
        return next(one for one in self.checks if one.name == name)


def doctor(host: Host, data: Path, *more: str) -> Report:
    command = shoal_command("doctor", "--json", "--data", str(data), *more)
    with host.entered():
        done = subprocess.run(command, env=shoal_environment(), capture_output=True, timeout=60)
    return msgspec.json.decode(done.stdout, type=Report)


def bootstrap(village: Village) -> tuple[str, str]:
    validator = next(peer for peer, name in village.peer_names.items() if name == "validator")
    return "--bootstrap", f"/ip4/{village.host('validator').address}/tcp/{PORT}/p2p/{validator}"


def test_the_doctor_in_every_house(lab: Laboratory, make_village: Callable[[], Village], tmp_path: Path) -> None:
    village = make_village()
    kinds: list[Kind] = [kind for kind in KINDS if kind != "public"]
    for kind in kinds:
        village.settle(lab.house(kind, kind, hosts=2).host, is_provider=kind == "full-cone")
    village.up()
    reports: dict[str, Report] = {}

    def all_know() -> bool | None:
        for name in ["steward", *kinds]:
            reports[name] = doctor(village.host(name), village.folder / name)
            if reports[name]["reachability"].detail.startswith("not known"):
                return None
        return True

    until("every node knows how it is reached", all_know, [], 120)
    for kind in kinds:
        report = reports[kind]
        assert report["nat"].detail.startswith(NAT_TEXTS[SEEN[ROUTERS[kind].mapping]]), (kind, report["nat"])
        assert f"seen at {lab.houses[kind].address}" in report["nat"].detail
        assert "random peers signed that they reached it" in report["reachability"].detail
        if ROUTERS[kind].filtering == "port":
            assert report["reachability"].detail.startswith("private: 0 of "), (kind, report["reachability"])
            assert " chosen: " in report["relays"].detail, (kind, report["relays"])
            assert "port_mapping = true" in report.fix_first, (kind, report.fix_first)
    assert reports["full-cone"]["reachability"].detail.startswith("public at /ip4/11.")
    assert reports["steward"]["nat"].detail.startswith(NAT_TEXTS["none"])
    assert (reports["steward"]["relays"].detail, reports["steward"].fix_first) == ("none needed", "")
    _without_a_node(lab, village, tmp_path)


def _without_a_node(lab: Laboratory, village: Village, folder: Path) -> None:
    """On the second computer of a house."""
    where, (flag, address) = f"bootstrap /ip4/{village.host('validator').address}/tcp/{PORT}", bootstrap(village)
    for kind in ("cgnat", "udp-blocked", "tcp-only"):
        report = doctor(lab.houses[kind].hosts[1], folder / "nobody", flag, address)
        assert (report["route"].status, report["ipv6"].status) == ("ok", "ok")
        assert "none; IPv4 is enough" in report["ipv6"].detail
        assert "neither PCP nor NAT-PMP nor UPnP answers" in report["router"].detail
        assert "Switch UPnP or NAT-PMP on in the router at 192.168.1.1" in report.fix_first
        assert (report[where].status, report[where].detail) == ("ok", "answers")
    village.kill("validator")
    alone = lab.houses["cgnat"].hosts[1]
    assert "no node listens" in doctor(alone, folder / "nobody", flag, address)[where].detail
    alone.namespace.ip("route del default")
    cut = doctor(alone, folder / "nobody", flag, address)
    assert cut["route"].status == "warn" and cut.fix_first.startswith("Plug in the network")
