"""Whether a result came faster than the declared device can compute, and whether its times are possible at all.

All counts come from the specification, all times from the issuer's clock. Too fast never slashes: the answer may have
been cached, or bought from somebody with a bigger machine. Spec: specs/38-canaries.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from protocol.errors import Refused
from protocol.gpu_models import MODELS
from protocol.jobspec import JobSpec
from protocol.proof import Proof
from protocol.units import MINUTE, PPM, SECOND, Micros

FASTEST_GFLOPS: Final = 50_000_000
"""Billions of operations per second of the fastest card there is in any format: 50 PFLOPS of a Rubin at four
bits, zeros that it leaves out counted as done (NVIDIA, Vera Rubin NVL72, per GPU)."""

FASTEST_GBPS: Final = 22_000
"""Gigabytes per second of memory of the fastest card: HBM4 of the same card."""

CORE_GFLOPS: Final = 10_240
"""Billions of operations per second of the fastest core of a processor: AMX does 2,048 operations of 8 bits in a cycle
(Intel, optimization reference manual), at 5 GHz, faster than any processor that has it."""

HOST_GBPS: Final = 3_300
"""Gigabytes per second of memory of a machine with two of the fastest sockets: 1.6 TB/s each (AMD, EPYC "Venice"). One
core cannot use it all, but nothing keeps it from what the others leave."""

SLOW_SHARE_PPM: Final = 800_000
"""Share of the node's own benchmark time below which it is looked at more often: caches and clocks explain a fifth."""

CLOCK_SKEW_MAX: Final = Micros(5 * SECOND)
"""Microseconds that a timestamp may be ahead of the issuer's clock, as for offers and greetings."""

AGE_MAX: Final = Micros(10 * MINUTE)
"""Microseconds that a receipt may be old when it is handed in, where it is not held until then."""

RAISED: Final = 2
"""Factor on the audit probability of a node that is suspiciously fast."""

Speed = Literal["plausible", "fast", "impossible_speed"]

# NVIDIA: data sheets of Blackwell Ultra and of HGX B200, H200, H100, A100 80 GB (SXM), L40S and T4; whitepapers of the
# architectures Blackwell, Ada and GA102 for GeForce. AMD: data sheets of Instinct MI355X, MI325X and MI300X. What a
# sheet gives with sparsity is halved; where FP8 is faster than INT8 (B300) it is FP8.
DEVICES: Final[dict[str, tuple[int, int]]] = {
    "GB300": (5_000_000, 8_000),
    "B300": (5_000_000, 8_000),
    "GB200": (5_000_000, 8_000),
    "B200": (4_500_000, 8_000),
    "MI355X": (5_030_000, 8_000),
    "MI325X": (2_615_000, 6_000),
    "H200": (1_979_000, 4_800),
    "H100": (1_979_000, 3_350),
    "A100": (624_000, 2_039),
    "L40S": (733_000, 864),
    "RTX5090": (838_000, 1_792),
    "RTX4090": (661_000, 1_008),
    "RTX3090": (284_000, 936),
    "RTX3060": (102_000, 360),
    "T4": (130_000, 320),
    "MI300X": (2_615_000, 5_300),
}
"""Model -> (peak billions of 8-bit operations per second, dense; gigabytes per second of memory), by its makers' data
sheets. A model that is not listed counts as the fastest: it is then only the hard floor that binds."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a chunk takes at least, from its specification."""

    gflop: int
    """Billions of operations."""
    moved_bytes: int = 0
    """Bytes that must go through memory at least once."""
    tokens: int = 0
    weight_bytes: int = 0
    """Bytes of active weights, read once per token and batch of one."""


@dataclass(frozen=True, slots=True)
class Device:
    """A declared device: what it can do at best, times its count."""

    gflops: int
    gbps: int
    count: int = 1

    @classmethod
    def of(cls, model: str, count: int = 1) -> Device:
        """A model of `protocol.gpu_models` as its makers describe it. Raises `Refused` (`unknown_gpu`)."""
        if not any(model in models for models in MODELS.values()):
            raise Refused(
                f"no card is called {model[:40]!r}", code="unknown_gpu", fix="Use a name of the list of GPUs."
            )
        gflops, gbps = DEVICES.get(model, (FASTEST_GFLOPS, FASTEST_GBPS))
        return cls(gflops, gbps, count)


def hard_floor(spec: JobSpec) -> Micros:
    """Microseconds below which no machine that there is does a chunk of this job, by what its proof says of the work:
    with as many of the fastest cards as it asks for, or with its cores. 0 where it says nothing."""
    proof, gpu = spec.proof, spec.resources.gpu
    if not isinstance(proof, Proof):
        return Micros(0)
    counts = Counts((proof.flops or 0) // 10**9, proof.bytes_moved or 0)
    if gpu.count:
        return t_min(counts, Device(FASTEST_GFLOPS, FASTEST_GBPS, gpu.count))
    cores = -(-spec.resources.cpus_milli // 1000)
    return t_min(counts, Device(CORE_GFLOPS * cores, HOST_GBPS))


@dataclass(frozen=True, slots=True)
class Receipts:
    """When a chunk was issued and claimed, on the issuer's clock, and how far away its executor is."""

    issued: Micros
    claimed: Micros
    rtt: int
    """µs: the best round trip ever seen to it."""

    @property
    def elapsed(self) -> int:
        """µs that it had at most, as the best case of the network would have it."""
        return max(0, self.claimed - self.issued - self.rtt // 2)


def t_min(counts: Counts, device: Device) -> Micros:
    """Microseconds below which the work cannot have been done: by arithmetic, by memory, or token after token.

    >>> t_min(Counts(gflop=1_979_000), Device.of("H100"))
    1000000
    """
    count = max(1, device.count)
    arithmetic = counts.gflop * SECOND // (device.gflops * count)
    memory = counts.moved_bytes * SECOND // (device.gbps * count * 10**9)
    decoding = counts.tokens * counts.weight_bytes * SECOND // (device.gbps * count * 10**9)
    return Micros(max(arithmetic, memory, decoding))


def judge(counts: Counts, count: int, receipts: Receipts, bench: int, declared: Device | None = None) -> Speed:
    """`bench`: µs that the node's own benchmark says this work takes; 0: not measured. `count`: devices it declared."""
    hardest = t_min(counts, Device(FASTEST_GFLOPS, FASTEST_GBPS, count))
    if receipts.elapsed < hardest:
        return "impossible_speed"
    expected = max(bench * SLOW_SHARE_PPM // PPM, t_min(counts, declared) if declared is not None else 0)
    return "fast" if receipts.elapsed < expected else "plausible"


def raised(rate_ppm: int, speed: Speed) -> int:
    """Share of a node's results to audit after such a result, ppm; and it is never slashed for that.

    >>> raised(100_000, "plausible"), raised(100_000, "fast"), raised(100_000, "impossible_speed")
    (100000, 200000, 1000000)
    """
    return {"plausible": rate_ppm, "fast": min(PPM, RAISED * rate_ppm), "impossible_speed": PPM}[speed]


def check_time(stamped: int, received: int, not_before: int, beacon_time: int | None = None) -> None:
    """A time that somebody wrote into a message against the clock of who received it, µs.

    `not_before`: of what must have happened earlier (the grant, the block). `beacon_time`: when the newest beacon that
    the message contains came to be; who back-dates a message cannot have known it. Raises `Refused` (`bad_time`)."""
    earliest = max(not_before, received - AGE_MAX, beacon_time if beacon_time is not None else 0)
    if not earliest - CLOCK_SKEW_MAX <= stamped <= received + CLOCK_SKEW_MAX:
        raise Refused(
            f"a time of {stamped}, between {earliest} and {received} are possible",
            code="bad_time",
            fix="Set the clock of that machine.",
            numbers={"stamped": stamped, "earliest": earliest, "received": received},
        )
