"""What results are worth against what was paid: silent on right ledgers, loud when one unit is made wrong."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import invariant

from protocol.operations import EscrowClose, Mint
from protocol.units import CREDIT
from simulations.checkers.worth import mistakes
from tests.protocol.ledger_world import (
    OTHER,
    PROVIDERS,
    RENTER,
    STEWARD,
    VALIDATOR,
    World,
    appeal,
    assign,
    claim,
    open_escrow,
    ruling,
    verdict,
    with_policy,
)
from tests.protocol.test_held_ledger import HeldMachine

P, Q, _ = PROVIDERS


def job(is_held: bool = True) -> tuple[World, bytes]:
    """Evidence, an accepted result, a fault that is none, and the end."""
    world = World(with_policy()) if is_held else World()
    world.ok(Mint(bytes(32), Q.peer, 100 * CREDIT), VALIDATOR)
    e = world.ok(open_escrow(), RENTER)
    for chunk, outcome in enumerate(("accept", "wrong")):
        who = (P, Q)[chunk]
        world.ok(assign(e, chunk, provider=who, evidence=CREDIT), STEWARD, who)
        world.ok(claim(e, chunk), who)
        world.ok(verdict(e, outcome, chunk, is_audited=True, auditor=OTHER), VALIDATOR)  # type: ignore[arg-type]
        assert not list(mistakes(world.ledger))
    return world, e


def test_right_ledgers() -> None:
    world, e = job()
    world.ok(appeal(e, Q, chunk=1), Q)
    world.ok(ruling(e, "accept", chunk=1), VALIDATOR)
    world.ok(EscrowClose(e), STEWARD)
    assert not list(mistakes(world.ledger))
    world.mature()
    assert world.ledger.escrows[e].is_closed and not list(mistakes(world.ledger))
    world, e = job(is_held=False)
    world.ok(EscrowClose(e), STEWARD)
    assert not list(mistakes(world.ledger))


@pytest.mark.parametrize("name", ["paid", "commission", "evidence", "refunded"])
def test_one_unit_too_much(name: str) -> None:
    world, e = job()
    world.ok(EscrowClose(e), STEWARD)
    world.mature()
    escrow = world.ledger.escrows[e]
    setattr(escrow, name, getattr(escrow, name) + 1)
    ((detail, where),) = mistakes(world.ledger)
    assert where == e and "went back" in detail


def test_pay_before_it_is_final() -> None:
    world, e = job()
    world.ledger.escrows[e].paid += 1
    assert [detail.split(",")[0] for detail, _ in mistakes(world.ledger)] == ["1 were paid for what is worth 0"]


def test_a_decision_that_is_lost() -> None:
    world, e = job()
    world.ledger.escrows[e].held -= 1
    assert [detail for detail, _ in mistakes(world.ledger)] == ["2 decisions are held, the escrow says 1"]


class WorthMachine(HeldMachine):
    """Random histories in which nobody settles by voucher: a voucher pays less than the price that is looked at."""

    @invariant()
    def nothing_is_wrong(self) -> None:
        chunks = [(e.id, chunk) for e in self.ledger.escrows.values() for chunk in e.chunks.values()]
        self.settled = self.settled | {key for key, chunk in chunks if chunk.outcome == "settled"}
        assert not [detail for detail, key in mistakes(self.ledger) if key not in self.settled]

    settled: frozenset[bytes] = frozenset()


WorthMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=40)
TestWorthOfRandomHistories = WorthMachine.TestCase
