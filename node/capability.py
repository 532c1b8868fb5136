"""What this machine can do, measured: a seeded benchmark of a second or two, kept in a file with its date.

The arithmetic kernel is WebAssembly, so that every host runs the same instructions: eight f64x2
accumulators, one multiply and one add each. The figure is a single thread's, in
thousandths of a GFLOP/s, and comparable between machines.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import psutil
import wasmtime
from blake3 import blake3

from protocol.errors import Unavailable
from protocol.messages import Capability, Gpu
from protocol.units import MIB, Micros

REVISION: Final = 1
"""Raised when the benchmark changes: figures of another revision are measured again."""

SEED: Final = 20_250_601
"""The same data on every machine."""

ROUND_SECONDS: Final = 0.25
"""One measurement: long enough for clocks to rise, short enough for a start-up."""

ROUNDS: Final = 3
"""The best of three: interruptions only ever make a figure worse."""

HASH_BYTES: Final = 16 * MIB
"""Larger than a core's caches, as blobs are."""

DISK_BYTES: Final = 32 * MIB
"""Written and synced once; the figure is a lower bound on fast disks."""

LANES: Final = 8
FLOPS_PER_ITERATION: Final = LANES * 2 * 2
"""Two elements in each vector, one multiplication and one addition for each."""

Progress = Callable[[str, float], None]


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A benchmark's result as it is kept. `measured` = µs since the epoch; host = what must still be equal."""

    revision: int
    measured: int
    host: str
    cpu_gflops: int
    hash_mbps: int
    disk_mbps: int


def measure(folder: Path, now: Micros, progress: Progress) -> Measured:
    """Run the benchmark; blocks for two seconds. `folder` = where blobs will lie, `progress(what, share done)`."""
    progress("arithmetic", 0.0)
    gflops = _best(_gflops, progress, "arithmetic", 0.0)
    hashing = _best(_hash_mbps, progress, "hashing", 0.45)
    progress("disk", 0.9)
    disk = _disk_mbps(folder)
    progress("done", 1.0)
    return Measured(REVISION, now, host_text(), round(gflops * 1000), round(hashing), round(disk))


def load_or_measure(file: Path, folder: Path, now: Micros, progress: Progress) -> Measured:
    """The kept result when it is of this host and revision, else a new one, which is kept."""
    try:
        kept = msgspec.json.decode(file.read_bytes(), type=Measured)
    except (FileNotFoundError, msgspec.DecodeError):
        kept = None
    if kept and kept.revision == REVISION and kept.host == host_text():
        return kept
    result = measure(folder, now, progress)
    temporary = file.with_suffix(".new")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    temporary.replace(file)
    return result


def capability(result: Measured, folder: Path, gpus: tuple[Gpu, ...]) -> Capability:
    """The vector of an offer: the benchmark's figures with what is free on the disk now."""
    return Capability(
        cpus_milli=cpu_count() * 1000,
        memory_bytes=psutil.virtual_memory().total,
        disk_bytes=shutil.disk_usage(folder).free,
        cpu_gflops=result.cpu_gflops,
        hash_mbps=result.hash_mbps,
        gpus=gpus,
    )


def cpu_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def host_text() -> str:
    """What decides about the figures: processor, cores, memory in GiB."""
    model = "unknown"
    path = Path("/proc/cpuinfo")
    if path.exists():
        named = [
            line.partition(":")[2].strip() for line in path.read_text().splitlines() if line.startswith("model name")
        ]
        model = named[0] if named else model
    return f"{model}; {cpu_count()} cores; {psutil.virtual_memory().total >> 30} GiB"


def _best(one: Callable[[], float], progress: Progress, name: str, start: float) -> float:
    best = 0.0
    for index in range(ROUNDS):
        best = max(best, one())
        progress(name, start + 0.45 * (index + 1) / ROUNDS)
    return best


def _gflops() -> float:
    store = wasmtime.Store()
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, kernel()), [])
    run = instance.exports(store)["run"]
    if not isinstance(run, wasmtime.Func):
        return 0.0
    iterations, seconds = 100_000, 0.0
    while True:
        began = time.perf_counter()
        run(store, iterations)
        seconds = time.perf_counter() - began
        if seconds >= ROUND_SECONDS / 2:
            return iterations * FLOPS_PER_ITERATION / seconds / 1e9
        iterations *= max(2, min(64, round(ROUND_SECONDS / max(seconds, 1e-6))))


def kernel() -> str:
    """The kernel's text: x = x * 0.999… + 0.001… in every lane, so that nothing overflows or becomes subnormal."""
    names = [f"$a{index}" for index in range(LANES)]
    start = random.Random(SEED)
    sets = "".join(f"(local.set {name} (f64x2.splat (f64.const {start.uniform(0.5, 1.5)})))" for name in names)
    step = "".join(
        f"(local.set {name} (f64x2.add (f64x2.mul (local.get {name}) (local.get $m)) (local.get $c)))" for name in names
    )
    total = "(local.get $a0)"
    for name in names[1:]:
        total = f"(f64x2.add {total} (local.get {name}))"
    return (
        '(module (func (export "run") (param $n i32) (result f64) '
        f"(local $m v128) (local $c v128) {' '.join(f'(local {name} v128)' for name in names)} {sets}"
        "(local.set $m (f64x2.splat (f64.const 0.9990234375))) (local.set $c (f64x2.splat (f64.const 0.0009765625)))"
        f"(loop $again {step} (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))"
        f"(f64x2.extract_lane 0 {total})))"
    )


def _hash_mbps() -> float:
    data = random.Random(SEED).randbytes(MIB) * (HASH_BYTES // MIB)
    count, began = 0, time.perf_counter()
    while (seconds := time.perf_counter() - began) < ROUND_SECONDS:
        blake3(data).digest()
        count += 1
    return count * len(data) / seconds / 1e6


def _disk_mbps(folder: Path) -> float:
    data = random.Random(SEED).randbytes(MIB)
    path = folder / ".benchmark"
    try:
        began = time.perf_counter()
        with path.open("wb") as file:
            for _ in range(DISK_BYTES // MIB):
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return DISK_BYTES / (time.perf_counter() - began) / 1e6
    except OSError as error:
        raise Unavailable(
            f"cannot write {DISK_BYTES // MIB} MiB to {folder} to measure its disk: {error.strerror}",
            code="disk_unusable",
            fix="Free disk space, or choose another --data.",
        ) from error
    finally:
        path.unlink(missing_ok=True)
