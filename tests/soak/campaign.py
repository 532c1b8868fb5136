"""A campaign against a devnet: whatever runs is killed at random times and started again, while jobs go on."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from benchmarks.recovery_watch import Watch
from gateway.schemas import ChunkStatus, JobStatus, Money
from protocol.errors import ShoalError
from shoal.client import FINAL_STATES, Client
from shoal.devnet import Devnet
from shoal.devnet_state import DevnetState
from shoal.processes import until

SCRIPT: Final = Path(__file__).parents[2] / "examples" / "transformer" / "train.py"
TORCH: Final = Path(__file__).parents[2] / ".venv-torch" / "bin" / "python"
STEPS: Final = 1_200
"""Optimizer steps of one job: half a minute on an idle core, long enough to be struck several times."""

AT_ONCE: Final = 2
"""Jobs that run beside each other."""

KINDS: Final = ("worker", "worker", "worker", "standby", "holder", "steward", "gateway", "validator")
"""What is struck, in the proportion in which it is."""

PATIENCE_S: Final = 600.0
"""Seconds that a job may take in all, however often its hosts die."""


def reference(folder: Path) -> str:
    """The digest of the weights of an uninterrupted run without any of our code."""
    words = [str(TORCH), str(SCRIPT), "--steps", str(STEPS), "--out", str(folder)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return digest(folder)


def digest(folder: Path) -> str:
    """SHA-256 of weights and history together."""
    names = ("adder.safetensors", "history.json")
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in names)).hexdigest()


@dataclass(slots=True)
class Campaign:
    """What was struck, what was done meanwhile."""

    devnet: Devnet
    state: DevnetState
    client: Client
    folder: Path
    watch: Watch
    random: Random
    script: str
    """The name of the script in this campaign: no other process of the machine has it in its command line."""
    struck: Counter[str] = field(default_factory=Counter)
    jobs: list[str] = field(default_factory=list)

    def run(self, kills: int) -> list[JobStatus]:
        """So many kills; then wait for what still runs. All jobs, each over."""
        shutil.copy(SCRIPT, self.folder / self.script)
        while sum(self.struck.values()) < kills:
            while len(self.running()) < AT_ONCE:
                self.submit()
            time.sleep(self.random.uniform(0.5, 6.0))
            self.strike()
        return [self.client.wait(job, timeout_s=PATIENCE_S) for job in self.jobs]

    def paid(self, job: str) -> Money:
        """The bill of a job that is over, once its dispute windows have closed."""

        def bill() -> Money | None:
            money = self.client.status(job).money
            return money if money is not None and money.pending == 0 else None

        return until(f"{job} is paid", bill, (), PATIENCE_S)

    def submit(self) -> None:
        """One more job."""
        name = f"soak-{len(self.jobs)}"
        path = self.folder / f"{name}.yml"
        path.write_text(
            f"type: task\nname: {name}\nruntime: torch\nfiles: [{self.script}]\n"
            f"commands: ['python {self.script} --steps {STEPS} --out $SHOAL_OUT']\n"
            "resources: {cpu: 1, memory: 2GB, disk: 256MB}\nestimate: 1m\ntimeout: 20m\nattempts: 16\n"
            "checkpoint: {every: 2s}\nmax_price: 0.60\nspend_cap: 10\naudit: 0\n",
            encoding="utf-8",
        )
        job = self.client.submit(path).job
        self.client.confirm(job)
        self.jobs.append(job)

    def running(self) -> list[JobStatus]:
        """Jobs that are not over."""
        return [status for status in map(self.look, self.jobs) if status.state not in FINAL_STATES]

    def look(self, job: str) -> JobStatus:
        """A job's status; a gateway or steward that is just starting is waited for."""
        while True:
            with suppress(ShoalError):
                return self.client.status(job)
            time.sleep(0.2)

    def strike(self) -> None:
        """Kill something, let it lie for a while, start it again."""
        kind = self.random.choice(KINDS)
        name = self._victim(kind)
        if not name:
            return
        self.devnet.kill(name)
        self.struck[kind] += 1
        time.sleep(self.random.uniform(0.0, 3.0))
        self.devnet.restart(name)

    def _victim(self, kind: str) -> str:
        """A node of this kind; empty where there is none now."""
        if kind in ("gateway", "steward", "validator"):
            return kind
        names = {node.peer: node.name for node in self.state.nodes}
        providers = {node.name for node in self.state.nodes if "provider" in node.roles}
        chunks = [status.chunks[0] for status in self.running() if status.chunks]
        workers = {names[chunk.provider] for chunk in chunks if chunk.provider and chunk.state == "running"}
        standbys = {told.node for told in self.watch.find("parked")[-AT_ONCE:]} - workers
        found = {"worker": workers, "standby": standbys, "holder": providers - workers - standbys}[kind]
        return self.random.choice(sorted(found)) if found else ""


def resumed(chunk: ChunkStatus) -> int:
    """Attempts that went on from a snapshot."""
    return sum(1 for attempt in chunk.attempts if attempt.step)
