"""The doctor: every finding has a cause, and every failure a fix."""

from __future__ import annotations

import json
import resource
import shutil
import socket
from pathlib import Path

import pytest

from node import doctor
from node.doctor import Patient, diagnose
from node.executors import ladder
from node.executors.interface import TIERS
from node.gpu import GpuReport, RecordedSource
from protocol.units import SECOND, Micros

NOW = Micros(1_800_000_000 * SECOND)
FIXTURES = Path(__file__).parent / "fixtures"


class Said:
    """A GPU source with a known answer."""

    def __init__(self, report: GpuReport) -> None:
        self.report = report

    def read(self) -> GpuReport:
        return self.report


async def test_a_whole_diagnosis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    found = await diagnose(Patient(tmp_path, NOW, gpus=RecordedSource(FIXTURES / "gpus_8xh100.json")))
    json.dumps(found)
    assert [tier["tier"] for tier in found["executors"]] == list(TIERS)
    assert all(check["fix"] for check in found["checks"] if check["status"] != "ok")
    assert found["healthy"] == all(check["status"] != "fail" for check in found["checks"])
    by_tier = {tier["tier"]: tier for tier in found["executors"]}
    assert not by_tier["docker"]["usable"]
    assert "nobody.sock" in by_tier["docker"]["why_not"] or "no Docker engine" in by_tier["docker"]["why_not"]
    assert "NO ISOLATION" in by_tier["child"]["protects"]
    assert found["executor"] not in {"child", "wasm", "docker"}
    gpu = next(check for check in found["checks"] if check["name"] == "gpu")
    assert gpu["detail"].count("H100") == 8


async def test_a_remote_engine_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    cause = await ladder.ladder("x", tmp_path)[0].why_not()
    assert "not on this machine" in cause


def test_every_tier_says_what_it_does_not_protect() -> None:
    assert set(ladder.PROTECTS) == set(TIERS)
    assert all(protects and does_not for protects, does_not in ladder.PROTECTS.values())


def test_a_taken_port_is_found() -> None:
    with socket.create_server(("", 0)) as server:
        check = doctor.check_port(server.getsockname()[1])
    assert (check["status"], bool(check["fix"])) == ("fail", True)


@pytest.mark.parametrize(("free", "status"), [(10**8, "fail"), (3 * 10**9, "warn"), (10**12, "ok")])
def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, status: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 0, free))
    assert doctor.check_disk(tmp_path / "not" / "yet")["status"] == status


@pytest.mark.parametrize(("soft", "status"), [(256, "fail"), (1024, "warn"), (65_536, "ok")])
def test_open_files(monkeypatch: pytest.MonkeyPatch, soft: int, status: str) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda what: (soft, 65_536))
    assert doctor.check_open_files()["status"] == status


@pytest.mark.parametrize(
    ("now", "drift", "status"), [(0, 0, "fail"), (NOW, 5 * SECOND, "warn"), (NOW, -5 * SECOND, "warn"), (NOW, 10, "ok")]
)
def test_clock(now: int, drift: int, status: str) -> None:
    assert doctor.check_clock(Micros(now), Micros(drift))["status"] == status


def test_a_missing_driver_is_a_warning_and_no_gpu_is_fine() -> None:
    missing = GpuReport("driver_missing", detail="a GPU of nvidia is there", fix="Install it.")
    assert doctor.check_gpu(Said(missing))["status"] == "warn"
    assert doctor.check_gpu(Said(GpuReport("none")))["status"] == "ok"


def test_a_broken_runtime_is_a_failure() -> None:
    check = doctor.check_runtimes({"torch": Path("/nowhere/python")})
    assert (check["status"], "torch" in check["detail"]) == ("fail", True)
