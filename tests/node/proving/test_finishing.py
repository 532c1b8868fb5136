"""Only the output of a claimed last state is made: the same files, without a unit computed."""

from __future__ import annotations

import msgspec

from protocol.effects import Run
from protocol.jobspec import ZERO_DIGEST
from tests.node.proving.bench import OWNER, Bench
from tests.node.proving.programs import WALK

SAYS = WALK.replace("    def step(self, state, index):\n", "    def step(self, state, index):\n        print('unit')\n")


async def test_the_same_output_and_no_unit(bench: Bench) -> None:
    spec = bench.spec(SAYS)
    done = await bench.execute(spec)
    last = bench.trace(done).leaves[-1]
    bench.lines.clear()
    again = await bench.run(Run("audit", spec, 0, (), (), OWNER, last=last))
    assert (again.reason, again.output, again.trace) == ("ok", done.output, ZERO_DIGEST)
    assert bench.lines == []
    other = bench.trace(done).leaves[3]
    differs = await bench.run(Run("audit", spec, 0, (), (), OWNER, last=other))
    assert differs.reason == "ok" and differs.output != done.output


async def test_a_last_state_that_no_program_writes_is_refused(bench: Bench) -> None:
    spec = bench.spec(SAYS)
    last = bench.trace(await bench.execute(spec)).leaves[-1]
    forged = msgspec.structs.replace(last, state=bench.blobs.put(b"garbage"), state_bytes=7)
    again = await bench.run(Run("audit", spec, 0, (), (), OWNER, last=forged))
    assert again.reason == "inputs" and "malformed_proof" in again.detail


async def test_a_replay_that_breaks_says_in_which_unit(bench: Bench) -> None:
    breaks = SAYS.replace(
        "        print('unit')\n", "        assert index != 4 or not os.environ.get('SHOAL_REPLAY')\n"
    )
    spec = bench.spec(breaks)
    leaves = bench.trace(await bench.execute(spec)).leaves
    again = await bench.replay(spec, (leaves[1], leaves[4], leaves[5]))
    assert again.reason == "exit" and again.detail.startswith("unit 4: ")
