"""The random world of one seed. Ranges: VOPR's (TigerBeetle, 2024), as the project's test list gives them."""

from __future__ import annotations

from random import Random
from typing import Final, TypeVar

from msgspec import structs

from simulations import chance
from simulations.scenario import (
    NS,
    Adversary,
    Arrival,
    Duration,
    Fault,
    Group,
    Jobs,
    Population,
    Role,
    Scenario,
    Simulation,
    Topology,
    Workload,
)

T = TypeVar("T")

MS: Final = NS // 1_000
"""Nanoseconds in a millisecond."""

SETTLE: Final = 900 * NS
"""Length of the settle phase, ns: the longest honest wait is an auditor that was lost with its host, 9.5 minutes. A run
ends earlier when nothing is left to wait for."""

SETTLE_MANY: Final = 60 * NS
"""The same with four validators, where only replicas must come to rest."""

CORRUPT_MAX: Final = 0.3
"""Share of chunks that a bad host gets wrong at most."""

JUMP_MAX: Final = 288.0
"""Seconds by which a provider's clock steps at most (Jepsen's clock nemesis)."""

STEWARD_JUMP_MAX: Final = 20.0
"""The same for stewards: whose clock is off by more than the skew that peers allow is heard by nobody, by design."""


HEIRS: Final = 0.2
"""Share of worlds whose jobs are of units and take snapshots, so that others go on with what was begun."""

FORGERS: Final = 0.7
"""Share of those in which a provider invents units and is then lost."""


def scenario_of(seed: int) -> Scenario:
    """A small world, drawn from the seed alone."""
    random = chance.stream(seed, "swarm", "heirs")
    found = _any(seed)
    return _with_heirs(found, random) if random.random() < HEIRS else found


def _any(seed: int) -> Scenario:
    random, extra = chance.stream(seed, "swarm"), chance.stream(seed, "swarm", "proof")
    duration = _between(random, 60, 180) * NS
    chunks = _between(random, 2, 8)
    mean = _between(random, 300, 10_000) * MS
    jobs = _between(random, 1, 5)
    validators = 4 if random.random() < 0.3 else 1
    return Scenario(
        name=f"swarm-{seed}",
        simulation=Simulation(
            duration=duration,
            settle=SETTLE if validators == 1 else SETTLE_MANY,
            warmup=_between(random, 1, 5) * NS,
            seeds=(seed,),
            wire="checked",
            replicas="own",
            gossip="gossipsub" if random.random() < 0.3 else "direct",
            economics="default" if extra.random() < 0.5 else "none",
        ),
        topology=_topology(random),
        population=_population(random, validators),
        workload=Workload(
            jobs=Jobs(
                arrival=Arrival(model="poisson", per_hour=jobs * 3_600 * NS * 2 / duration),
                chunks=chunks,
                reduce=random.random() < 0.3,
                chunk_time=Duration(model="lognormal", value=mean, sigma=0.5),
                output=_between(random, 1, 1 << 20),
                audit=_pick(random, (0.1, 0.3, 1.0)),
                units=_pick(extra, (0, 0, 1, 6)),
                numeric=_pick(extra, ("D1", "D3")),
                limit=jobs,
            )
        ),
        faults=_faults(random, duration),
    )


def _topology(random: Random) -> Topology:
    least, mean = _between(random, 0, 30) * MS, _between(random, 30, 100) * MS
    return Topology(
        latency="uniform",
        delay=mean,
        jitter=(mean - least) / (2 * mean),  # The shortest is two deviations below the mean.
        loss=_share(random, 0.5, 0.3),
        replay=_share(random, 0.5, 0.5),
    )


def _population(random: Random, validators: int) -> Population:
    bad = random.random() < 0.3
    return Population(
        validators=Group(n=validators, slots=0, gpus="uniform"),
        stewards=Group(n=_between(random, 1, 3), slots=0, gpus="uniform"),
        providers=Group(
            n=_between(random, 3, 8),
            slots=_between(random, 1, 3),
            gpus="uniform",
            straggle=_share(random, 0.5, 0.1),
            corrupt=_share(random, 1.0, CORRUPT_MAX) if bad else 0.0,
        ),
    )


def _with_heirs(found: Scenario, random: Random) -> Scenario:
    """The same world with fewer, longer chunks of units, snapshots of them, and hosts that are lost meanwhile."""
    plan, load, people = found.simulation, found.workload.jobs, found.population
    assert load is not None
    work = structs.replace(
        load,
        arrival=Arrival(model="regular", per_hour=120),
        chunks=_between(random, 3, 6),
        chunk_time=Duration(model="lognormal", value=_between(random, 20_000, 40_000) * MS, sigma=0.3),
        limit=min(load.limit, 3),
        audit=_pick(random, (0.3, 1.0, 1.0)),
        units=_between(random, 4, 8),
        samples=_pick(random, (4, 8)),
        state=(_between(random, 1 << 12, 1 << 22),),
        every=_between(random, 1, 3) * NS,
    )
    # Ten others at most: from eleven on a snapshot is put on shards that more hosts must take than there are providers.
    providers = structs.replace(people.providers, n=8 if people.validators.n == 1 else 5, straggle=0.0)
    stewards = structs.replace(people.stewards, n=min(2, people.stewards.n))
    forger = Adversary(
        strategy="prefix-forger",
        n=3,
        options={
            "share": _pick(random, (0.5, 1.0)),
            "away": _between(random, 20, 90),
            "frames": int(random.random() < 0.5),
        },
    )
    return structs.replace(
        found,
        simulation=structs.replace(plan, duration=max(120 * NS, plan.duration)),
        population=structs.replace(people, stewards=stewards, providers=providers),
        workload=Workload(jobs=work),
        faults=(*(fault for fault in found.faults if random.random() < 0.5), _loss_of_workers(random)),
        adversaries=(_pick(random, (forger, forger, _junk(random))),) if random.random() < FORGERS else (),
    )


def _junk(random: Random) -> Adversary:
    """Hosts that hand over what was never computed: in a snapshot that opens for nobody, or in one that does."""
    options: dict[str, float | int | str] = {"junk": int(random.random() < 0.7), "away": _between(random, 20, 90)}
    return Adversary(strategy="junk-snapshot", n=3, options=options)


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def _faults(random: Random, duration: int) -> tuple[Fault, ...]:
    """Every kind with its own chance, so that some seeds have few and some have all of them."""
    found: list[Fault] = []
    chances = (
        (0.6, _partition),
        (0.4, _partition),
        (0.6, _provider_kill),
        (0.4, _steward_kill),
        (0.5, _validator_kill),
        (0.4, _clog),
        (0.3, _loss),
        (0.3, _clock),
        (0.3, _disk),
        (0.2, _corrupt),
    )
    for likely, make in chances:
        if random.random() < likely:
            found.append(make(random, duration))
    return tuple(found)


def _partition(random: Random, duration: int) -> Fault:
    """Four modes: validators alone, stewards alone, providers alone, and a side that is drawn; each may be one-way."""
    groups: tuple[str, ...] = _pick(random, (("validators",), ("stewards",), ("providers",), ()))
    return Fault(
        kind="partition",
        at=_start(random, duration),
        every=_between(random, 15, 60) * NS,
        last=_between(random, 1, 40) * NS,
        groups=groups,
        one_way=random.random() < 0.4,
    )


def _kill(random: Random, duration: int, role: Role, n: int) -> Fault:
    """A kill -9, or (80–100 % of them) a power cut in the middle of a write."""
    return Fault(
        kind="kill",
        at=_start(random, duration),
        every=_between(random, 10, 60) * NS,
        role=role,
        n=n,
        last=_between(random, 500, 40_000) * MS,
        disk="torn" if random.random() < 0.9 else "lost",
    )


def _loss_of_workers(random: Random) -> Fault:
    """Often enough that some chunk is begun, snapshot and lost."""
    return Fault(
        kind="kill",
        at=_between(random, 15, 30) * NS,
        every=_between(random, 15, 30) * NS,
        role="provider",
        n=1,
        last=_between(random, 15, 40) * NS,
        disk="torn",
    )


def _provider_kill(random: Random, duration: int) -> Fault:
    return _kill(random, duration, "provider", _between(random, 1, 2))


def _steward_kill(random: Random, duration: int) -> Fault:
    return _kill(random, duration, "steward", 1)


def _validator_kill(random: Random, duration: int) -> Fault:
    return _kill(random, duration, "validator", 1)


def _clog(random: Random, duration: int) -> Fault:
    return Fault(
        kind="clog",
        at=_start(random, duration),
        every=_between(random, 5, 30) * NS,
        role=_pick(random, ("provider", "steward", "validator")),
        n=1,
        last=_between(random, 100, 2_000) * MS,
        amount=_between(random, 100, 5_000) / 1_000,
    )


def _loss(random: Random, duration: int) -> Fault:
    return Fault(
        kind="loss",
        at=_start(random, duration),
        every=_between(random, 20, 60) * NS,
        last=_between(random, 1, 15) * NS,
        amount=_between(random, 1, 30) / 100,
    )


def _clock(random: Random, duration: int) -> Fault:
    role: Role = _pick(random, ("provider", "steward"))
    most = JUMP_MAX if role == "provider" else STEWARD_JUMP_MAX
    return Fault(
        kind="clock",
        at=_start(random, duration),
        role=role,
        n=1,
        amount=round((2.0 * random.random() - 1.0) * most, 3) or 1.0,
        drift_ppm=_pick(random, (0.0, 500.0, -500.0)),
    )


def _disk(random: Random, duration: int) -> Fault:
    """What a node must survive: a full disk anywhere, a lying one where nothing was promised to others."""
    role: Role = _pick(random, ("provider", "steward", "validator"))
    disk = "lost" if role == "provider" and random.random() < 0.5 else "full"
    return Fault(
        kind="disk",
        at=_start(random, duration),
        every=_between(random, 20, 60) * NS,
        role=role,
        n=1,
        last=_between(random, 1, 15) * NS,
        disk="lost" if disk == "lost" else "full",
    )


def _corrupt(random: Random, duration: int) -> Fault:
    return Fault(
        kind="corrupt",
        at=_start(random, duration),
        every=_between(random, 20, 60) * NS,
        role="provider",
        n=1,
        last=_between(random, 5, 20) * NS,
        amount=_between(random, 10, 100) / 100,
    )


# ── draws ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _between(random: Random, low: int, high: int) -> int:
    """Both ends included."""
    return low + int(random.random() * (high - low + 1))


def _share(random: Random, likely: float, most: float) -> float:
    """0, or with this chance something up to `most`."""
    return round(random.random() * most, 3) if random.random() < likely else 0.0


def _start(random: Random, duration: int) -> int:
    return int(random.random() * duration * 0.6)


def _pick(random: Random, items: tuple[T, ...]) -> T:
    return items[int(random.random() * len(items))]
