"""Modules as unit programs: the same memory and fuel in a run and in a replay, and nothing that could differ."""

from __future__ import annotations

import msgspec
import pytest

from node.executors import wasm_units
from protocol import wire
from protocol.effects import Run
from protocol.jobspec import ZERO_DIGEST, FileRef, JobSpec, Resources
from protocol.proof import Proof, Results
from protocol.units import GIB, MIB
from tests.node.proving.bench import OWNER, Bench
from tests.node.proving.modules import CHAIN, binary, step
from verifier.tensors import decode


def spec_of(bench: Bench, text: str, units: int = 5, **more: object) -> JobSpec:
    module = binary(text)
    file = FileRef("m.wasm", bench.blobs.put(module), len(module))
    return bench.spec("", units, runtime="wasm", commands=("m.wasm",), files=(file,), **more)


async def test_a_replay_from_any_state_gives_the_next_memory_and_the_same_fuel(bench: Bench) -> None:
    spec = spec_of(bench, CHAIN)
    trace = bench.trace(await bench.execute(spec, tier="wasm"))
    assert len({leaf.state for leaf in trace.leaves}) == 6
    done = await bench.replay(spec, (trace.leaves[2], trace.leaves[4]), tier="wasm")
    results = wire.decode(bench.content(done.output), wire.decoder(Results), OWNER)
    assert [unit.index for unit in results.units] == [2, 4]
    for unit in results.units:
        assert unit.state == trace.leaves[unit.index + 1].state
        assert unit.aux == trace.leaves[unit.index].aux
        aux = decode(bench.content(unit.aux))
        memory = decode(bench.content(unit.state))["bytes"].tobytes()
        assert int(aux["fuel"][0]) > 5000 * 10
        assert aux["pages"].tobytes() == wasm_units.page_root(memory)
        assert memory[65536:65540] == b"\0\0\xc0\x7f"


async def test_chunks_have_other_first_states(bench: Bench) -> None:
    spec = spec_of(bench, CHAIN)
    first, second = [bench.trace(await bench.execute(spec, chunk, "wasm")) for chunk in (0, 1)]
    assert first.leaves[0].state != second.leaves[0].state


async def test_the_last_unit_gives_the_output_too(bench: Bench) -> None:
    spec = spec_of(bench, CHAIN)
    done = await bench.execute(spec, tier="wasm")
    trace = bench.trace(done)
    again = await bench.replay(spec, (trace.leaves[3], trace.leaves[4]), tier="wasm")
    results = wire.decode(bench.content(again.output), wire.decoder(Results), OWNER)
    assert results.output == done.output
    without = await bench.replay(spec, (trace.leaves[1],), tier="wasm")
    assert wire.decode(bench.content(without.output), wire.decoder(Results), OWNER).output == ZERO_DIGEST


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (step("(i32.const 0)", "1"), "may grow"),
        (step("(i32.const 0)", "1 2"), "may grow"),
        (step("(i32.const 0)", "4096 4096"), "a state has less than"),
        ('(module (memory (export "memory") 1 1))', "no function `step"),
        ('(module (memory (export "memory") 1 1) (func (export "step")))', "no function `step"),
        ('(module (func (export "step") (param i32) (result i32) (i32.const 0)))', "no memory"),
        (
            (
                '(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))'
                ' (memory (export "memory") 1 1) (func (export "step") (param i32) (result i32) (i32.const 0)))'
            ),
            "imports nothing",
        ),
    ],
)
async def test_what_could_differ_is_refused(bench: Bench, text: str, why: str) -> None:
    done = await bench.execute(spec_of(bench, text), tier="wasm")
    assert done.reason == "inputs" and why in done.detail
    assert done.trace == ZERO_DIGEST


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("(loop $l (br $l)) (i32.const 0)", "fuel"),
        ("(i32.const 3)", "status 3"),
        ("(i32.load (i32.const 999999999))", "trapped"),
        ("unreachable", "trapped"),
    ],
)
async def test_a_unit_that_does_not_end_well_ends_the_run(bench: Bench, body: str, why: str) -> None:
    done = await bench.execute(spec_of(bench, step(body), fuel=1_000_000), tier="wasm")
    assert done.reason == "exit" and done.detail.startswith("unit 0: ") and why in done.detail
    assert done.output == done.trace == ZERO_DIGEST


async def test_the_output_is_made_again_of_the_last_state_alone(bench: Bench) -> None:
    spec = spec_of(bench, CHAIN)
    done = await bench.execute(spec, tier="wasm")
    last = bench.trace(done).leaves[-1]
    finished = await bench.run(Run("audit", spec, 0, (), (), OWNER, last=last), "wasm")
    assert (finished.reason, finished.output) == ("ok", done.output)


async def test_a_memory_larger_than_the_job_may_have_is_no_instance(bench: Bench) -> None:
    spec = spec_of(bench, step("(i32.const 0)", "256 256"), resources=Resources(memory_bytes=8 * MIB, disk_bytes=GIB))
    done = await bench.execute(spec, tier="wasm")
    assert done.reason == "exit" and "memory" in done.detail


@pytest.mark.parametrize(("body", "reason"), [("", "ok"), ("unreachable", "exit")])
async def test_a_module_may_be_the_check_of_a_result(bench: Bench, body: str, reason: str) -> None:
    """It runs as a command, with the result in its files, and not in units."""
    module = binary(f'(module (memory (export "memory") 1) (func (export "_start") {body}))')
    spec = spec_of(bench, CHAIN)
    check = FileRef("check.wasm", bench.blobs.put(module), len(module))
    proof = Proof("deterministic", units=5, check=("check.wasm",))
    spec = msgspec.structs.replace(spec, files=(*spec.files, check), proof=proof)
    done = await bench.execute(spec, tier="wasm")
    looked = await bench.run(Run("check", spec, 0, (), (), OWNER, result=done.output), "wasm")
    assert (looked.reason, looked.output) == (reason, done.output if reason == "ok" else ZERO_DIGEST)
