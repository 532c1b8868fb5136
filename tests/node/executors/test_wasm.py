"""WebAssembly: metered, limited, deterministic, quick."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import wasmtime

from node.executors.interface import Exit, Task
from node.executors.wasm import REFUSED_IMPORTS, WasmExecutor, engine_digest
from node.runtimes import Runtime
from protocol.jobspec import Resources
from protocol.units import MIB
from protocol.wire import digest

WASI = "wasi_snapshot_preview1"


def module(body: str, imports: str = "") -> bytes:
    return bytes(wasmtime.wat2wasm(f'(module {imports} (memory (export "memory") 1) {body})'))


NOTHING = module('(func (export "_start"))')
ENDLESS = module('(func (export "_start") (loop br 0))')
HELLO = module(
    r"""(data (i32.const 0) "\08\00\00\00\06\00\00\00hello\0a")
    (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20))))""",
    f'(import "{WASI}" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))',
)
FLOOD = module(
    r"""(data (i32.const 0) "\08\00\00\00\00\ff\00\00")
    (func (export "_start") (loop
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 4))) br 0))""",
    f'(import "{WASI}" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))',
)
GROW = module('(func (export "_start") (if (i32.ne (memory.grow (i32.const 1000)) (i32.const -1)) (then unreachable)))')
DEEP = module('(func $f (call $f)) (func (export "_start") (call $f))')
LEAVE = module(
    '(func (export "_start") (call $exit (i32.const 5)))', f'(import "{WASI}" "proc_exit" (func $exit (param i32)))'
)


def path_open(descriptor: int, name: str, flags: int) -> bytes:
    """A module that opens a path below a preopened folder and exits with the error number."""
    return module(
        f"""(data (i32.const 64) "{name}")
        (func (export "_start") (call $exit (call $open (i32.const {descriptor}) (i32.const 0) (i32.const 64)
          (i32.const {len(name)}) (i32.const {flags}) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 8))))""",
        f"""(import "{WASI}" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "{WASI}" "proc_exit" (func $exit (param i32)))""",
    )


def task(folder: Path, code: bytes, *, fuel: int = 10**7, command: str = "m.wasm", memory: int = 16 * MIB) -> Task:
    for name in ("in", "out"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "in" / "m.wasm").write_bytes(code)
    return Task(
        name="t",
        folder=folder,
        runtime=Runtime("wasm", engine_digest()),
        commands=(command,),
        inputs={"m.wasm": digest(code)},
        resources=Resources(memory_bytes=memory),
        fuel=fuel,
    )


async def run(work: Task) -> tuple[Exit, list[str]]:
    lines: list[str] = []
    return await WasmExecutor().run(work, lines.append), lines


async def test_output_becomes_lines(tmp_path: Path) -> None:
    assert await run(task(tmp_path, HELLO)) == (Exit("ok", 0), ["hello"])


async def test_fuel_ends_an_endless_loop(tmp_path: Path) -> None:
    ended, _ = await run(task(tmp_path, ENDLESS))
    assert ended.reason == "exit"
    assert "used up its fuel" in ended.detail


async def test_cancelling_stops_an_endless_loop_and_no_other(tmp_path: Path) -> None:
    executor = WasmExecutor()
    endings: list[Exit] = []
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    async def other() -> None:
        endings.append(await executor.run(task(tmp_path / "b", ENDLESS, fuel=2 * 10**8), lambda line: None))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        with trio.move_on_after(0.05) as scope:
            await executor.run(task(tmp_path / "a", ENDLESS, fuel=2**60), lambda line: None)
        assert scope.cancelled_caught
    assert "fuel" in endings[0].detail


async def test_memory_stack_and_logs_are_limited(tmp_path: Path) -> None:
    assert (await run(task(tmp_path, GROW)))[0].reason == "ok"
    assert "stack overflow" in (await run(task(tmp_path, DEEP)))[0].detail
    ended, lines = await run(task(tmp_path, FLOOD))
    assert (ended.reason, "bytes to its log" in ended.detail) == ("exit", True)
    assert sum(map(len, lines)) < 5 * MIB


async def test_the_exit_code_is_reported(tmp_path: Path) -> None:
    assert (await run(task(tmp_path, LEAVE)))[0].code == 5


@pytest.mark.parametrize("name", sorted(REFUSED_IMPORTS))
async def test_clocks_dice_and_sockets_are_refused_by_name(tmp_path: Path, name: str) -> None:
    code = module('(func (export "_start"))', f'(import "{WASI}" "{name}" (func (param i32 i32) (result i32)))')
    ended, _ = await run(task(tmp_path, code))
    assert ended.reason == "exit"
    assert name in ended.detail


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (b"(module)", "no WebAssembly module"),
        (b"\0asm\x01\0\0\0\xff", "no valid WebAssembly"),
        (module(""), "no function `_start`"),
        (module('(func (export "_start"))', '(import "env" "fork" (func))'), "does not offer"),
        (module('(func (export "_start") unreachable)'), "trapped"),
    ],
)
async def test_bad_modules_are_explained(tmp_path: Path, code: bytes, word: str) -> None:
    ended, _ = await run(task(tmp_path, code))
    assert ended.reason == "exit"
    assert word in ended.detail


@pytest.mark.parametrize("command", ["", "other.wasm", "'unclosed"])
async def test_bad_commands_are_explained(tmp_path: Path, command: str) -> None:
    ended, _ = await run(task(tmp_path, NOTHING, command=command))
    assert ended.reason == "exit"
    assert ended.detail


@pytest.mark.parametrize(
    ("name", "descriptor"), [("../secret", 3), ("/etc/passwd", 3), ("link", 3), ("../../secret", 4), ("new", 3)]
)
async def test_a_module_stays_in_its_two_folders(tmp_path: Path, name: str, descriptor: int) -> None:
    (tmp_path / "secret").write_text("x")
    work = task(tmp_path, path_open(descriptor, name, 1 if name == "new" else 0))
    (tmp_path / "in" / "link").symlink_to("/etc/passwd")
    ended, _ = await run(work)
    assert ended.code != 0
    assert not (tmp_path / "in" / "new").exists()


async def test_a_module_may_write_to_out(tmp_path: Path) -> None:
    assert (await run(task(tmp_path, path_open(4, "new", 1))))[0].code == 0
    assert (tmp_path / "out" / "new").exists()


async def test_a_second_run_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor, work = WasmExecutor(), task(tmp_path, NOTHING)
    await executor.run(work, lambda line: None)
    monkeypatch.setattr(wasmtime, "Module", None)
    for _ in range(3):
        assert (await executor.run(work, lambda line: None)).reason == "ok"
