"""Attacks 19, 25 to 33 and 38 to 40 lose money: over many seeds, on the node's own ledger, beside honest twins.

The published figures come from 1,000 seeds and more (`python -m simulations.economy`); here as many as take a moment.
"""

from __future__ import annotations

from functools import partial

import pytest

from protocol.disputes import bond_min
from simulations.economy import careers, disputes
from simulations.economy.careers import PRICE, STAKE, Life
from simulations.economy.trials import ATTACKS, trial

SEEDS = 60


@pytest.mark.parametrize("number", ATTACKS)
def test_an_attack_has_a_negative_expected_value(number: str) -> None:
    found = trial(ATTACKS[number][1], SEEDS)
    assert found.bound < 0, found


def test_the_honest_twin_earns() -> None:
    assert all(careers.career(seed, [0.0] * careers.JOBS) > 0 for seed in range(5))


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_small_cheats_lose_as_well(share: float) -> None:
    """A full slash for any proven unit: a cheat on a share of the units saves less and risks the same."""
    assert trial(partial(careers.gain, shares=[share] * 60), 20).bound < 0


@pytest.mark.parametrize("stake", [PRICE + PRICE // 10, STAKE])
def test_one_cheat_after_a_long_record_loses_whatever_the_stake(stake: int) -> None:
    """Who has little to lose is audited the more for it: the floor of the rate follows from price and stake."""
    plan = [0.0] * 30 + [1.0]
    assert trial(partial(careers.gain, shares=plan, life=Life(stake, rests=True)), 150).mean < 0


def test_griefing_costs_the_griefer_at_least_twice() -> None:
    assert disputes.spam_ratio() <= 0.5


def test_who_challenges_himself_loses_half_his_stake() -> None:
    assert disputes.self_challenge(0) <= -STAKE // 2


def test_more_names_do_not_delay_for_longer() -> None:
    """Three rounds, however many appeal."""
    assert (
        disputes.delay(0, 3)
        == disputes.delay(0, 64)
        == -sum(bond_min(careers.POLICY, PRICE, number) for number in (1, 2, 3))
    )
