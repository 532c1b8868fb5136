"""Attack 40: a cheat that is about to be caught challenges itself through a friend, to get its stake back as reward.

The defence: at least half of every slash is burnt and a challenger gets the rest at most, so cheat and friend together
lose half the stake or more; and nobody can challenge who has nothing to lose.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol.accounts import RESERVE
from protocol.operations import EscrowClose, commission
from protocol.policy import BURN_MIN
from protocol.units import PPM
from tests.protocol.ledger_world import (
    OTHER,
    POLICY,
    PRICE,
    PROVIDERS,
    RENTER,
    STAKE,
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

CHEAT, FRIEND, STRANGER = PROVIDERS


def purse(world: World, *extra: bytes) -> int:
    """What cheat and friend have together."""
    accounts = world.ledger._state.accounts
    escrows = sum(accounts.balance(("E", key)) for key in extra)
    return escrows + sum(accounts.balance((cls, who.peer)) for who in (CHEAT, FRIEND) for cls in ("U", "S", "B"))


def challenged(world: World, finding: OutcomeName) -> bytes:
    e = world.claimed(is_traced=True)
    world.ok(verdict(e), VALIDATOR)
    world.ok(appeal(e, FRIEND), FRIEND)
    world.ok(ruling(e, finding), VALIDATOR)
    world.mature()
    return e


@pytest.mark.parametrize(("finding", "stake"), [("fraud", STAKE), ("severe", STAKE // 2), ("wrong", PRICE // 10)])
def test_challenging_oneself_loses_half_of_the_slash(finding: OutcomeName, stake: int) -> None:
    world = World(with_policy())
    before = purse(world)
    e = challenged(world, finding)
    assert purse(world) - before <= -(stake // 2)
    assert world.held(e).end == "slashed"
    assert world.ledger.available("U", FRIEND.peer) <= stake // 2


@given(burn=st.integers(BURN_MIN, PPM), stake=st.integers(0, STAKE))
def test_whatever_the_policy_burns_half_is_lost(burn: int, stake: int) -> None:
    world = World(with_policy(replace(POLICY, burn=burn)))
    e = world.ok(open_escrow(), RENTER)
    world.ok(assign(e, collateral=stake), STEWARD, CHEAT)
    world.ok(claim(e), CHEAT)
    world.ok(verdict(e), VALIDATOR)
    before = purse(world)
    world.ok(appeal(e, FRIEND), FRIEND)
    world.ok(ruling(e, "fraud"), VALIDATOR)
    world.mature()
    assert purse(world) - before <= -(STAKE // 2)


def test_all_rounds_against_oneself_lose_no_less() -> None:
    """Overturned, overturned back, overturned again: the reward is one, and the slash is one."""
    world = World(with_policy())
    before = purse(world)
    e = world.claimed(is_traced=True)
    world.ok(verdict(e), VALIDATOR)
    world.ok(appeal(e, FRIEND), FRIEND)
    world.ok(ruling(e, "severe"), VALIDATOR)
    world.ok(appeal(e, CHEAT, number=2), CHEAT)
    world.ok(ruling(e, "accept", number=2), VALIDATOR)
    world.ok(appeal(e, FRIEND, rival=b"r" * 32, number=3), FRIEND)
    world.ok(ruling(e, "fraud", number=3), VALIDATOR)
    assert world.held(e).end == "slashed"
    assert purse(world) - before <= -(STAKE // 2)


def test_the_cheat_itself_has_no_say_and_nobody_without_stake() -> None:
    world = World(with_policy())
    e = world.claimed()
    world.ok(verdict(e), VALIDATOR)
    assert world.refused(appeal(e, CHEAT), CHEAT) == "not_a_party"
    assert world.refused(appeal(e, OTHER), OTHER) == "not_a_party"


def test_a_friend_who_is_the_renter_gets_the_price_back_and_still_loses() -> None:
    world = World(with_policy())
    accounts = world.ledger._state.accounts
    before = accounts.balance(("U", RENTER.peer)) + purse(world)
    e = world.claimed()
    world.ok(verdict(e), VALIDATOR)
    world.ok(appeal(e, RENTER), RENTER)
    world.ok(ruling(e, "fraud"), VALIDATOR)
    world.mature()
    world.ok(EscrowClose(e), STEWARD)
    assert accounts.balance(("U", RENTER.peer)) + purse(world) - before <= -(STAKE // 2)


def test_the_honest_twin_keeps_its_stake_and_the_challenger_loses_the_bond() -> None:
    world = World(with_policy())
    e = world.claimed()
    world.ok(verdict(e), VALIDATOR)
    owed = -world.ledger.available(*RESERVE)
    bond = 14 * PRICE // 3
    world.ok(appeal(e, STRANGER, bond), STRANGER)
    world.ok(ruling(e, "accept", is_upheld=True), VALIDATOR)
    world.mature()
    assert world.ledger.available("S", CHEAT.peer) == STAKE
    assert world.ledger.available("U", CHEAT.peer) == PRICE - commission(PRICE)
    assert world.ledger.available("S", STRANGER.peer) == STAKE - bond
    assert -world.ledger.available(*RESERVE) == owed - -(-bond // 2)
