"""Attack 29: a renter hires itself, to farm what the network gives for jobs.

The defence: the network gives nothing. Whatever a provider or an auditor gets came from a renter or out of a slash that
lost half on its way, so the purses of one person together only ever lose.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol.accounts import RESERVE
from protocol.operations import Absence, EscrowClose, Mint, commission
from protocol.policy import Policy
from protocol.units import CREDIT, DAY
from tests.protocol.ledger_world import (
    GENESIS,
    OTHER,
    POLICY,
    PRICE,
    PROVIDERS,
    RENTER,
    START,
    STEWARD,
    VALIDATOR,
    OutcomeName,
    World,
    appeal,
    assign,
    claim,
    open_escrow,
    ruling,
    verdict,
    with_policy,
)

FRIEND, STRANGER = PROVIDERS[:2]
RING = (RENTER, STEWARD, FRIEND, OTHER)
"""One person: renter, steward, provider and auditor."""
OUTCOMES: tuple[OutcomeName, ...] = ("accept", "wrong", "fraud", "severe", "rejected", "withheld", "missing")
POLICIES = [POLICY, replace(POLICY, audit_fee=1_000_000), Policy(dispute_window=0)]


def purse(world: World) -> int:
    """All that the ring has, free, bound or promised."""
    accounts = world.ledger._state.accounts
    escrows = sum(accounts.balance(escrow.account) for escrow in world.ledger.escrows.values())
    return escrows + sum(accounts.balance((cls, who.peer)) for who in RING for cls in ("U", "S", "B"))


def self_dealt(policy: Policy | None, outcome: OutcomeName, evidence: int = 0) -> tuple[World, int, int]:
    """A job for itself, audited by itself; what the ring had before and has when everything is final."""
    world = World(GENESIS if policy is None else with_policy(policy))
    before = purse(world)
    e = world.ok(open_escrow(), RENTER)
    world.ok(assign(e, provider=FRIEND, evidence=evidence), STEWARD, FRIEND)
    world.ok(claim(e, provider=FRIEND), FRIEND)
    world.ok(verdict(e, outcome, is_audited=True, auditor=OTHER), VALIDATOR)
    world.mature()
    world.ok(EscrowClose(e), STEWARD)
    return world, before, purse(world)


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("policy", [None, *POLICIES])
def test_no_verdict_about_its_own_job_makes_the_ring_richer(policy: Policy | None, outcome: OutcomeName) -> None:
    for evidence in (0, 12_345):
        _, before, after = self_dealt(policy, outcome, evidence)
        assert after <= before


def test_an_accepted_job_for_oneself_costs_its_commission_less_the_own_audit_fee() -> None:
    _, before, after = self_dealt(POLICY, "accept")
    fee = commission(PRICE)
    assert before - after == fee - fee * POLICY.audit_fee // 1_000_000 > 0


def test_the_honest_twin_earns_what_a_stranger_pays() -> None:
    world = World(with_policy())
    e = world.claimed()
    world.ok(verdict(e), VALIDATOR)
    world.mature()
    assert world.ledger.available("U", FRIEND.peer) == PRICE - commission(PRICE)


@pytest.mark.parametrize("outcome", OUTCOMES[:-1])
def test_appeals_bring_no_more_than_they_cost(outcome: OutcomeName) -> None:
    """The ring appeals against every verdict and wins, or loses."""
    for finding in OUTCOMES:
        world = World(with_policy())
        world.ok(Mint(bytes(32), FRIEND.peer, 100 * CREDIT), VALIDATOR)
        before = purse(world)
        e = world.claimed()
        world.ok(verdict(e, outcome), VALIDATOR)
        who = RENTER if outcome == "accept" else FRIEND
        world.ok(appeal(e, who), who)
        world.ok(ruling(e, finding, is_upheld=finding == outcome), VALIDATOR)
        world.mature()
        assert purse(world) <= before


@given(days=st.integers(0, 400))
def test_time_alone_brings_nothing(days: int) -> None:
    """No reward for capacity or uptime: money without operations stays where it is."""
    world = World(with_policy())
    before = world.money()
    world.pass_time(START + days * DAY)
    assert world.money() == before


SOURCES: list[Callable[[World, bytes], object]] = [
    lambda world, e: world.ok(verdict(e), VALIDATOR),
    lambda world, e: world.ok(verdict(e, "fraud"), VALIDATOR),
    lambda world, e: world.ok(Absence(STRANGER.peer, START // DAY), VALIDATOR),
]


@pytest.mark.parametrize("act", SOURCES)
def test_only_a_mint_makes_money(act: Callable[[World, bytes], object]) -> None:
    world = World(with_policy())
    e = world.claimed()
    owed = -world.ledger.available(*RESERVE)
    act(world, e)
    world.mature()
    assert -world.ledger.available(*RESERVE) <= owed
    world.ok(Mint(bytes(32), OTHER.peer, 5), VALIDATOR)
    assert -world.ledger.available(*RESERVE) <= owed + 5
