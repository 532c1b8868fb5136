"""A percent of the stake for each day of silence, once."""

from __future__ import annotations

import pytest

from protocol.accounts import RESERVE, TREASURY
from protocol.operations import Absence
from protocol.units import DAY
from tests.protocol.ledger_world import OTHER, PROVIDERS, STAKE, START, VALIDATOR, World, with_policy

P = PROVIDERS[0]
TODAY = START // DAY


@pytest.fixture
def world() -> World:
    return World(with_policy())


def test_a_day_costs_a_percent_once_and_half_of_it_is_burnt(world: World) -> None:
    owed = -world.ledger.available(*RESERVE)
    world.ok(Absence(P.peer, TODAY), VALIDATOR)
    assert world.ledger.available("S", P.peer) == STAKE - STAKE // 100
    assert world.ledger.available(*TREASURY) == owed + world.ledger.available(*RESERVE) == STAKE // 200
    world.ok(Absence(P.peer, TODAY), VALIDATOR)
    assert world.ledger.available("S", P.peer) == STAKE - STAKE // 100
    world.ok(Absence(P.peer, TODAY - 1), VALIDATOR)
    assert world.ledger.available("S", P.peer) == STAKE * 99 // 100 * 99 // 100
    world.ok(Absence(PROVIDERS[1].peer, TODAY), VALIDATOR)


def test_what_is_refused(world: World) -> None:
    assert world.refused(Absence(P.peer, TODAY), OTHER) == "not_signed"
    assert world.refused(Absence(P.peer, TODAY + 1), VALIDATOR) == "bad_day"
    assert world.refused(Absence(P.peer, TODAY - 2), VALIDATOR) == "bad_day"
    assert world.refused(Absence(OTHER.peer, TODAY), VALIDATOR) == "no_stake"
    assert World().refused(Absence(P.peer, TODAY), VALIDATOR) == "no_policy"
