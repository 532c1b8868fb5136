"""specs/39-trust.md against protocol.trust, protocol.rewards, protocol.qos and protocol.sla."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import specs
from protocol import operations, qos, rewards, sla, trust, units
from protocol.rewards import Work
from protocol.units import PPM, Micros

SPEC = specs.load("39-trust")
SAYS = SPEC.functions
shares = st.integers(0, PPM)
money = st.integers(0, 10**9)


def test_constants_are_those_of_the_code() -> None:
    found = {}
    for module in (units, operations, trust, rewards, qos, sla):
        found.update({name: getattr(module, name) for name in SPEC.constants if hasattr(module, name)})
    assert found == SPEC.constants


def test_levels_are_those_of_the_table() -> None:
    rows = {row["level"]: tuple(int(cell) for cell in list(row.values())[1:]) for row in SPEC.table("levels")}
    assert rows == {name: (one.floor_ppm, one.auditors, one.samples) for name, one in trust.LEVELS.items()}


def test_promises_are_those_of_the_table() -> None:
    rows = {row["tier"]: tuple(int(cell) for cell in list(row.values())[1:]) for row in SPEC.table("promises")}
    found = {name: (one.uptime, one.delivered, one.correct, one.start, one.credit) for name, one in sla.SLA.items()}
    assert rows == {name: row for name, row in found.items() if name != "none"}


@given(level=st.sampled_from(trust.LEVEL_NAMES), units=st.integers(0, 4096))
def test_surcharge(level: trust.Level, units: int) -> None:
    asked = trust.LEVELS[level]
    assert trust.surcharge_ppm(asked, units) == SAYS["surcharge"](asked.floor_ppm, asked.auditors, asked.samples, units)


@given(price=money, level=st.sampled_from(trust.LEVEL_NAMES), units=st.integers(0, 4096))
def test_set_aside(price: int, level: trust.Level, units: int) -> None:
    asked = trust.LEVELS[level]
    said = SAYS["set_aside"](price, asked.floor_ppm, asked.auditors, asked.samples, units)
    assert trust.evidence_price(price, asked, units) == said
    back = trust.price_within(price + said, asked, units)
    assert abs(back - price) <= 1


@given(units=st.integers(1, 300), bad=st.integers(0, 300), samples=st.integers(1, 32))
def test_hits(units: int, bad: int, samples: int) -> None:
    bad = min(bad, units)
    assert trust.hit_ppm(units, bad, samples) == SAYS["hit"](units, bad, samples)


@given(auditors=st.integers(1, 5), collusion=shares)
def test_panels(auditors: int, collusion: int) -> None:
    assert trust.panel_ppm(auditors, collusion) == SAYS["panel"](auditors, collusion)


@given(price=money, level=st.sampled_from(trust.LEVEL_NAMES), gain=shares, collusion=st.integers(0, PPM))
def test_stake(price: int, level: trust.Level, gain: int, collusion: int) -> None:
    asked = trust.LEVELS[level]
    said = SAYS["stake_min"](price, asked.floor_ppm, asked.auditors, gain, collusion)
    assert trust.stake_min(price, asked, gain, collusion) == said


@given(per_chunk=shares, chunks=st.integers(1, 200))
def test_whole_jobs(per_chunk: int, chunks: int) -> None:
    assert trust.caught_in_job_ppm(per_chunk, chunks) == SAYS["in_job"](per_chunk, chunks)


@given(stakes=st.dictionaries(st.text(max_size=2), money, max_size=8), mine=st.frozensets(st.text(max_size=2)))
def test_draws(stakes: dict[str, int], mine: frozenset[str]) -> None:
    assert trust.share_of_draws_ppm(stakes, mine, 10**8) == SAYS["share_of_draws"](stakes, mine, 10**8)


@given(floor=shares, failed=st.integers(0, 500), results=st.integers(0, 500))
def test_floor_under_failures(floor: int, failed: int, results: int) -> None:
    failed = min(failed, results)
    assert trust.floor_under_failures(floor, failed, results) == SAYS["floor_under_failures"](floor, failed, results)


@given(price=money, elapsed=money, expected=money, reputation=shares)
def test_inference_reward(price: int, elapsed: int, expected: int, reputation: int) -> None:
    lines = rewards.inference(Work(price, Micros(elapsed), Micros(expected), reputation))
    assert tuple(line.amount for line in lines) == SAYS["inference"](price, elapsed, expected, reputation)


@given(gpu=st.integers(0, 10**13), per_hour=money, quality=shares, data=shares)
def test_training_reward(gpu: int, per_hour: int, quality: int, data: int) -> None:
    assert rewards.training(Micros(gpu), per_hour, quality, data) == SAYS["training"](gpu, per_hour, quality, data)


@given(exponent=st.integers(-20 * PPM, 20 * PPM))
def test_power_of_two(exponent: int) -> None:
    said = SAYS["exp2"](exponent)
    assert isinstance(said, float)
    assert rewards.exp2(exponent) == pytest.approx(said, rel=1e-9, abs=1)


@given(qualities=st.lists(shares, max_size=40))
def test_performance(qualities: list[int]) -> None:
    assert rewards.performance(qualities) == pytest.approx(SAYS["performance"](qualities), abs=20)


@given(parts=st.tuples(shares, shares, shares, shares, shares))
def test_quality(parts: tuple[int, int, int, int, int]) -> None:
    assert qos.Parts(*parts).score == SAYS["quality"](*parts)
