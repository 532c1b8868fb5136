"""What may become of a protected job's processes: killed, crashed, stopped, too large, failed, or over."""

from __future__ import annotations

import random
import signal

import pytest
import trio

from protocol.completions import CutFailed, Recovering, RunDone, Sealed
from protocol.effects import Cut, Run
from protocol.units import Digest
from tests.failures.scripts import COMMAND, FOUR, GREEDY, TRAIN, interpreters, is_undisturbed, let_end
from tests.node.protection.conftest import StandOf
from tests.node.protection.stand import Host, protected, resume_of
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
        let_end(host.folder / "tasks")
    return found[0], ends[0]


@pytest.mark.parametrize("harm", [signal.SIGKILL, pytest.param(signal.SIGBUS, marks=pytest.mark.soak)])
async def test_a_killed_or_crashed_job_goes_on_in_place(stand_of: StandOf, harm: signal.Signals) -> None:
    stand = stand_of("bwrap")
    host = await stand.host()
    spec = stand.spec(host, COMMAND, files={"train.py": TRAIN})
    sealed, done = await cut_then(host, protected(spec, epoch=2), harm, random.Random(harm).randrange(1, 8))
    assert is_undisturbed(host.output(done))
    assert f"started again in place after {harm.name}" in done.detail
    assert f"shoal: goes on at step {sealed.step}" in host.lines


async def test_a_second_crash_is_the_job_s_own_and_its_snapshot_still_serves(stand_of: StandOf) -> None:
    stand = stand_of("bwrap")
    one, two = await stand.host(), await stand.host()
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
    spec = stand.spec(two, COMMAND, files={"train.py": TRAIN, **FOUR})
    done = await two.run(protected(spec, epoch=3, resume=resume_of(found[0], epoch=2)))
    assert is_undisturbed(two.output(done))


@pytest.mark.parametrize("rest", [3, 0])
async def test_a_rest_that_is_done_between_two_looks_is_seen_to_go_on(stand_of: StandOf, rest: int) -> None:
    """The job restores, computes and ends before its node looks at its board again, as when that node is busy."""
    stand = stand_of("bwrap")
    one, two = await stand.host(), await stand.host()
    sealed = await one.cut_and_stop(protected(stand.shut(one)))
    spec = stand.spec(two, STEPS=str(sealed.step + rest), PAUSE="0")
    done = await two.run(protected(spec, epoch=2, resume=resume_of(sealed)))
    assert two.output(done)["log"].count(b"\n") == sealed.step + rest
    assert two.lines[0] == f"shoal: goes on from snapshot 1 at step {sealed.step}"
    assert "prefix" not in two.lines, "it was shown before"
    assert two.said.count(Recovering("job/0/2", "restored")) == 1


async def test_a_stopped_job_fails_its_cut_in_words_and_its_last_snapshot_serves(
    stand_of: StandOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = stand_of("bwrap")
    one, two = await stand.host(), await stand.host()
    spec = stand.spec(one, COMMAND, files={"train.py": TRAIN})
    work = protected(spec, epoch=2)
    found: list[Sealed] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run, work)
        await happens(lambda: len(one.lines) >= 3)
        found.append(await one.sealed(work.task))
        for process in interpreters():
            process.send_signal(signal.SIGSTOP)
        monkeypatch.setattr("node.protection.agent.CUT_SECONDS", 0.5)  # The first cut may take its time.
        answer = await one.cut(work.task)
        assert isinstance(answer, CutFailed)
        assert "has not come to a loop head" in answer.reason
        one.runner.stop(work.task)
    assert not interpreters(), "a stopped process does not survive its task"
    spec = stand.spec(two, COMMAND, files={"train.py": TRAIN, **FOUR})
    done = await two.run(protected(spec, epoch=3, resume=resume_of(found[0], epoch=2)))
    assert is_undisturbed(two.output(done))


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
        let_end(one.folder / "tasks")
    assert ends[0].reason in ("memory", "exit"), ends[0]
    assert all(one.blobs.has(Digest(shard)) for pack in found[0].packs for shard in pack.shards[: pack.k])


async def test_a_job_that_fails_is_not_run_again(stand_of: StandOf) -> None:
    stand = stand_of("bwrap")
    host = await stand.host()
    script = TRAIN.replace(b"out.write(", b"os.path.exists(enough) and os._exit(3)\n        out.write(")
    spec = stand.spec(host, COMMAND, files={"train.py": script})
    work = protected(spec)
    ends: list[RunDone] = []

    async def run() -> None:
        ends.append(await host.run(work))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await happens(lambda: len(host.lines) >= 3)
        await host.sealed(work.task)
        let_end(host.folder / "tasks")
    assert (ends[0].reason, ends[0].exit_code) == ("exit", 3)
    steps = [line.rsplit(" ", 1)[0] for line in host.lines]
    assert steps == [f"{number // 6} {number % 6}" for number in range(len(steps))], "once, and to its end"
    assert not any(line.startswith("shoal: the program crashed") for line in host.lines)


@pytest.mark.parametrize(
    "last", ["0 5", pytest.param("1 5", marks=pytest.mark.soak), pytest.param("2 5", marks=pytest.mark.soak)]
)
async def test_a_cut_at_the_boundary_of_epochs(stand_of: StandOf, last: str) -> None:
    """Ordered while the last batch of an epoch is computed: the next loop head is another loop's."""
    stand = stand_of("bwrap")
    one, two = await stand.host(), await stand.host()
    spec = stand.spec(one, COMMAND, files={"train.py": TRAIN}, PAUSE="0.1")
    work = protected(spec, epoch=2)
    found: list[Sealed] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run, work)
        await happens(lambda: any(line.startswith(last) for line in one.lines))
        found.append(await one.sealed(work.task))
        one.runner.stop(work.task)
    spec = stand.spec(two, COMMAND, files={"train.py": TRAIN, **FOUR})
    done = await two.run(protected(spec, epoch=3, resume=resume_of(found[0], epoch=2)))
    assert is_undisturbed(two.output(done))


@pytest.mark.parametrize(
    ("last", "pause"),
    [("3 5", "0.1"), pytest.param("3 4", "0.03", marks=pytest.mark.soak)],
    ids=["last", "last but one"],
)
async def test_a_job_that_ends_while_a_cut_is_under_way(stand_of: StandOf, last: str, pause: str) -> None:
    """The job's whole output; and of a snapshot that nobody was told of, no byte stays."""
    stand = stand_of("bwrap")
    host = await stand.host()
    spec = stand.spec(host, COMMAND, files={"train.py": TRAIN, **FOUR}, PAUSE=pause)
    before = host.blobs.total_bytes
    work = protected(spec)
    ends: list[RunDone] = []

    async def run() -> None:
        ends.append(await host.run(work))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await happens(lambda: any(line.startswith(last) for line in host.lines))
        host.runner.cut(Cut(work.task, hold=False, k=1, n=3), host.said.append)
    output = host.output(ends[0])
    assert is_undisturbed(output)
    told = [said for said in host.said if isinstance(said, Sealed)]
    size = sum(host.blobs.size(Digest(shard)) for one in told for pack in one.packs for shard in pack.shards[: pack.k])
    manifest = host.blobs.size(ends[0].output)
    assert host.blobs.total_bytes == before + size + manifest + sum(map(len, output.values()))
    assert not list((host.folder / "tasks").iterdir())
