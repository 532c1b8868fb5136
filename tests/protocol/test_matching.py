"""Every reason for which an offer does not fit, and the plan a renter sees."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.granting import chunk_price
from protocol.jobspec import Chunk, GpuNeed, JobSpec, Resources
from protocol.matching import exclusion, exclusions, executor, plan, size_class
from protocol.messages import Capability, Gpu, Offer, Runtime
from protocol.reputation import NOBODY, Rank
from protocol.units import GIB, HOUR, SECOND, Credits, Micros, PeerId

NOW = Micros(1_000_000 * SECOND)
RENTER = PeerId(b"r" * 32)
H100 = Gpu("nvidia", "NVIDIA H100 80GB HBM3", 80 * GIB, 0, 0)
CAPABILITY = Capability(8000, 16 * GIB, 100 * GIB, 1, 1, (H100, H100))
OFFER = Offer(
    sequence=1,
    issued=NOW,
    expires=NOW + 45 * SECOND,
    roles=("provider",),
    addresses=(),
    capability=CAPABILITY,
    executors=("bwrap", "wasm"),
    runtimes=(Runtime("python", bytes(32)), Runtime("wasm", bytes(32))),
    slots=2,
    slots_free=1,
    price_per_hour=500_000,
    serves=(),
)
SPEC = JobSpec(name="job", runtime="python", commands=("true",), chunks=(Chunk(),) * 3)
PRICE = chunk_price(OFFER.price_per_hour, SPEC.estimate)


def peer(number: int) -> PeerId:
    return PeerId(bytes([number]) * 32)


def needing(**changes: int) -> JobSpec:
    return msgspec.structs.replace(SPEC, resources=msgspec.structs.replace(Resources(), **changes))


def gpu(count: int = 1, **changes: object) -> JobSpec:
    need = msgspec.structs.replace(GpuNeed(count=count), **changes)
    return msgspec.structs.replace(SPEC, resources=Resources(gpu=need))


def but(**changes: object) -> Offer:
    return msgspec.structs.replace(OFFER, **changes)


CASES = [
    (OFFER, msgspec.structs.replace(SPEC, runtime="torch"), "runtime", {"wanted": "torch"}),
    (but(executors=("wasm",)), SPEC, "executor", {"has": "wasm"}),
    (but(executors=("child",)), SPEC, "executor", {"has": "child"}),
    (but(executors=("bwrap",)), msgspec.structs.replace(SPEC, runtime="wasm", numeric="D0"), "executor", {}),
    (OFFER, msgspec.structs.replace(SPEC, runtime="image:alpine"), "executor", {}),
    (OFFER, needing(cpus_milli=8001), "cpus", {"wanted": 8001, "offered": 8000}),
    (OFFER, needing(memory_bytes=17 * GIB), "memory", {"wanted": 17 * GIB, "offered": 16 * GIB}),
    (OFFER, needing(disk_bytes=101 * GIB), "disk", {"offered": 100 * GIB}),
    (OFFER, gpu(3), "gpu_count", {"wanted": 3, "cards": 2}),
    (but(capability=msgspec.structs.replace(CAPABILITY, gpus=())), gpu(), "gpu_count", {"cards": 0}),
    (OFFER, gpu(vendor="amd"), "gpu_vendor", {"fit": 0}),
    (OFFER, gpu(names=("A100",)), "gpu_name", {"fit": 0, "has": "H100"}),
    (OFFER, gpu(memory_bytes_min=81 * GIB), "gpu_memory", {"fit": 0, "largest": 80 * GIB}),
    (OFFER, gpu(memory_bytes_max=40 * GIB), "gpu_memory", {"fit": 0}),
    (but(price_per_hour=1_000_001), SPEC, "price", {"asked": 1_000_001, "price_per_hour_max": 1_000_000}),
    (
        OFFER,
        msgspec.structs.replace(SPEC, spend_cap=PRICE - 1),
        "budget",
        {"chunk_price": PRICE, "spend_cap": PRICE - 1},
    ),
    (but(slots=0, slots_free=0), SPEC, "no_slots", {"slots": 0}),
    (but(expires=NOW), SPEC, "expired", {"now": NOW}),
    (but(is_draining=True), SPEC, "draining", {}),
    (but(slots_free=0), SPEC, "slots_busy", {"slots": 2}),
]


@pytest.mark.parametrize(("offer", "spec", "code", "numbers"), CASES)
def test_every_dimension_says_why(offer: Offer, spec: JobSpec, code: str, numbers: dict[str, int | str]) -> None:
    reason = exclusion(offer, spec, RENTER, NOW)
    assert reason is not None
    assert (reason.code, reason.numbers | numbers) == (code, reason.numbers)
    assert reason.detail
    assert reason.is_temporary == (code in ("slots_busy", "draining", "expired"))
    assert [found.code for found in exclusions(offer, spec, RENTER, NOW)] == [code]


def test_a_host_that_fits_has_nothing_said_against_it() -> None:
    for spec in (SPEC, gpu(2, vendor="nvidia", names=("H100",), memory_bytes_min=80 * GIB)):
        assert exclusion(OFFER, spec, RENTER, NOW) is None


def test_all_reasons_are_listed() -> None:
    bad = but(executors=(), runtimes=(), slots_free=0, is_draining=True, price_per_hour=10**9, expires=0)
    codes = [found.code for found in exclusions(bad, needing(cpus_milli=9000, memory_bytes=20 * GIB), RENTER, NOW)]
    assert codes == ["runtime", "executor", "cpus", "memory", "price", "expired", "draining", "slots_busy"]


@pytest.mark.parametrize(
    ("executors", "runtime", "serves", "tier"),
    [
        (("docker", "child"), "python", (), "docker"),
        (("child", "runc", "bwrap"), "torch", (), "runc"),
        (("child",), "python", (RENTER,), "child"),
        (("child",), "python", (peer(9),), None),
        (("docker", "wasm"), "wasm", (), "wasm"),
        (("docker",), "wasm", (), None),
        (("docker", "bwrap"), "image:alpine", (), "docker"),
        (("runc", "bwrap", "child"), "image:alpine", (RENTER,), None),
    ],
)
def test_the_strongest_tier_that_may_run_it(executors: object, runtime: str, serves: object, tier: str | None) -> None:
    spec = msgspec.structs.replace(SPEC, runtime=runtime)
    assert executor(but(executors=executors, serves=serves), spec, RENTER) == tier


def test_size_classes() -> None:
    counts = (0, 1, 2, 4, 5, 8, 16, 17)
    sizes = ["cpu", "light", "medium", "medium", "heavy", "heavy", "heavy", "parallel"]
    assert [size_class(gpu(count)) for count in counts] == sizes


def test_a_plan_orders_prices_and_explains() -> None:
    offers = {
        peer(1): OFFER,
        peer(2): but(price_per_hour=1_000_000),
        peer(3): but(slots_free=0),
        peer(4): OFFER,
    }
    ranks = {
        peer(1): Rank(700_000, Credits(1), False),
        peer(2): Rank(900_000, Credits(0), False),
        peer(4): Rank(700_000, Credits(2), False),
    }
    found = plan(offers, msgspec.structs.replace(SPEC, reduce=("true",)), RENTER, ranks, NOW, Random(1))
    assert [candidate.peer for candidate in found.candidates] == [peer(2), peer(4), peer(1)]
    assert [(item.peer, item.code) for item in found.excluded] == [(peer(3), "slots_busy")]
    assert (found.price_min, found.price_max) == (4 * PRICE, 4 * chunk_price(1_000_000, SPEC.estimate))
    assert found.worst_case_loss == SPEC.timeout
    assert found.start_estimate == 2 * SECOND
    assert found.candidates[0].executor == "bwrap"


def test_without_candidates_the_start_says_whether_waiting_helps() -> None:
    busy = plan({peer(1): but(slots_free=0)}, SPEC, RENTER, {}, NOW, Random(1))
    assert busy.start_estimate == 2 * SECOND + SPEC.estimate
    never = plan({peer(1): but(executors=())}, SPEC, RENTER, {}, NOW, Random(1))
    assert (never.start_estimate, never.price_min, never.price_max) == (None, 0, 0)


@given(
    prices=st.lists(st.integers(0, 2_000_000), max_size=8),
    estimate=st.integers(1_000, 10 * HOUR),
    seed=st.integers(0, 2**32),
)
def test_every_offer_is_a_candidate_or_explained(prices: list[int], estimate: int, seed: int) -> None:
    offers = {peer(i + 1): but(price_per_hour=price) for i, price in enumerate(prices)}
    spec = msgspec.structs.replace(SPEC, estimate=estimate, spend_cap=10**12)
    found = plan(offers, spec, RENTER, {}, NOW, Random(seed))
    named = [candidate.peer for candidate in found.candidates] + [item.peer for item in found.excluded]
    assert sorted(named) == sorted(offers)
    for candidate in found.candidates:
        assert candidate.chunk_price == chunk_price(candidate.price_per_hour, Micros(estimate))
        assert found.price_min <= spec.steps * candidate.chunk_price <= found.price_max
        assert candidate.reputation == NOBODY.reputation
