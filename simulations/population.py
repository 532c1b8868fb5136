"""Who lives in a world: identities, hosts and roles of all peers, and the genesis that gives them money."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from msgspec import UNSET

from protocol import wire
from protocol.genesis import Genesis
from protocol.identity import Identity
from protocol.messages import Capability, Runtime
from protocol.offers import OFFER_INTERVAL, OFFER_LIFE_MAX, Executor, Terms
from protocol.policy import Policy
from protocol.units import GIB, SECOND, Credits, Micros
from simulations import chance
from simulations.addresses import address_of
from simulations.clock import START, Clock
from simulations.compute import Computer
from simulations.disk import Disk
from simulations.library import Library
from simulations.queue import Queue
from simulations.scenario import Group, Role, Scenario
from simulations.simpeer import SimPeer
from simulations.tables import gpus
from simulations.workload import RUNTIME, UNIT_RUNTIME

CHAIN = "simulation"
FUNDS = 1 << 44
"""What a steward's renters have, smallest units: 17 million credits, more than any scenario spends."""

OFFSET_NS = 50_000_000
"""Standard deviation of the peers' clocks, ns: what NTP leaves on home machines."""

INTERVAL_SPREAD = 0.1
"""Offers of different peers come at intervals that differ by up to this share: otherwise all would speak at once."""

EXECUTORS: Final[tuple[Executor, ...]] = ("bwrap",)
"""The tiers of all simulated hosts."""

DIGEST = wire.digest(b"simulated python")
"""The digest of the one runtime that all simulated hosts have."""

PLAIN: Final = (Runtime(RUNTIME, DIGEST),)
"""What hosts offer."""

WITH_UNITS: Final = (*PLAIN, Runtime(UNIT_RUNTIME, DIGEST))
"""What they offer in worlds whose jobs have units."""


@dataclass(frozen=True, slots=True)
class Birth:
    """What is needed to make one peer."""

    name: str
    role: Role
    group: Group
    is_carrying: bool = True


def births(scenario: Scenario) -> list[Birth]:
    """Everybody whom the population names: validators first, then stewards, then providers."""
    groups = scenario.population.groups.items()
    return [Birth(f"{role}-{number}", role, group) for role, group in groups for number in range(group.n)]


def life_max(scenario: Scenario) -> Micros:
    """How long an offer may last in a world whose peers speak more seldom than the node's ten seconds."""
    slowest = max(group.offer_interval for group in scenario.population.groups.values())
    return Micros(max(OFFER_LIFE_MAX, slowest // 1_000 * OFFER_LIFE_MAX // OFFER_INTERVAL))


def runtimes(scenario: Scenario) -> tuple[Runtime, ...]:
    """What the hosts of a world have to offer for its jobs."""
    load = scenario.workload.jobs
    return WITH_UNITS if load is not None and load.units else PLAIN


def make_peer(
    index: int,
    birth: Birth,
    seed: int,
    queue: Queue,
    library: Library,
    life: Micros,
    is_custodian: bool = False,
    offered: tuple[Runtime, ...] = PLAIN,
) -> SimPeer:
    """One peer, down and with an empty disk. `life`: how long an offer may last here. `is_custodian`: jobs are
    protected here, so everybody keeps the others' shards, and has an address. `offered`: its runtimes."""
    random = chance.stream(seed, birth.name)
    group = birth.group
    spread = 1.0 + INTERVAL_SPREAD * (2.0 * random.random() - 1.0)
    return SimPeer(
        index=index,
        name=birth.name,
        role=birth.role,
        identity=Identity(chance.digest(seed, birth.name, "identity")),
        seed=seed,
        terms=_terms(birth, random, (address_of(index),) if is_custodian else (), offered),
        clock=Clock(round(random.gauss(0.0, OFFSET_NS))),
        disk=Disk(),
        computer=Computer(
            gpus.deal(group.gpus, random), group.straggle, group.corrupt, chance.stream(seed, birth.name, "computer")
        ),
        library=library,
        queue=queue,
        offer_interval=Micros(max(1, round(group.offer_interval * spread)) // 1_000),
        offer_life_max=life,
        keeps_book=(birth.role != "provider" or is_custodian) and birth.is_carrying,
        is_custodian=is_custodian and birth.is_carrying,
        is_carrying=birth.is_carrying,
    )


POLICY: Final = Policy(dispute_window=5 * SECOND, rule_time=60 * SECOND, has_beacon=True)
"""The default economics with a window that a run of minutes sees the end of."""


def make_genesis(
    peers: list[SimPeer], groups: dict[Role, Group], economics: Literal["none", "default"] = "none"
) -> Genesis:
    """Validators of equal power; stakes for all, funds for those who pay."""
    balances: list[tuple[str, bytes, int]] = []
    for peer in peers:
        stake = groups[peer.role].stake
        if stake and peer.is_carrying:
            balances.append(("S", peer.id, stake))
        if peer.role == "steward" and peer.is_carrying:
            balances.append(("U", peer.id, FUNDS))
    validators = tuple((peer.id, 1) for peer in peers if peer.role == "validator")
    policy = POLICY if economics == "default" else UNSET
    return Genesis(CHAIN, START, validators, tuple(balances), policy)  # type: ignore[arg-type]


def _terms(birth: Birth, random: Random, addresses: tuple[str, ...], offered: tuple[Runtime, ...]) -> Terms:
    group = birth.group
    price = group.price
    if group.price_spread:
        price = round(random.lognormvariate(0.0, group.price_spread) * price)
    slots = group.slots if birth.role == "provider" else 0
    return Terms(
        roles=(birth.role,),
        capability=Capability(8_000, 16 * GIB, 64 * GIB, 100_000_000, 100_000_000),
        addresses=addresses,
        executors=EXECUTORS,
        runtimes=offered,
        slots=slots,
        slots_free=slots,
        price_per_hour=Credits(price if slots else 0),
    )
