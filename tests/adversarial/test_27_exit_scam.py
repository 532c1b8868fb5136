"""Attack 27: years of honest results, then one large cheat, on as many chunks at once as can be had.

The defence: the audit floor does not decay, pay is held until disputes are over, and what may be in flight is bounded.
"""

from __future__ import annotations

import pytest

from protocol import exposure, trust
from protocol.operations import commission
from protocol.policy import Policy
from protocol.units import CREDIT, PPM
from tests.protocol.ledger_world import PRICE as LEASE_PRICE
from tests.protocol.ledger_world import (
    PROVIDERS,
    RENTER,
    STEWARD,
    VALIDATOR,
    World,
    assign,
    claim,
    open_escrow,
    verdict,
)
from verifier.sampling import audit_ppm

PRICE = 1 * CREDIT
COLLUSION = 200_000
LEVEL = trust.LEVELS["standard"]
STAKE = trust.stake_min(PRICE, LEVEL) * 101 // 100
CAUGHT = LEVEL.floor_ppm * trust.panel_ppm(LEVEL.auditors) / PPM**2
JOBS = (1, 2, 3, 5, 10, 30, 100, 1_000)


def gain(jobs: int, is_pay_held: bool) -> float:
    """What cheating on `jobs` chunks at once brings, in smallest units. Held: one that is caught forfeits all."""
    escape = (1 - CAUGHT) ** jobs
    if is_pay_held:
        return escape * jobs * PRICE - (1 - escape) * STAKE
    return jobs * (1 - CAUGHT) * PRICE - (1 - escape) * STAKE


@pytest.mark.parametrize("valid", [0, 10, 1_000, 10**9])
def test_no_record_brings_audits_below_the_floor(valid: int) -> None:
    assert audit_ppm(LEVEL.floor_ppm, valid) >= LEVEL.floor_ppm


@pytest.mark.parametrize("jobs", JOBS)
def test_with_held_pay_no_number_of_jobs_is_worth_it(jobs: int) -> None:
    assert gain(jobs, is_pay_held=True) < 0


def test_one_job_is_the_worst_case() -> None:
    """The stake that deters one cheat deters any number of them, as the research says."""
    needed = [jobs * PRICE / (1 - (1 - CAUGHT) ** jobs) - jobs * PRICE for jobs in JOBS]
    assert max(needed) == needed[0]


def test_without_held_pay_a_hundred_jobs_would_be() -> None:
    """Why pay is held: the same stake does not deter a hundred cheats whose pay is gone before the first is caught."""
    assert gain(100, is_pay_held=False) > 0


@pytest.mark.parametrize("stake", [STAKE, 100 * STAKE, 10_000 * STAKE])
def test_what_is_in_flight_is_covered_by_the_stake(stake: int) -> None:
    """The exposure cap: even all of it, undetected with the likeliest luck, is less than the expected slash."""
    policy = Policy(has_exposure_cap=True, collusion=COLLUSION)
    in_flight = stake * exposure.kappa_ppm(policy) // PPM
    assert in_flight < policy.audit_rate * (PPM - policy.collusion) * stake // PPM**2


@pytest.mark.parametrize("times", [1, 2, 10, 1_000])
def test_one_dear_job_needs_a_stake_of_its_own(times: int) -> None:
    """The large cheat at the end: a stake that fits cheap chunks does not fit one of `times` the price."""
    policy = Policy(has_exposure_cap=True, collusion=COLLUSION)
    assert exposure.is_deterred(policy, PRICE, STAKE)
    assert exposure.is_deterred(policy, times * PRICE, STAKE) == (times == 1)
    assert exposure.is_deterred(policy, times * PRICE, trust.stake_min(times * PRICE, LEVEL) + 1)


def test_the_honest_twin_is_paid_for_everything_it_has_in_flight() -> None:
    world, provider = World(), PROVIDERS[0]
    before, chunks = world.ledger.available("U", provider.peer), 6
    escrow = world.ok(open_escrow(), RENTER)
    for chunk in range(chunks):
        world.ok(assign(escrow, chunk), STEWARD, provider)
    for chunk in range(chunks):
        world.ok(claim(escrow, chunk), provider)
        world.ok(verdict(escrow, chunk=chunk), VALIDATOR)
    paid = chunks * (LEASE_PRICE - commission(LEASE_PRICE))
    assert world.ledger.available("U", provider.peer) - before == paid
