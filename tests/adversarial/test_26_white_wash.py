"""Attack 26: a provider that was slashed comes back under a new name.

The defence: a new name costs a new stake, and its first results are all audited; the formulas make that a loss however
many honest results it hands in before it cheats again.
"""

from __future__ import annotations

import pytest

from protocol import trust
from protocol.operations import commission
from protocol.units import CREDIT, PPM
from tests.protocol.ledger_world import PRICE as LEASE_PRICE
from tests.protocol.ledger_world import PROVIDERS, VALIDATOR, World, claim, verdict
from verifier.sampling import audit_ppm

PRICE = 1 * CREDIT
LEVEL = trust.LEVELS["standard"]
STAKE = trust.stake_min(PRICE, LEVEL) * 101 // 100
HONEST_MARGIN = PRICE // 2
"""Price less the cost of computing: what an honest result leaves."""


def gain_of_cheating_after(valid: int, stake: int = STAKE, floor: int = LEVEL.floor_ppm) -> int:
    """What cheating on the next chunk brings over honest work, for a name with so many valid results, ppm × price."""
    caught = audit_ppm(floor, valid) * trust.panel_ppm(LEVEL.auditors) // PPM
    return PRICE * PPM - caught * (PRICE + stake)


def lives(names: int, honest_before: int) -> int:
    """Sum over names of: honest results, then one cheat that may cost everything; a new name each time."""
    return sum(honest_before * HONEST_MARGIN * PPM + gain_of_cheating_after(honest_before) for _ in range(names))


@pytest.mark.parametrize("valid", [0, 1, 2, 5, 9, 10, 50, 1_000, 10**6])
def test_no_moment_is_good_for_a_cheat(valid: int) -> None:
    assert gain_of_cheating_after(valid) < 0


def test_the_first_results_are_all_but_certain_to_be_audited() -> None:
    assert audit_ppm(LEVEL.floor_ppm, 0) == PPM
    caught = 1.0
    for valid in range(10):
        caught *= 1 - audit_ppm(LEVEL.floor_ppm, valid) / PPM
    assert caught == 0


@pytest.mark.parametrize("honest_before", [0, 1, 5, 10, 100])
def test_every_new_name_loses_against_staying_honest(honest_before: int) -> None:
    honest = (honest_before + 1) * HONEST_MARGIN * PPM
    assert lives(20, honest_before) < 20 * honest


def test_without_a_stake_a_new_name_would_pay() -> None:
    """Why the stake: the same cheat with nothing to lose is worth it as soon as not everything is audited."""
    assert gain_of_cheating_after(10, stake=0) > 0


def test_the_honest_twin_with_a_new_name_is_paid_from_its_first_result_on() -> None:
    world = World()
    before = world.ledger.available("U", PROVIDERS[0].peer)
    escrow = world.leased()
    world.ok(claim(escrow), PROVIDERS[0])
    world.ok(verdict(escrow, is_audited=True), VALIDATOR)
    assert world.ledger.available("U", PROVIDERS[0].peer) - before == LEASE_PRICE - commission(LEASE_PRICE)
