"""What this host can do for jobs: the sandboxes that work here, the runtimes, the measured capability."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import Final, Literal

import trio

from node.blobs import BlobStore
from node.capability import capability, load_or_measure
from node.clock import Clock
from node.config import Config
from node.executors.ladder import usable
from node.executors.wasm import engine_digest
from node.gpu import HostSource, offered
from node.protection.shelter import Shelter
from node.runner import Runner
from node.runtimes import discover
from node.wrong_pixels import WrongPixels
from protocol import messages
from protocol.messages import Capability
from protocol.units import PeerId

Tier = Literal["docker", "runc", "bwrap", "wasm", "child"]
ORDER: Final[tuple[Tier, ...]] = ("docker", "runc", "bwrap", "wasm", "child")
"""The strongest isolation first."""

log = logging.getLogger("shoal.host")


@dataclass(frozen=True, slots=True)
class Host:
    """The host as jobs meet it."""

    runner: Runner
    tiers: tuple[Tier, ...]
    runtimes: tuple[messages.Runtime, ...]
    capability: Capability

    @property
    def audits(self) -> int:
        """Audits at the same time: half of the processors, so that ordering the ledger never waits for them."""
        return max(1, self.capability.cpus_milli // 2000)


async def inspect_host(
    config: Config, blobs: BlobStore, serves: tuple[PeerId, ...], clock: Clock, shelter: Shelter | None = None
) -> Host:
    """Try every sandbox, ask every runtime, read the cards and the benchmark (two seconds where it never ran)."""
    label = hashlib.sha256(str(config.data).encode()).hexdigest()[:12]
    executors = [
        executor
        for executor in await usable(label, config.data / "images")
        if executor.tier in config.executors and (executor.tier != "child" or serves)
    ]
    runtimes = await trio.to_thread.run_sync(discover, config.runtimes, engine_digest())
    kind = WrongPixels if config.misbehave == "wrong-pixels" else Runner
    runner = kind(blobs, config.data / "tasks", executors, runtimes, serves, shelter)
    await runner.clean()
    tiers: tuple[Tier, ...] = tuple(tier for tier in ORDER if tier in runner.tiers)
    offers = tuple(messages.Runtime(runtime.name, runtime.digest) for runtime in runtimes.values())
    return Host(runner, tiers, offers, await trio.to_thread.run_sync(_measure, config, clock))


def _measure(config: Config, clock: Clock) -> Capability:
    cards = offered(HostSource().read())
    measured = load_or_measure(
        config.data / "capability.json",
        config.data,
        clock.now(),
        lambda what, share: log.info("benchmark: %s, %d %%", what, round(share * 100)),
    )
    return capability(measured, config.data, cards)
