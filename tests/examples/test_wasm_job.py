"""examples/wasm: right answers, the same bytes and fuel every time, nothing imported that differs between machines."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import wasmtime

from shoal.jobfile import load

FOLDER: Final = Path(__file__).parents[2] / "examples" / "wasm"
README: Final = (FOLDER / "README.md").read_text(encoding="utf-8")
FUEL: Final = 10_000_000_000
HARMLESS: Final = re.compile(r"args_|environ_|fd_|path_open|proc_exit")


@functools.lru_cache(maxsize=2)
def compiled(name: str) -> tuple[wasmtime.Engine, wasmtime.Module]:
    """A module of the example, compiled once for all tests."""
    config = wasmtime.Config()
    config.consume_fuel = True
    engine = wasmtime.Engine(config)
    return engine, wasmtime.Module.from_file(engine, str(FOLDER / name))


@pytest.fixture(scope="module", autouse=True)
def _released() -> Iterator[None]:
    """The engines go before the interpreter does: wasmtime cannot free them afterwards."""
    yield
    compiled.cache_clear()


def run(module: str, argv: list[str], chunk: int, chunks: int, inside: Path, outside: Path) -> int:
    """One step under fuel; the fuel used."""
    engine, code = compiled(module)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    store = wasmtime.Store(engine)
    store.set_fuel(FUEL)
    wasi = wasmtime.WasiConfig()
    wasi.argv = argv
    wasi.env = [("SHOAL_CHUNK", str(chunk)), ("SHOAL_CHUNKS", str(chunks))]
    outside.mkdir(parents=True)
    wasi.preopen_dir(str(inside), "/in")
    wasi.preopen_dir(str(outside), "/out")
    store.set_wasi(wasi)
    started = linker.instantiate(store, code).exports(store)["_start"]
    assert isinstance(started, wasmtime.Func)
    try:
        started(store)
    except wasmtime.ExitTrap as ended:
        assert ended.code == 0
    return FUEL - int(store.get_fuel())


def count(limit: int, chunks: int, folder: Path) -> tuple[str, list[int]]:
    """The total and the fuel of every chunk."""
    argv = ["primes.wasm", str(limit)]
    fuel = [run("primes.wasm", argv, n, chunks, folder, folder / "chunks" / str(n)) for n in range(chunks)]
    run("primes.wasm", argv, chunks, chunks, folder, folder / "out")
    return (folder / "out" / "total.txt").read_text(), fuel


@pytest.mark.parametrize(
    ("limit", "chunks", "answer"),
    [
        (1_000, 1, "below 1000: 168 primes, 35 pairs of twins, the largest prime is 997\n"),
        (1_000, 7, "below 1000: 168 primes, 35 pairs of twins, the largest prime is 997\n"),
        (30, 29, "below 30: 10 primes, 4 pairs of twins, the largest prime is 29\n"),
        (1_000_000, 3, "below 1000000: 78498 primes, 8169 pairs of twins, the largest prime is 999983\n"),
    ],
)
def test_primes_are_counted_right_however_they_are_cut(limit: int, chunks: int, answer: str, tmp_path: Path) -> None:
    assert count(limit, chunks, tmp_path)[0] == answer


def test_two_runs_give_the_same_bytes_and_fuel(tmp_path: Path) -> None:
    first = count(200_000, 2, tmp_path / "a")
    assert first == count(200_000, 2, tmp_path / "b")
    names = ["chunks/0/count.txt", "chunks/1/count.txt"]
    assert [(tmp_path / "a" / n).read_bytes() for n in names] == [(tmp_path / "b" / n).read_bytes() for n in names]


@pytest.mark.parametrize("name", ["primes.wasm", "noop.wasm"])
def test_modules_import_nothing_that_differs(name: str) -> None:
    assert [item.name for item in compiled(name)[1].imports if not HARMLESS.match(item.name or "")] == []


@pytest.mark.parametrize("name", ["primes.wasm", "noop.wasm"])
def test_modules_are_those_of_the_readme(name: str) -> None:
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() in README


def test_noop_is_made_of_its_text(tmp_path: Path) -> None:
    assert bytes(wasmtime.wat2wasm((FOLDER / "noop.wat").read_text())) == (FOLDER / "noop.wasm").read_bytes()
    assert run("noop.wasm", ["noop.wasm"], 0, 1, tmp_path, tmp_path / "out") < 10


def test_the_job_file_runs_the_module() -> None:
    spec = load(FOLDER / "job.yml", {}).spec
    assert (spec.runtime, spec.numeric, spec.commands, spec.steps) == ("wasm", "D0", ("primes.wasm 1000000000",), 9)


@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="the C compiler (ziglang) is not installed")
def test_the_module_is_made_of_its_source(tmp_path: Path) -> None:
    build = next(line for line in README.splitlines() if "ziglang cc" in line).split()[1:]
    built = [sys.executable, *(str(tmp_path / "primes.wasm") if word == "primes.wasm" else word for word in build)]
    subprocess.run(built, cwd=FOLDER, check=True, timeout=120)
    assert (tmp_path / "primes.wasm").read_bytes() == (FOLDER / "primes.wasm").read_bytes()
