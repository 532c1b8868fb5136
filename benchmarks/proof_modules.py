"""What a proof costs a WebAssembly module: the trace over its pages, and the rules that make it repeatable.

The rules are no overhead of a proof: every module of every job runs under them. They are measured beside the same
module on an engine with neither fuel nor one pattern for NaN.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from unittest import mock

import trio
import wasmtime

from benchmarks.proof_cases import ROOT, SEED, Cost, cost, opened, sealed, taken
from node.blobs import BlobStore
from node.executors import wasm
from node.executors.interface import Task
from node.executors.wasm_units import Units
from protocol.units import GIB
from shoal.jobfile import load

EXAMPLE: Final = ROOT / "examples" / "wasm-units"
UNITS: Final = 6
ROUNDS: Final = 5
FUEL: Final = 10**12

INTEGERS: Final = """
(module
  (memory (export "memory") 1 1)
  (func (export "init") (param i32))
  (func (export "step") (param $index i32) (result i32) (local $i i32) (local $x i64)
    (local.set $i (i32.const 10000000))
    (loop $again
      (local.set $x (i64.add (i64.mul (i64.rotl (local.get $x) (i64.const 7)) (i64.const 0x9E3779B97F4A7C15))
                             (i64.extend_i32_u (local.get $i))))
      (br_if $again (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
    (i64.store (i32.const 0) (local.get $x))
    (i32.const 0)))
"""
"""Ten million rounds of a mixer: no floats, so only fuel is counted."""


def measure(folder: Path) -> Cost:
    """The example with a trace, and all of its units but the first replayed, in this very process as a node does it."""
    own = wasm.engine()
    module = wasmtime.Module.from_file(own, str(EXAMPLE / "cluster.wasm"))
    env = {"SHOAL_PROOF": "run", "SHOAL_UNITS": str(UNITS), "SHOAL_SEED": SEED, "SHOAL_CHUNK": "0"}
    run = _task(folder / "run", env)
    total, plain = _timed(own, module, run)
    trace, hashing = trio.run(taken, UNITS, run.outside, BlobStore(folder / "blobs", GIB))
    indices = ",".join(map(str, range(1, UNITS)))
    audit = _task(folder / "audit", {**env, "SHOAL_PROOF": "replay", "SHOAL_REPLAY": indices})
    opened(run.outside, audit.inside, UNITS)
    replaying, _ = _timed(own, module, audit)
    sealing = trio.run(sealed, UNITS, audit.outside, BlobStore(folder / "results", GIB))
    return cost(plain, plain / UNITS, total - plain + hashing, replaying + sealing, trace)


def rules() -> dict[str, float]:
    """How many times longer a module takes under the sandbox's rules than on a plain engine: floats and integers."""
    codes = {"floats": (EXAMPLE / "cluster.wasm").read_bytes(), "integers": bytes(wasmtime.wat2wasm(INTEGERS))}
    found = {}
    for name, code in codes.items():
        ruled, plain = _stepper(wasm.engine(), code, FUEL), _stepper(wasmtime.Engine(), code, 0)
        found[name] = statistics.median(ruled(index) / plain(index) for index in range(ROUNDS))
    return found


def _task(folder: Path, env: dict[str, str]) -> Task:
    spec = load(EXAMPLE / "job.yml", {}).spec
    task = Task("bench", folder, None, env=env, resources=spec.resources, fuel=spec.fuel)
    task.inside.mkdir(parents=True)
    task.outside.mkdir()
    return task


def _timed(own: wasmtime.Engine, module: wasmtime.Module, task: Task) -> tuple[float, float]:
    """CPU seconds of (the whole, inside of the guest)."""
    call = wasmtime.Func.__call__
    inside = 0.0

    def timed(func: wasmtime.Func, store: wasmtime.Store, *numbers: int) -> object:
        nonlocal inside
        began = time.process_time()
        answer: object = call(func, store, *numbers)
        inside += time.process_time() - began
        return answer

    began = time.process_time()
    with mock.patch.object(wasmtime.Func, "__call__", timed):
        ended = Units(own, module, task, lambda: False).call()
    assert ended.reason == "ok", ended
    return time.process_time() - began, inside


def _stepper(own: wasmtime.Engine, code: bytes, fuel: int) -> Callable[[int], float]:
    """What computes one unit after the other in one instance and says the CPU time."""
    store = wasmtime.Store(own)
    if fuel:
        store.set_fuel(fuel)
        store.set_epoch_deadline(1)
    exports = wasmtime.Instance(store, wasmtime.Module(own, code), []).exports(store)
    init, step = exports["init"], exports["step"]
    assert isinstance(init, wasmtime.Func) and isinstance(step, wasmtime.Func)
    init(store, 0)

    def compute(index: int) -> float:
        began = time.process_time()
        step(store, index)
        return time.process_time() - began

    return compute
