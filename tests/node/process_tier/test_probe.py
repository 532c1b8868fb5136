"""What is found out about a host: tried once, kept while kernel and program are the same, and told in plain words."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from node import doctor_process
from node.gpu import GpuReport
from node.process_tier import criu, freezer, probe
from node.process_tier.criu import Criu
from node.process_tier.probe import Probe
from tests.node.process_tier.workshop import Workshop, leftovers


async def test_this_host_was_tried(workshop: Workshop) -> None:
    found = workshop.probed
    assert (found.why_not, found.criu, found.kernel) == ("", "4.2", os.uname().release)
    assert "clone3_set_tid" in found.features


async def test_an_answer_is_kept_until_the_program_changes(workshop: Workshop, tmp_path: Path) -> None:
    kept = Probe(os.uname().release, "4.2", "/a/criu", "was tried before")
    await probe.load_or_probe(tmp_path, None)
    assert not (tmp_path / probe.CACHE).exists()  # What costs nothing to find out is not kept.
    probe._keep(tmp_path / probe.CACHE, kept)
    assert await probe.load_or_probe(tmp_path, Criu(Path("/a/criu"), "4.2")) == kept
    assert workshop.program
    assert (await probe.load_or_probe(tmp_path, workshop.program)).why_not == ""
    (tmp_path / probe.CACHE).write_bytes(b"\xff not json")
    assert (await probe.load_or_probe(tmp_path, workshop.program)).why_not == ""
    assert leftovers("shoal-criu-") == []


async def test_programs_that_do_not_do(tmp_path: Path) -> None:
    assert "no own build" in (await probe.load_or_probe(tmp_path, None)).why_not
    old = await probe.load_or_probe(tmp_path, Criu(Path("/usr/sbin/criu"), "3.17.1"))
    assert old.why_not == "CRIU 3.17.1 is too old, 4.2 is the oldest"
    assert criu.find(tmp_path / "nothing") is None
    (tmp_path / "criu").write_text("#!/bin/sh\necho Version: 4.9\n[ $1 = --version ]\n")
    (tmp_path / "criu").chmod(0o755)
    broken = criu.find(tmp_path / "criu")
    assert broken == Criu((tmp_path / "criu").resolve(), "4.9")
    if os.geteuid() == 0:
        assert (await probe.load_or_probe(tmp_path, broken)).why_not.startswith("criu check")


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("(0.1) Error (criu/tun.c:85): tun: Unable to create tun: x\n", "its log names no error"),
        (
            "(0.1) Error (a.c:1): File out has bad size 1 (expect 0)\n(0.2) Error (b.c:1): Restoring FAILED.\n",
            "File out",
        ),
        ("", "its log names no error"),
    ],
)
def test_the_cause_is_read_from_a_log(tmp_path: Path, log: str, reason: str) -> None:
    (tmp_path / "log").write_text(log)
    assert criu.why(tmp_path / "log").startswith(reason)
    assert criu.why(tmp_path / "none") == "it left no log"


async def test_the_doctor_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(criu.VARIABLE, str(tmp_path / "none"))
    lines = {found["name"]: found for found in await doctor_process.checks(tmp_path, GpuReport("none"))}
    assert lines["process snapshots"]["status"] == "ok"
    assert "no own build" in lines["process snapshots"]["detail"]
    assert "build.sh" in lines["process snapshots"]["fix"]
    assert "cuda-checkpoint" in lines["gpu process snapshots"]["detail"]


async def test_the_doctor_says_that_it_works(workshop: Workshop) -> None:
    lines = {found["name"]: found for found in await doctor_process.checks(workshop.images, GpuReport("none"))}
    assert lines["process snapshots"]["detail"].startswith("CRIU 4.2, tried on this kernel")
    assert lines["process snapshots"]["detail"].endswith("images of this node only (trusted_nodes)")
    first, _ = await doctor_process.checks(workshop.images, GpuReport("none"), 3)
    assert first["detail"].endswith("images of this node and 3 trusted_nodes")


@pytest.fixture(params=["v1", "v2"])
def sleeper(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A process in a group of its own, in the hierarchy of each kernel interface."""
    root = Path("/sys/fs/cgroup")
    if request.param == "v2":
        root = root if (root / "cgroup.controllers").exists() else root / "unified"
        monkeypatch.setattr(freezer, "ROOT", root)
    elif not (root / "freezer").is_dir():
        pytest.skip("this kernel has no v1 freezer")
    if freezer.why_not():
        pytest.skip(freezer.why_not())
    group = root / ("freezer" if request.param == "v1" else "") / f"shoal-test-pt{os.getpid()}-t-freeze"
    group.mkdir()
    process = subprocess.Popen(["sleep", "3600"])
    (group / "cgroup.procs").write_text(str(process.pid))
    yield process.pid
    process.kill()
    process.wait()
    group.rmdir()


def _sleeping() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "3600"])


def _groups(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


async def test_everybody_stands_still_and_goes_on_where_it_was(sleeper: int) -> None:
    before = _groups(sleeper)
    async with freezer.frozen(sleeper, f"test-pt{os.getpid()}-x") as held:
        assert held.is_frozen()
        assert sleeper in held.pids()
    assert not held.folder.exists() or not held.is_frozen()
    assert _groups(sleeper) == before


async def test_what_a_dead_node_froze_is_thawed(sleeper: int) -> None:
    label = f"test-pt{os.getpid()}"
    frozen = freezer.frozen(sleeper, f"{label}-x")
    held = await frozen.__aenter__()
    await freezer.clean(label)
    assert not held.folder.exists() or not held.is_frozen()
    await frozen.__aexit__(None, None, None)


async def test_who_was_killed_standing_still_does_not_keep_the_group(sleeper: int) -> None:
    """A sandbox dies with its node, but not before it is thawed; and the kernel takes its time."""
    label = f"test-pt{os.getpid()}"
    more = [_sleeping() for _ in range(20)]
    async with freezer.frozen(sleeper, f"{label}-x") as held:
        if held.is_ours:
            held.take([process.pid for process in more])
        for pid in (sleeper, *(process.pid for process in more)):
            os.kill(pid, signal.SIGKILL)
        await freezer.clean(label)
    assert not held.is_ours or not held.folder.exists()
    for process in more:
        process.wait()
