"""Attack 37: a provider keeps the output back until the renter pays more: what the ledger does about it.

The defence: the price was fixed before work began; nothing but an accepted verdict or the voucher of the renter moves
it, and every other end gives it back by itself. Whoever holds an output back holds something that nobody pays for.
"""

from __future__ import annotations

import pytest

from protocol.operations import EscrowClose, commission
from tests.protocol.ledger_world import (
    DEADLINE,
    FUNDS,
    PRICE,
    PROVIDERS,
    RENTER,
    STEWARD,
    VALIDATOR,
    VERDICT_BY,
    OutcomeName,
    World,
    again,
    assign,
    extend,
    settle,
    verdict,
    with_policy,
)

CHEAT, HONEST = PROVIDERS[:2]


@pytest.fixture(params=[True, False], ids=["policy", "none"])
def world(request: pytest.FixtureRequest) -> World:
    return World(with_policy()) if request.param else World()


@pytest.mark.parametrize("outcome", ["missing", "withheld"])
def test_without_the_output_the_renter_keeps_the_money(world: World, outcome: OutcomeName) -> None:
    e = world.claimed()
    world.ok(verdict(e, outcome), VALIDATOR)
    world.mature()
    assert world.ledger.available("U", CHEAT.peer) == 0
    world.ok(EscrowClose(e), STEWARD)
    assert world.ledger.available("U", RENTER.peer) == FUNDS


def test_while_nobody_judges_time_gives_it_back(world: World) -> None:
    e = world.claimed()
    world.pass_time(VERDICT_BY + 1)
    assert world.lease(e).outcome == "undecided"
    world.ok(again(e, provider=HONEST), STEWARD, HONEST)
    world.pass_time(DEADLINE + 1)
    assert world.ledger.available("U", RENTER.peer) == FUNDS
    assert world.ledger.available("U", CHEAT.peer) == 0


def test_the_price_cannot_be_raised_afterwards(world: World) -> None:
    e = world.claimed()
    assert world.refused(assign(e, epoch=2, price=2 * PRICE), STEWARD, CHEAT) == "wrong_state"
    assert world.refused(settle(e, PRICE + 1), CHEAT, RENTER) == "over_price"
    assert world.refused(settle(e, PRICE), CHEAT) == "not_signed"
    assert world.refused(extend(e, owner=CHEAT, sequence=0), CHEAT) == "not_owner"


def test_the_honest_twin_shows_it_and_is_paid(world: World) -> None:
    e = world.claimed()
    world.ok(verdict(e), VALIDATOR)
    world.mature()
    assert world.ledger.available("U", CHEAT.peer) == PRICE - commission(PRICE)
