"""WebAssembly: metered, memory-limited, deterministic, and started in a fraction of a millisecond.

A module sees its arguments, its environment, /in (read-only) and /out. It gets no clock, no random numbers and no
network: a module that imports them is refused by name, so that the same input
always gives the same output and the same fuel.
"""

from __future__ import annotations

import shlex
import threading
from collections import OrderedDict
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import ClassVar, Final

import trio
import wasmtime
from blake3 import blake3

from node.executors.interface import Exit, OnLine, Task
from node.executors.loglines import LOG_BYTES_MAX, LogLines
from node.executors.wasm_units import TABLE_ELEMENTS_MAX, Units, is_wanted
from protocol.errors import Refused
from protocol.jobspec import JobSpec
from protocol.units import MIB, Digest

MODULES_MAX: Final = 64
"""Compiled modules kept per engine, least recently used go first."""

MODULE_BYTES_MAX: Final = 64 * MIB
"""A larger module would keep the compiler busy for minutes before any fuel is counted."""

MAGIC: Final = b"\0asm"
"""How a binary module starts; the engine would take its text form too, which no compiler writes."""

STACK_BYTES: Final = 1 * MIB
"""The guest's call stack, the same on every machine: the depth at which recursion traps is part of the result."""

REFUSED_IMPORTS: Final = {
    "clock_time_get": "reads a clock",
    "clock_res_get": "reads a clock",
    "random_get": "asks for random numbers",
    "poll_oneoff": "waits for a clock or for input",
    "sock_accept": "uses the network",
    "sock_recv": "uses the network",
    "sock_send": "uses the network",
    "sock_shutdown": "uses the network",
}
"""WASI preview 1 functions whose answers differ between runs or machines."""

_WASI: Final = "wasi_snapshot_preview1"


def engine_digest() -> Digest:
    """The digest of the runtime `wasm`: the engine's version and the rules that decide about results."""
    rules = (metadata.version("wasmtime"), str(STACK_BYTES), "nan-canonical", "no-threads", *sorted(REFUSED_IMPORTS))
    return Digest(blake3("\0".join(rules).encode()).digest())


@dataclass(slots=True, eq=False)
class _Lane:
    """An engine that runs one task at a time, so that its epoch interrupts that task and no other."""

    engine: wasmtime.Engine
    linker: wasmtime.Linker
    modules: OrderedDict[bytes, wasmtime.Module]


class _Wire:
    """Between the guest's thread and the node's: log bytes one way, the wish to stop the other."""

    def __init__(self, lines: LogLines, engine: wasmtime.Engine) -> None:
        self._lines = lines
        self._engine = engine
        self._token = trio.lowlevel.current_trio_token()
        self._lock = threading.Lock()
        self._pending = bytearray()
        self._room = LOG_BYTES_MAX
        self.is_stopped = False
        self.is_flooded = False

    def write(self, data: bytes) -> int:
        """The guest's stdout and stderr; called in its thread."""
        with self._lock:
            was_empty = not self._pending
            self._pending += data[: self._room]
            if len(data) > self._room:  # Every write costs the node time, so a flood ends the guest.
                self.is_flooded = True
                self._engine.increment_epoch()
            self._room -= min(self._room, len(data))
            if was_empty and self._pending:
                self._token.run_sync_soon(self.flush)
        return len(data)

    def flush(self) -> None:
        """Hand on what came; called in the node's thread."""
        with self._lock:
            data, self._pending = bytes(self._pending), bytearray()
        self._lines.feed(data)


class WasmExecutor:
    """Tier `wasm`. Compiled modules are cached by the digest of their bytes."""

    tier: ClassVar[str] = "wasm"
    protects_inputs: ClassVar[bool] = True

    def __init__(self) -> None:
        self._idle: list[_Lane] = []
        self._compiled: OrderedDict[bytes, bytes] = OrderedDict()

    async def why_not(self) -> str:
        """The engine comes with the node."""
        return ""

    def refuses(self, spec: JobSpec) -> str:
        """Runs modules only, without GPUs."""
        if spec.runtime != "wasm":
            return "wasm runs only jobs whose runtime is `wasm`"
        return "wasm has no GPU" if spec.resources.gpu.count else ""

    async def clean(self) -> None:
        """Modules run inside the node; nothing is left."""

    async def run(self, task: Task, on_line: OnLine) -> Exit:
        """Run each command's module in turn; see the protocol `Executor`."""
        task.door.refuse("a WASM module has no sockets and no shell")
        lane = self._idle.pop() if self._idle else _lane()
        lines = LogLines(on_line)
        try:
            for command in task.commands:
                ended = await self._module(lane, task, command, lines)
                if ended.reason != "ok":
                    return ended
            return Exit("ok", 0)
        except Refused as refusal:
            return Exit("exit", 1, refusal.detail)
        finally:
            lines.close()
            self._idle.append(lane)

    async def _module(self, lane: _Lane, task: Task, command: str, lines: LogLines) -> Exit:
        arguments = _words(command)
        module = await self._load(lane, task, arguments[0])
        finished = trio.Event()
        wire = _Wire(lines, lane.engine)

        async def interrupt() -> None:
            """When the task is cancelled, the thread is still inside the guest: make it trap."""
            try:
                await finished.wait()
            except trio.Cancelled:
                wire.is_stopped = True
                lane.engine.increment_epoch()
                raise

        async with trio.open_nursery() as nursery:
            nursery.start_soon(interrupt)
            # Not abandoned on cancel: the thread ends as soon as the guest traps.
            call = _units if is_wanted(task) else _call
            ended = await trio.to_thread.run_sync(call, lane, module, task, arguments, wire)
            finished.set()
        wire.flush()
        await trio.lowlevel.checkpoint_if_cancelled()
        return ended

    async def _load(self, lane: _Lane, task: Task, name: str) -> wasmtime.Module:
        digest = task.inputs.get(name)
        if digest is None:
            raise Refused(f"the module {name[:80]!r} is not among the job's files", code="inputs")
        module = lane.modules.get(digest)
        if module is None:
            module = await trio.to_thread.run_sync(self._compile, lane.engine, task.inside / name, bytes(digest))
            lane.modules[digest] = module
            if len(lane.modules) > MODULES_MAX:
                lane.modules.popitem(last=False)
        lane.modules.move_to_end(digest)
        return module

    def _compile(self, engine: wasmtime.Engine, path: Path, digest: bytes) -> wasmtime.Module:
        """From another engine's compilation when there is one: half a millisecond instead of the compiler."""
        if code := self._compiled.get(digest):
            return wasmtime.Module.deserialize(engine, code)
        size = path.stat().st_size
        if size > MODULE_BYTES_MAX:
            raise Refused(f"the module has {size} bytes, {MODULE_BYTES_MAX} are allowed", code="inputs")
        content = path.read_bytes()
        if not content.startswith(MAGIC):
            raise Refused(f"{path.name} is no WebAssembly module: it does not start with \\0asm", code="inputs")
        try:
            module = wasmtime.Module(engine, content)
        except wasmtime.WasmtimeError as error:
            raise Refused(f"{path.name} is no valid WebAssembly module: {str(error)[:300]}", code="inputs") from error
        _check_imports(module)
        self._compiled[digest] = bytes(module.serialize())
        if len(self._compiled) > MODULES_MAX:
            self._compiled.popitem(last=False)
        return module


def engine() -> wasmtime.Engine:
    """An engine under the rules that make a module's result the same everywhere."""
    config = wasmtime.Config()
    config.consume_fuel = True
    config.epoch_interruption = True
    config.cranelift_nan_canonicalization = True
    config.wasm_threads = False
    config.shared_memory = False
    config.wasm_relaxed_simd_deterministic = True
    config.max_wasm_stack = STACK_BYTES
    return wasmtime.Engine(config)


def _lane() -> _Lane:
    own = engine()
    linker = wasmtime.Linker(own)
    linker.define_wasi()
    return _Lane(own, linker, OrderedDict())


def _check_imports(module: wasmtime.Module) -> None:
    for wanted in module.imports:
        why = REFUSED_IMPORTS.get(wanted.name or "")
        if why or wanted.module != _WASI:
            raise Refused(
                f"the module imports {wanted.module}.{wanted.name}, which "
                + (f"{why}: its result would not be the same everywhere" if why else "the sandbox does not offer"),
                code="inputs",
                fix="Compile for wasm32-wasi (preview 1) without clocks, random numbers, sockets and threads.",
            )


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Refused(f"the command {command[:80]!r} cannot be split into words: {error}", code="inputs") from error
    if not words:
        raise Refused("a wasm command names the module and its arguments", code="inputs")
    return words


def _call(lane: _Lane, module: wasmtime.Module, task: Task, arguments: list[str], wire: _Wire) -> Exit:
    """Instantiate and run `_start`; in a worker thread, which lets go of the interpreter while the guest computes."""
    wasi = wasmtime.WasiConfig()
    wasi.argv = arguments
    wasi.env = sorted({**task.env, "SHOAL_IN": "/in", "SHOAL_OUT": "/out"}.items())
    wasi.stdout_custom = wire.write
    wasi.stderr_custom = wire.write
    wasi.preopen_dir(str(task.inside), "/in", fs_mutable=False)
    wasi.preopen_dir(str(task.outside), "/out")
    store = wasmtime.Store(lane.engine)
    store.set_wasi(wasi)
    store.set_fuel(task.fuel)
    store.set_limits(
        memory_size=task.resources.memory_bytes, table_elements=TABLE_ELEMENTS_MAX, instances=1, memories=1
    )
    store.set_epoch_deadline(1)
    if wire.is_stopped:  # Checked after the deadline is set: an epoch that moves from here on traps the guest.
        return Exit("stopped", -9)
    try:
        instance = lane.linker.instantiate(store, module)
        start = instance.exports(store).get("_start")
        if not isinstance(start, wasmtime.Func):
            return Exit("exit", 1, "the module exports no function `_start`; compile it as a WASI command")
        start(store)
    except wasmtime.ExitTrap as left:
        return (
            Exit("ok", 0) if left.code == 0 else Exit("exit", left.code, f"the module ended with exit code {left.code}")
        )
    except wasmtime.Trap as trap:
        if wire.is_flooded:
            return Exit("exit", 1, f"the module wrote more than {LOG_BYTES_MAX} bytes to its log")
        return Exit("exit", 1, _explain(trap, task))
    except wasmtime.WasmtimeError as error:
        return Exit("exit", 1, f"the module failed: {str(error)[-300:].strip()}")
    return Exit("ok", 0)


def _units(lane: _Lane, module: wasmtime.Module, task: Task, arguments: list[str], wire: _Wire) -> Exit:
    """The same for a module whose work is in units."""
    program = Units(lane.engine, module, task, lambda: wire.is_stopped)
    try:
        return program.call()
    except Refused as error:
        return Exit("inputs" if error.code == "inputs" else "exit", 1, program.where + error.detail)
    except wasmtime.Trap as trap:
        return Exit("exit", 1, program.where + _explain(trap, task))
    except wasmtime.WasmtimeError as error:
        return Exit("exit", 1, f"{program.where}the module failed: {str(error)[-300:].strip()}")


def _explain(trap: wasmtime.Trap, task: Task) -> str:
    if trap.trap_code == wasmtime.TrapCode.OUT_OF_FUEL:
        return f"the module used up its fuel of {task.fuel} instructions; raise `fuel` in the job file"
    cause = trap.trap_code.name.lower().replace("_", " ") if trap.trap_code is not None else trap.message[-300:].strip()
    return f"the module trapped: {cause}"
