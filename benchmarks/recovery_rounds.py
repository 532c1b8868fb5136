"""One kill after another on a devnet that runs one endless job, and when each phase of the takeover was over."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, Literal

from benchmarks.network import Network
from benchmarks.recovery_watch import Told, Watch
from gateway.schemas import ChunkStatus
from node.clock import Clock
from node.guest.hook.board import BOARD_BYTES, FIELDS
from protocol.units import SECOND
from shoal.processes import until

Mode = Literal["hot", "cold"]
SCRIPT: Final = Path(__file__).with_name("recovery_job.py")
READY_S: Final = 180.0
"""Seconds until a job is protected again: a node starts, a standby parks, half a gigabyte becomes durable."""

GONE_ON_S: Final = 240.0
"""Seconds after which a takeover counts as failed."""

JITTER_S: Final = 2.5
"""Seconds: kills fall anywhere between two beats and two snapshots."""


@dataclass(frozen=True, slots=True)
class Load:
    """What runs while hosts are killed."""

    megabytes: int
    every_s: int
    pause_s: float = 0.05

    def job(self) -> str:
        """The job file, without its head."""
        memory = 1_500 + 8 * self.megabytes
        return (
            f"runtime: torch\nfiles: [{SCRIPT.name}]\ncommands:\n"
            f"  - python {SCRIPT.name} --megabytes {self.megabytes} --pause {self.pause_s} --out $SHOAL_OUT\n"
            f"resources: {{cpu: 1, memory: {memory}MB, disk: 2GB}}\nestimate: 1m\ntimeout: 2h\n"
            f"checkpoint: {{every: {self.every_s}s}}\nmax_price: 0.60\nspend_cap: 100\naudit: 0\n"
        )


@dataclass(frozen=True, slots=True)
class Recovered:
    """One kill; spans in seconds. `boot` and `attach` run side by side, both from the new lease on."""

    detect: float
    schedule: float
    boot: float
    attach: float
    reload: float
    total: float
    steps_lost: int
    steps_per_second: float
    bytes_fetched: int
    stall: float
    """Share of the dead worker's time in which its job stood still for snapshots."""

    @property
    def seconds_lost(self) -> float:
        """Work that has to be done again."""
        return self.steps_lost / self.steps_per_second if self.steps_per_second else 0.0


class Rounds:
    """Kills, each followed by a rest in which the network becomes whole again."""

    def __init__(self, network: Network, watch: Watch, job: str, random: Random) -> None:
        self._network = network
        self._watch = watch
        self._job = job
        self._random = random
        self._names = {node.peer: node.name for node in network.state.nodes}
        self._since: int = Clock().now()
        """When the running attempt made its first step here."""

    def kill(self, mode: Mode) -> Recovered | None:
        """One round; None when the chunk did not go on in time."""
        before = self._ready()
        self._since = max(self._since, before.attempts[-1].started or 0)
        worker, epoch = self._names[before.provider or ""], before.epoch
        standby = self._standby(worker, epoch)
        time.sleep(self._random.random() * JITTER_S)
        struck = Clock().now()
        victims = [worker] if mode == "hot" else [worker, standby]
        for name in victims:
            self._network.devnet.kill(name)
        board = _board(self._network.devnet.folder / worker)
        fetched = self._fetched(victims)
        went_on = self._phase("went_on", epoch + 1, GONE_ON_S)
        after = self._fetched(victims)
        for name in victims:
            self._network.devnet.restart(name)
        if went_on is None:
            return None
        moved = after.get(went_on.node, 0) - fetched.get(went_on.node, 0)
        return self._measured(struck, epoch, went_on, board, moved)

    def _measured(self, struck: int, epoch: int, went_on: Told, board: dict[str, int], moved: int) -> Recovered:
        def at(phase: str) -> int:
            found = self._phase(phase, epoch + 1, 5.0)
            assert found is not None, phase
            return found.time

        fenced = self._watch.wait(
            "chunk",
            lambda told: (
                told.node == "steward" and told.says(epoch=epoch) and told.fields["state"] in ("waiting", "granted")
            ),
            5.0,
        )
        assert fenced is not None
        leased, ready, attached = at("leased"), at("ready"), at("attached")
        from_step, reached = int(str(went_on.fields["from_step"])), board["steps"]
        began = board["restored_step"]
        ran, self._since = (struck - self._since) / SECOND, went_on.time
        spans = (fenced.time - struck, leased - fenced.time, ready - leased, attached - leased)
        detect, schedule, boot, attach = (span / SECOND for span in spans)
        return Recovered(
            detect=detect,
            schedule=schedule,
            boot=max(0.0, boot),
            attach=attach,
            reload=(went_on.time - max(ready, attached)) / SECOND,
            total=(went_on.time - struck) / SECOND,
            steps_lost=max(0, reached - from_step),
            steps_per_second=max(0.0, (reached - began) / ran),
            bytes_fetched=moved,
            stall=board["stall_total_us"] / SECOND / ran,
        )

    def _ready(self) -> ChunkStatus:
        """The chunk runs, a snapshot of this epoch is durable, and somebody else stands at its first loop."""

        def look() -> ChunkStatus | None:
            chunk = self._network.client.status(self._job).chunks[0]
            if chunk.state != "running" or not chunk.step or chunk.attempts[-1].reached <= chunk.attempts[-1].step:
                return None
            durable = self._watch.find("snapshot", lambda told: told.says(epoch=chunk.epoch) and told.node == "steward")
            standby = self._standby(self._names[chunk.provider or ""], chunk.epoch)
            return chunk if durable and standby else None

        return until("the job runs, saved and with a standby", look, [], READY_S)

    def _standby(self, worker: str, epoch: int) -> str:
        """Who is parked now; empty: nobody. One that waits on through an epoch has told so in an earlier one."""
        for told in reversed(self._watch.find("parked")):
            if told.node != worker and int(str(told.fields["epoch"])) >= epoch - 1:
                return told.node
        return ""

    def _phase(self, phase: str, epoch: int, seconds: float) -> Told | None:
        return self._watch.wait(
            "recovery", lambda told: told.says(phase=phase) and int(str(told.fields["epoch"])) >= epoch, seconds
        )

    def _fetched(self, gone: list[str]) -> dict[str, int]:
        """Bytes of blobs that each node has received since it started."""
        return {
            node.name: int(str(moved(self._network, node.name)["received"]))
            for node in self._network.state.nodes
            if node.name not in gone
        }


def moved(network: Network, node: str) -> dict[str, int]:
    """Bytes of blobs that a node has sent and received since it started."""
    counts = network.ask(node, "network.status")["counts"]
    assert isinstance(counts, dict)
    return {way: int(counts.get(f"blob_bytes_{way}", 0)) for way in ("sent", "received")}


def _board(data: Path) -> dict[str, int]:
    """What the board of the one job that ran there says at this moment: its processes may outlive the node a little."""
    pages = [path.read_bytes() for path in data.rglob("snap/board")]
    values = [struct.unpack_from(f"<{len(FIELDS)}Q", page) for page in pages if len(page) == BOARD_BYTES]
    return max((dict(zip(FIELDS, row, strict=True)) for row in values), key=lambda board: board["steps"])
