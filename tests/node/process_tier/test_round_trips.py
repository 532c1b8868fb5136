"""Programs that know nothing of snapshots: dumped, killed, brought back, and right to the last word."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio

from node.executors.process import descendants
from node.process_tier import folders, images
from node.process_tier.scene import Handle
from node.process_tier.tier import PHASES, Phase
from protocol.errors import Unavailable
from tests.node.process_tier.conftest import TIERS
from tests.node.process_tier.workshop import PYTHON, WORKER, Workshop, last_word, leftovers, log_text
from tests.node.waiting import happens

STOPPED = """
import os, signal, time
child = os.fork()
if not child:
    os.kill(os.getpid(), signal.SIGSTOP)
    print("child goes on", flush=True)
    os._exit(7)
os.waitpid(child, os.WUNTRACED)
for n in range(20):
    print("at", n, flush=True)
    time.sleep(0.005)
    while os.path.exists("/in/gate-%d" % n):
        time.sleep(0.01)
state = open("/proc/%d/stat" % child).read().rpartition(")")[2].split()[0]
os.kill(child, signal.SIGCONT)
print("end", state, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

LEAVES = """
import os, time
for n in range(30):
    print("at", n, flush=True)
    time.sleep(0.005)
    while os.path.exists("/in/gate-%d" % n):
        time.sleep(0.01)
raise SystemExit(7)
"""


def command(source: str) -> tuple[str, ...]:
    return (f"python3 -c '{source}'",)


@pytest.mark.parametrize("name", TIERS)
@pytest.mark.parametrize("language", ["python", "c"])
async def test_a_job_goes_on_where_it_was(workshop: Workshop, name: str, language: str, c_job: Path) -> None:
    if language == "c" and c_job.name != "job":
        pytest.skip("no gcc here")
    commands = command(PYTHON) if language == "python" else ("/in/job",)
    files = {"job": c_job} if language == "c" else {}
    phases: list[Phase] = []
    tier, snapshot = workshop.tier(phases), workshop.folder / "snapshot"
    first = workshop.task("first", commands, files, gates=[30, 50])
    assert tier.can(first, name) == ""
    async with workshop.running(name, first) as live:
        await live.reaches(20)
        dumped = await tier.dump(live.handle, snapshot)
        workshop.open_gate(first, 30)
        await live.reaches(50)  # The log grows after the dump: a restore must not see it.
        cut_at = live.at
    assert dumped.size > 100_000
    assert dumped.stall_us > 0
    assert (first.outside / "log").read_text().splitlines()[cut_at - 1 :]

    second = workshop.task("second", commands, files, gates=[60])
    lines: list[str] = []
    seen: dict[str, str] = {}

    def look() -> None:
        number = second.life.first()
        inside = [pid for pid in own_processes(number) if pid != number] or [number or 0]
        text = Path(f"/proc/{inside[0]}/status").read_text().splitlines()
        seen.update({key: value.strip() for key, _, value in (line.partition(":") for line in text)})
        seen["groups"] = Path(f"/proc/{inside[0]}/cgroup").read_text()
        workshop.open_gate(second, 60)

    ended = await tier.restore(snapshot, second, WORKER.peer, lines.append, look)
    assert (ended.reason, ended.code) == ("ok", 0), (ended, lines[-3:])
    assert lines[-1] == last_word()
    numbers = [int(line.split()[1]) for line in lines if line.startswith("at ")]
    assert numbers == list(range(numbers[0], 150))
    assert 20 <= numbers[0] <= cut_at
    assert (second.outside / "log").read_text() == log_text()
    assert tuple(phases) == PHASES
    assert seen["Seccomp"] == "2"
    assert int(seen["Uid"].split()[0]) > 1_000_000
    assert int(seen["CapEff"], 16) == 0
    assert f":memory:/shoal-{workshop.label}-" in seen["groups"] or f"0::/shoal-{workshop.label}-" in seen["groups"]
    assert leftovers(workshop.label) == []


def own_processes(number: int | None) -> list[int]:
    """The job's own processes: not the empty sandbox's sleeper."""
    pids = descendants(number or 0)
    return [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text().strip() in {"python3", "job", "sh"}]


@pytest.mark.parametrize("name", TIERS)
async def test_a_stopped_process_is_told_at_once_and_harms_nothing(workshop: Workshop, name: str) -> None:
    """CRIU would wait for it until its time is up, and the job with it."""
    tier, snapshot = workshop.tier(), workshop.folder / "snapshot"
    task = workshop.task("first", command(STOPPED), gates=[10])
    async with workshop.running(name, task) as live:
        await live.reaches(5)
        with pytest.raises(Unavailable) as refusal:
            await tier.dump(live.handle, snapshot)
        assert refusal.value.code == "stopped_process"
        workshop.open_gate(task, 10)
        await happens(lambda: live.ended is not None)
        assert live.lines[-2:] == ["child goes on", "end T 7"]
    assert not snapshot.exists()


async def test_what_was_restored_is_dumped_again(workshop: Workshop) -> None:
    """Two generations: process ids of the first restore must not stand in the way of the second."""
    tier = workshop.tier()
    source = command(PYTHON.replace('print("end"', 'os.spawnlp(os.P_WAIT, "true", "true"); print("end"'))
    async with workshop.running("bwrap", workshop.task("first", source, gates=[30])) as live:
        await live.reaches(10)
        await tier.dump(live.handle, workshop.folder / "1")
    second = workshop.task("second", source, gates=[60])
    lines: list[str] = []
    async with trio.open_nursery() as nursery:
        started = trio.Event()

        async def restore() -> None:
            with trio.CancelScope() as scope:
                scopes.append(scope)
                await tier.restore(workshop.folder / "1", second, WORKER.peer, lines.append, started.set)

        scopes: list[trio.CancelScope] = []
        nursery.start_soon(restore)
        await started.wait()
        await tier.dump(Handle(second, "bwrap"), workshop.folder / "2")
        scopes[0].cancel()
    lines.clear()
    ended = await tier.restore(workshop.folder / "2", workshop.task("third", source), WORKER.peer, lines.append)
    assert (ended.reason, lines[-1]) == ("ok", last_word())
    assert leftovers(workshop.label) == []


@pytest.mark.parametrize("name", TIERS)
async def test_exit_codes_and_kills_are_told(workshop: Workshop, name: str) -> None:
    tier, source = workshop.tier(), command(LEAVES)
    async with workshop.running(name, workshop.task("first", source, gates=[10])) as live:
        await live.reaches(5)
        await tier.dump(live.handle, workshop.folder / "snapshot")
    ended = await tier.restore(workshop.folder / "snapshot", workshop.task("second", source), WORKER.peer)
    assert (ended.reason, ended.code) == ("exit", 7)
    third = workshop.task("third", source, gates=[10, 20])
    with trio.CancelScope() as scope:
        await tier.restore(workshop.folder / "snapshot", third, WORKER.peer, on_start=scope.cancel)
    assert scope.cancelled_caught
    assert leftovers(workshop.label) == []


@pytest.mark.parametrize("name", TIERS)
async def test_files_as_they_are_later_do_not_do(workshop: Workshop, name: str) -> None:
    """The trap of process images: a file that has grown since the dump makes CRIU refuse. Nothing is left then."""
    tier, snapshot = workshop.tier(), workshop.folder / "snapshot"
    first = workshop.task("first", command(PYTHON), gates=[30, 50])
    async with workshop.running(name, first) as live:
        await live.reaches(20)
        await tier.dump(live.handle, snapshot)
        workshop.open_gate(first, 30)
        await live.reaches(50)
    verified = images.verify(snapshot, WORKER.peer, "test")
    shutil.copy(first.outside / "log", snapshot / "out" / "log")
    size = (snapshot / "out" / "log").stat().st_size
    plain = tuple(
        folders.Entry("out/log", "file", entry.mode, 0, size) if entry.path == "out/log" else entry
        for entry in verified.entries
    )
    images.write(snapshot, verified.image, folders.digests(plain, snapshot), WORKER, "test")
    with pytest.raises(Unavailable, match="bad size") as refusal:
        await tier.restore(snapshot, workshop.task("second", command(PYTHON)), WORKER.peer)
    assert refusal.value.code == "restore_failed"
    assert leftovers(workshop.label) == []
