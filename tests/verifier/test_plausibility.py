"""Speeds and times: what no card can do is noticed, and what an honest node does is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from protocol.errors import Refused
from protocol.gpu_models import MODELS
from protocol.jobspec import Chunk, GpuNeed, JobSpec, Resources
from protocol.proof import Proof
from protocol.units import PPM, SECOND, Micros
from verifier import plausibility
from verifier.plausibility import (
    AGE_MAX,
    CLOCK_SKEW_MAX,
    CORE_GFLOPS,
    DEVICES,
    FASTEST_GBPS,
    FASTEST_GFLOPS,
    HOST_GBPS,
    Counts,
    Device,
    Receipts,
    check_time,
    hard_floor,
    judge,
    raised,
    t_min,
)

NOW = Micros(10**15)
COUNTS = Counts(gflop=10 * 1_979_000)


def receipts(elapsed: float, rtt: float = 0.1) -> Receipts:
    return Receipts(NOW, Micros(NOW + round(elapsed * SECOND)), round(rtt * SECOND))


def test_every_listed_card_is_known_and_slower_than_the_fastest() -> None:
    known = {model for models in MODELS.values() for model in models}
    assert set(DEVICES) <= known
    assert all(gflops <= FASTEST_GFLOPS and gbps <= FASTEST_GBPS for gflops, gbps in DEVICES.values())
    with pytest.raises(Refused):
        Device.of("RTX9999")
    assert Device.of("GTX1060").gflops == FASTEST_GFLOPS, "unknown figures bind nobody"


@given(
    gflop=st.integers(0, 10**9), moved=st.integers(0, 10**15), tokens=st.integers(0, 10**6),
    weights=st.integers(0, 10**12), count=st.integers(1, 64), model=st.sampled_from(sorted(DEVICES)),
)  # fmt: skip
def test_the_hard_floor_is_under_every_card(
    gflop: int, moved: int, tokens: int, weights: int, count: int, model: str
) -> None:
    counts = Counts(gflop, moved, tokens, weights)
    assert t_min(counts, Device(FASTEST_GFLOPS, FASTEST_GBPS, count)) <= t_min(counts, Device.of(model, count))
    assert t_min(counts, Device.of(model, count)) <= t_min(counts, Device.of(model, 1))


@pytest.mark.parametrize(
    ("elapsed", "bench", "declared", "found"),
    [
        (60, 50, "H100", "plausible"),
        (41, 50, "H100", "plausible"),
        (30, 50, "H100", "fast"),
        (9, 0, "H100", "fast"),
        (12, 0, "H100", "plausible"),
        (0.3, 0, "H100", "impossible_speed"),
        (0, 0, "B200", "impossible_speed"),
    ],
)
def test_speeds(elapsed: float, bench: int, declared: str, found: str) -> None:
    assert judge(COUNTS, 1, receipts(elapsed), bench * SECOND, Device.of(declared)) == found


def test_half_the_best_round_trip_is_not_computing_time_and_more_cards_are_faster() -> None:
    edge = t_min(COUNTS, Device(FASTEST_GFLOPS, FASTEST_GBPS)) / SECOND
    assert judge(COUNTS, 1, receipts(edge + 0.04, rtt=0.1), 0) == "impossible_speed"
    assert judge(COUNTS, 1, receipts(edge + 0.06, rtt=0.1), 0) == "plausible"
    assert judge(COUNTS, 8, receipts(edge / 2), 0) == "plausible"


@given(rate=st.integers(0, PPM), speed=st.sampled_from(("plausible", "fast", "impossible_speed")))
def test_speed_only_ever_raises_the_rate(rate: int, speed: plausibility.Speed) -> None:
    assert rate <= raised(rate, speed) <= PPM


@pytest.mark.parametrize(
    ("stamped", "beacon", "is_fine"),
    [
        (NOW, None, True),
        (NOW + CLOCK_SKEW_MAX, None, True),
        (NOW + CLOCK_SKEW_MAX + 1, None, False),
        (NOW - AGE_MAX - CLOCK_SKEW_MAX, None, True),
        (NOW - AGE_MAX - CLOCK_SKEW_MAX - 1, None, False),
        (NOW - 60 * SECOND, NOW - 70 * SECOND, True),
        (NOW - 60 * SECOND, NOW - 50 * SECOND, False),
        (0, None, False),
    ],
)
def test_times(stamped: int, beacon: int | None, is_fine: bool) -> None:
    if is_fine:
        check_time(stamped, NOW, 0, beacon)
        return
    with pytest.raises(Refused) as caught:
        check_time(stamped, NOW, 0, beacon)
    assert caught.value.code == "bad_time"


def test_a_claim_is_not_older_than_its_grant() -> None:
    with pytest.raises(Refused):
        check_time(NOW - 60 * SECOND, NOW, NOW - 10 * SECOND)


def job(cards: int = 0, cores: int = 1, proof: Proof | None = None) -> JobSpec:
    resources = Resources(cpus_milli=1000 * cores - 500, gpu=GpuNeed(count=cards))
    said = UNSET if proof is None else proof
    return JobSpec(name="job", runtime="torch", commands=("work",), chunks=(Chunk(),), resources=resources, proof=said)


SAYS = Proof("training", flops=100 * CORE_GFLOPS * 10**9, bytes_moved=10**12)


def test_a_job_that_says_nothing_of_its_work_is_never_too_fast() -> None:
    assert hard_floor(job()) == hard_floor(job(proof=Proof("training"))) == 0


def test_the_floor_of_a_job_is_that_of_what_it_asks_for() -> None:
    assert hard_floor(job(cores=1, proof=SAYS)) == 100 * SECOND
    assert hard_floor(job(cores=4, proof=SAYS)) == 25 * SECOND
    memory = Proof("training", bytes_moved=10 * HOST_GBPS * 10**9)
    assert hard_floor(job(cores=1, proof=memory)) == hard_floor(job(cores=64, proof=memory)) == 10 * SECOND
    one, eight = (hard_floor(job(cards=cards, proof=SAYS)) for cards in (1, 8))
    assert one == 10**12 * SECOND // (FASTEST_GBPS * 10**9) and eight == one // 8
