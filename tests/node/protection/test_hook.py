"""The hook itself in real sandboxes: an unmodified script is cut on one host and goes on on another."""

from __future__ import annotations

import trio

from protocol.completions import Guest
from tests.node.protection.conftest import StandOf
from tests.node.protection.stand import GATE, Stand, protected, resume_of, unprotected
from tests.node.waiting import happens

SCRIPT = b"""
import os, random, time
random.seed(7)
out = open(os.environ["SHOAL_OUT"] + "/log", "w")
total = 0
for epoch in range(4):
    for step in range(10):
        total = (total * 31 + random.randrange(1000)) % 1000003
        print(epoch, step, total, flush=True)
        out.write(f"{total}\\n")
        out.flush()
        time.sleep(0.04)
        while step == 6 and os.path.exists(os.environ["SHOAL_IN"] + "/gate"):
            time.sleep(0.01)
out.close()
"""
"""It stays at a step of its first epoch until its gate is open, if it has one."""
COMMAND = "python $SHOAL_IN/train.py"
FILES = {"train.py": SCRIPT}


async def test_an_unmodified_script_goes_on_elsewhere(stand: Stand) -> None:
    one, two = await stand.host(), await stand.host()
    spec = stand.spec(one, COMMAND, files=FILES)
    audited = await one.run(unprotected(spec))
    whole, lines = one.output(audited), list(one.lines)
    one.lines.clear()
    sealed = await one.cut_and_stop(protected(stand.spec(one, COMMAND, files={**FILES, **GATE})))
    assert sealed.tier == "framework"
    done = await two.run(protected(spec, epoch=2, resume=resume_of(sealed)))
    assert two.output(done) == whole
    assert done.output == audited.output
    assert two.lines[0].startswith("shoal: goes on from snapshot 1")
    assert lines[-len(two.lines) + 1 :] == two.lines[1:], "each line is shown once"


async def test_an_unmodified_script_is_parked_and_taken_over(stand_of: StandOf) -> None:
    stand = stand_of("bwrap")
    one, two = await stand.host(), await stand.host()
    spec = stand.spec(one, COMMAND, files=FILES)
    whole = one.output(await one.run(protected(spec)))
    one.lines.clear()
    sealed = await one.cut_and_stop(protected(stand.spec(one, COMMAND, files={**FILES, **GATE})))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(two.runner.park, unprotected(spec), two.said.append)
        await happens(lambda: "parked" in two.states)
        done = await two.run(protected(spec, epoch=2, resume=resume_of(sealed)))
    assert two.output(done) == whole


async def test_the_first_snapshot_is_rehearsed(stand_of: StandOf) -> None:
    stand = stand_of("bwrap")
    host = await stand.host(rehearses=True)
    work = protected(stand.spec(host, COMMAND, files={"train.py": SCRIPT.replace(b"range(4)", b"range(40000)")}))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run, work)
        await happens(lambda: len(host.lines) > 3)
        first = await host.sealed(work.task)
        await happens(lambda: any("protected:" in said.text for said in host.said if isinstance(said, Guest)))
        second = await host.sealed(work.task)
        host.runner.stop(work.task)
    said = [said.text for said in host.said if isinstance(said, Guest) and "protected:" in said.text]
    assert said == ["protected: a dry restore came out equal"], host.lines
    assert (first.is_rehearsed, second.is_rehearsed) == (False, True)
