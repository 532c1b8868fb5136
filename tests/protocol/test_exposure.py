"""The exposure cap: what a provider may have in flight, and that honest newcomers can work where it is off."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from protocol.exposure import floor_ppm, is_deterred, kappa_ppm
from protocol.policy import Policy
from protocol.units import CREDIT, PPM
from tests.protocol.ledger_world import (
    OTHER,
    POLICY,
    PROVIDERS,
    RENTER,
    STAKE,
    STEWARD,
    VALIDATOR,
    WINDOW,
    World,
    assign,
    claim,
    open_escrow,
    verdict,
    with_policy,
)

P = PROVIDERS[0]
CAPPED = Policy(dispute_window=WINDOW, has_exposure_cap=True)
LIMIT = STAKE * 53_333 // PPM
money = st.integers(0, 2**40)
shares = st.integers(0, PPM)


def test_value_in_flight_is_capped_by_stake_and_held_pay() -> None:
    world = World(with_policy(CAPPED))
    e = world.ok(open_escrow(), RENTER)
    half = LIMIT // 2
    world.ok(assign(e, 0, price=half, collateral=0), STEWARD, P)
    assert world.refused(assign(e, 1, price=LIMIT - half + 1, collateral=0), STEWARD, P) == "over_exposed"
    world.ok(assign(e, 1, price=LIMIT - half, collateral=0), STEWARD, P)
    world.ok(claim(e, 0), P)
    assert world.refused(assign(e, 2, price=10, collateral=0), STEWARD, P) == "over_exposed"
    world.ok(verdict(e), VALIDATOR)
    more = half * 53_333 // PPM
    assert world.refused(assign(e, 2, price=more + 2, collateral=0), STEWARD, P) == "over_exposed"
    world.mature()


def test_what_is_over_makes_room_again() -> None:
    world = World(with_policy(CAPPED))
    e = world.ok(open_escrow(), RENTER)
    world.ok(assign(e, price=LIMIT, collateral=0), STEWARD, P)
    world.ok(claim(e), P)
    world.ok(verdict(e, "missing"), VALIDATOR)
    world.ok(assign(e, epoch=2, price=LIMIT, collateral=0), STEWARD, P)


def test_nobody_without_stake_works_where_the_cap_is_on_and_everybody_where_it_is_off() -> None:
    for policy in (CAPPED, POLICY):
        world = World(with_policy(policy))
        e = world.ok(open_escrow(), RENTER)
        lease = assign(e, provider=OTHER, price=CREDIT, collateral=0)
        if policy.has_exposure_cap:
            assert world.refused(lease, STEWARD, OTHER) == "over_exposed"
            world.ok(assign(e, provider=OTHER, price=0, collateral=0), STEWARD, OTHER)
        else:
            world.ok(lease, STEWARD, OTHER)


@given(price=money, stake=money, collusion=shares)
def test_the_floor_deters(price: int, stake: int, collusion: int) -> None:
    """At the floor, cheating has a negative expectation even with the whole price as gain; below one it is 1.5 × what
    just deters."""
    found = floor_ppm(price, stake, collusion)
    assert 0 <= found <= PPM
    if price > 0 and collusion < PPM:
        exact = Fraction(3, 2) * price / (Fraction(PPM - collusion, PPM) * (price + stake))
        assert found == PPM if exact >= 1 else 0 <= found - exact * PPM < 1
        if found < PPM:
            assert Fraction(found, PPM) * Fraction(PPM - collusion, PPM) * (price + stake) >= price


@given(price=money, stake=money, rate=shares, collusion=shares)
def test_the_bound_of_one_job(price: int, stake: int, rate: int, collusion: int) -> None:
    policy = Policy(audit_rate=rate, collusion=collusion)
    gain = price - Fraction(rate, PPM) * Fraction(PPM - collusion, PPM) * (price + stake)
    assert is_deterred(policy, price, stake) == (price == 0 or gain < 0)


@given(stake=money, rate=shares, collusion=shares)
def test_the_cap_keeps_every_sum_of_leases_deterred(stake: int, rate: int, collusion: int) -> None:
    """All that is in flight, as one job: the expected loss is at least 1.5 times the gain."""
    policy = Policy(audit_rate=rate, collusion=collusion)
    most = stake * kappa_ppm(policy) // PPM
    expected = Fraction(rate, PPM) * Fraction(PPM - collusion, PPM) * stake
    assert most * Fraction(3, 2) <= expected
