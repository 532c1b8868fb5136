"""From a state to shards and back: GB/s of state per stage beside memcpy, and whole beside torch.save and DCP async.

python benchmarks/bench_storage.py [--mib N] [--reps N] [--torch PYTHON]

The state is AdamW's: float32 weights and both moments. Everything in memory or tmpfs, one thread unless it says so.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
from blake3 import blake3

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import FOLDER, Aim, Figure, machine, show, write
from node import isal
from storage import compress, filters, parity, records
from storage.cutting import CHUNK_BYTES_MAX, boundaries
from storage.erasure import NUMPY, ROLLING, ErasureCode, generator
from storage.ids import Place
from storage.packs import Known
from storage.parity import shard_size
from storage.pipeline import Options, Part, open_sealed, seal
from storage.records import CipherName, sealed_size
from storage.sealing import Sealed

ROOT: Final = Path(__file__).parents[1]
RIVALS: Final = str(Path(__file__).with_name("storage_rivals.py"))
MIB_EACH: Final = 246
REPS: Final = 5
THREADS: Final = 4
TORCH: Final = ROOT / ".venv-torch" / "bin" / "python"
NEAR_RAW: Final = Aim("most", 1.5)
SECRET: Final = bytes(32)
PACE_ANY: Final = 10**12
"""An uplink so fast that compressing never pays."""

Timed = Callable[[], object]


def state(mib: int) -> list[Part]:
    """Tensors of 12 MiB: weights, first and second moments."""
    chance = np.random.default_rng(1)
    count = mib * (1 << 20) // 12
    weight = chance.standard_normal(count, np.float32) * np.float32(0.02)
    moment = chance.standard_normal(count, np.float32) * np.float32(1e-3)
    flat = {"weight": weight, "exp_avg": moment, "exp_avg_sq": moment * moment}
    step = 3 << 20
    return [
        Part(f"{name}.{start}", 4, values[start : start + step].data)
        for name, values in flat.items()
        for start in range(0, count, step)
    ]


def timed(work: Timed) -> float:
    """Seconds that it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def by_turns(stages: dict[str, Timed], reps: int) -> dict[str, tuple[float, ...]]:
    """Seconds of each, one after the other and again, so that a change of the machine's mood hits all; first ones left
    out."""
    found: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(reps + 1):
        for name, work in stages.items():
            found[name].append(timed(work))
    return {name: tuple(values[1:]) for name, values in found.items()}


def stages(parts: Sequence[Part]) -> dict[str, Timed]:
    """What is done to every byte, one at a time."""
    whole = np.concatenate([np.frombuffer(part.data, np.uint8) for part in parts]).data
    pieces = [whole[start : start + CHUNK_BYTES_MAX] for start in range(0, len(whole), CHUNK_BYTES_MAX)]
    target = parity.memory(sealed_size(len(whole)))
    small = [(compress.shrink(piece, 4), len(piece)) for piece in pieces]

    def encrypt(cipher: CipherName) -> Timed:
        aead, bound = records.aead(cipher, SECRET), bytes(80)
        return lambda: records.seal(whole, target, aead, 1, 1, bound)

    return {
        "memcpy": lambda: target[: len(whole)].__setitem__(slice(None), whole),
        "id (keyed BLAKE3)": lambda: [blake3(piece, key=SECRET).digest() for piece in pieces],
        "content-defined cuts (opaque files only)": lambda: list(boundaries(whole)),
        "shuffle": lambda: [filters.shuffle(piece, 4) for piece in pieces],
        "shuffle and zstd-1": lambda: [compress.shrink(piece, 4) for piece in pieces],
        "its inverse": lambda: [compress.expand(one, size, 4) for one, size in small if one is not None],
        "AES-256-GCM records": encrypt("aes-256-gcm"),
        "ChaCha20-Poly1305 records": encrypt("chacha20-poly1305"),
    }


def encoders(size: int) -> dict[str, Timed]:
    """Reed–Solomon 8 of 14 over one pack of `size` bytes: raw ISA-L, ours, ours with digests, without ISA-L."""
    each = shard_size(size, ROLLING.k)
    shards = [parity.memory(each) for _ in range(ROLLING.n)]
    for index, shard in enumerate(shards):
        shard[:] = np.random.default_rng(index).integers(0, 256, each, np.uint8).data
    data, spare = shards[: ROLLING.k], shards[ROLLING.k :]
    native = isal.erasure_code()
    found: dict[str, Timed] = {
        f"Reed–Solomon 8/14, {native.name}": lambda: native.encode_into(data, spare),
        "Reed–Solomon 8/14, NumPy": lambda: NUMPY.encode_into(data, spare),
        "Reed–Solomon 8/14 and 14 digests": lambda: parity.protect(data, spare, native),
    }
    if native is not NUMPY:
        found["Reed–Solomon 8/14, raw ISA-L call"] = raw_call(data, spare)
    return found


def raw_call(data: Sequence[memoryview], spare: Sequence[memoryview]) -> Timed:
    """One call of `ec_encode_data` over whole shards, by the library that is used otherwise."""
    name = next(path for path in isal.found() if isal.erasure_code([path]) is not NUMPY)
    library = ctypes.CDLL(name)
    k, rows = len(data), len(spare)
    tables = ctypes.create_string_buffer(isal.TABLE_BYTES * k * rows)
    library.ec_init_tables(k, rows, b"".join(generator(ROLLING)[k:]), tables)
    bases = [np.frombuffer(view, np.uint8).ctypes.data for view in (*data, *spare)]
    sources, targets = (ctypes.c_void_p * k)(*bases[:k]), (ctypes.c_void_p * rows)(*bases[k:])
    return lambda: library.ec_encode_data(len(data[0]), k, rows, tables, sources, targets)


class Whole:
    """seal() and open_sealed() of the state, again and again."""

    def __init__(self, parts: Sequence[Part], erasure: ErasureCode, folder: Path) -> None:
        self._parts = parts
        self._erasure = erasure
        self._folder = folder
        self._number = 0
        self._held: list[dict[int, memoryview]] = []
        self._sealed = self.seal(Options(), None)
        self._place = Place(bytes(32), 1, 1, self._number)
        self._packs = [
            parity.reassemble(held, pack, erasure) for held, pack in zip(self._held, self._sealed.packs, strict=True)
        ]

    def seal(self, options: Options, known: Known | None, keeps: bool = True, writes: bool = False) -> Sealed:
        """Seal the state once more; the shards are kept in memory, or written to the folder, or dropped."""
        self._number += 1
        job = seal(self._parts, Place(bytes(32), 1, 1, self._number), SECRET, ROLLING, self._erasure, known, options)
        for number, done in enumerate(job):
            if keeps:
                self._held.append({index: memoryview(bytes(view)) for index, view in enumerate(done.shards)})
            for index, view in enumerate(done.shards if writes else ()):
                (self._folder / f"{number}.{index}").write_bytes(view)
        return job.sealed

    @property
    def wire_ratio(self) -> float:
        """Bytes of state per byte of ciphertext."""
        return self._sealed.size / sum(pack.size for pack in self._sealed.packs)

    def ways(self, pool: ThreadPoolExecutor) -> dict[str, Timed]:
        """The ways to seal, and to open."""
        raw, many = Options(uplink_bytes_per_s=PACE_ANY), Options(apply=pool.map)
        sealed, place = self._sealed, self._place

        def opened(read: Callable[[int], memoryview]) -> None:
            for _ in open_sealed(sealed.packs, sealed.index_bytes, place, SECRET, read):
                pass

        def from_any(index: int) -> memoryview:
            present = {at: view for at, view in self._held[index].items() if at >= ROLLING.n - ROLLING.k}
            return parity.reassemble(present, sealed.packs[index], self._erasure)

        return {
            "seal": lambda: self.seal(Options(), None, keeps=False),
            "seal, shards written to tmpfs": lambda: self.seal(Options(), None, keeps=False, writes=True),
            f"seal, {THREADS} threads": lambda: self.seal(many, None, keeps=False),
            "seal, nothing compressed": lambda: self.seal(raw, None, keeps=False),
            "seal, nothing changed": lambda: self.seal(Options(), sealed.known, keeps=False),
            "open": lambda: opened(self._packs.__getitem__),
            "open, six data shards lost": lambda: opened(from_any),
        }


def rivals(python: Path, folder: Path, mib: int, reps: int) -> dict[str, tuple[float, ...]]:
    """Seconds of torch's own ways, in a process of their own; nothing without a Python that has torch."""
    if not python.is_file():
        return {}
    command = [str(python), RIVALS, str(folder), str(mib), str(reps)]
    environment = os.environ | {"PYTHONPATH": "", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return {name: tuple(values) for name, values in found.items()}


def measure(say: Callable[[str], None], mib: int = MIB_EACH, reps: int = REPS, torch: Path = TORCH) -> list[Figure]:
    """Everything, in one run."""
    parts = state(mib)
    size = sum(part.data.nbytes for part in parts)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name, ThreadPoolExecutor(THREADS) as pool:
        say(f"storage: stages, {mib} MiB each")
        seconds = by_turns({**stages(parts), **encoders(size)}, reps)
        whole = Whole(parts, isal.erasure_code(), Path(name))
        if not torch.is_file():
            say(f"torch is skipped: there is no {torch}")
        say("storage: whole snapshots, torch before and after them")
        before = rivals(torch, Path(name), mib, reps)
        seconds |= by_turns(whole.ways(pool), reps)
        after = rivals(torch, Path(name), mib, reps)
        seconds |= {way: before[way] + after[way] for way in before}
    figures = [
        Figure(f"storage, {name}", "GB/s", tuple(size / one / 1e9 for one in values))
        for name, values in seconds.items()
    ]
    spans = [name for name in ("DCP async, stall", "seal") if name in seconds]
    figures += [Figure(f"storage, {name}", "s", seconds[name]) for name in spans]
    figures.append(Figure("storage, state : ciphertext", "×", (whole.wire_ratio,)))
    if "Reed–Solomon 8/14, raw ISA-L call" in seconds:
        ours, raw = (seconds[f"Reed–Solomon 8/14, {one}"] for one in (isal.erasure_code().name, "raw ISA-L call"))
        ratios = tuple(a / b for a, b in zip(ours, raw, strict=True))
        figures.append(Figure("storage, encode : raw ISA-L", "×", ratios, NEAR_RAW, "time; the least is without noise"))
    return figures


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=MIB_EACH)
    parser.add_argument("--reps", type=int, default=REPS)
    parser.add_argument("--torch", type=Path, default=TORCH)
    parser.add_argument("--out", type=Path, default=FOLDER / "bench_storage.json")
    options = parser.parse_args()
    facts = machine()
    figures = measure(lambda text: print(f"· {text}"), options.mib, options.reps, options.torch)
    write(facts, figures, options.out)
    show(facts, figures)


if __name__ == "__main__":
    main()
