"""What the world has to do: jobs that renters submit to stewards, and test statements for studies of gossip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import UNSET, UnsetType

from protocol import wire
from protocol.errors import Refused, Unavailable
from protocol.jobspec import Checkpoint, Chunk, JobSpec
from protocol.proof import Proof, Tolerance
from protocol.units import PPM, SECOND, Credits, JobId, Micros
from simulations import chance
from simulations.arrivals import arrivals
from simulations.scenario import NS, Jobs

if TYPE_CHECKING:
    from simulations.simpeer import SimPeer
    from simulations.world import World

RUNTIME = "python"
"""The runtime of every simulated job without units."""

UNIT_RUNTIME = "torch"
"""The runtime of those with units: a unit program needs NumPy."""

TOLERANCE: Final = Tolerance(t_ok=1_000_000, t_bad=1_000_000_000, profile="simulated")
"""Of D3, parts per trillion: honest fp32 with momentum stays below 1e-6, a learning rate off by 1 % is beyond 1e-3
(specs/33-training-proof.md)."""

TIMEOUT_FACTOR = 30
"""A chunk may take so many times its estimate: a straggler (ten times) with a long tail is not cut off."""

TIMEOUT_MIN = Micros(60 * SECOND)
"""Least time limit of a chunk, µs."""

CHATTER_TOPIC = "chatter"
"""The topic of test statements. Machines never hear of it."""

AGAIN_NS = 5 * NS
"""A renter whose job is refused for want of providers tries again after so many ns."""


def job_spec(load: Jobs, name: str) -> JobSpec:
    """One job of the load. The estimate is the median; a whole day is the most that a time limit may be."""
    estimate = Micros(max(1_000, load.chunk_time.value // 1_000))
    timeout = Micros(min(86_400 * SECOND, max(TIMEOUT_MIN, TIMEOUT_FACTOR * estimate)))
    tolerance: Tolerance | UnsetType = TOLERANCE if load.numeric == "D3" else UNSET
    proof = Proof("training", load.units, min(load.samples, max(1, load.units)), load.auditors, tolerance)
    return JobSpec(
        name=name,
        runtime=UNIT_RUNTIME if load.units else RUNTIME,
        commands=("work",),
        chunks=tuple(Chunk() for _ in range(load.chunks)),
        reduce=("join",) if load.reduce else (),
        timeout=timeout,
        estimate=estimate,
        price_per_hour_max=Credits(load.price_max),
        spend_cap=Credits(1 << 50),
        audit_ppm=round(load.audit * PPM),
        checkpoint=UNSET
        if load.units and not load.state
        else Checkpoint(is_on=bool(load.state), every=Micros(load.every // 1_000)),
        numeric=load.numeric if load.units else "D2",
        proof=proof if load.units else UNSET,
    )


class Workload:
    """Schedules everything at the start; what is refused tries again until the safety phase is over."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._end = world.scenario.simulation.duration
        self.submitted: list[tuple[SimPeer, JobId, int]] = []
        """(steward, job, when it was submitted, ns)."""
        self.refused = 0
        """Jobs that never found a provider."""

    def schedule(self) -> None:
        """Draw all arrivals."""
        world = self._world
        load, start = world.scenario.workload, world.scenario.simulation.warmup
        if load.jobs is not None:
            random = chance.stream(world.seed, "jobs")
            for number, at in enumerate(arrivals(load.jobs.arrival, start, self._end, load.jobs.limit, random)):
                world.queue.at(at, self._arrive, number)
        if load.messages is not None:
            self._chatter_random = chance.stream(world.seed, "chatter")
            self._chatter_gap = round(NS / load.messages.per_second)
            world.queue.at(start + self._chatter_gap, self._chat, load.messages.size)

    def _arrive(self, number: int) -> None:
        """A renter submits to the next steward that is up, and confirms the quote."""
        world = self._world
        load = world.scenario.workload.jobs
        assert load is not None
        stewards = [peer for peer in world.peers if peer.role == "steward" and peer.is_carrying and peer.is_up]
        if not stewards:
            self._again(number)
            return
        peer = stewards[number % len(stewards)]
        spec = job_spec(load, f"job-{number}")
        steward, now = peer.machines.steward, peer.clock.read(world.queue.now)
        try:
            record, _, effects = steward.submit(spec, peer.id, spec.name, now)
            world.library.put(peer.index, wire.encode(spec))
            world.driver.command(peer, steward, lambda _: effects)
            if not peer.is_up:  # Its disk took no more: nobody told the renter that the job is known.
                self._again(number)
                return
            world.driver.command(peer, steward, lambda now: steward.confirm(JobId(record.job), now))
        except (Refused, Unavailable) as error:
            world.recorder.count(f"refused/{error.code}")
            self._again(number)
            return
        self.submitted.append((peer, JobId(record.job), world.queue.now))

    def _again(self, number: int) -> None:
        if self._world.queue.now + AGAIN_NS < self._end:
            self._world.queue.at(self._world.queue.now + AGAIN_NS, self._arrive, number)
        else:
            self.refused += 1

    def _chat(self, size: int) -> None:
        """Somebody says something to everybody; the next in an exponential time."""
        world, random = self._world, self._chatter_random
        if world.queue.now >= self._end:
            return
        up = [peer.index for peer in world.peers if peer.is_up]
        if up:
            world.gossip.publish(up[random.randrange(len(up))], CHATTER_TOPIC, None, size, world.queue.now)
        world.queue.at(world.queue.now + max(1, round(random.expovariate(1.0) * self._chatter_gap)), self._chat, size)
