"""Small worlds for tests: a handful of peers, a job or two, a minute or two of simulated time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from protocol.completions import Completion
from protocol.job_record import JobRecord
from simulations.checkers.registry import checkers
from simulations.meter import Meter
from simulations.observer import Observer
from simulations.recorder import Row
from simulations.scenario import (
    NS,
    Adversary,
    Arrival,
    Check,
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

VALIDATOR: Final = 0
STEWARD: Final = 1
PROVIDER: Final = 2
"""Indices of the first peer of each role where `scenario` was asked for one validator and one steward."""

PLAN: Final = Simulation(duration=40 * NS, settle=40 * NS, warmup=5 * NS, gossip="direct")
"""Faults for 40 s and as long to settle, a replica for each peer."""

JOBS: Final = Jobs(
    arrival=Arrival(model="regular", per_hour=720),
    chunks=4,
    chunk_time=Duration(model="fixed", value=8 * NS),
    audit=0.5,
    limit=1,
)
"""One job as soon as the warm-up is over."""

PROVIDERS: Final = Group(n=6, gpus="uniform")
TOPOLOGY: Final = Topology(latency="uniform", delay=20_000_000)
CHECKS: Final[tuple[Check, ...]] = ("ledger", "epochs", "acknowledged", "agreement", "faultless", "liveness")
"""Every rule that there is."""


def scenario(
    jobs: Jobs | None = JOBS,
    plan: Simulation = PLAN,
    providers: Group = PROVIDERS,
    stewards: Group = Group(n=1, slots=0),  # noqa: B008  It is frozen.
    validators: int = 1,
    topology: Topology = TOPOLOGY,
    faults: tuple[Fault, ...] = (),
    adversaries: tuple[Adversary, ...] = (),
) -> Scenario:
    """A validator, a steward, six equal providers 20 ms apart, and one job of four chunks."""
    return Scenario(
        name="small",
        simulation=plan,
        topology=topology,
        population=Population(validators=Group(n=validators, slots=0), stewards=stewards, providers=providers),
        workload=Workload(jobs=jobs),
        faults=faults,
        adversaries=adversaries,
    )


def planned(
    duration: float = 40,
    settle: float = 40,
    wire: Literal["checked", "trusted"] = "trusted",
    replicas: Literal["own", "shared"] = "own",
    gossip: Literal["gossipsub", "direct"] = "direct",
) -> Simulation:
    """The plan with other values; times in s."""
    return Simulation(
        duration=round(duration * NS),
        settle=round(settle * NS),
        warmup=5 * NS,
        wire=wire,
        replicas=replicas,
        gossip=gossip,
    )


def load(chunks: int = 4, seconds: float = 8, limit: int = 1, audit: float = 0.5, reduce: bool = False) -> Jobs:
    """The jobs with other values."""
    time = Duration(model="fixed", value=round(seconds * NS))
    return msgspec.structs.replace(JOBS, chunks=chunks, chunk_time=time, limit=limit, audit=audit, reduce=reduce)


def kill(at: float, last: float, *peers: int, torn: bool = False) -> Injection:
    """A kill -9, or a power cut in the middle of the next write. Times in s."""
    return Injection(
        number=0, at=round(at * NS), until=round((at + last) * NS), kind="kill", peers=peers, amount=float(torn)
    )


def cut(at: float, last: float, *peers: int, one_way: bool = False) -> Injection:
    """A partition between these peers and all others. Times in s."""
    until = round((at + last) * NS)
    return Injection(number=0, at=round(at * NS), until=until, kind="partition", peers=peers, one_way=one_way)


def spoil(disk: Literal["torn", "lost", "rot", "full"], at: float, last: float, *peers: int) -> Injection:
    """A fault of disks. Times in s."""
    until = round((at + last) * NS)
    return Injection(number=0, at=round(at * NS), until=until, kind="disk", peers=peers, disk=disk)


def built(given: Scenario, seed: int = 1, faults: Sequence[Injection] = (), *watch: Observer) -> World:
    """A world that has not run, measured and held to the rules."""
    return World(given, seed, faults, [Meter(), *checkers(CHECKS), *watch])


def ran(given: Scenario, seed: int = 1, faults: Sequence[Injection] = (), *watch: Observer) -> World:
    """A world at its end: no rule was broken."""
    world = built(given, seed, faults, *watch)
    world.run()
    return world


def awake(given: Scenario, seed: int = 1) -> World:
    """A world whose peers have started and of which nothing else is scheduled: for tests of one part of it."""
    world = World(given, seed, ())
    world.gossip.start(len(world.peers), 0)
    world.lifecycle.schedule()
    world.queue.run(0)
    return world


def records(world: World) -> list[JobRecord]:
    """Every job that was submitted, as its steward sees it."""
    return [peer.machines.steward.jobs[job].record for peer, job, _ in world.workload.submitted]


def ends(record: JobRecord) -> list[list[str]]:
    """How each attempt of each chunk ended."""
    return [[attempt.end for attempt in chunk.attempts] for chunk in record.chunks]


def measured(world: World) -> tuple[str, list[Row], dict[str, int]]:
    """The auditor's hash, every sample and every count of a run."""
    return world.driver.auditor.hexdigest(), list(world.recorder.rows()), world.recorder.counts


class Answers:
    """Completions that a part of the driver gave, with their times in ns."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.given: list[tuple[int, Completion]] = []

    def give(self, peer: SimPeer, boot: int, completion: Completion) -> None:
        """As `Driver.give`, but kept."""
        if peer.is_up and peer.boots == boot:
            self.given.append((self._world.queue.now, completion))
