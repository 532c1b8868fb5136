"""A scenario as data: what a researcher's YAML says, every value in its base unit. Spec: specs/17-simulator.md.

Times are integer nanoseconds of the simulation, sizes are bytes, rates are bits per second, shares are 0..1.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

NS: Final = 1_000_000_000
"""Nanoseconds in a second."""

Role = Literal["validator", "steward", "provider"]
"""What a peer of the simulation does: orders and judges; carries jobs for renters; computes."""

Check = Literal["ledger", "epochs", "acknowledged", "agreement", "faultless", "liveness", "custody", "heirs"]
Disk = Literal["torn", "lost", "rot", "full", "dead"]
"""What disks do; dead: the host is gone, and when it comes back its disk is empty."""
Plot = Literal["delivery_cdf", "makespan", "payout", "attack_cost", "throughput", "timeline"]


class Simulation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    duration: int
    """Length of the safety phase, ns: faults happen in it."""
    settle: int = 0
    """Length of the liveness phase behind it, ns: faults have stopped, no job arrives, and everything must end."""
    warmup: int = 0
    """Jobs and messages start only after this, ns."""
    seeds: tuple[int, ...] = (1,)
    wire: Literal["checked", "trusted"] = "trusted"
    """checked: every message is encoded and decoded on its way, as between real peers; trusted: handed over as is."""
    replicas: Literal["own", "shared"] = "own"
    """own: every peer executes the ledger; shared: stewards and providers read one follower's copy (large worlds)."""
    economics: Literal["none", "default"] = "none"
    """Whether the genesis has a policy: held pay, appeals, full slashes, beacons of the validators."""
    gossip: Literal["gossipsub", "direct"] = "gossipsub"
    """direct: a statement reaches every peer after one network delay; for worlds that do not study gossip."""
    checks: tuple[Check, ...] = (
        "ledger", "epochs", "acknowledged", "agreement", "faultless", "liveness", "custody", "heirs",
    )  # fmt: skip
    stop_on_violation: bool = True


class Pipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A class of last miles."""

    share: float
    up: int
    """Bits per second."""
    down: int
    """Bits per second."""


class Topology(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    latency: str = "ethereum-2025"
    """A table of simulations/tables, or `uniform` (see `delay`)."""
    delay: int = 50_000_000
    """One-way delay, ns, where `latency` is `uniform`."""
    jitter: float = 0.1
    """Standard deviation of a delay as a share of its mean."""
    loss: float = 0.0
    """Packets lost; seen as retransmission delay, since connections are reliable."""
    replay: float = 0.0
    """Direct messages delivered twice (a reconnecting sender)."""
    bandwidth: dict[str, Pipe] = {}
    """Classes of last miles by name; empty: unlimited."""
    nat: dict[Literal["public", "cone", "symmetric"], float] = {}
    """Shares of NAT classes; empty: everybody is public. Validators are always public."""
    relay: bool = True
    """Peers that cannot dial each other meet over a public peer, at the price of its detour."""


class Churn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sessions and absences."""

    model: Literal["weibull", "exponential", "trace"]
    k: float = 1.0
    """Shape of the Weibull sessions."""
    scale: int = 0
    """Scale (weibull) or mean (exponential) of a session, ns."""
    down: int = 600 * NS
    """Mean absence between sessions, ns."""
    daily: float = 0.0
    """How much sessions follow the hours: at the best hour of a host's day they end by this share more seldom, at the
    worst more often."""
    trace: str = ""
    """A file in the Failure Trace Archive's event_trace format."""


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Peers of one role."""

    n: int
    slots: int = 1
    gpus: str = "steam-2024"
    """A mix of simulations/tables: GPU classes and their shares; `uniform`: all alike."""
    churn: Churn | None = None
    price: int = 500_000
    """Median hourly price, smallest units."""
    price_spread: float = 0.0
    """Sigma of the lognormal around it."""
    undercut: float = 0.0
    """Share by which a provider that was idle for a minute lowers its price (price war); never below a tenth."""
    stake: int = 100_000_000
    """Collateral and stake per peer, smallest units."""
    straggle: float = 0.0
    """Share of chunks that take ten times as long."""
    corrupt: float = 0.0
    """Share of chunks whose result is silently wrong."""
    offer_interval: int = 10 * NS
    """Between two publications of an unchanged offer, ns. The node's own is 10 s; larger worlds need longer."""


class Population(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    validators: Group = Group(n=1, slots=0)
    stewards: Group = Group(n=1, slots=0)
    providers: Group

    @property
    def groups(self) -> dict[Role, Group]:
        """By role, in the order in which peers are numbered."""
        return {"validator": self.validators, "steward": self.stewards, "provider": self.providers}


class Duration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A distribution of times."""

    model: Literal["fixed", "exponential", "lognormal"]
    value: int
    """The time (fixed), the mean (exponential) or the median (lognormal), ns."""
    sigma: float = 0.0


class Arrival(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When jobs come: per hour of the simulation."""

    model: Literal["poisson", "regular", "burst"]
    per_hour: float
    burst: int = 1
    """Jobs that come together (burst)."""


NumericClass = Literal["D1", "D3"]
"""Numeric classes of simulated units: the others differ in who may audit, which all simulated hosts may."""


class Jobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    arrival: Arrival
    chunks: int = 8
    reduce: bool = False
    chunk_time: Duration = Duration(model="lognormal", value=90 * NS, sigma=0.6)
    output: int = 1 << 20
    """Bytes that a chunk leaves."""
    price_max: int = 2_000_000
    """Hourly price cap of the renter, smallest units."""
    audit: float = 0.1
    """Least share of chunks that are executed a second time."""
    limit: int = 0
    """Jobs in all; 0: no limit."""
    state: tuple[int, ...] = ()
    """Bytes of state that a snapshot of a chunk has: of one job after the other, in turn. Empty: jobs take none, and
    nobody stands by for them."""
    every: int = 0
    """ns between snapshots as the renter asks for them; 0: the platform chooses."""
    units: int = 0
    """Units that each chunk is cut into and proven by; 0: outputs are compared as a whole."""
    samples: int = 4
    """Units that one audit replays."""
    auditors: int = 1
    """Who must agree with a drawn claim."""
    numeric: NumericClass = "D1"
    """Of units: D1 equal everywhere, D3 within a tolerance that honest machines keep."""


class Chatter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Test statements on a topic of their own, for studies of gossip."""

    per_second: float
    size: int = 1024
    """Bytes."""


class Workload(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    jobs: Jobs | None = None
    messages: Chatter | None = None


FaultKind = Literal[
    "partition", "kill", "clock", "clog", "disk", "loss", "corrupt", "starve", "reclaim", "ambush"
]  # fmt: skip


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One line of the fault list. Who is hit is drawn when the fault happens, from the seed."""

    kind: FaultKind
    at: int = 0
    every: int = 0
    """0: once, at `at`; otherwise from `at` on, again after this, ns."""
    until: int = 0
    """Last time at which it may happen, ns; 0: the end of the safety phase."""
    role: Role | None = None
    """Whom it hits; None: anybody but validators."""
    n: int = 0
    share: float = 0.0
    """Peers hit: `n`, or this share of the role; partitions: the size of one side when no `groups` are named."""
    last: int = 30 * NS
    """How long it lasts, ns (down time, partition, clog, rot …)."""
    groups: tuple[str, ...] = ()
    """Partition: the regions or roles on one side; the rest is the other side."""
    one_way: bool = False
    """Partition: only messages out of the first side are lost."""
    amount: float = 0.0
    """clock: jump in seconds; clog: added delay in seconds; loss: share of packets; corrupt: share of chunks;
    kill: share of the kills that are power cuts in the middle of a write; reclaim: seconds of notice; ambush: seconds
    that the restoring has gone on for."""
    drift_ppm: float = 0.0
    """clock: from now on the clock runs fast by so many parts per million."""
    disk: Disk = "torn"
    together: bool = False
    """kill, disk: with everybody whom it hits, all go that have addresses in the same /16."""


class Adversary(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Peers that cheat."""

    strategy: str
    n: int = 0
    share: float = 0.0
    """How many of the role that the strategy corrupts; strategies that bring peers of their own add `n` peers."""
    at: int = 0
    """When they turn, ns."""
    options: dict[str, float | int | str] = {}


class Outputs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    metrics: Literal["parquet", "csv"] = "parquet"
    trace: float = 0.0
    """Share of peers whose events go into trace.json (Perfetto)."""
    events: bool = False
    """Write events.jsonl.zst: every event of every machine."""
    plots: tuple[Plot, ...] = ("delivery_cdf", "makespan", "payout")


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One experiment."""

    version: Literal[1] = 1
    name: str
    about: str = ""
    simulation: Simulation
    topology: Topology = Topology()
    population: Population
    workload: Workload = Workload()
    faults: tuple[Fault, ...] = ()
    adversaries: tuple[Adversary, ...] = ()
    outputs: Outputs = Outputs()


class Injection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fault that will happen: who, when, for how long. The list of these is what `minimise` shrinks."""

    number: int
    """Its place in the list of the whole run: stays the same when others are left out."""
    at: int
    until: int
    kind: FaultKind
    peers: tuple[int, ...]
    """Indices of the peers hit; for a partition those on the first side."""
    one_way: bool = False
    amount: float = 0.0
    drift_ppm: float = 0.0
    disk: Disk = "torn"
