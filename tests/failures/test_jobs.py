"""What may become of a job's processes while they are protected: killed, crashed, stopped, too large, failed, or over."""

from __future__ import annotations

import random
import signal

import pytest
import trio

from protocol.completions import CutFailed, RunDone, Sealed
from protocol.effects import Run
from tests.failures.scripts import COMMAND, GREEDY, TRAIN, interpreters
from tests.node.protection.conftest import StandOf
from tests.node.protection.stand import Host, Stand, protected, resume_of
from tests.node.waiting import happens


async def cut_then(host: Host, work: Run, harm: signal.Signals, after: int) -> tuple[Sealed, RunDone]:
    """Run, take a snapshot, let it make `after` more steps, and send a signal to its interpreter."""
    found: list[Sealed] = []
    ends: list[RunDone] = []

    async def run() -> None:
        ends.append(await host.run(work))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await happens(lambda: len(host.lines) >= 3)
        found.append(await host.sealed(work.task))
        seen = len(host.lines) + after
        await happens(lambda: len(host.lines) >= seen)
        for process in interpreters():
            process.send_signal(harm)
    return found[0], ends[0]


async def whole(stand: Stand, host: Host) -> dict[str, bytes]:
    """What an undisturbed run puts out."""
    return host.output(await host.run(protected(stand.spec(host, COMMAND, files={"train.py": TRAIN}, PAUSE="0"))))


@pytest.mark.parametrize("harm", [signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS])
async def test_a_killed_or_crashed_job_goes_on_in_place(stand_of: StandOf, harm: signal.Signals) -> None:
    stand = stand_of("bwrap")
    host = await stand.host()
    expected = await whole(stand, host)
    host.lines.clear()
    spec = stand.spec(host, COMMAND, files={"train.py": TRAIN})
    sealed, done = await cut_then(host, protected(spec, epoch=2), harm, random.Random(harm).randrange(1, 8))
    assert host.output(done) == expected
    assert f"started again in place after {harm.name}" in done.detail
    assert f"shoal: goes on at step {sealed.step}" in host.lines


async def test_a_second_crash_is_the_job_s_own_and_its_snapshot_still_serves(stand_of: StandOf) -> None:
    stand = stand_of("bwrap")
    one, two = await stand.host(), await stand.host()
    expected = await whole(stand, one)
    one.lines.clear()
    spec = stand.spec(one, COMMAND, files={"train.py": TRAIN})
    work = protected(spec, epoch=2)
    ends: list[RunDone] = []
    found: list[Sealed] = []

    async def run() -> None:
        ends.append(await one.run(work))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await happens(lambda: len(one.lines) >= 3)
        found.append(await one.sealed(work.task))
        for process in interpreters():
            process.send_signal(signal.SIGSEGV)
        await happens(lambda: "restored" in one.states)
        for process in interpreters():
            process.send_signal(signal.SIGSEGV)
    assert (ends[0].reason, ends[0].exit_code) == ("exit", 128 + signal.SIGSEGV)
    done = await two.run(protected(spec, epoch=3, resume=resume_of(found[0], epoch=2)))
    assert two.output(done) == expected


async def test_a_stopped_job_fails_its_cut_in_words_and_its_last_snapshot_serves(
    stand_of: StandOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.protection.agent.CUT_SECONDS", 0.5)
    stand = stand_of("bwrap")
    one, two = await stand.host(), await stand.host()
    expected = await whole(stand, one)
    one.lines.clear()
    spec = stand.spec(one, COMMAND, files={"train.py": TRAIN})
    work = protected(spec, epoch=2)
    found: list[Sealed] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run, work)
        await happens(lambda: len(one.lines) >= 3)
        found.append(await one.sealed(work.task))
        for process in interpreters():
            process.send_signal(signal.SIGSTOP)
        answer = await one.cut(work.task)
        assert isinstance(answer, CutFailed)
        assert "has not come to a loop head" in answer.reason
        one.runner.stop(work.task)
    assert not interpreters(), "a stopped process does not survive its task"
    done = await two.run(protected(spec, epoch=3, resume=resume_of(found[0], epoch=2)))
    assert two.output(done) == expected


async def test_a_job_that_outgrows_its_memory_says_so_and_its_snapshot_stays(stand_of: StandOf) -> None:
    stand = stand_of("bwrap")
    one = await stand.host()
    work = protected(stand.spec(one, COMMAND, files={"train.py": GREEDY}))
    ends: list[RunDone] = []
    found: list[Sealed] = []

    async def run() -> None:
        ends.append(await one.run(work))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await happens(lambda: len(one.lines) >= 3)
        found.append(await one.sealed(work.task))
    assert ends[0].reason in ("memory", "exit"), ends[0]
    assert all(one.blobs.has(shard) for pack in found[0].packs for shard in pack.shards[: pack.k])


async def test_a_job_that_fails_is_not_run_again(stand_of: StandOf) -> None:
    stand = stand_of("bwrap")
    host = await stand.host()
    script = TRAIN.replace(b"out.write(", b"(epoch, step) == (2, 1) and os._exit(3)\n        out.write(")
    spec = stand.spec(host, COMMAND, files={"train.py": script})
    work = protected(spec)
    ends: list[RunDone] = []

    async def run() -> None:
        ends.append(await host.run(work))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await happens(lambda: len(host.lines) >= 3)
        await host.sealed(work.task)
    assert (ends[0].reason, ends[0].exit_code) == ("exit", 3)
    assert host.lines[-1].startswith("2 1 ")
    assert not any(line.startswith("shoal: the program crashed") for line in host.lines)


@pytest.mark.parametrize("last", ["0 5", "1 5", "2 5"], ids=["first epoch", "second epoch", "third epoch"])
async def test_a_cut_at_the_boundary_of_epochs(stand_of: StandOf, last: str) -> None:
    """Ordered while the last batch of an epoch is computed: the next loop head is another loop's."""
    stand = stand_of("bwrap")
    one, two = await stand.host(), await stand.host()
    expected = await whole(stand, one)
    one.lines.clear()
    spec = stand.spec(one, COMMAND, files={"train.py": TRAIN}, PAUSE="0.1")
    work = protected(spec, epoch=2)
    found: list[Sealed] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run, work)
        await happens(lambda: one.lines[-1:] != [] and one.lines[-1].startswith(last))
        found.append(await one.sealed(work.task))
        one.runner.stop(work.task)
    done = await two.run(protected(spec, epoch=3, resume=resume_of(found[0], epoch=2)))
    assert two.output(done) == expected


async def test_a_cut_in_the_last_batch_and_a_job_that_ends_under_it(stand_of: StandOf) -> None:
    """Whatever the cut finds: an answer, and the job's whole output."""
    stand = stand_of("bwrap")
    host = await stand.host()
    expected = await whole(stand, host)
    for epoch, last in enumerate(("3 4", "3 5", "3 5"), start=2):
        host.lines.clear()
        spec = stand.spec(host, COMMAND, files={"train.py": TRAIN}, PAUSE="0.03" if epoch < 4 else "0.3")
        work = protected(spec, epoch=epoch)
        ends: list[RunDone] = []

        async def run(work: Run = work, ends: list[RunDone] = ends) -> None:
            ends.append(await host.run(work))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await happens(lambda last=last: host.lines[-1:] != [] and host.lines[-1].startswith(last))  # type: ignore[misc]
            answer = await host.cut(work.task)
        assert isinstance(answer, Sealed) or answer.reason  # type: ignore[union-attr]
        assert host.output(ends[0]) == expected
