"""Attack 36: a provider claims, and then does not show its data to an auditor: what the ledger does about it.

The defence: `withheld` costs 1 % of the stake, doubling up to 5 %; the chunk is leased again at once, nothing is paid.
"""

from __future__ import annotations

import pytest

from protocol.operations import commission
from tests.protocol.ledger_world import (
    PRICE,
    PROVIDERS,
    RENTER,
    STAKE,
    STEWARD,
    VALIDATOR,
    World,
    again,
    appeal,
    claim,
    open_escrow,
    ruling,
    verdict,
    with_policy,
)

CHEAT, HONEST = PROVIDERS[:2]


@pytest.fixture
def world() -> World:
    return World(with_policy())


def test_withholding_is_slashed_and_the_chunk_goes_to_somebody_else(world: World) -> None:
    e = world.claimed()
    world.ok(verdict(e, "withheld"), VALIDATOR)
    lease = world.lease(e)
    assert (lease.state, lease.outcome) == ("free", "withheld")
    world.ok(again(e, provider=HONEST), STEWARD, HONEST)
    world.ok(claim(e, epoch=2, provider=HONEST), HONEST)
    world.ok(verdict(e, epoch=2), VALIDATOR)
    world.mature()
    assert world.ledger.available("U", CHEAT.peer) == 0
    assert world.ledger.available("S", CHEAT.peer) == STAKE - STAKE // 100
    assert world.ledger.available("U", HONEST.peer) == 1_000 - commission(1_000)
    assert world.held(e).end == "slashed"


def test_making_a_habit_of_it_gets_dearer_and_ends_the_streak(world: World) -> None:
    e = world.ok(open_escrow(), RENTER)
    lost = []
    for chunk in range(5):
        before = world.ledger.available("S", CHEAT.peer)
        world.ok(again(e, chunk, 1, CHEAT), STEWARD, CHEAT)
        world.ok(claim(e, chunk, provider=CHEAT), CHEAT)
        world.ok(verdict(e, "withheld", chunk), VALIDATOR)
        world.mature()
        lost.append((before - world.ledger.available("S", CHEAT.peer)) * 1_000 // before)
    assert lost == [10, 20, 40, 50, 50]
    assert world.ledger.standings[CHEAT.peer].consecutive_valid == 0


def test_showing_it_on_appeal_takes_the_slash_back(world: World) -> None:
    """The honest twin: its data was there, a judge could not reach it."""
    e = world.claimed()
    world.ok(verdict(e, "withheld"), VALIDATOR)
    world.ok(appeal(e, CHEAT), CHEAT)
    world.ok(ruling(e, "accept"), VALIDATOR)
    world.mature()
    assert world.ledger.available("S", CHEAT.peer) == STAKE
    assert world.ledger.available("U", CHEAT.peer) == PRICE - commission(PRICE)
    assert world.ledger.standings[CHEAT.peer].withheld == 0
