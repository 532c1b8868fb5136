"""What renters write wrongly about protection, and scripts that cannot be cut: a clear word soon, and the next tier."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import trio

from node.protection import agent
from protocol.completions import CutFailed, Sealed
from protocol.errors import Refused
from protocol.units import SECOND
from shoal.jobfile import read
from storage import interval
from tests.failures.scripts import COMMAND, ENOUGH, UNSUPPORTED, interpreters
from tests.node.protection.conftest import StandOf
from tests.node.protection.stand import protected, resume_of
from tests.node.waiting import happens

LOOPLESS = b"""
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
print('computing', flush=True)
signal.sigwait([signal.SIGUSR2])
print('done', flush=True)
"""
"""No loop; it computes until the test has seen enough."""

JOB = "type: task\nname: a\nruntime: python\ncommands: [python main.py]\nfiles: [main.py]\ncheckpoint: "


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text("print(1)\n")
    return tmp_path


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("{every: 0}", "checkpoint.every"),
        ("{every: 0s}", "checkpoint.every"),
        ("{every: 1ms}", "checkpoint.every"),
        ("{every: 999ms}", "checkpoint.every"),
        ("{every: 10m}", "checkpoint.every"),
        ("{every: 1e9s}", "checkpoint.every"),
        ("{every: -5s}", "checkpoint.every"),
        ("{every: often}", "checkpoint.every"),
        ("{every: }", "checkpoint.every"),
        ("{every: [5s]}", "checkpoint.every"),
        ("{profile: min-lost}", "min-loss or max-efficiency"),
        ("{profile: Min-Loss}", "min-loss or max-efficiency"),
        ("{interval: 20s}", "interval"),
        ("{state: 0}", "checkpoint.state"),
        ("{state: 2000PB}", "checkpoint.state"),
        ("{state: big}", "checkpoint.state"),
        ("sometimes", "on, off, or a map"),
        ("20s", "on, off, or a map"),
        ("[on]", "checkpoint"),
    ],
)
def test_a_wrong_value_of_checkpoint_is_refused_at_its_line(folder: Path, value: str, word: str) -> None:
    with pytest.raises(Refused) as refusal:
        read(JOB + value + "\n", folder, {})
    told = f"{refusal.value.detail} {refusal.value.fix}"
    assert word in told
    assert "job.yml:6:" in told


@pytest.mark.parametrize("value", ["on", "off", "{every: 1s}", "{every: 5m}", "{profile: max-efficiency}", "{}"])
def test_a_right_value_is_not(folder: Path, value: str) -> None:
    assert read(JOB + value + "\n", folder, {}) is not None


async def test_a_script_that_cannot_be_cut_says_why_within_a_minute(
    stand_of: StandOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No loop in the main thread: its renter reads why no snapshot comes, while it runs on."""
    assert agent.FIRST_CUT_SECONDS + interval.INTERVAL_MIN / SECOND < 60
    monkeypatch.setattr(agent, "FIRST_CUT_SECONDS", 0.3)
    stand = stand_of("bwrap")
    host = await stand.host()
    work = protected(stand.spec(host, COMMAND, files={"train.py": LOOPLESS}))
    found = []

    async def cut() -> None:
        await happens(lambda: "computing" in host.lines)
        found.append(await host.cut(work.task))
        for process in interpreters():
            process.send_signal(signal.SIGUSR2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cut)
        done = await host.run(work)
    assert done.reason == "ok"
    assert isinstance(found[0], CutFailed)
    assert "has not come to a loop head" in found[0].reason
    assert "nothing complete and new lies in /checkpoint" in found[0].reason
    assert host.lines[-1] == "done"


async def test_a_script_that_cannot_be_cut_falls_back_to_what_it_saves_itself(
    stand_of: StandOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tier below: its own complete checkpoint is what goes on elsewhere."""
    monkeypatch.setattr(agent, "FIRST_CUT_SECONDS", 0.3)
    stand = stand_of("bwrap")
    one, two = await stand.host(), await stand.host()
    spec = stand.spec(one, COMMAND, files={"train.py": UNSUPPORTED})
    work = protected(spec)
    found = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run, work)
        await happens(lambda: "step 24" in one.lines)
        found.append(await one.cut(work.task))
        one.runner.stop(work.task)
    sealed = found[0]
    assert isinstance(sealed, Sealed), sealed
    assert sealed.tier == "application"
    spec = stand.spec(two, COMMAND, files={"train.py": UNSUPPORTED, ENOUGH: b""})
    done = await two.run(protected(spec, epoch=2, resume=resume_of(sealed)))
    assert done.reason == "ok"
    assert two.lines[0] == "shoal: starts with what it had saved in snapshot 1"
