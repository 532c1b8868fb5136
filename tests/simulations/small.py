"""Small worlds for tests: a handful of peers, a few jobs, minutes of simulated time."""

from __future__ import annotations

import msgspec

from protocol.job_record import JobRecord
from simulations.observer import Observer
from simulations.recorder import Row
from simulations.scenario import (
    NS,
    Arrival,
    Duration,
    Fault,
    Group,
    Injection,
    Jobs,
    Population,
    Scenario,
    Simulation,
    Topology,
    Workload,
)
from simulations.simpeer import SimPeer
from simulations.world import World

PLAN = Simulation(duration=60 * NS, settle=60 * NS, warmup=5 * NS, replicas="own", gossip="direct")
"""A minute of faults and one to settle."""

JOBS = Jobs(
    arrival=Arrival(model="regular", per_hour=720),
    chunks=4,
    chunk_time=Duration(model="fixed", value=8 * NS),
    audit=0.5,
    limit=1,
)
"""One job soon after the warm-up."""


def scenario(
    jobs: Jobs | None = JOBS,
    plan: Simulation = PLAN,
    providers: Group = Group(n=4, gpus="uniform"),  # noqa: B008  A frozen struct.
    validators: int = 1,
    stewards: int = 1,
    topology: Topology = Topology(latency="uniform", delay=20_000_000),  # noqa: B008
    faults: tuple[Fault, ...] = (),
) -> Scenario:
    """A validator, a steward, four equal providers 20 ms apart, and one job of four chunks."""
    return Scenario(
        name="small",
        simulation=plan,
        topology=topology,
        population=Population(
            validators=Group(n=validators, slots=0), stewards=Group(n=stewards, slots=0), providers=providers
        ),
        workload=Workload(jobs=jobs),
        faults=faults,
    )


def changed(plan: Simulation = PLAN, **to: object) -> Simulation:
    """The plan with other values."""
    return msgspec.structs.replace(plan, **to)


def kill(at: float, last: float, *peers: int, torn: bool = False) -> Injection:
    """A kill -9, or a power cut in the middle of a write. Times in s."""
    return Injection(
        number=0, at=round(at * NS), until=round((at + last) * NS), kind="kill", peers=peers, amount=float(torn)
    )
