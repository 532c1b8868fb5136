"""protocol.qos and protocol.sla: scores, tiers, promises, what a broken one is worth."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import qos, sla
from protocol.qos import Measured, Parts
from protocol.reputation import Record
from protocol.sla import SLA, Seen
from protocol.units import PPM, SECOND, Micros

shares = st.integers(0, PPM)
KEPT = Seen(
    observed=Micros(10**9), present=Micros(10**9), leases=100, delivered=100, judged=100, accepted=100,
    start=Micros(1 * SECOND), paid=10**6,
)  # fmt: skip


def test_weights_are_the_owner_s_and_make_one() -> None:
    weights = (qos.LATENCY_WEIGHT, qos.ACCURACY_WEIGHT, qos.UPTIME_WEIGHT, qos.POWER_WEIGHT, qos.COST_WEIGHT)
    assert weights == (300_000, 250_000, 200_000, 150_000, 100_000) and sum(weights) == PPM


def test_nothing_measured_is_half() -> None:
    assert qos.parts(Measured(Record())).score == PPM // 2


def test_parts_of_what_was_measured() -> None:
    record = Record(accepted=90, wrong=10, observed=Micros(100), present=Micros(50))
    known = Measured(record, Micros(500_000), work_per_watt=3, reference_per_watt=4, price=200, median_price=100)
    assert qos.parts(known) == Parts(500_000, 900_000, 500_000, 750_000, 500_000)


@given(parts=st.tuples(shares, shares, shares, shares, shares), index=st.integers(0, 4), more=shares)
def test_a_better_part_never_makes_a_worse_score(parts: tuple[int, ...], index: int, more: int) -> None:
    base = Parts(*parts)
    name = fields(Parts)[index].name
    better = replace(base, **{name: min(PPM, getattr(base, name) + more)})
    assert 0 <= base.score <= better.score <= PPM


@pytest.mark.parametrize(
    ("price", "median", "share"), [(0, 100, PPM), (100, 100, PPM), (400, 100, PPM // 4), (None, 100, PPM // 2)]
)
def test_cost_is_the_median_over_the_price(price: int | None, median: int, share: int) -> None:
    assert qos.parts(Measured(Record(), price=price, median_price=median)).cost == share


def test_tiers_need_results() -> None:
    assert [qos.tier(score, 50) for score in (PPM, 899_999, 749_999, 499_999)] == ["gold", "silver", "bronze", "none"]
    assert qos.tier(PPM, 49) == "none"


def test_a_period_without_fault_breaks_nothing() -> None:
    assert all(sla.breaches(tier, KEPT) == () and sla.credit(tier, KEPT) == 0 for tier in SLA)


def test_nothing_seen_breaks_nothing() -> None:
    nothing = Seen(Micros(0), Micros(0), 0, 0, 0, 0, Micros(0), 0)
    assert all(sla.breaches(tier, nothing) == () for tier in SLA)


@pytest.mark.parametrize(
    ("seen", "promise"),
    [
        (replace(KEPT, present=Micros(98 * 10**7)), "uptime"),
        (replace(KEPT, delivered=97), "delivered"),
        (replace(KEPT, accepted=99), "correct"),
        (replace(KEPT, start=Micros(31 * SECOND)), "start"),
    ],
)
def test_each_promise_can_be_broken_alone(seen: Seen, promise: str) -> None:
    (breach,) = sla.breaches("silver", seen)
    assert breach.promise == promise and breach.seen != breach.promised
    assert sla.credit("silver", seen) == 50_000  # A twentieth of what was paid.


def test_credit_has_a_ceiling() -> None:
    worst = Seen(Micros(100), Micros(0), 10, 0, 10, 0, Micros(10**12), 1_000)
    assert len(sla.breaches("gold", worst)) == 4
    assert sla.credit("gold", worst) == 400 <= 1_000 * sla.CREDIT_MAX // PPM


def test_a_higher_tier_promises_no_less() -> None:
    pairs: tuple[tuple[qos.Tier, qos.Tier], ...] = (("gold", "silver"), ("silver", "bronze"))
    for higher, lower in pairs:
        a, b = SLA[higher], SLA[lower]
        assert a.uptime >= b.uptime and a.delivered >= b.delivered and a.correct >= b.correct and a.start <= b.start
