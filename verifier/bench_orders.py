"""What an offer claims, which seeded benchmark fits the claim, and how long an honest host takes for it.

An order follows from the claim alone: nobody can be asked for more work than its own offer says is a second's.
Spec: specs/41-benchmarks.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from protocol.bench_messages import PRODUCTS_MAX, BenchKind, BenchRequest
from protocol.errors import Refused
from protocol.gpu_models import canonical_name
from protocol.messages import Offer
from protocol.units import SECOND, Micros
from verifier.gpu_challenge import STANDARD_SIZE, Challenge
from verifier.plausibility import DEVICES, Device

CPU_SIZE: Final = 1_024
"""Rows of a matrix in a processor's benchmark: it and its product lie in a core's caches, more or less."""

CPU_TARGET: Final = 1.0
"""Seconds that the offered processor needs for all products: much longer than a trip, and soon over."""

PRODUCT_OF_FLOP: Final = 2
"""Operations of a product for each that an offer's `cpu_gflops` claims: its kernel adds pairs of 64-bit numbers, and
any processor does at least twice as many of 32 bits."""

UNLISTED_GFLOPS: Final = 4_000
"""Billions of operations per second that a card has at least whose data sheet is not in `DEVICES`."""

SPARE: Final = SECOND
"""µs for both peers' own loops, and for copies to a card and back."""

Code = Literal["plausible", "too_slow", "wrong_row", "no_answer", "unknown_gpu"]

KINDS: Final[tuple[BenchKind, ...]] = ("cpu", "gpu")

DOUBTED: Final = frozenset({"too_slow", "wrong_row"})
"""Findings that put everything of this host to the test: it said what is not so."""

NOT_COUNTED: Final = DOUBTED | {"no_answer", "unknown_gpu"}
"""Findings with which a claimed card is none."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a benchmark found; claimed and shown in millions of 8-bit operations per second."""

    code: Code
    claimed: int
    shown: int
    took: Micros = Micros(0)
    limit: Micros = Micros(0)
    at: Micros = Micros(0)


def claimed(offer: Offer, kind: BenchKind, card: int = 0) -> int:
    """Millions of 8-bit operations per second that an offer claims; 0: nothing, or nothing that can be known."""
    if kind == "cpu":
        return offer.capability.cpu_gflops * PRODUCT_OF_FLOP
    if card >= len(offer.capability.gpus):
        return 0
    gpu = offer.capability.gpus[card]
    if gpu.gemm_gflops:
        return gpu.gemm_gflops * 1_000
    name = canonical_name(gpu.name)
    try:
        device = Device.of(name)
    except Refused:
        return 0
    return (device.gflops if name in DEVICES else UNLISTED_GFLOPS) * 1_000


def order(bench: bytes, kind: BenchKind, card: int, claim: int) -> BenchRequest:
    """The benchmark for such a claim: always the same, so that nobody can be asked for more than it offers."""
    if kind == "gpu":
        return BenchRequest(bench, kind, card, STANDARD_SIZE, 1)
    count = round(CPU_TARGET * claim * 1e6 / (2 * CPU_SIZE**3))
    return BenchRequest(bench, kind, 0, CPU_SIZE, min(PRODUCTS_MAX, max(1, count)))


def limit(request: BenchRequest, claim: int) -> Micros:
    """µs that whoever claims this has, without the round trip."""
    return Micros(Challenge(b"", request.size, request.count).limit(claim / 1_000, SPARE))
