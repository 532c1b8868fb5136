"""NVIDIA's cuda-checkpoint: what a process holds on the GPU goes to its own memory before CRIU comes, and back after.

The command lines are those of the published README (github.com/NVIDIA/cuda-checkpoint), version 570. It does not leave
a process in a good state when it fails, so every failure is undone as far as it can be and then said. A process must
run while it is locked, and must not be frozen before it has been checkpointed.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import trio

from node.gpu import GpuReport
from node.process_tier import criu
from protocol.errors import Unavailable

PROGRAM: Final = "cuda-checkpoint"

DRIVER_MIN: Final = 570
"""The first driver with a lock of its own, with a timeout, for whole trees of processes."""

LOCK_MS: Final = 10_000
"""Waiting for work that was handed to the GPU; longer kernels mean no snapshot now. Milliseconds."""

ACTION_SECONDS: Final = 120.0
"""For one action: device memory crosses PCIe, 24 GB at 1 GB/s in the worst case is 24 s."""

STATE_SECONDS: Final = 10.0

State = Literal["running", "locked", "checkpointed", "failed"]
STATES: Final[tuple[State, ...]] = ("running", "locked", "checkpointed", "failed")


def why_not(report: GpuReport, program: Path | None) -> str:
    """Empty when a job's GPU memory can be taken here; otherwise the cause, for the owner."""
    if program is None:
        return "cuda-checkpoint is not installed (github.com/NVIDIA/cuda-checkpoint)"
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        return f"cuda-checkpoint is for Linux on x86-64, this is {platform.system()} on {platform.machine()}"
    if report.status != "found" or any(card.vendor != "nvidia" or card.is_mig for card in report.gpus):
        return "no whole NVIDIA GPU"
    if len(report.gpus) != 1:
        return f"{len(report.gpus)} GPUs: only a single one is supported"
    major = driver_major(report.gpus[0].driver)
    if major < DRIVER_MIN:
        return f"the driver is {report.gpus[0].driver or 'unknown'}, {DRIVER_MIN} is the oldest"
    return ""


def driver_major(text: str) -> int:
    """570 of `570.86.10`; 0 for what is no version.

    >>> driver_major("570.86.10"), driver_major("")
    (570, 0)
    """
    head = text.partition(".")[0]
    return int(head) if head.isdecimal() else 0


def find(environment_path: str | None = None) -> Path | None:
    """The program in PATH."""
    found = shutil.which(PROGRAM, path=environment_path)
    return Path(found) if found else None


@dataclass(frozen=True, slots=True)
class CudaCheckpoint:
    """The driver of the program. Process ids are this host's."""

    program: Path

    async def state(self, pid: int) -> State | None:
        """Where a process stands; None when it has nothing to do with CUDA."""
        code, text = await self._run(STATE_SECONDS, "--get-state", "--pid", str(pid))
        word = text.strip().lower()
        return next((state for state in STATES if state == word), None) if code == 0 else None

    async def suspend(self, pids: Sequence[int]) -> tuple[int, ...]:
        """Lock every CUDA process, then move their device memory to the host. Returns those that were moved.
        Unavailable (`cuda_failed`): all were set running again."""
        users = [pid for pid in pids if await self.state(pid) == "running"]
        try:
            for pid in users:
                await self._act("lock", pid, "--timeout", str(LOCK_MS))
            for pid in users:
                await self._act("checkpoint", pid)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._undo(users)
            raise
        return tuple(users)

    async def resume(self, pids: Sequence[int]) -> None:
        """Move device memory back, then unlock: after a dump, and after a restore. Unavailable (`cuda_failed`): the
        process is of no use any more and must be killed (a restore that ran out of GPU memory leaves it stuck)."""
        for pid in pids:
            await self._act("restore", pid)
        for pid in pids:
            await self._act("unlock", pid)

    async def _undo(self, pids: Sequence[int]) -> None:
        for pid in pids:
            state = await self.state(pid)
            if state == "checkpointed":
                await self._run(ACTION_SECONDS, "--action", "restore", "--pid", str(pid))
                state = await self.state(pid)
            if state == "locked":
                await self._run(ACTION_SECONDS, "--action", "unlock", "--pid", str(pid))

    async def _act(self, action: str, pid: int, *more: str) -> None:
        code, text = await self._run(ACTION_SECONDS, "--action", action, "--pid", str(pid), *more)
        if code:
            reason = text.strip()[-criu.REASON_CHARS :] or f"exit code {code}"
            raise Unavailable(f"cuda-checkpoint {action} of process {pid}: {reason}", code="cuda_failed")

    async def _run(self, seconds: float, *arguments: str) -> tuple[int, str]:
        return await criu.run([str(self.program), *arguments], seconds, folder=Path("/"), env={"PATH": os.defpath})
