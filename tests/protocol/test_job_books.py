"""The books of one job against the ledger that they are kept again from: blamed leases, and who is paid in the end."""

from __future__ import annotations

from typing import Final

import pytest
from msgspec.structs import replace

from protocol.identity import Identity
from protocol.job_books import JobBooks
from protocol.operations import Claim, EscrowClose, Operation, commission, signed_op
from tests.protocol.ledger_world import (
    CHAIN,
    DEADLINE,
    OTHER,
    PRICE,
    PROVIDERS,
    RENTER,
    STANDBY,
    STEWARD,
    TRACE,
    VALIDATOR,
    OutcomeName,
    World,
    appeal,
    assign,
    fence,
    open_escrow,
    ruling,
    verdict,
    with_policy,
)
from tests.protocol.words import chain

A, B = PROVIDERS[:2]
LAW: Final = with_policy()
FEE: Final = commission(PRICE)


class Kept(World):
    """A world whose operations are entered in the books of its only job, too."""

    def __init__(self) -> None:
        super().__init__(LAW)
        self.books = JobBooks(LAW, signed_op(CHAIN, open_escrow(), RENTER).op_id)

    def ok(self, operation: Operation, *signers: Identity, at: int = 0) -> bytes:
        op = super().ok(operation, *signers, at=at)
        self.books.order(operation, op, frozenset(one.peer for one in signers), self.time)
        return op

    def end(self, escrow: bytes) -> None:
        self.ok(EscrowClose(escrow), STEWARD)
        self.mature()
        self.books.advance(self.time)
        assert self.ledger.escrows[escrow].is_closed


def blamed(outcome: OutcomeName) -> tuple[Kept, bytes]:
    world = Kept()
    escrow = world.ok(open_escrow(), RENTER)
    late = {"claim_by": DEADLINE - 2, "verdict_by": DEADLINE}
    world.ok(assign(escrow, 0, 1, A, **late), STEWARD, A)
    world.ok(fence(escrow), STEWARD, STANDBY)
    world.ok(assign(escrow, 0, 2, B, evidence=1_000, **late), STEWARD, B)
    world.ok(Claim(escrow, 0, 2, bytes(32), TRACE, 4, chain(CHAIN, escrow, 0, [(A, 1, 2, bytes(32))])), B)
    found = verdict(escrow, outcome, epoch=2, is_audited=True, auditor=OTHER)
    world.ok(replace(found, blamed=1, agreed=(PROVIDERS[2].peer,)), VALIDATOR)
    return world, escrow


@pytest.mark.parametrize("outcome", ["fraud", "wrong", "rejected"])
def test_a_blamed_verdict_pays_nobody_in_either(outcome: OutcomeName) -> None:
    world, escrow = blamed(outcome)
    world.end(escrow)
    kept, known = world.books.escrow, world.ledger.escrows[escrow]
    assert kept is not None and kept.is_closed
    assert (kept.paid, kept.commission, known.paid, known.commission) == (0, 0, 0, 0)
    assert world.books.paid(0, 2) == (0, 0)
    assert kept.chunks[0].outcome == known.chunks[0].outcome == "void"
    is_known = not any(outcome in line for line in world.books.unknown())
    assert is_known == (outcome == "rejected"), "what it takes of the blamed one's stake is in no operation of the job"
    assert is_known == (kept.refunded == known.refunded)


def test_who_claimed_is_paid_when_the_units_were_good_after_all() -> None:
    world, escrow = blamed("rejected")
    world.ok(appeal(escrow, A, epoch=2), A)
    world.ok(ruling(escrow, "accept", epoch=2), VALIDATOR)
    world.mature()
    world.end(escrow)
    kept, known = world.books.escrow, world.ledger.escrows[escrow]
    assert kept is not None
    assert world.books.paid(0, 2) == (PRICE - FEE, FEE)
    assert (kept.paid, kept.refunded, kept.evidence) == (known.paid, known.refunded, known.evidence)
    assert world.books.moved()["U", B.peer] == PRICE - FEE
