"""examples/wasm-units: the module is its text's, keeps energy, and has the same bits and fuel however it is cut."""

from __future__ import annotations

import functools
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pytest
import wasmtime

from node.executors import wasm_units
from protocol.proof import Proof
from shoal.jobfile import load
from verifier.tensors import encode

FOLDER: Final = Path(__file__).parents[2] / "examples" / "wasm-units"
README: Final = (FOLDER / "README.md").read_text(encoding="utf-8")
FUEL: Final = 600_000_000
UNITS: Final = 3
STARS: Final = 128


@functools.cache
def compiled() -> tuple[wasmtime.Engine, wasmtime.Module]:
    """The module, under the rules of the sandbox."""
    config = wasmtime.Config()
    config.consume_fuel = True
    config.cranelift_nan_canonicalization = True
    engine = wasmtime.Engine(config)
    return engine, wasmtime.Module.from_file(engine, str(FOLDER / "cluster.wasm"))


@pytest.fixture(scope="module", autouse=True)
def _released() -> Iterator[None]:
    """The engine goes before the interpreter does: wasmtime cannot free it afterwards."""
    yield
    compiled.cache_clear()
    run.cache_clear()


def step(memory: bytes, index: int) -> tuple[bytes, int, int]:
    """(memory after a unit in a fresh instance, its status, fuel used)."""
    engine, module = compiled()
    store = wasmtime.Store(engine)
    store.set_fuel(FUEL)
    exports = wasmtime.Instance(store, module, []).exports(store)
    held, call = exports["memory"], exports["step"]
    assert isinstance(held, wasmtime.Memory) and isinstance(call, wasmtime.Func)
    held.write(store, memory, 0)
    status = call(store, index)
    return bytes(held.read(store, 0)), status, FUEL - store.get_fuel()


def begin(seed: bytes) -> bytes:
    """The memory before unit 0."""
    engine, module = compiled()
    store = wasmtime.Store(engine)
    store.set_fuel(FUEL)
    exports = wasmtime.Instance(store, module, []).exports(store)
    held, init = exports["memory"], exports["init"]
    assert isinstance(held, wasmtime.Memory) and isinstance(init, wasmtime.Func)
    held.write(store, seed, 0)
    init(store, 0)
    return bytes(held.read(store, 0))


@functools.cache
def run() -> tuple[list[bytes], list[int]]:
    """A few units in a row: (the memories before and after them, the fuel of each)."""
    memories, fuel = [begin(bytes([7]) * 32)], []
    for index in range(UNITS):
        memory, status, used = step(memories[-1], index)
        assert status == 0
        memories.append(memory)
        fuel.append(used)
    return memories, fuel


def vectors(memory: bytes, offset: int) -> npt.NDArray[np.float64]:
    """(3, stars)."""
    return np.frombuffer(memory, "<f8", 3 * STARS, offset).reshape(3, STARS)


def energy(memory: bytes) -> float:
    """Per unit of mass."""
    places, velocities = vectors(memory, 1024), vectors(memory, 4096)
    apart = places[:, :, None] - places[:, None, :]
    pairs = np.sqrt((apart * apart).sum(axis=0) + 2.0**-12)[np.triu_indices(STARS, 1)]
    return float((velocities * velocities).sum() / 2 / STARS - (1 / pairs).sum() / STARS**2)


def test_the_module_is_made_of_its_text_and_is_a_unit_program() -> None:
    assert bytes(wasmtime.wat2wasm((FOLDER / "cluster.wat").read_text())) == (FOLDER / "cluster.wasm").read_bytes()
    assert hashlib.sha256((FOLDER / "cluster.wasm").read_bytes()).hexdigest() in README
    wasm_units.check(compiled()[1])


def test_a_unit_computed_alone_has_the_same_bits_and_every_unit_the_same_fuel() -> None:
    memories, fuel = run()
    assert step(memories[2], 2) == (memories[3], 0, fuel[2])
    assert len(set(fuel)) == 1 and f"{fuel[0]:,}" in README
    assert len(set(memories)) == UNITS + 1


def test_the_stars_start_at_rest_in_the_unit_ball_and_keep_their_energy() -> None:
    memories, _ = run()
    places = vectors(memories[0], 1024)
    assert np.linalg.norm(places, axis=0).max() <= 1 and not vectors(memories[0], 4096).any()
    assert 0.4 < float(np.median(np.linalg.norm(places, axis=0)) ** 3) < 0.6  # Evenly: half of them in half the volume.
    first = energy(memories[0])
    assert all(abs(energy(memory) - first) < 1e-3 * abs(first) for memory in memories)
    assert begin(bytes([8]) * 32) != memories[0]


def test_a_difference_in_the_last_bit_grows_a_thousandfold_in_three_units() -> None:
    """What a machine that rounds otherwise would have: no tolerance holds for long, so the job is compared as bits."""
    memories, _ = run()
    moved = bytearray(memories[0])
    moved[1024] ^= 1
    later = bytes(moved)
    for index in range(UNITS):
        later, _, _ = step(later, index)
    apart = float(np.abs(vectors(later, 1024) - vectors(memories[UNITS], 1024)).max())
    assert 1e3 * 2.0**-53 < apart < 1e-3


def test_the_film_has_a_frame_of_every_unit_and_ends_in_a_status() -> None:
    memories, _ = run()
    film = np.frombuffer(memories[UNITS], "<f4", UNITS * STARS * 3, 65536).reshape(UNITS, STARS, 3)
    for index in range(UNITS):
        assert np.array_equal(film[index], vectors(memories[index + 1], 1024).T.astype(np.float32))
    assert step(memories[UNITS], 85)[1] == 1


def test_the_reader_shows_what_became_of_the_stars(tmp_path: Path) -> None:
    memories, _ = run()
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "state.shoal").write_bytes(encode({"bytes": np.frombuffer(memories[UNITS], np.uint8)}))
    done = subprocess.run(
        [sys.executable, str(FOLDER / "read.py"), str(tmp_path)], capture_output=True, text=True, check=True
    )
    places = vectors(memories[UNITS], 1024)
    away = np.sort(np.linalg.norm(places - np.sort(places, axis=1)[:, STARS // 2, None], axis=0))
    gone, half = int((away > 3).sum()), away[STARS // 2]
    told = f"{gone} of 128 stars thrown out, half of all within {half:.3f}, energy {energy(memories[UNITS]):.4f}"
    assert done.stdout == f"0: {told}\n"


def test_the_job_file_says_how_it_is_proven() -> None:
    spec = load(FOLDER / "job.yml", {}).spec
    assert isinstance(spec.proof, Proof)
    assert (spec.runtime, spec.numeric, spec.proof.kind, spec.units, spec.fuel) == (
        "wasm", "D0", "deterministic", 40, FUEL,
    )  # fmt: skip
