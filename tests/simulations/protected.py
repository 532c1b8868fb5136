"""Small worlds whose jobs are protected: one long chunk, a handful of hosts that keep its shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from simulations.checkers.custody import Custody
from simulations.losses import Losses
from simulations.scenario import NS, Arrival, Duration, Group, Injection, Jobs, Pipe, Scenario, Topology
from simulations.tasks import Task
from simulations.world import World
from tests.simulations.small import planned, scenario

MB: Final = 1_000_000
JOBS: Final = Jobs(
    arrival=Arrival(model="regular", per_hour=720),
    chunks=1,
    chunk_time=Duration(model="fixed", value=120 * NS),
    audit=0.0,
    limit=1,
    state=(50 * MB,),
)
"""One chunk of two minutes that has 50 MB of state."""

LINE: Final = Topology(
    latency="uniform", delay=20_000_000, bandwidth={"home": Pipe(share=1.0, up=100 * MB, down=200 * MB)}
)


def protected(seconds: float = 100, settle: float = 400, providers: int = 14, jobs: Jobs = JOBS) -> Scenario:
    """A validator, a steward, and providers enough for 8 of 14."""
    plan = msgspec.structs.replace(planned(seconds, settle), replicas="shared")
    return scenario(jobs=jobs, plan=plan, providers=Group(n=providers, gpus="uniform"), topology=LINE)


class Staged:
    """A world under the checker, stopped whenever a test wants to look."""

    def __init__(self, given: Scenario, seed: int = 1, faults: Sequence[Injection] = ()) -> None:
        self.custody, self.losses = Custody(), Losses()
        self.world = World(given, seed, faults, [self.custody, self.losses])

    def run(self) -> World:
        """To the end."""
        self.world.run()
        return self.world

    @property
    def tasks(self) -> dict[int, Task]:
        """Executions of the only chunk, by epoch."""
        found = self.world.driver.worker.protecting.tasks
        return {int(name.rpartition("-")[2]): task for name, task in found.items()}


def worker_of(given: Scenario, seed: int = 1) -> int:
    """Who gets the first lease in this world, when nothing goes wrong: faults can be aimed at it."""
    short = msgspec.structs.replace(given.simulation, duration=15 * NS, settle=0)
    stage = Staged(msgspec.structs.replace(given, simulation=short), seed)
    stage.world.run()
    return stage.tasks[1].peer.index
