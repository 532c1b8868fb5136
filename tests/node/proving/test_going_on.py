"""A unit program is killed between two snapshots and goes on elsewhere: same bytes, and nothing believed that is not
signed for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
import pytest
import trio

from node.executors.bwrap import BwrapExecutor
from node.executors.child import ChildExecutor
from node.runtimes import Runtime
from protocol.completions import CutFailed, Recovering, RunDone
from protocol.effects import Resume
from protocol.operations import INHERITED_MAX
from protocol.prefix import begins, root_of
from tests.node.protection.stand import ESCROW, Stand
from tests.node.proving.ways import (
    ALICE,
    NETWORK,
    UNITS,
    WAITING,
    Ways,
    done,
    leased,
    opened_trace,
    resuming,
    trace,
)
from tests.node.waiting import happens
from tests.protocol.words import chain


@pytest.fixture
def ways(tmp_path: Path, numpy_runtimes: Mapping[str, Runtime]) -> Ways:
    return Ways(Stand(tmp_path, ChildExecutor(f"test-going-on-{os.getpid()}"), numpy_runtimes), tmp_path)


async def test_it_goes_on_elsewhere_to_the_last_bit(ways: Ways) -> None:
    one, two = await ways.stand.host(), await ways.stand.host()
    spec = ways.spec(one)
    whole = await one.run(leased(spec, 1))
    early, late = await ways.lost(one, leased(spec, 2), 2, 5)
    assert (early.tier, early.step, late.step, late.progress_ppm) == ("application", 2, 5, 5 * 125_000)
    assert late.first is not None and (late.first.units, late.first.begun) == (5, 0)
    assert late.first.root == root_of(trace(one, whole), 5)
    resume = resuming(late, 2)
    ended = await two.run(leased(spec, 3, resume))
    assert two.lines == ["shoal: goes on from snapshot 2 at unit 5", "unit 5", "unit 6", "unit 7"]
    assert (ended.begun, ended.output) == (5, whole.output)
    assert trace(two, ended) == trace(one, whole)
    assert begins(trace(two, ended), resume.manifest.inherited or ())
    assert two.output(ended) == one.output(whole)
    assert not list((two.folder / "tasks").iterdir())


INSIDE: Final = WAITING.replace('os.environ["GATE"]', 'os.environ["SHOAL_IN"] + "/gate"')
"""Its gate is an input, which a program in a sandbox sees go away."""


async def test_it_does_so_in_a_sandbox(ways: Ways) -> None:
    ways.stand.executor = BwrapExecutor(f"test-going-on-{os.getpid()}")
    if why := await ways.stand.executor.why_not():
        pytest.skip(why)
    one, two = await ways.stand.host(), await ways.stand.host()
    spec = ways.spec(one, INSIDE, gate=b"3")
    (sealed,) = await ways.lost(one, leased(spec, 1), 3)
    resume = resuming(sealed, 1)
    ended: list[RunDone] = []

    async def go_on() -> None:
        ended.append(await two.run(leased(spec, 2, resume)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_on)
        await happens(lambda: two.lines[-1:] == ["unit 3"])
        next(two.folder.glob("tasks/*/in/gate")).unlink()
    assert ended[0].begun == sealed.step == 3
    assert begins(trace(two, ended[0]), resume.manifest.inherited or ())


async def test_what_was_sent_is_not_sent_again(ways: Ways) -> None:
    one = await ways.stand.host()
    spec = ways.spec(one, WAITING.replace("uniform(64)", "uniform(1 << 16)"))  # 512 KiB, a segment of its own.
    sizes = [sum(pack.size for pack in sealed.packs) for sealed in await ways.lost(one, leased(spec, 1), 2, 3, 4)]
    fresh = [after - before for before, after in pairwise(sizes)]
    assert all(0 < more < sizes[0] * 0.4 for more in fresh), sizes  # Three states first, then one each time.


async def test_the_third_provider_names_both_before_it(ways: Ways) -> None:
    one, two, three = await ways.stand.host(), await ways.stand.host(), await ways.stand.host()
    spec = ways.spec(one)
    whole = await one.run(leased(spec, 1))
    (first,) = await ways.lost(one, leased(spec, 2), 3)
    resume = resuming(first, 2)
    (second,) = await ways.lost(two, leased(spec, 3, resume), 6)
    assert second.first is not None and (second.first.units, second.first.begun) == (6, 3)
    again = resuming(second, 3, resume.manifest.inherited or ())
    ended = await three.run(leased(spec, 4, again))
    assert (ended.begun, trace(three, ended)) == (6, trace(one, whole))
    assert [(item.epoch, item.units) for item in again.manifest.inherited or ()] == [(2, 3), (3, 6)]
    assert begins(trace(three, ended), again.manifest.inherited or ())


async def test_what_nobody_signed_for_is_not_gone_on_from(ways: Ways) -> None:
    one, two = await ways.stand.host(), await ways.stand.host()
    spec = ways.spec(one)
    (sealed,) = await ways.lost(one, leased(spec, 1), 3)
    resume = resuming(sealed, 1)
    own = (resume.manifest.inherited or ())[0]
    forged = msgspec.structs.replace(resume.manifest, inherited=(msgspec.structs.replace(own, root=bytes(32)),))
    ended = await two.run(leased(spec, 2, Resume(forged, resume.holders)))
    assert (ended.reason, ended.begun) == ("ok", 0)
    assert "signed for" in two.lines[0] and two.lines[0].endswith("starting from the beginning")
    assert two.lines[1] == "unit 0"
    assert [said.phase for said in two.said if isinstance(said, Recovering)] == ["began_again"]


BREAKS: Final = WAITING.replace('after = {"x":', 'after = {"x" if index < 2 else "y":').replace(
    'after["x"].mean', "next(iter(after.values())).mean"
)
"""Its third state lacks what the fourth unit reads."""


async def test_a_state_that_breaks_the_program_costs_its_start_and_nothing_more(ways: Ways) -> None:
    """Well formed and signed for, by somebody who wants others to look like failures."""
    one, two = await ways.stand.host(), await ways.stand.host()
    spec = ways.spec(one)
    (sealed,) = await ways.lost(one, leased(ways.spec(one, BREAKS), 1), 3)
    ended = await two.run(leased(spec, 2, resuming(sealed, 1)))
    assert (ended.reason, ended.begun) == ("ok", 0), two.lines
    assert "shoal: the program failed on the states of the snapshot; starting from the beginning" in two.lines
    assert two.lines[-UNITS:] == [f"unit {index}" for index in range(UNITS)]


async def test_eight_others_are_enough(ways: Ways) -> None:
    """A ninth could not be named in a claim: it takes no snapshots, and the tenth would begin where it began."""
    one, two = await ways.stand.host(), await ways.stand.host()
    spec = ways.spec(one, units=INHERITED_MAX + 3)
    (sealed,) = await ways.lost(one, leased(spec, INHERITED_MAX), INHERITED_MAX)
    resume = resuming(sealed, INHERITED_MAX)
    folder = ways.stand.folder / "opened"
    known = opened_trace(one, sealed, folder)
    earlier = chain(
        NETWORK, ESCROW, 0, ((ALICE, number, number, root_of(known, number)) for number in range(1, INHERITED_MAX))
    )
    manifest = msgspec.structs.replace(resume.manifest, inherited=(*earlier, *(resume.manifest.inherited or ())))
    work = leased(spec, INHERITED_MAX + 1, Resume(manifest, resume.holders))
    ways.shut(INHERITED_MAX + 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(two.run, work)
        await happens(lambda: INHERITED_MAX + 2 in done(two, work))
        answer = await two.cut(work.task)
        assert isinstance(answer, CutFailed) and "8 earlier leases" in answer.reason
        ways.open()


async def test_a_handover_takes_what_there_is_and_needs_a_unit_of_its_own(ways: Ways) -> None:
    one, two = await ways.stand.host(), await ways.stand.host()
    spec = ways.spec(one)
    ways.shut(2)
    async with trio.open_nursery() as nursery:
        work = leased(spec, 1)
        nursery.start_soon(one.run, work)
        await happens(lambda: 2 in done(one, work))
        first, again = await one.sealed(work.task), await one.sealed(work.task, hold=True)
        one.runner.stop(work.task)
    assert (first.step, again.step, again.number) == (2, 2, 2)
    async with trio.open_nursery() as nursery:
        work = leased(spec, 2, resuming(again, 1))
        nursery.start_soon(two.run, work)
        await happens(lambda: two.lines[-1:] == ["unit 2"])
        answer = await two.cut(work.task, hold=True)
        assert isinstance(answer, CutFailed) and "no unit was done" in answer.reason
        ways.open()
