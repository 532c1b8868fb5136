"""Attack 55: a job that is a bomb: endless loops, memory, tables, recursion, files, and reaching out of its sandbox.

The defence: fuel, a memory that cannot grow, no imports; limits of the process for programs. The host does its next
honest job afterwards.
"""

from __future__ import annotations

import resource
from pathlib import Path

import msgspec
import pytest

from protocol.jobspec import ZERO_DIGEST, FileRef, JobSpec, Resources
from protocol.units import KIB, MIB
from tests.adversarial.unit_stand import Stand
from tests.node.proving.modules import CHAIN, binary, step
from tests.node.proving.programs import WALK

FUEL = 2_000_000


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def module_spec(stand: Stand, text: str) -> JobSpec:
    module = binary(text)
    file = FileRef("m.wasm", stand.provider.blobs.put(module), len(module))
    resources = Resources(memory_bytes=16 * MIB, disk_bytes=32 * MIB)
    spec = stand.spec("", 3, runtime="wasm", commands=("m.wasm",), fuel=FUEL, resources=resources)
    return msgspec.structs.replace(spec, files=(file,))


QUIET = '(memory (export "memory") 1 1) (func (export "step") (param i32) (result i32) (i32.const 0))'
"""A unit that does nothing, for modules whose bomb lies elsewhere."""

CALL = "(call $f (i64.const 1) (i64.const 1) (i64.const 1))"
WASI = '(import "wasi_snapshot_preview1" "clock_time_get" (func (param i32 i64 i32) (result i32)))'

BOMBS = {
    "loop": (step("(loop $l (br $l)) (i32.const 0)"), "fuel"),
    "grow": (step("(drop (memory.grow (i32.const 65535))) (i32.const 0)", "1 65536"), "may grow"),
    "grow quietly": (step("(i32.add (memory.grow (i32.const 1)) (i32.const 1))"), ""),
    "large memory": (step("(i32.const 0)", "4000 4000"), "memory"),
    "recursion": (step(f"{CALL} (i32.const 0)").removesuffix(")") + f" (func $f (param i64 i64 i64) {CALL}))", ""),
    "table": (f"(module {QUIET} (table 100000000 funcref))", "table"),
    "start": (f"(module {QUIET} (func $s (loop $l (br $l))) (start $s))", "fuel"),
    "clock": (f"(module {WASI} {QUIET})", "clock"),
    "host": (f'(module (import "env" "system" (func (param i32) (result i32))) {QUIET})', "env.system"),
}


@pytest.mark.parametrize("name", sorted(BOMBS))
async def test_a_module_ends_alone_and_the_host_goes_on(stand: Stand, name: str) -> None:
    text, why = BOMBS[name]
    done = await stand.provider.execute(module_spec(stand, text), tier="wasm")
    if name == "grow quietly":  # It is told -1, always, and goes on with what it has.
        assert done.reason == "ok"
    else:
        assert done.reason in {"exit", "inputs"} and why in done.detail, done
        assert done.output == done.trace == ZERO_DIGEST
    honest = await stand.provider.execute(module_spec(stand, CHAIN), tier="wasm")
    assert honest.reason == "ok"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1536 * KIB  # In KiB: 1.5 GiB, the test's own included.


async def test_fuel_is_counted_anew_for_every_unit_and_to_the_last(stand: Stand) -> None:
    """The limit is one unit's, so a job cannot save up for a long one."""
    loop = "(local $i i32) (local.set $i (i32.const {n})) (loop $l (br_if $l (local.tee $i (i32.sub (local.get $i)"
    text = loop + " (i32.const 1))))) (i32.const 0)"
    fits = await stand.provider.execute(module_spec(stand, step(text.format(n=FUEL // 6))), tier="wasm")
    assert fits.reason == "ok"
    over = await stand.provider.execute(module_spec(stand, step(text.format(n=FUEL // 2))), tier="wasm")
    assert over.reason == "exit" and "fuel" in over.detail


PROGRAMS = {
    "memory": ("x = bytearray(4 << 30)", {"exit", "memory"}),
    "disk": ("open(os.environ['SHOAL_OUT'] + '/.shoal/x', 'wb').write(bytes(48 << 20))", {"disk", "exit"}),
    "huge state": (
        "import numpy; open(os.environ['SHOAL_OUT'] + '/.shoal/1.state', 'ab').truncate(300 << 20)",
        {"disk", "exit"},
    ),
    "index": ("open(os.environ['SHOAL_OUT'] + '/.shoal/units.json', 'w').write('[' * (8 << 20))", {"exit"}),
}


@pytest.mark.parametrize("name", sorted(PROGRAMS))
async def test_a_program_ends_alone_and_nothing_of_it_stays(stand: Stand, name: str) -> None:
    line, reasons = PROGRAMS[name]
    spec = stand.spec(f"{WALK}\n{line}\n", resources=Resources(memory_bytes=512 * MIB, disk_bytes=32 * MIB))
    before = stand.provider.blobs.total_bytes
    done = await stand.provider.execute(spec)
    assert done.reason in reasons, done
    assert done.output == done.trace == ZERO_DIGEST
    assert stand.provider.blobs.total_bytes == before
    honest = stand.spec(WALK)
    assert (await stand.provider.execute(honest)).reason == "ok"
