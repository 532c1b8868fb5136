"""The sandboxes of a host, strongest first, and in plain words what each protects and what it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from node.executors.bwrap import BwrapExecutor
from node.executors.child import ChildExecutor
from node.executors.docker_engine import DockerExecutor
from node.executors.interface import TIERS, Executor
from node.executors.runc import RuncExecutor
from node.executors.wasm import WasmExecutor

_KERNEL: Final = (
    "bugs of the kernel or the GPU driver; side channels between jobs; the renter's data from the owner of the host"
)

PROTECTS: Final = {
    "docker": (
        "the host's files, processes, network and neighbours; memory, CPU and processes are limited by the kernel",
        _KERNEL + "; whoever may use the engine's socket is root on the host",
    ),
    "runc": (
        "the host's files, processes, network and neighbours; limits by the kernel; system call filter; no daemon",
        _KERNEL + "; the node itself must be root",
    ),
    "bwrap": (
        "the host's files outside /usr and the runtime, processes and network; system call filter; works without root",
        _KERNEL + "; without control groups memory is watched four times a second, and CPU is shared, not limited",
    ),
    "wasm": (
        "everything outside the module's own memory and its two folders; exact metering; the same result everywhere",
        "bugs of the WebAssembly engine, which is part of the node; the renter's data from the owner of the host",
    ),
    "child": (
        "nothing: NO ISOLATION. Time, memory and file size are limited, and all processes end with the job",
        "the owner's files, network and other processes: only for the owner's own jobs",
    ),
}
"""Tier -> (what it protects, what it does not). Printed by `shoal node doctor`; docs/sandboxes.md explains."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One tier on this host. `why_not` is empty when it can be used."""

    executor: Executor
    why_not: str

    @property
    def tier(self) -> str:
        """Its name."""
        return self.executor.tier


def ladder(label: str, images: Path) -> tuple[Executor, ...]:
    """Every tier, strongest first. `label` names the node in containers and groups (letters, digits, dashes)."""
    built: tuple[Executor, ...] = (
        DockerExecutor(label, images),
        RuncExecutor(label, images),
        BwrapExecutor(label),
        WasmExecutor(),
        ChildExecutor(label),
    )
    return tuple(sorted(built, key=lambda executor: TIERS.index(executor.tier)))


async def examine(executors: Sequence[Executor]) -> tuple[Rung, ...]:
    """Ask every tier, all at once, whether this host can use it."""
    answers: dict[str, str] = {}

    async def ask(executor: Executor) -> None:
        answers[executor.tier] = await executor.why_not()

    async with trio.open_nursery() as nursery:
        for executor in executors:
            nursery.start_soon(ask, executor)
    return tuple(Rung(executor, answers[executor.tier]) for executor in executors)


async def usable(label: str, images: Path) -> tuple[Executor, ...]:
    """The tiers that this host can use now, strongest first: what a `Runner` takes."""
    return tuple(rung.executor for rung in await examine(ladder(label, images)) if not rung.why_not)
