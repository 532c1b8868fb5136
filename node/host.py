"""What this host can do for jobs: the sandboxes that work here, the runtimes, the measured capability."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import psutil
import trio

from node.blobs import BlobStore
from node.config import Config
from node.executors.bwrap import BwrapExecutor
from node.executors.child import ChildExecutor
from node.executors.docker_engine import DockerExecutor
from node.executors.interface import Executor
from node.executors.runc import RuncExecutor
from node.executors.wasm import WasmExecutor, engine_digest
from node.runner import Runner
from node.runtimes import discover
from node.wrong_pixels import WrongPixels
from protocol import messages
from protocol.messages import Capability
from protocol.units import PeerId

Tier = Literal["docker", "runc", "bwrap", "wasm", "child"]
ORDER: Final[tuple[Tier, ...]] = ("docker", "runc", "bwrap", "wasm", "child")
"""The strongest isolation first."""


@dataclass(frozen=True, slots=True)
class Host:
    """The host as jobs meet it."""

    runner: Runner
    tiers: tuple[Tier, ...]
    runtimes: tuple[messages.Runtime, ...]
    capability: Capability


def executors(config: Config) -> list[Executor]:
    """Every tier that the owner allows, the strongest first; whether one works here is its `why_not`."""
    label = hashlib.sha256(str(config.data).encode()).hexdigest()[:12]
    images = config.data / "images"
    tiers: dict[str, Executor] = {
        "docker": DockerExecutor(label, images),
        "runc": RuncExecutor(label, images),
        "bwrap": BwrapExecutor(label),
        "wasm": WasmExecutor(),
        "child": ChildExecutor(label),
    }
    return [tiers[tier] for tier in tiers if tier in config.executors]


async def inspect_host(config: Config, blobs: BlobStore, serves: tuple[PeerId, ...]) -> Host:
    """Try every sandbox, ask every runtime, and read the measured capability."""
    usable = [executor for executor in executors(config) if not await executor.why_not()]
    if not serves:
        usable = [executor for executor in usable if executor.tier != "child"]
    runtimes = await trio.to_thread.run_sync(discover, config.runtimes, engine_digest())
    kind = WrongPixels if config.misbehave == "wrong-pixels" else Runner
    runner = kind(blobs, config.data / "tasks", usable, runtimes, serves)
    await runner.clean()
    offered = tuple(messages.Runtime(runtime.name, runtime.digest) for runtime in runtimes.values())
    tiers = tuple(tier for tier in ORDER if tier in runner.tiers)
    return Host(runner, tiers, offered, capability(config.data))


def capability(folder: Path) -> Capability:
    """Counts of the host."""
    return Capability(
        cpus_milli=1000 * (psutil.cpu_count() or 1),
        memory_bytes=psutil.virtual_memory().total,
        disk_bytes=psutil.disk_usage(str(folder)).free,
        cpu_gflops=0,
        hash_mbps=0,
    )
