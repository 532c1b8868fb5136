"""A WASM module as a unit program: its linear memory is the state, one completed call of `step` is a unit.

Every unit runs in a fresh instance whose memory is overwritten with the state: globals, tables and the stack begin as
the module says, in the run and in every replay. No imports at all, no growing, a fuel limit per unit. So the same state
and index give the same memory and the same fuel everywhere, also where a run goes on from another's states. What it
leaves is what `shoal_work` leaves, so that snapshots are taken of it alike. Spec: specs/31-units.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import wasmtime

from node.executors.interface import Exit, Task
from node.proving.taking import INDEX
from protocol import merkle
from protocol.errors import Refused
from protocol.jobrules import PROOF_FOLDER
from protocol.proof import STATE_BYTES_MAX
from protocol.units import KIB
from verifier.tensors import BYTES, decode, encode

PAGE_BYTES: Final = 64 * KIB
"""A page of WebAssembly, and a leaf of the tree over a memory."""

STATE: Final = "state.shoal"
"""The last state, in the output itself; the only file that a module puts out."""

TABLE_ELEMENTS_MAX: Final = 1_000_000
"""Entries of all tables: far more functions than a module has, 8 MB at most."""

Stopped = Callable[[], bool]


@dataclass(slots=True)
class Units:
    """A module that is a unit program. Blocks; a moved epoch of the engine makes it trap."""

    engine: wasmtime.Engine
    module: wasmtime.Module
    task: Task
    is_stopped: Stopped
    unit: int = -1
    """Which unit is computed: whoever made the state that a replay breaks on is to blame. -1: none yet."""

    @property
    def where(self) -> str:
        """`unit <i>: ` for the detail of a run that breaks in it, empty before the first."""
        return f"unit {self.unit}: " if self.unit >= 0 else ""

    def call(self) -> Exit:
        """Run, replay or finish, as the task's variables say. Refused (`inputs`) when the module is no unit program."""
        check(self.module)
        env = self.task.env
        if env["SHOAL_PROOF"] == "finish":
            return self._finish()
        folder = self.task.outside / PROOF_FOLDER
        if env["SHOAL_PROOF"] == "replay":
            folder.mkdir()
            return self._replay(folder, [int(word) for word in env["SHOAL_REPLAY"].split(",")])
        return self._run(folder, int(env["SHOAL_UNITS"]), int(env.get("SHOAL_BEGIN") or 0))

    def _run(self, folder: Path, units: int, begin: int) -> Exit:
        """All units from `begin` on; everything of those before it is in the folder."""
        effects: list[float] = []
        if begin:
            state = self._given(folder / f"{begin}.state")
            effects = json.loads((folder / INDEX).read_bytes())["effects"][:begin]
        else:
            folder.mkdir()
            state = self._first()
            (folder / "0.state").write_bytes(_packed(state))
        _tell(folder, units, effects)
        for index in range(begin, units):
            after, fuel = self._step(state, index)
            effects.append(float(sum(a != b for a, b in zip(_pages(state), _pages(after), strict=True))))
            state = after
            (folder / f"{index}.input").write_bytes(b"")
            (folder / f"{index}.aux").write_bytes(_aux(state, fuel))
            (folder / f"{index + 1}.state").write_bytes(_packed(state))
            _tell(folder, units, effects)
        (self.task.outside / STATE).write_bytes(_packed(state))
        return Exit("ok", 0)

    def _given(self, path: Path) -> bytes:
        """A stranger's state. Refused (`exit`: not the job's fault) where it is no memory of this module."""
        try:
            state = _unpacked(path.read_bytes())
        except Refused as error:
            raise Refused(f"the state of the snapshot cannot be gone on from: {error.detail}", code="exit") from None
        wanted = _pages_of(self.module) * PAGE_BYTES
        if len(state) != wanted:
            raise Refused(f"the state of the snapshot has {len(state)} bytes, the memory {wanted}", code="exit")
        return state

    def _replay(self, folder: Path, indices: list[int]) -> Exit:
        opened = self.task.inside / PROOF_FOLDER / "open"
        state = b""
        for index in indices:
            path = opened / f"{index}.state"
            if index == 0:
                state = self._first()
            elif path.exists():
                state = _unpacked(path.read_bytes())
            state, fuel = self._step(state, index)
            (folder / f"{index}.input").write_bytes(b"")
            (folder / f"{index}.aux").write_bytes(_aux(state, fuel))
            (folder / f"{index}.state").write_bytes(_packed(state))
            if index == int(self.task.env["SHOAL_UNITS"]) - 1:
                (self.task.outside / STATE).write_bytes(_packed(state))
        return Exit("ok", 0)

    def _finish(self) -> Exit:
        """The output of a last state that somebody claims: that state itself."""
        claimed = _unpacked((self.task.inside / PROOF_FOLDER / "last.state").read_bytes())
        (self.task.outside / STATE).write_bytes(_packed(claimed))
        return Exit("ok", 0)

    def _first(self) -> bytes:
        """The memory as the module lays it out, with the seed where it wants it, after `init` if there is one."""
        store, exports = self._instance()
        memory = _memory(exports)
        place = exports.get("seed")
        if isinstance(place, wasmtime.Global):
            at = int(place.value(store)) & 0xFFFF_FFFF
            seed = bytes.fromhex(self.task.env["SHOAL_SEED"])
            if at + len(seed) > memory.data_len(store):
                raise Refused(f"the module's global `seed` is {at}, beyond its memory", code="inputs")
            memory.write(store, seed, at)
        init = exports.get("init")
        if isinstance(init, wasmtime.Func):
            init(store, int(self.task.env["SHOAL_CHUNK"]))
        return bytes(memory.read(store, 0))

    def _step(self, state: bytes, index: int) -> tuple[bytes, int]:
        """(memory after unit `index`, fuel used). Raises Refused (`exit`) for a status other than 0."""
        self.unit = index
        store, exports = self._instance()
        memory = _memory(exports)
        if memory.data_len(store) != len(state):
            raise Refused(f"a state of {len(state)} bytes, the module's memory has other", code="inputs")
        memory.write(store, state, 0)
        store.set_fuel(self.task.fuel)
        step = exports["step"]
        assert isinstance(step, wasmtime.Func)
        status = step(store, index)
        used = self.task.fuel - store.get_fuel()
        if status != 0:
            raise Refused(f"step({index}) gave the status {status}", code="exit")
        return bytes(memory.read(store, 0)), used

    def _instance(self) -> tuple[wasmtime.Store, Mapping[str, object]]:
        store = wasmtime.Store(self.engine)
        store.set_fuel(self.task.fuel)
        memory = self.task.resources.memory_bytes
        store.set_limits(memory_size=memory, table_elements=TABLE_ELEMENTS_MAX, instances=1, memories=1)
        store.set_epoch_deadline(1)
        if self.is_stopped():  # After the deadline is set: an epoch that moves from here on traps the guest.
            raise Refused("stopped by the node", code="stopped")
        exports = wasmtime.Instance(store, self.module, []).exports(store)
        return store, {name: exports[name] for name in _names(self.module)}


def is_wanted(task: Task) -> bool:
    """Whether a task is a run or a replay in units."""
    return "SHOAL_PROOF" in task.env


def check(module: wasmtime.Module) -> None:
    """Refused (`inputs`) for a module that is no unit program: whatever could differ between two runs is left out."""
    if module.imports:
        wanted = module.imports[0]
        raise _unfit(f"it imports {wanted.module}.{wanted.name}; a unit program imports nothing")
    kinds = {export.name: export.type for export in module.exports}
    memory = kinds.get("memory")
    if not isinstance(memory, wasmtime.MemoryType):
        raise _unfit("it exports no memory called `memory`")
    if memory.is_64 or memory.limits.min != memory.limits.max:
        raise _unfit(f"its memory may grow: {memory.limits.min} to {memory.limits.max} pages; make both the same")
    if not 0 < memory.limits.min * PAGE_BYTES < STATE_BYTES_MAX - PAGE_BYTES:
        raise _unfit(f"its memory has {memory.limits.min} pages; a state has less than {STATE_BYTES_MAX} bytes")
    step, init = kinds.get("step"), kinds.get("init")
    if not isinstance(step, wasmtime.FuncType) or _signature(step) != (["i32"], ["i32"]):
        raise _unfit("it exports no function `step(i32) -> i32`")
    if init is not None and (not isinstance(init, wasmtime.FuncType) or _signature(init) != (["i32"], [])):
        raise _unfit("its `init` is no function of one i32 without a result")


def page_root(memory: bytes) -> bytes:
    """The Merkle root over the pages of a memory: a court may look at one page."""
    return merkle.root(_pages(memory))


def _pages_of(module: wasmtime.Module) -> int:
    """Of a module that was checked."""
    memory = next(export.type for export in module.exports if export.name == "memory")
    assert isinstance(memory, wasmtime.MemoryType)
    return int(memory.limits.min)


def _tell(folder: Path, units: int, effects: list[float]) -> None:
    """Complete or not at all: a snapshot is taken of the units of which it tells."""
    part = folder / f"{INDEX}.part"
    part.write_text(json.dumps({"effects": effects, "units": units}))
    part.replace(folder / INDEX)


def _pages(memory: bytes) -> list[bytes]:
    return [memory[at : at + PAGE_BYTES] for at in range(0, len(memory), PAGE_BYTES)]


def _packed(memory: bytes) -> bytes:
    return encode({BYTES: np.frombuffer(memory, np.uint8)})


def _unpacked(data: bytes) -> bytes:
    found = decode(data)
    if set(found) != {BYTES}:
        raise Refused("the opened state is no memory of a module", code="inputs")
    return found[BYTES].tobytes()


def _aux(memory: bytes, fuel: int) -> bytes:
    return encode({"fuel": np.array([fuel], np.uint64), "pages": np.frombuffer(page_root(memory), np.uint8)})


def _memory(exports: Mapping[str, object]) -> wasmtime.Memory:
    memory = exports["memory"]
    assert isinstance(memory, wasmtime.Memory)
    return memory


def _names(module: wasmtime.Module) -> list[str]:
    return [export.name for export in module.exports]


def _signature(kind: wasmtime.FuncType) -> tuple[list[str], list[str]]:
    return [str(value) for value in kind.params], [str(value) for value in kind.results]


def _unfit(why: str) -> Refused:
    fix = "Export `memory` with a fixed size and `step(i32) -> i32`; import nothing."
    return Refused(f"the module is no unit program: {why}", code="inputs", fix=fix)
