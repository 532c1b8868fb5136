"""A job is cut on one host and goes on on another: its output is that of a job nobody disturbed."""

from __future__ import annotations

import random

import trio

from node.protection.encoding import encode
from protocol.completions import Recovering, Sealed
from protocol.effects import Resume
from protocol.units import Digest
from storage.erasure import NUMPY, Code
from tests.node.protection.conftest import StandOf
from tests.node.protection.stand import WORKER, Stand, protected, resume_of, unprotected
from tests.node.waiting import happens, until


async def test_cut_kill_and_go_on_elsewhere(stand: Stand) -> None:
    one, two = await stand.host(code=Code(8, 14)), await stand.host()
    spec = stand.spec(one)
    whole = one.output(await one.run(protected(spec)))
    one.lines.clear()
    sealed = await one.cut_and_stop(protected(stand.shut(one), epoch=2))
    assert (sealed.tier, sealed.number) == ("framework", 1)
    assert 3 <= sealed.step < 30
    done = await two.run(protected(spec, epoch=3, resume=resume_of(sealed, epoch=2)))
    assert two.output(done) == whole
    assert two.lines[0] == f"shoal: goes on from snapshot 1 at step {sealed.step}"
    assert two.lines[1] == f"step {sealed.step + 1}", "what was shown before is not shown again"
    assert not any(two.blobs.has(digest) for digest in two.asked), "shards that were only opened do not stay"
    assert not list((two.folder / "tasks").iterdir())


async def test_audits_see_nothing_of_it_and_compute_the_same(stand: Stand) -> None:
    host = await stand.host()
    spec = stand.spec(host, 'ls $SHOAL_SNAPSHOT_DIR; test -z "$SHOAL_GUEST"; python -S $SHOAL_IN/tiny.py', STEPS="3")
    audited = await host.run(unprotected(spec))
    assert audited.reason == "ok", audited
    assert not host.said
    plain = stand.spec(host, STEPS="3")
    assert (await host.run(unprotected(plain))).output == (await host.run(protected(plain))).output


async def test_a_parked_task_is_taken_over(stand: Stand) -> None:
    one, two = await stand.host(), await stand.host()
    spec = stand.spec(one)
    sealed = await one.cut_and_stop(protected(stand.shut(one)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(two.runner.park, unprotected(spec), two.said.append)
        await happens(lambda: "parked" in two.states)
        assert not two.lines
        done = await two.run(protected(spec, epoch=2, resume=resume_of(sealed)))
    assert two.lines[:2] == [f"shoal: goes on from snapshot 1 at step {sealed.step}", f"step {sealed.step + 1}"]
    assert two.output(done)["log"].count(b"\n") == 30
    assert ("job/0/2", "restored") in [(said.task, said.phase) for said in two.said if isinstance(said, Recovering)]
    assert not list((two.folder / "tasks").iterdir())


async def test_a_parked_task_without_a_snapshot_begins(stand_of: StandOf) -> None:
    stand = stand_of("bwrap")
    host = await stand.host()
    spec = stand.spec(host, STEPS="3")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.runner.park, unprotected(spec), host.said.append)
        await happens(lambda: "parked" in host.states)
        assert host.output(await host.run(protected(spec)))["log"].count(b"\n") == 3
    assert host.lines == ["prefix", "step 1", "step 2", "step 3"]


async def test_a_parked_task_gives_way_to_a_real_one(stand_of: StandOf) -> None:
    stand = stand_of("bwrap")
    host = await stand.host(slots=1)
    spec, other = stand.spec(host), stand.spec(host, STEPS="1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.runner.park, unprotected(spec), host.said.append)
        await happens(lambda: "parked" in host.states)
        assert (await host.run(protected(other))).reason == "ok"
    assert host.evicted == ["audit/0"]
    assert not list((host.folder / "tasks").iterdir())


async def test_unparking_ends_it_and_a_second_one_has_no_room(stand_of: StandOf) -> None:
    stand = stand_of("bwrap")
    host = await stand.host(slots=1)
    spec = stand.spec(host)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.runner.park, unprotected(spec), host.said.append)
        await happens(lambda: "parked" in host.states)
        await host.runner.park(unprotected(stand.spec(host, STEPS="2")), host.said.append)
        assert host.states[-1] == "disabled"
        host.runner.unpark("audit/0")
    assert not list((host.folder / "tasks").iterdir())


async def test_what_cannot_wait_is_not_parked(stand_of: StandOf) -> None:
    stand = stand_of("bwrap")
    host = await stand.host()
    await host.runner.park(unprotected(stand.spec(host, "echo done > $SHOAL_OUT/x")), host.said.append)
    assert not list((host.folder / "tasks").iterdir())


async def test_a_held_job_stands_still_until_it_is_let_go(stand_of: StandOf) -> None:
    stand = stand_of("bwrap")
    host = await stand.host()
    work = protected(stand.shut(host))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run, work)
        await happens(lambda: len(host.lines) > 3)
        sealed = await host.sealed(work.task, hold=True)
        await happens(lambda: host.lines[-1] == f"step {sealed.step}")
        assert not await until(lambda: host.lines[-1] != f"step {sealed.step}", 0.3), "no step after a handover"
        again = await host.sealed(work.task)
        assert again.number == 2 and again.step >= sealed.step
        host.open_gate()
        await happens(lambda: host.lines[-1] == "step 30")
    assert len(host.heard(Sealed)) == 2


async def test_later_snapshots_share_what_has_not_changed(stand_of: StandOf) -> None:
    stand = stand_of("bwrap")
    one, two = await stand.host(), await stand.host()
    code = "import os, random; open(os.environ['SHOAL_OUT'] + '/big', 'wb').write(random.Random(1).randbytes(1 << 21))"
    big = f'python -S -c "{code}"'
    tiny = "python -S $SHOAL_IN/tiny.py"
    spec, work = stand.spec(one, big, tiny), protected(stand.shut(one, big, tiny))
    found = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run, work)
        await happens(lambda: len(one.lines) > 3)
        found.append(await one.sealed(work.task))
        found.append(await one.sealed(work.task))
        one.runner.stop(work.task)
    assert len(found[1].packs) == 2 and found[1].packs[0] == found[0].packs[0]
    done = await two.run(protected(spec, epoch=2, resume=resume_of(found[1])))
    assert two.output(done)["big"] == random.Random(1).randbytes(1 << 21)


async def test_a_crash_is_cured_in_place(stand: Stand) -> None:
    host = await stand.host()
    work = protected(stand.shut(host, CRASH_AT="20"))
    found = []

    async def cut() -> None:
        await happens(lambda: len(host.lines) > 3)
        found.append(await host.sealed(work.task))
        host.open_gate()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cut)
        done = await host.run(work)
    assert host.output(done)["log"].count(b"\n") == 30
    assert "started again in place after SIGSEGV" in done.detail
    assert f"shoal: goes on at step {found[0].step}" in host.lines


async def test_a_crash_without_a_snapshot_ends_the_job(stand_of: StandOf) -> None:
    stand = stand_of("bwrap")
    host = await stand.host()
    done = await host.run(protected(stand.spec(host, CRASH_AT="2")))
    assert (done.reason, done.exit_code) == ("exit", 128 + 11)


async def test_parity_stands_in_for_lost_data(stand_of: StandOf) -> None:
    stand = stand_of("bwrap")
    one, two = await stand.host(code=Code(4, 7)), await stand.host()
    spec = stand.spec(one, STEPS="12")
    sealed = await one.cut_and_stop(protected(stand.shut(one, STEPS="12")))
    for pack in sealed.packs:
        await encode(pack, one.blobs, NUMPY)
        for index in (0, 2, 5):
            one.blobs.remove(Digest(pack.shards[index]))
    manifest = resume_of(sealed).manifest
    holders = tuple(tuple((index, WORKER) for index in range(pack.n)) for pack in sealed.packs)
    done = await two.run(protected(spec, epoch=2, resume=Resume(manifest, holders)))
    assert two.lines[0].startswith("shoal: goes on from snapshot 1")
    assert two.output(done)["log"].count(b"\n") == 12
