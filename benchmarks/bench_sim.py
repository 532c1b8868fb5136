"""How fast the simulator is: its queue alone, real machines on it, crowds of peers, and SimPy beside it.

Run by itself with a name, it measures one thing in a process of its own and prints one JSON line: memory is only then
the memory of that thing.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

from benchmarks.report import Aim, Figure
from benchmarks.sim_models import OnQueue, OnSimPy, graph
from simulations.queue import Queue
from simulations.scenario import (
    NS,
    Arrival,
    Duration,
    Group,
    Jobs,
    Population,
    Scenario,
    Simulation,
    Topology,
    Workload,
)
from simulations.world import World

HOLD: Final = 200_000
"""Events of the queue's own measurement."""

SIZES: Final = (100, 1_000, 10_000)
"""Peers of the gossip model beside SimPy."""

COPIES: Final = 400_000
"""Messages of the gossip model, whatever its size."""

OFFERS_EVERY: Final = 1_000 * NS
"""In a world of a thousand peers, ns between two offers of one: the node's 10 s would be 100 offers a second."""

Measured = dict[str, float]


def queue() -> Measured:
    """A thousand chains of events that do nothing but schedule the next."""
    line = Queue()

    def again(left: int) -> None:
        if left:
            line.at(line.now + 1_000 + left % 7, again, left - 1)

    for _ in range(1_000):
        line.at(0, again, HOLD // 1_000)
    start = time.perf_counter()
    line.run(1 << 62)
    return {"rate": line.executed / (time.perf_counter() - start)}


def scenario(providers: int, seconds: float, per_hour: float) -> Scenario:
    """Jobs of twenty chunks among so many providers."""
    return Scenario(
        name="bench",
        simulation=Simulation(duration=round(seconds * NS), replicas="shared", checks=()),
        topology=Topology(),
        population=Population(
            validators=Group(n=1, slots=0, offer_interval=OFFERS_EVERY),
            stewards=Group(n=10, slots=0, offer_interval=OFFERS_EVERY),
            providers=Group(n=providers, offer_interval=OFFERS_EVERY),
        ),
        workload=Workload(
            jobs=Jobs(
                arrival=Arrival(model="poisson", per_hour=per_hour),
                chunks=20,
                chunk_time=Duration(model="lognormal", value=90 * NS, sigma=0.6),
            )
        ),
    )


def handlers() -> Measured:
    """Real machines with nearly nothing else: 20 providers, many short jobs, statements delivered without gossip."""
    jobs = Jobs(
        arrival=Arrival(model="poisson", per_hour=3_000),
        chunks=20,
        chunk_time=Duration(model="lognormal", value=2 * NS, sigma=0.6),
    )
    busy = Scenario(
        name="handlers",
        simulation=Simulation(duration=120 * NS, gossip="direct", replicas="shared", checks=()),
        population=Population(providers=Group(n=20, slots=2), stewards=Group(n=2, slots=0)),
        workload=Workload(jobs=jobs),
    )
    return _world(busy)


def hour() -> Measured:
    """A thousand peers for an hour of the simulation."""
    return _world(scenario(1_000, 3_600, 60))


def crowd() -> Measured:
    """Ten thousand peers for a minute."""
    return _world(scenario(10_000, 60, 60))


def _world(found: Scenario) -> Measured:
    start = time.perf_counter()
    world = World(found, 1)
    seconds: list[float] = []
    world.run(lambda now: seconds.append(time.perf_counter()))
    end = time.perf_counter()
    return {
        "start": seconds[0] - start,
        "run": end - start,
        "events": float(world.events),
        "rate": world.events / (end - start),
        "mib": _peak_mib(),
    }


def engine(name: str, peers: int) -> Measured:
    """The gossip model on one engine."""
    links = graph(peers, 1)
    before = _peak_mib()
    statements = max(1, COPIES // (peers * 8))
    model = OnQueue(links, statements) if name == "queue" else OnSimPy(links, statements)
    start = time.perf_counter()
    events = model.run()
    rate = events / (time.perf_counter() - start)
    return {"rate": rate, "kib_per_peer": (_peak_mib() - before) * 1024 / peers}


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


ALONE: Final[dict[str, Callable[[], Measured]]] = {
    "queue": queue,
    "handlers": handlers,
    "hour": hour,
    "crowd": crowd,
}


def measure(is_long: bool) -> list[Figure]:
    """All figures; the hour of a thousand peers only when there is time for it (minutes)."""
    small = [_alone("queue") for _ in range(3)]
    real = [_alone("handlers") for _ in range(3)]
    figures = [
        Figure("simulator, empty events", "events/s/core", _of(small, "rate"), Aim("least", 50_000.0)),
        Figure("simulator, real machines", "events/s/core", _of(real, "rate"), Aim("least", 15_000.0)),
    ]
    for peers in SIZES:
        ours = [_alone("engine", "queue", str(peers)) for _ in range(3)]
        theirs = [_alone("engine", "simpy", str(peers)) for _ in range(3)]
        ratios = tuple(a["rate"] / b["rate"] for a, b in zip(ours, theirs, strict=True))
        figures += [
            Figure(f"gossip model of {peers:,}, ours", "events/s", _of(ours, "rate")),
            Figure(f"gossip model of {peers:,}, SimPy", "events/s", _of(theirs, "rate")),
            Figure("  ours next to SimPy", "ratio", ratios, Aim("least", 1.0)),
            Figure("  memory of a run, ours", "KiB/peer", _of(ours, "kib_per_peer")),
            Figure("  memory of a run, SimPy", "KiB/peer", _of(theirs, "kib_per_peer")),
        ]
    many = _alone("crowd")
    figures += [
        Figure("10,000 peers, memory", "MiB", (many["mib"],), Aim("most", 2_048.0)),
        Figure("10,000 peers, start and first second", "s", (many["start"],)),
    ]
    if is_long:
        full = _alone("hour")
        figures += [
            Figure("1,000 peers, start and first second", "s", (full["start"],), Aim("most", 5.0)),
            Figure("1,000 peers for an hour", "s", (full["run"],), Aim("most", 600.0), f"{full['events']:,.0f} events"),
            Figure("1,000 peers, memory", "MiB", (full["mib"],)),
        ]
    return figures


def _of(runs: list[Measured], name: str) -> tuple[float, ...]:
    return tuple(run[name] for run in runs)


def _alone(*words: str) -> Measured:
    """In a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bench_sim", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: Measured = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    words = sys.argv[1:]
    print(json.dumps(engine(words[1], int(words[2])) if words[0] == "engine" else ALONE[words[0]]()))
