"""The driver of cuda-checkpoint against a program with its documented interface. No GPU was used here."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from pathlib import Path

import pytest

from node.gpu import GpuFact, GpuReport
from node.process_tier import cuda
from node.process_tier.cuda import CudaCheckpoint
from protocol.errors import Unavailable

SOURCE = Path(__file__).with_name("cuda_program.py")
CARD = GpuFact("nvidia", "RTX 4090", "GPU-1", 24 << 30, driver="570.86.10")


class World:
    """The program, installed in a folder with what it acts on."""

    def __init__(self, folder: Path, states: dict[str, str], fail: dict[str, str] | None = None) -> None:
        self._file = folder / "world.json"
        self._file.write_text(json.dumps({"states": states, "fail": fail or {}, "log": []}))
        shutil.copy(SOURCE, folder / "program.py")
        self.program = folder / "cuda-checkpoint"
        self.program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{folder / "program.py"}" "$@"\n')
        self.program.chmod(0o755)

    @property
    def states(self) -> object:
        return json.loads(self._file.read_text())["states"]

    @property
    def log(self) -> object:
        return json.loads(self._file.read_text())["log"]


async def test_all_are_locked_before_any_is_moved(tmp_path: Path) -> None:
    world = World(tmp_path, {"10": "running", "12": "running"})
    driver = CudaCheckpoint(world.program)
    assert await driver.state(11) is None
    moved = await driver.suspend([10, 11, 12])
    assert moved == (10, 12)
    assert world.log == ["lock 10", "lock 12", "checkpoint 10", "checkpoint 12"]
    await driver.resume(moved)
    assert world.log[4:] == ["restore 10", "restore 12", "unlock 10", "unlock 12"]
    assert world.states == {"10": "running", "12": "running"}


@pytest.mark.parametrize("failing", ["10 lock", "12 lock", "10 checkpoint", "12 checkpoint"])
async def test_a_failure_is_undone_and_told(tmp_path: Path, failing: str) -> None:
    world = World(tmp_path, {"10": "running", "12": "running"}, {failing: "UVM memory is not supported"})
    with pytest.raises(Unavailable, match="UVM") as refusal:
        await CudaCheckpoint(world.program).suspend([10, 12])
    assert refusal.value.code == "cuda_failed"
    assert world.states == {"10": "running", "12": "running"}


async def test_a_restore_without_room_is_final(tmp_path: Path) -> None:
    world = World(tmp_path, {"10": "checkpointed"}, {"10 restore": "out of memory"})
    with pytest.raises(Unavailable, match="out of memory"):
        await CudaCheckpoint(world.program).resume([10])


@pytest.mark.parametrize(
    ("report", "has_program", "word"),
    [
        (GpuReport("found", (CARD,)), True, ""),
        (GpuReport("found", (CARD,)), False, "not installed"),
        (GpuReport("none"), True, "no whole NVIDIA GPU"),
        (GpuReport("found", (CARD, CARD)), True, "single"),
        (GpuReport("found", (GpuFact("nvidia", "x", "GPU-2", 1, driver="550.54.14"),)), True, "550.54.14"),
        (GpuReport("found", (GpuFact("nvidia", "x", "GPU-2", 1, driver=""),)), True, "unknown"),
        (GpuReport("found", (GpuFact("amd", "x", "GPU-2", 1, driver="6.1"),)), True, "no whole NVIDIA GPU"),
        (GpuReport("found", (GpuFact("nvidia", "x", "MIG-2", 1, driver="570.1", is_mig=True),)), True, "no whole"),
    ],
)
def test_where_it_can_be_used(report: GpuReport, has_program: bool, word: str) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("cuda-checkpoint is for x86-64 only")
    cause = cuda.why_not(report, Path("/usr/bin/cuda-checkpoint") if has_program else None)
    assert word in cause
    assert bool(cause) is bool(word)
