"""The end of an escrow in which something is held: it waits, leases nothing more, and closes by itself."""

from __future__ import annotations

import pytest

from protocol.operations import EscrowClose, commission
from protocol.policy import Policy
from protocol.units import CREDIT, SECOND
from tests.protocol.ledger_world import (
    DEADLINE,
    FUNDS,
    PRICE,
    PROVIDERS,
    RENTER,
    START,
    STEWARD,
    VALIDATOR,
    World,
    assign,
    claim,
    handover,
    open_escrow,
    verdict,
    with_policy,
)

P, Q = PROVIDERS[:2]
CAP = 100 * CREDIT
FEE = commission(PRICE)


@pytest.fixture
def world() -> World:
    return World(with_policy())


def test_an_escrow_with_held_pay_closes_by_itself(world: World) -> None:
    e = world.claimed()
    world.ok(verdict(e), VALIDATOR)
    world.ok(EscrowClose(e), STEWARD)
    record = world.ledger.escrows[e]
    assert (record.is_closing, record.is_closed, record.held) == (True, False, 1)
    assert world.refused(assign(e, 1, provider=Q), STEWARD, Q) == "escrow_closed"
    world.mature()
    assert (record.is_closed, record.held, record.refunded) == (True, 0, CAP - PRICE)
    assert world.ledger.available("U", RENTER.peer) == FUNDS - PRICE


def test_the_deadline_does_not_close_over_held_pay() -> None:
    world = World(with_policy(Policy(dispute_window=1_000 * SECOND)))
    e = world.claimed()
    world.ok(verdict(e), VALIDATOR)
    world.pass_time(DEADLINE + 1)
    record = world.ledger.escrows[e]
    assert (record.is_closing, record.is_closed) == (True, False)
    world.pass_time(START + 1_000 * SECOND + 1)
    assert record.is_closed and world.ledger.available("U", P.peer) == PRICE - FEE


def test_shares_of_what_was_not_finished_are_the_renters_at_once(world: World) -> None:
    e = world.ok(open_escrow(), RENTER)
    world.ok(assign(e, 0), STEWARD, P)
    world.ok(claim(e, 0), P)
    world.ok(verdict(e, chunk=0), VALIDATOR)
    world.ok(assign(e, 1, provider=Q), STEWARD, Q)
    world.ok(handover(e, chunk=1), Q, STEWARD)
    world.ok(EscrowClose(e), STEWARD)
    assert world.lease(e, 1).carried[0].outcome == "void"
    assert world.ledger.available("E", e) == CAP - PRICE
    world.mature()
    assert world.ledger.available("U", RENTER.peer) == FUNDS - PRICE


def test_shares_of_a_held_result_are_paid_after_the_steward_is_done(world: World) -> None:
    e = world.leased()
    world.ok(handover(e), P, STEWARD)
    world.ok(assign(e, epoch=2, provider=Q), STEWARD, Q)
    world.ok(claim(e, epoch=2, provider=Q), Q)
    world.ok(verdict(e, epoch=2), VALIDATOR)
    world.ok(EscrowClose(e), STEWARD)
    assert not world.lease(e).carried[0].outcome
    world.mature()
    share = world.lease(e).carried[0]
    assert share.outcome == "paid" and world.ledger.escrows[e].is_closed
    assert world.ledger.available("U", P.peer) == share.amount - commission(share.amount)
