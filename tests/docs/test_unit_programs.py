"""docs/unit-programs.md: the programs in it run, replay to the bit, and their job files are some."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

import wasmtime

from node.executors.wasm import engine_digest
from node.runtimes import discover
from protocol import jobrules, wire
from protocol.proof import Results
from shoal.jobfile import read
from tests.node.proving.bench import OWNER, Bench

TEXT: Final = (Path(__file__).parents[2] / "docs" / "unit-programs.md").read_text(encoding="utf-8")


def block(language: str, number: int = 0) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    return str(found[number])


async def test_the_program_is_run_and_any_unit_replayed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, discover({"torch": Path(sys.executable)}, engine_digest()))
    spec = bench.spec(block("python"), units=5)
    done = await bench.execute(spec)
    trace = bench.trace(done)
    again = await bench.replay(spec, (trace.leaves[1], trace.leaves[4]))
    results = wire.decode(bench.content(again.output), wire.decoder(Results), OWNER)
    assert [unit.state for unit in results.units] == [trace.leaves[2].state, trace.leaves[5].state]
    assert results.output == done.output


def test_the_job_file_is_one(tmp_path: Path) -> None:
    (tmp_path / "heat.py").write_text(block("python"))
    spec = read(block("yaml"), tmp_path, {}).spec
    jobrules.check(spec)
    assert spec.units == 40 and spec.numeric == "D0"


async def test_the_module_is_run_as_its_job_file_says_and_any_unit_replayed(tmp_path: Path) -> None:
    module = bytes(wasmtime.wat2wasm(block("wat")))
    (tmp_path / "roots.wasm").write_bytes(module)
    spec = read(block("yaml", 1), tmp_path, {}).spec
    jobrules.check(spec)
    assert (spec.runtime, spec.numeric, spec.units) == ("wasm", "D0", 40)
    bench = Bench(tmp_path, discover({}, engine_digest()))
    bench.blobs.put(module)
    trace = bench.trace(await bench.execute(spec, tier="wasm"))
    assert len({leaf.state for leaf in trace.leaves}) == 41
    again = await bench.replay(spec, (trace.leaves[7],), tier="wasm")
    (unit,) = wire.decode(bench.content(again.output), wire.decoder(Results), OWNER).units
    assert unit.state == trace.leaves[8].state
