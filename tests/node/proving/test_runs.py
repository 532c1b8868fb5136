"""A unit program in a real sandbox: what it leaves, and what a replay of some of its units gives."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from node.executors.bwrap import BwrapExecutor
from node.proving.program import seed_of
from protocol import wire
from protocol.effects import Run
from protocol.jobspec import ZERO_DIGEST, Chunk, JobSpec, Manifest, Resources
from protocol.proof import Proof, Results
from protocol.units import KIB
from tests.node.proving.bench import OWNER, Bench
from tests.node.proving.programs import BYTES, WALK
from verifier.tensors import decode, encode


def results_of(bench: Bench, digest: bytes) -> Results:
    return wire.decode(bench.content(digest), wire.decoder(Results), OWNER)


def files_of(bench: Bench, digest: bytes) -> dict[str, bytes]:
    manifest = wire.decode(bench.content(digest), wire.decoder(Manifest), OWNER)
    return {file.path: bench.content(file.digest) for file in manifest.files}


async def test_a_run_leaves_a_trace_and_its_output_without_the_states(bench: Bench) -> None:
    done = await bench.execute(bench.spec(WALK))
    trace = bench.trace(done)
    assert trace.units == 6
    assert [leaf.index for leaf in trace.leaves] == list(range(7))
    files = files_of(bench, done.output)
    assert set(files) == {"state.shoal", "sum.txt"}
    assert wire.digest(files["state.shoal"]) == trace.leaves[-1].state
    for leaf in trace.leaves:
        data = bench.content(leaf.state)
        assert len(data) == leaf.state_bytes and int(decode(data)["step"]) == leaf.index
    assert all(int.from_bytes(trace.effects[at : at + 2], "big") > 0 for at in range(0, 12, 2))


@pytest.mark.parametrize("tier", ["child", "bwrap"])
async def test_a_replay_gives_what_the_run_gave(bench: Bench, tier: str) -> None:
    if tier == "bwrap" and (why := await BwrapExecutor("probe").why_not()):
        pytest.skip(why)
    spec = bench.spec(WALK)
    done = await bench.execute(spec)
    trace = bench.trace(done)
    again = await bench.replay(spec, (trace.leaves[0], trace.leaves[3], trace.leaves[5]), tier=tier)
    assert again.reason == "ok" and again.trace == ZERO_DIGEST
    results = results_of(bench, again.output)
    for unit in results.units:
        claimed = trace.leaves[unit.index]
        following = trace.leaves[unit.index + 1]
        expected = (claimed.input, following.state, following.state_bytes, claimed.aux, claimed.aux_bytes)
        assert msgspec.structs.astuple(unit)[1:] == expected
    assert results.output == done.output  # The last unit was among them.


async def test_neighbours_go_on_from_each_other_without_the_answer_in_between(bench: Bench) -> None:
    spec = bench.spec(WALK)
    trace = bench.trace(await bench.execute(spec))
    blind = msgspec.structs.replace(trace.leaves[3], state=ZERO_DIGEST, state_bytes=0)
    again = await bench.replay(spec, (trace.leaves[2], blind))
    assert again.reason == "ok", (again, bench.lines)
    results = results_of(bench, again.output)
    assert [unit.state for unit in results.units] == [trace.leaves[3].state, trace.leaves[4].state]
    assert results.output == ZERO_DIGEST


async def test_a_false_beginning_does_not_pass_for_the_first_state(bench: Bench) -> None:
    spec = bench.spec(WALK)
    trace = bench.trace(await bench.execute(spec))
    false = msgspec.structs.replace(
        trace.leaves[0], state=trace.leaves[4].state, state_bytes=trace.leaves[4].state_bytes
    )
    results = results_of(bench, (await bench.replay(spec, (false,))).output)
    assert results.units[0].state == trace.leaves[1].state


async def test_every_chunk_and_every_job_has_its_own_seed(bench: Bench) -> None:
    spec = bench.spec(WALK)
    seeds = {seed_of(spec, 0), seed_of(spec, 1), seed_of(msgspec.structs.replace(spec, name="other"), 0)}
    assert len(seeds) == 3 and all(len(seed) == 32 for seed in seeds)
    traces = [bench.trace(await bench.execute(spec, chunk)) for chunk in (0, 1)]
    assert traces[0].leaves[0].input != traces[1].leaves[0].input


async def test_states_may_be_plain_bytes(bench: Bench) -> None:
    spec = bench.spec(BYTES, units=3)
    trace = bench.trace(await bench.execute(spec))
    assert decode(bench.content(trace.leaves[0].state))["bytes"].tobytes() == seed_of(spec, 0)


async def test_the_reduce_step_has_no_units(bench: Bench) -> None:
    spec = bench.spec(WALK, reduce=("ls $SHOAL_IN/chunks > $SHOAL_OUT/list",))
    outputs = tuple([(await bench.execute(spec, chunk)).output for chunk in (0, 1)])
    done = await bench.run(Run("job/2/1", spec, 2, outputs, (), OWNER))
    assert done.reason == "ok" and done.trace == ZERO_DIGEST
    assert files_of(bench, done.output) == {"list": b"0\n1\n"}


SPOILT = """
import os
folder = os.environ["SHOAL_OUT"] + "/.shoal/"
"""


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("print('no units')", "left no units"),
        ("import os\nos.symlink('/etc', os.environ['SHOAL_OUT'] + '/.shoal')", "left no units"),
        (WALK + SPOILT + "os.remove(folder + '3.aux')", "3.aux"),
        (WALK + SPOILT + "open(folder + 'units.json', 'w').write('[')", "garbled"),
        (WALK + SPOILT + "open(folder + 'units.json', 'w').write('{\"effects\": [1], \"units\": 1}')", "the job has 6"),
        (
            WALK + SPOILT + "os.remove(folder + '2.state'); os.symlink('/etc/passwd', folder + '2.state')",
            "regular file",
        ),
        (WALK + SPOILT + "os.remove(folder + '2.state'); os.mkfifo(folder + '2.state')", "regular"),
        (WALK + SPOILT + "os.link(folder + '1.state', folder + 'again')", "second name"),
    ],
)
async def test_a_program_that_leaves_something_else_has_failed_and_nothing_stays(
    bench: Bench, program: str, why: str
) -> None:
    before = bench.blobs.total_bytes
    spec = bench.spec(program)
    file_bytes = len(program.encode())
    done = await bench.execute(spec)
    assert done.reason == "exit" and why in done.detail
    assert done.output == done.trace == ZERO_DIGEST
    assert bench.blobs.total_bytes == before + file_bytes


async def test_states_count_against_the_disk_of_the_job(bench: Bench) -> None:
    done = await bench.execute(bench.spec(WALK, resources=Resources(disk_bytes=4 * KIB)))
    assert done.reason == "disk"
    assert bench.blobs.total_bytes < 8 * KIB


async def test_a_check_looks_at_a_result_and_gives_its_digest_back(bench: Bench) -> None:
    check = 'test "$(cat $SHOAL_IN/result/deep/answer)" = 42'
    spec = JobSpec(
        name="check",
        runtime="python",
        commands=("mkdir $SHOAL_OUT/deep", "echo 42 > $SHOAL_OUT/deep/answer"),
        chunks=(Chunk(),),
        proof=Proof("certificate", check=(check,)),
    )
    done = await bench.execute(spec)
    assert done.reason == "ok" and done.trace == ZERO_DIGEST
    holds = await bench.run(Run("audit", spec, 0, (), (), OWNER, result=done.output))
    assert (holds.reason, holds.output) == ("ok", done.output)
    wrong = msgspec.structs.replace(spec, commands=("mkdir $SHOAL_OUT/deep", "echo 41 > $SHOAL_OUT/deep/answer"))
    false = await bench.execute(wrong)
    fails = await bench.run(Run("audit", spec, 0, (), (), OWNER, result=false.output))
    assert (fails.reason, fails.output) == ("exit", ZERO_DIGEST)


async def test_what_is_no_output_cannot_be_checked(bench: Bench) -> None:
    spec = bench.spec(WALK, proof=Proof("certificate", check=("true",)))
    for nonsense in (b"", b"no list at all"):
        done = await bench.run(Run("audit", spec, 0, (), (), OWNER, result=bench.blobs.put(nonsense)))
        assert (done.reason, done.output) == ("inputs", ZERO_DIGEST)


async def test_a_check_may_use_the_guests_package_and_sees_the_jobs_files(bench: Bench) -> None:
    spec = bench.spec(WALK, units=2)
    look = "s = shoal_work.decode(open('result/state.shoal', 'rb').read()); sys.exit(int(s['step']) != 2)"
    line = f'python -c "import shoal_work, sys; {look}"'
    spec = msgspec.structs.replace(spec, proof=Proof("scientific", units=2, check=(line, "test -f work.py")))
    done = await bench.execute(spec)
    holds = await bench.run(Run("audit", spec, 0, (), (), OWNER, result=done.output))
    assert (holds.reason, holds.output) == ("ok", done.output)


async def test_a_state_that_no_program_writes_is_refused_before_the_replay(bench: Bench) -> None:
    spec = bench.spec(WALK)
    trace = bench.trace(await bench.execute(spec))
    for bad in (b"", b"garbage", bench.content(trace.leaves[2].state)[:-1]):
        forged = msgspec.structs.replace(trace.leaves[2], state=bench.blobs.put(bad), state_bytes=len(bad))
        again = await bench.replay(spec, (forged,))
        assert again.reason == "inputs" and "malformed_proof" in again.detail


async def test_a_state_that_lacks_a_tensor_ends_the_replay_as_the_programs_failure(bench: Bench) -> None:
    """It is well formed, so only the program can tell. An honest claim's replay never ends like this."""
    spec = bench.spec(WALK)
    trace = bench.trace(await bench.execute(spec))
    other = encode({"y": np.zeros(3)})
    forged = msgspec.structs.replace(trace.leaves[2], state=bench.blobs.put(other), state_bytes=len(other))
    again = await bench.replay(spec, (forged,))
    assert (again.reason, again.output) == ("exit", ZERO_DIGEST)
    assert any("KeyError" in line for line in bench.lines)
