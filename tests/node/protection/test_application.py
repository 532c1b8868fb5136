"""Programs that save themselves: what counts as complete, what signals they get, and how they go on elsewhere."""

from __future__ import annotations

import json
import signal
import struct
import zipfile
from pathlib import Path

import pytest
import trio

from node.protection.application import QUIET_NS, CheckpointWatch, tell
from protocol.completions import CutFailed
from protocol.jobspec import JobSpec
from tests.node.protection.conftest import StandOf
from tests.node.protection.stand import GATE, Host, Stand, protected, resume_of
from tests.node.waiting import happens

SAVES = b"""
import json, os, signal, sys, time
place = os.environ["SHOAL_CHECKPOINT_DIR"] + "/state.json"
state = {"step": 0, "total": 0}
if os.environ.get("SHOAL_RESUME") == "1":
    state = json.load(open(place))
    print("resumed", state["step"], flush=True)
wanted = leaves = False
def usr(*_):
    global wanted
    wanted = True
def term(*_):
    global wanted, leaves
    wanted = leaves = True
signal.signal(signal.SIGUSR1, usr)
signal.signal(signal.SIGTERM, term)
while state["step"] < 40:
    if wanted:
        wanted = False
        with open(place + ".tmp", "w") as file:
            json.dump(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(place + ".tmp", place)
        open(os.path.dirname(place) + "/save.done", "w").close()
        if leaves:
            sys.exit(85)
    if state["step"] == 6 and os.path.exists(os.environ["SHOAL_IN"] + "/gate"):
        time.sleep(0.01)
        continue
    state["step"] += 1
    state["total"] = (state["total"] * 31 + state["step"]) % 1000003
    print("step", state["step"], flush=True)
    if state["step"] == int(os.environ.get("CRASH_AT", "-1")) and not os.environ.get("SHOAL_RESUME"):
        os.kill(os.getpid(), 11)
    time.sleep(0.03)
with open(os.environ["SHOAL_OUT"] + "/result", "w") as file:
    file.write(str(state["total"]))
"""
COMMAND = "python -S $SHOAL_IN/saves.py"


def shut(stand: Stand, host: Host, **env: str) -> JobSpec:
    """The program, which stays at a step until its gate is open."""
    return stand.spec(host, COMMAND, files={"saves.py": SAVES, **GATE}, **env)


async def test_it_is_asked_to_save_and_goes_on_elsewhere(stand: Stand) -> None:
    one, two = await stand.host(), await stand.host()
    spec = stand.spec(one, COMMAND, files={"saves.py": SAVES})
    whole = one.output(await one.run(protected(spec)))
    one.lines.clear()
    sealed = await one.cut_and_stop(protected(shut(stand, one), epoch=2))
    assert sealed.tier == "application"
    done = await two.run(protected(spec, epoch=3, resume=resume_of(sealed, epoch=2)))
    assert two.output(done) == whole
    assert two.lines[0] == "shoal: starts with what it had saved in snapshot 1"
    step = int(two.lines[1].removeprefix("resumed "))
    assert step >= 4 and two.lines[2] == f"step {step + 1}"


async def test_asked_to_leave_it_saves_and_loses_nothing(stand: Stand) -> None:
    one, two = await stand.host(), await stand.host()
    spec = stand.spec(one, COMMAND, files={"saves.py": SAVES})
    ends = []

    async def run() -> None:
        ends.append(await one.run(protected(shut(stand, one))))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await happens(lambda: len(one.lines) > 3)
        sealed = await one.sealed("job/0/1", hold=True)
    assert (ends[0].reason, ends[0].exit_code) == ("stopped", 85)
    two_ends = await two.run(protected(spec, epoch=2, resume=resume_of(sealed)))
    assert two.output(two_ends)
    assert two.lines[1] == one.lines[-1].replace("step", "resumed"), "no step is lost"


async def test_without_a_checkpoint_there_is_no_snapshot(stand_of: StandOf) -> None:
    stand = stand_of("bwrap")
    host = await stand.host()
    waits = "while test -e $SHOAL_IN/gate; do sleep 0.02; done"
    work = protected(stand.spec(host, f"echo on; {waits}; echo off", files=GATE))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run, work)
        await happens(lambda: "on" in host.lines)
        answer = await host.cut(work.task)
        assert isinstance(answer, CutFailed) and "nothing complete and new lies in /checkpoint" in answer.reason
        host.open_gate()
        await happens(lambda: host.lines[-1] == "off")


async def test_a_crash_is_cured_by_what_the_program_saved(stand_of: StandOf) -> None:
    stand = stand_of("bwrap")
    host = await stand.host()
    work = protected(shut(stand, host, CRASH_AT="25"))

    async def cut() -> None:
        await happens(lambda: len(host.lines) > 3)
        await host.sealed(work.task)
        host.open_gate()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cut)
        done = await host.run(work)
    assert host.output(done)
    assert any(line.startswith("resumed") for line in host.lines)
    assert "started again in place after SIGSEGV" in done.detail


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "checkpoint").mkdir()
    return tmp_path / "checkpoint"


@pytest.fixture
def watch(folder: Path, tmp_path: Path) -> CheckpointWatch:
    return CheckpointWatch(folder, tmp_path / "clock")


def later(monkeypatch: pytest.MonkeyPatch, watch: CheckpointWatch) -> None:
    newest = watch.look().newest_ns
    monkeypatch.setattr(watch, "_now_ns", lambda: newest + QUIET_NS)


def test_quiet_files_are_complete_and_taken_once(
    folder: Path, watch: CheckpointWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert watch.complete() is None
    (folder / "model.bin").write_bytes(b"abc")
    assert watch.complete() is None, "it may still be growing"
    later(monkeypatch, watch)
    seen = watch.complete()
    assert seen is not None and seen.files[0][:2] == ("model.bin", 3)
    watch.taken = seen
    assert watch.complete() is None


def test_a_marker_and_a_rename_need_no_waiting(folder: Path, watch: CheckpointWatch) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "model.bin").write_bytes(b"abc")
    (folder / "a.done").touch()
    assert watch.complete() is not None
    (folder / "b.bin.tmp").write_bytes(b"half")
    assert watch.complete() is None
    (folder / "b.bin.tmp").rename(folder / "b.bin")
    assert watch.complete() is not None


@pytest.mark.parametrize("name", ["m.safetensors", "m.npz", "m.pt", "m.h5"])
def test_a_file_must_read_as_what_it_is_called(
    folder: Path, watch: CheckpointWatch, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = folder / name
    path.write_bytes(b"PK\3\4 cut short")
    later(monkeypatch, watch)
    assert watch.complete() is None
    if name.endswith("safetensors"):
        header = json.dumps({"w": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header + b"ab")
    elif name.endswith("h5"):
        path.write_bytes(b"\x89HDF\r\n\x1a\nrest")
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a", "b")
    later(monkeypatch, watch)
    assert watch.complete() is not None


def test_links_in_the_folder_are_not_looked_through(folder: Path, watch: CheckpointWatch) -> None:
    (folder / "etc").symlink_to("/etc")
    (folder / "loop").symlink_to(folder)
    assert watch.look().files == ()


async def test_signals_reach_only_those_who_handle_them() -> None:
    code = "import os, signal, time; signal.signal(signal.SIGUSR1, lambda *_: os._exit(7)); print(1, flush=True)"
    shell = await trio.lowlevel.open_process(["sh", "-c", f'python3 -S -c "{code}; time.sleep(9)"; exit $?'], stdout=-1)
    assert shell.stdout is not None
    await shell.stdout.receive_some()
    assert tell(shell.pid, signal.SIGUSR1) == 1
    assert await shell.wait() == 7
    assert tell(None, signal.SIGUSR1) == 0
