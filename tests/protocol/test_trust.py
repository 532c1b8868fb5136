"""protocol.trust: levels, what they cost, what they catch."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from protocol import jobrules, trust
from protocol.errors import Refused
from protocol.jobspec import Chunk, JobSpec
from protocol.proof import Proof
from protocol.trust import LEVEL_NAMES, LEVELS, Level, Terms
from protocol.units import PPM
from verifier import challenge

levels = st.sampled_from(LEVEL_NAMES)


def spec(trust: Level | None = None, proof: Proof | None = None, audit: int = 100_000, shell: bool = False) -> JobSpec:
    return JobSpec(
        name="x", runtime="torch", commands=("a",), chunks=(Chunk(),), audit_ppm=audit, shell=shell,
        proof=UNSET if proof is None else proof, trust=UNSET if trust is None else trust,
    )  # fmt: skip


def test_without_a_level_the_job_s_own_words_hold() -> None:
    assert trust.terms(spec(audit=50_000)) == Terms(None, 50_000, 1, 1)
    assert trust.terms(spec(proof=Proof("training", 12, 6, 2))) == Terms(None, 100_000, 2, 6)


@pytest.mark.parametrize("level", LEVEL_NAMES)
def test_a_level_raises_what_the_proof_says_and_never_lowers_it(level: Level) -> None:
    found = trust.terms(spec(level, Proof("training", 4096, 7, 3)))
    assert found.floor_ppm == LEVELS[level].floor_ppm
    assert found.auditors == 3
    assert found.samples == max(7, LEVELS[level].samples)


def test_no_more_samples_than_units() -> None:
    assert trust.terms(spec("certain", Proof("training", 5))).samples == 5
    assert trust.terms(spec("certain")).samples == 1


def test_what_a_renter_reaches_into_is_never_audited() -> None:
    assert trust.terms(spec(audit=0, shell=True)).floor_ppm == 0


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [(spec("high", audit=1), "/audit_ppm"), (spec("high", audit=0, shell=True), "/trust")],
)
def test_nonsense_is_refused_with_its_place(wrong: JobSpec, pointer: str) -> None:
    with pytest.raises(Refused) as caught:
        jobrules.check(wrong)
    assert caught.value.numbers["pointer"] == pointer and caught.value.fix


@pytest.mark.parametrize("audit", [100_000, 300_000])
def test_a_level_stands_beside_the_default_or_its_own_share(audit: int) -> None:
    jobrules.check(spec("high", audit=audit))


def test_levels_go_from_less_to_more() -> None:
    for less, more in itertools.pairwise(LEVEL_NAMES):
        a, b = LEVELS[less], LEVELS[more]
        assert a.floor_ppm < b.floor_ppm and a.auditors <= b.auditors and a.samples < b.samples
        assert trust.stake_min(10**6, a) > trust.stake_min(10**6, b)
        assert trust.surcharge_ppm(a, 0) <= trust.surcharge_ppm(b, 0)
    assert LEVELS["standard"].floor_ppm == 100_000  # The owner's number.


def test_the_fixed_units_are_those_of_the_challenge() -> None:
    assert trust.FIXED == challenge.FIXED
    assert all(trust.uniform(k) == k - challenge.fixed(k) for k in range(1, 33))


@given(level=levels, units=st.integers(1, 4096), fraction=st.integers(1, PPM))
def test_chances_are_chances_and_units_make_evidence_cheaper(level: Level, units: int, fraction: int) -> None:
    asked = LEVELS[level]
    assert 0 <= trust.caught_ppm(asked, units, fraction) <= trust.caught_ppm(asked, 0, fraction) <= asked.floor_ppm
    assert trust.evidence_ppm(asked, units) <= trust.evidence_ppm(asked, 0)


def test_a_chance_is_what_dice_say() -> None:
    """4,000 draws of 12 among 44 with 5 bad ones, against the formula."""
    dice = random.Random(1)
    hits = sum(1 for _ in range(4_000) if min(dice.sample(range(44), 12)) < 5)
    assert hits / 4_000 == pytest.approx(trust.hit_ppm(44, 5, 12) / PPM, abs=0.025)


@given(level=levels, price=st.integers(1, 10**9), extra=st.integers(1, 10**9), gain=st.integers(0, PPM))
def test_the_least_stake_is_where_cheating_stops_to_pay(level: Level, price: int, extra: int, gain: int) -> None:
    asked = LEVELS[level]
    least = trust.stake_min(price, asked, gain)
    assert trust.expected_gain(price, least + extra, asked, gain) <= 0
    if least > price:
        assert trust.expected_gain(price, least - price // 10 - 2, asked, gain) >= 0


def test_the_stake_of_the_research_s_table() -> None:
    """S/R for g = R, d = 1: p = 1, 5, 10, 25 %, without and with a fifth of colluding auditors."""
    for floor, alone, fifth in ((10_000, 99, 124), (50_000, 19, 24), (100_000, 9, 11.5), (250_000, 3, 4)):
        asked = Terms(None, floor, 1, 1)
        assert trust.stake_min(10**6, asked, collusion_ppm=0) == alone * 10**6
        assert trust.stake_min(10**6, asked) == fifth * 10**6


@given(fraction=st.integers(1, PPM))
def test_leaving_out_a_part_is_no_better_than_leaving_out_all(fraction: int) -> None:
    """Full slash on any hit: where all does not pay, no part does. 4 of 48 samples are enough."""
    asked, units, price = Terms(None, PPM, 1, 8), 48, 10**6
    bad = -(-units * fraction // PPM)
    stake = trust.stake_min(price, asked, collusion_ppm=0) + price
    caught = trust.hit_ppm(units, bad, trust.uniform(asked.samples))
    assert price * bad // units <= caught * (price + stake) // PPM


@given(floor=st.integers(0, PPM), failed=st.integers(0, 1_000), results=st.integers(0, 1_000))
def test_failures_raise_the_floor_and_nothing_lowers_it(floor: int, failed: int, results: int) -> None:
    failed = min(failed, results)
    raised = trust.floor_under_failures(floor, failed, results)
    assert floor <= raised <= PPM
    if 5 * failed <= results or results < trust.FAILURE_RESULTS:
        assert raised == floor
    elif 0 < floor < PPM and 4 * failed > results:
        assert raised >= min(PPM, floor * 5 // 4)
