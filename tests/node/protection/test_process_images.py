"""A C program that saves nothing itself: started again from its image after a crash, and gone on elsewhere only between
nodes of one owner. Real CRIU; skipped with the reason where it does not work."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
import trio

from node.process_tier import criu, probe
from node.process_tier.probe import Probe
from node.process_tier.tier import Bench, ProcessTier
from node.protection import imaging
from protocol.completions import CutFailed, Recovering
from protocol.identity import Identity
from protocol.jobspec import JobSpec
from protocol.units import PeerId
from tests.node.protection.conftest import StandOf
from tests.node.protection.stand import GATE, Host, Stand, protected, resume_of
from tests.node.waiting import SECONDS, happens

NETWORK, LABEL = "test", f"test-{os.getpid()}"
ONE, TWO, STRANGER = (Identity(bytes([n]) * 32) for n in (1, 2, 3))
LAST, STAY, FAR = 100, 10, 60

SOURCE = f"""
#include <stdio.h>
#include <unistd.h>
int main(void) {{
    unsigned long value = 1;
    FILE *out = fopen("/out/log", "w");
    if (!out) return 3;
    for (long n = 0; n < {LAST}; n++) {{
        value = value * 6364136223846793005UL + n;
        fprintf(out, "%ld %lu\\n", n, value);
        fflush(out);
        printf("at %ld\\n", n);
        fflush(stdout);
        usleep(10000);
        while ((n == {STAY} && !access("/in/gate", F_OK)) || (n == {FAR} && !access("/in/second", F_OK))) usleep(10000);
    }}
    return 0;
}}
"""


DISABLED = f"""
import importlib.util, os, time
spec = importlib.util.spec_from_file_location("page", os.environ["SHOAL_GUEST"] + "/board.py")
page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(page)
board = page.Board("/snap/board")
board.say("disabled", "it cannot be cut")
value, out = 1, open("/out/log", "w")
for n in range({LAST}):
    value = value * 6364136223846793005 + n & (1 << 64) - 1
    print(n, value, file=out, flush=True)
    print("at", n, flush=True)
    time.sleep(0.01)
    while n == {STAY} and os.path.exists("/in/gate"):
        time.sleep(0.01)
board.set("steps", 1)
"""
"""A Python program that has said that its hook cannot cut it, and holds the board in its memory to the end."""


def log_text() -> bytes:
    """What the program has written at its end; only its memory knows the numbers."""
    value, lines = 1, []
    for n in range(LAST):
        value = (value * 6364136223846793005 + n) & (1 << 64) - 1
        lines.append(f"{n} {value}\n")
    return "".join(lines).encode()


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    if not shutil.which("gcc"):
        pytest.skip("no gcc here")
    folder = tmp_path_factory.mktemp("c")
    (folder / "job.c").write_text(SOURCE)
    subprocess.run(["gcc", "-O1", "-o", str(folder / "job"), str(folder / "job.c")], check=True, capture_output=True)
    return (folder / "job").read_bytes()


@pytest.fixture(scope="session")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Probe:
    return trio.run(probe.load_or_probe, tmp_path_factory.mktemp("probe"), criu.find())


@pytest.fixture(params=["bwrap", pytest.param("runc", marks=pytest.mark.container)])
def tier(request: pytest.FixtureRequest, probed: Probe) -> str:
    if cause := probed.why_not:
        pytest.skip(f"no process snapshots here: {cause}")
    return str(request.param)


TierOf = Callable[[Identity, Sequence[PeerId]], ProcessTier]


@pytest.fixture
def tier_of(probed: Probe, images: Path, monkeypatch: pytest.MonkeyPatch) -> TierOf:
    monkeypatch.setattr("node.process_tier.tier.DUMP_SECONDS", SECONDS)  # No dump fails because this machine is slow.
    bench = Bench(LABEL, images)
    return lambda identity, trusted: ProcessTier(probed, bench, identity, NETWORK, trusted=trusted)


def job(stand: Stand, host: Host, program: bytes, **gates: bytes) -> JobSpec:
    """The program, started by the job's own shell; every host has it. It stays before its gates until they are open."""
    spec = stand.spec(host, "/in/job", files={"job": program, **gates})
    files = tuple(msgspec.structs.replace(file, executable=file.path == "job") for file in spec.files)
    return msgspec.structs.replace(spec, files=files)


async def until_at(host: Host, n: int) -> None:
    await happens(lambda: f"at {n}" in host.lines)


def kill(name: str = "job") -> None:
    """End the program that runs as /in/`name` in a sandbox of this very process, as the kernel would."""
    found = [path for path in Path("/proc").iterdir() if path.name.isdigit() and is_ours(path, f"/in/{name}")]
    assert len(found) == 1, found
    os.kill(int(found[0].name), signal.SIGKILL)


def is_ours(path: Path, program: str) -> bool:
    try:
        words = (path / "cmdline").read_text().rstrip("\0").split("\0")
        return words[-1] == program and f"shoal-{LABEL}-" in (path / "cgroup").read_text()
    except (OSError, UnicodeDecodeError):
        return False


def numbers(lines: Sequence[str]) -> list[int]:
    """What the program has said."""
    return [int(line.split()[1]) for line in lines if line.startswith("at ")]


async def test_a_crash_is_cured_in_place_from_the_image(
    stand_of: StandOf, tier: str, tier_of: TierOf, program: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imaging, "STALL_TIMES", 1 << 40)  # However long it is until the second cut.
    stand = stand_of(tier)
    host = await stand.host(process=tier_of(ONE, ()))
    work = protected(job(stand, host, program, **GATE, second=b""))

    async def crash() -> None:
        await until_at(host, 5)
        answer = await host.cut(work.task)
        assert isinstance(answer, CutFailed)
        assert "kept on this host" in answer.reason and "trusted_nodes" in answer.reason
        host.open_gate()
        await until_at(host, FAR)
        again = await host.cut(work.task)
        assert isinstance(again, CutFailed), "an image that only stays here may not cost more than it is worth"
        kill()
        host.open_gate("second")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(crash)
        done = await host.run(work)
    assert host.output(done) == {"log": log_text()}
    assert "started again in place after SIGKILL" in done.detail
    at = host.lines.index("shoal: goes on from an image of its processes")
    later = numbers(host.lines[at:])
    assert later == list(range(later[0], LAST))
    assert 5 <= later[0] < numbers(host.lines[:at])[-1], "what it did since the image was taken, it does again"
    assert [said.phase for said in host.said if isinstance(said, Recovering)] == ["restored"]
    assert not list((host.folder / "tasks").iterdir())
    handover = await host.cut(work.task, hold=True)
    assert isinstance(handover, CutFailed)


async def test_it_goes_on_at_another_node_of_the_same_owner(
    stand_of: StandOf, tier: str, tier_of: TierOf, program: bytes
) -> None:
    stand = stand_of(tier)
    one = await stand.host(process=tier_of(ONE, (TWO.peer,)))
    two = await stand.host(process=tier_of(TWO, (ONE.peer,)))
    spec = job(stand, one, program)
    sealed = await one.cut_and_stop(protected(job(stand, one, program, **GATE)))
    assert (sealed.tier, sealed.step) == ("process", 0)
    assert sealed.stall_us > 0 and sealed.size > 100_000
    done = await two.run(protected(spec, epoch=2, resume=resume_of(sealed)))
    assert two.lines[0] == "shoal: goes on from an image of its processes"
    later = numbers(two.lines)
    assert later == list(range(later[0], LAST)) and 0 < later[0] < LAST - 1
    assert two.output(done) == {"log": log_text()}
    assert [said.phase for said in two.said if isinstance(said, Recovering)] == ["attached", "restored"]


async def test_a_program_whose_hook_is_disabled_is_cured_the_same_way(
    stand_of: StandOf, tier: str, tier_of: TierOf
) -> None:
    stand = stand_of(tier)
    host = await stand.host(process=tier_of(ONE, ()))
    spec = stand.spec(host, "exec python -S /in/job.py", files={"job.py": DISABLED.encode(), **GATE})
    work = protected(spec)

    async def crash() -> None:
        await until_at(host, 5)
        assert isinstance(await host.cut(work.task), CutFailed)
        kill("job.py")
        host.open_gate()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(crash)
        done = await host.run(work)
    assert host.output(done) == {"log": log_text()}
    assert "shoal: no snapshots of this program's memory: it cannot be cut" in host.lines
    assert "shoal: goes on from an image of its processes" in host.lines


@pytest.mark.parametrize("tier", ["bwrap"], indirect=True)
async def test_a_stranger_begins_again_and_says_why(
    stand_of: StandOf, tier_of: TierOf, tier: str, program: bytes
) -> None:
    stand = stand_of(tier)
    one = await stand.host(process=tier_of(ONE, (TWO.peer,)))
    of_others = await stand.host(process=tier_of(TWO, (STRANGER.peer,)))
    alone = await stand.host(process=tier_of(STRANGER, ()))
    without = await stand.host()
    spec = job(stand, one, program)
    sealed = await one.cut_and_stop(protected(job(stand, one, program, **GATE)))
    resume = resume_of(sealed)
    causes = {}

    async def begin(host: Host, epoch: int) -> None:
        done = await host.run(protected(spec, epoch=epoch, resume=resume, task=f"job/0/{epoch}"))
        assert host.output(done) == {"log": log_text()}
        assert numbers(host.lines) == list(range(LAST))
        assert host.lines[0].startswith("shoal: ") and host.lines[0].endswith("; starting from the beginning")
        causes[epoch] = host.lines[0]

    async with trio.open_nursery() as nursery:
        for epoch, host in enumerate((of_others, alone, without), 2):
            nursery.start_soon(begin, host, epoch)
    assert "not the owner's own" in causes[2]
    assert "has named no others" in causes[3]
    assert "not restored here" in causes[4]
    assert of_others.asked and not alone.asked and not without.asked, "what would not be restored is not fetched"
