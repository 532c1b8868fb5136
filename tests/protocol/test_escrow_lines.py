"""The statement of an escrow: every move is a line, and the lines add up."""

from __future__ import annotations

import pytest

from protocol.escrow_state import POSTED_KINDS
from protocol.operations import (
    EscrowClose,
)
from protocol.units import CREDIT
from tests.protocol.ledger_world import (
    PRICE,
    PROVIDERS,
    RENTER,
    STEWARD,
    VALIDATOR,
    OutcomeName,
    World,
    assign,
    claim,
    open_escrow,
    posted,
    settle,
    verdict,
)

P = PROVIDERS[0]
CAP = 100 * CREDIT


@pytest.fixture
def world() -> World:
    return World()


def test_the_statement_adds_up_line_by_line(world: World) -> None:
    escrow = world.ok(open_escrow(), RENTER)
    ends: list[OutcomeName] = ["accept", "wrong", "missing"]
    for chunk, end in enumerate(ends):
        world.ok(assign(escrow, chunk), STEWARD, P)
        world.ok(claim(escrow, chunk), P)
        world.ok(verdict(escrow, end, chunk), VALIDATOR)
    world.ok(assign(escrow, 3), STEWARD, P)
    world.ok(settle(escrow, 1_000, 3), STEWARD, P)
    world.ok(EscrowClose(escrow), STEWARD)
    record = world.ledger.escrows[escrow]
    balance = 0
    for line in record.lines:
        if line.kind in POSTED_KINDS:
            balance += line.amount * ((line.credit == record.account) - (line.debit == record.account))
    assert balance == 0
    assert posted(record, ["pay"]) == record.paid
    assert posted(record, ["commission"]) == record.commission
    assert posted(record, ["slash"]) == record.slashed == PRICE // 10
    assert posted(record, ["fund"]) == record.cap == record.paid + record.commission + record.refunded
    reserved = posted(record, ["reserve"])
    assert reserved == record.paid + record.commission + posted(record, ["release"])
    assert posted(record, ["collateral"]) == posted(record, ["return", "slash"])
