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
from node.config import FIGURES, Config
from node.executors.ladder import usable
from node.executors.wasm import engine_digest
from node.gpu import HostSource, offered
from node.process_tier import criu, probe
from node.process_tier.tier import Bench, ProcessTier
from node.protection.shelter import Shelter
from node.runner import Runner
from node.runtimes import discover
from node.wrong_pixels import WrongPixels
from protocol import messages
from protocol.errors import ShoalError
from protocol.identity import Identity, peer_from_text
from protocol.messages import Capability
from protocol.units import PeerId

Tier = Literal["docker", "runc", "bwrap", "wasm", "child"]
ORDER: Final[tuple[Tier, ...]] = ("docker", "runc", "bwrap", "wasm", "child")
"""The strongest isolation first."""

PROBE_SECONDS: Final = 8.0
"""For the trial of process snapshots at the first start on a kernel: it takes about one. A host that needs longer
starts without them, and tries again next time."""

TASKS: Final = "tasks"
"""Folder of what runs; it is emptied when a node starts."""

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


def label_of(config: Config) -> str:
    """What the node's groups and containers are called after."""
    return hashlib.sha256(str(config.data).encode()).hexdigest()[:12]


async def process_tier(config: Config, identity: Identity, network: str) -> ProcessTier | None:
    """Process snapshots, where they were proved to work on this host; jobs that an earlier process of this node left
    standing still go on, to be ended like others. Never raises: a node without them is a node."""
    program = await trio.to_thread.run_sync(criu.find)
    if program is None:
        return None
    cause = f"the trial took longer than {PROBE_SECONDS:g} s"
    try:
        with trio.move_on_after(PROBE_SECONDS):
            probed = await probe.load_or_probe(config.data, program)
            trusted = tuple(peer_from_text(text) for text in config.trusted_nodes)
            bench = Bench(label_of(config), config.data / "images")
            tier = ProcessTier(probed, bench, identity, network, trusted=trusted)
            await tier.clean()
            if not (cause := tier.why_not()):
                return tier
    except (ShoalError, OSError) as error:
        cause = str(error)
    log.info("no process snapshots: %s", cause)
    return None


async def inspect_host(
    config: Config, blobs: BlobStore, serves: tuple[PeerId, ...], clock: Clock, shelter: Shelter | None = None
) -> Host:
    """Try every sandbox, ask every runtime, read the cards and the benchmark (two seconds where it never ran)."""
    executors = [
        executor
        for executor in await usable(label_of(config), config.data / "images")
        if executor.tier in config.executors and (executor.tier != "child" or serves)
    ]
    runtimes = await trio.to_thread.run_sync(discover, config.runtimes, engine_digest())
    kind = WrongPixels if config.misbehave == "wrong-pixels" else Runner
    runner = kind(blobs, config.data / TASKS, executors, runtimes, serves, shelter)
    await runner.clean()
    tiers: tuple[Tier, ...] = tuple(tier for tier in ORDER if tier in runner.tiers)
    offers = tuple(messages.Runtime(runtime.name, runtime.digest) for runtime in runtimes.values())
    return Host(runner, tiers, offers, await trio.to_thread.run_sync(_measure, config, clock))


def _measure(config: Config, clock: Clock) -> Capability:
    cards = offered(HostSource().read())
    measured = load_or_measure(
        config.data / FIGURES,
        config.data,
        clock.now(),
        lambda what, share: log.info("benchmark: %s, %d %%", what, round(share * 100)),
    )
    return capability(measured, config.data, cards)
