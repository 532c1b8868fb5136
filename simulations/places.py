"""Where the peers of a world live: region, kind of NAT, last mile. Drawn once, before anything happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from protocol.errors import Refused
from simulations.nat import NATS
from simulations.scenario import Pipe, Topology
from simulations.tables.latency import UNIFORM, latency_table

NOWHERE: Final = "everywhere"
"""The name of the only region of a `uniform` world."""

SHARE_TOLERANCE: Final = 0.001
"""By so much may shares miss a sum of 1: thirds are written with three digits."""

RATE_MIN: Final = 1_000
"""Bits per second of the slowest last mile: below it somebody wrote kilobits for bits."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer is attached."""

    region: int
    """Index into `regions(topology)`."""
    nat: str
    """One of simulations.nat.NATS."""
    up: int
    """Bits per second of the uplink; 0: unlimited."""
    down: int
    """Bits per second of the downlink; 0: unlimited."""


def regions(topology: Topology) -> tuple[str, ...]:
    """The names of the regions. Raises Refused for an unknown latency table."""
    return (NOWHERE,) if topology.latency == UNIFORM else latency_table(topology.latency).regions


def delays(topology: Topology) -> list[list[int]]:
    """One-way ns by region of the sender and of the receiver. Raises Refused for an unknown table or negative delay."""
    if topology.latency != UNIFORM:
        return [[ms * 1_000_000 for ms in row] for row in latency_table(topology.latency).delays]
    if topology.delay < 0:
        raise Refused(
            f"topology.delay is {topology.delay} ns",
            code="bad_delay",
            fix="A delay is not negative.",
            numbers={"delay": topology.delay},
        )
    return [[topology.delay]]


def place(topology: Topology, n: int, is_public: Sequence[bool], random: Random) -> list[Place]:
    """Draw the places of n peers; those with `is_public` are behind no NAT.

    Each peer takes three draws, whatever the topology: a change of its last miles moves nobody to another region.
    Raises Refused for an unknown table, for shares that are negative or do not sum to 1, and for rates below RATE_MIN.
    """
    weights = (1,) if topology.latency == UNIFORM else latency_table(topology.latency).weights
    region = _bounds([float(weight) for weight in weights])
    nats, nat = _nats(topology)
    pipes, pipe = _pipes(topology)
    dice = random.random
    places: list[Place] = []
    for index in range(n):
        where, behind, over = _draw(region, dice()), _draw(nat, dice()), _draw(pipe, dice())
        hidden = "public" if is_public[index] else nats[behind]
        places.append(Place(where, hidden, pipes[over].up, pipes[over].down))
    return places


def _nats(topology: Topology) -> tuple[list[str], list[float]]:
    if not topology.nat:
        return ["public"], [1.0]
    shares = {str(name): share for name, share in topology.nat.items()}
    for name in shares:
        if name not in NATS:
            raise Refused(
                f"topology.nat: there is no NAT class {name!r}", code="unknown_nat", fix=f"Use {', '.join(NATS)}."
            )
    _check_shares("topology.nat", shares)
    return list(shares), _bounds(list(shares.values()))


def _pipes(topology: Topology) -> tuple[list[Pipe], list[float]]:
    if not topology.bandwidth:
        return [Pipe(share=1.0, up=0, down=0)], [1.0]
    for name, pipe in topology.bandwidth.items():
        for way, rate in (("up", pipe.up), ("down", pipe.down)):
            if rate < RATE_MIN:
                raise Refused(
                    f"topology.bandwidth.{name}.{way} is {rate} bit/s, less than {RATE_MIN}",
                    code="bad_rate",
                    fix="Write the rate with its unit, for example 50 Mbit/s.",
                    numbers={"rate": rate, "least": RATE_MIN},
                )
    _check_shares("topology.bandwidth", {name: pipe.share for name, pipe in topology.bandwidth.items()})
    return list(topology.bandwidth.values()), _bounds([pipe.share for pipe in topology.bandwidth.values()])


def _check_shares(key: str, shares: dict[str, float]) -> None:
    for name, share in shares.items():
        if not 0.0 <= share <= 1.0:
            raise Refused(
                f"{key}.{name} is {share:g}, not a share", code="bad_share", fix="Shares lie between 0 and 1."
            )
    total = sum(shares.values())
    if abs(total - 1.0) > SHARE_TOLERANCE:
        raise Refused(
            f"the shares of {key} sum to {total:g}, not to 1",
            code="bad_share",
            fix="Make the shares of all classes sum to 1.",
            numbers={"sum": f"{total:g}"},
        )


def _bounds(weights: list[float]) -> list[float]:
    """Upper ends of the intervals that the weights cut [0, 1) into."""
    total, running, ends = sum(weights), 0.0, list[float]()
    for weight in weights:
        running += weight
        ends.append(running / total)
    return ends


def _draw(ends: list[float], dice: float) -> int:
    for index, end in enumerate(ends):
        if dice < end:
            return index
    return max(index for index in range(len(ends)) if index == 0 or ends[index] > ends[index - 1])
