"""What a job's money view says adds up at every moment: with a policy, slashes, appeals, shares and evidence."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import invariant
from msgspec.structs import replace

from gateway.schemas import Money
from node.views import money_view
from protocol.job_record import JobRecord
from protocol.ledger import Ledger
from protocol.operations import EscrowClose, commission
from protocol.units import CREDIT, SECOND
from shoal.job_text import money_text
from tests.protocol.ledger_world import (
    OTHER,
    POLICY,
    PRICE,
    PROVIDERS,
    RENTER,
    STEWARD,
    VALIDATOR,
    World,
    again,
    appeal,
    assign,
    claim,
    handover,
    open_escrow,
    ruling,
    verdict,
    with_policy,
)
from tests.protocol.test_held_ledger import HeldMachine
from tests.protocol.test_steward import start
from tests.protocol.town import HELD_PAY, job_spec, open_town

P, Q, _ = PROVIDERS


def record_of(escrow: bytes, cap: int = 0) -> JobRecord:
    return JobRecord(bytes(16), RENTER.peer, "k", job_spec(1), bytes(32), 1, 0, 0, cap, 1, [], escrow=escrow)


def money_of(ledger: Ledger, escrow: bytes) -> Money:
    """The view, which adds up."""
    view = money_view(record_of(escrow), ledger, ledger.time, False)
    money = Money(**view)  # type: ignore[arg-type]
    assert money.cap == money.paid + money.commission + money.evidence + money.refunded + money.pending
    assert 0 <= money.held + money.free <= money.pending
    assert (money.held_until > 0) == (money.held > 0)
    assert money.pending == 0 or not ledger.escrows[escrow].is_closed
    return money


class MoneyMachine(HeldMachine):
    """Every random history of the ledger, looked at as the renter does."""

    @invariant()
    def every_view_adds_up(self) -> None:
        for key in self.ledger.escrows:
            money_of(self.ledger, key)


MoneyMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=40)
TestMoneyOfRandomHistories = MoneyMachine.TestCase


def test_a_job_with_all_that_may_happen() -> None:
    world = World(with_policy())
    e = world.ok(open_escrow(), RENTER)
    assert (money_of(world.ledger, e).free, money_of(world.ledger, e).held) == (100 * CREDIT, 0)
    world.ok(assign(e, evidence=CREDIT), STEWARD, P)
    assert money_of(world.ledger, e).free == 99 * CREDIT - PRICE
    world.ok(claim(e), P)
    world.ok(verdict(e, is_audited=True, auditor=OTHER), VALIDATOR)
    money = money_of(world.ledger, e)
    assert (money.held, money.held_until) == (PRICE + CREDIT, world.time + POLICY.dispute_window)
    ahead = money_view(record_of(e), world.ledger, world.ledger.time + 3 * SECOND, True)
    assert ahead["held_until"] == money.held_until + 3 * SECOND  # On the clock of the machine that shows it.
    world.ok(assign(e, 1, provider=Q), STEWARD, Q)
    world.ok(handover(e, chunk=1), STEWARD, Q)
    assert 0 < money_of(world.ledger, e).pending - money_of(world.ledger, e).free - money.held < PRICE
    world.ok(again(e, 1, provider=P), STEWARD, P)
    world.ok(claim(e, 1, 2), P)
    world.ok(verdict(e, "wrong", 1, 2), VALIDATOR)
    assert money_of(world.ledger, e).held == PRICE + CREDIT, "a slash holds nothing of the renter's"
    world.ok(appeal(e, RENTER), RENTER)
    assert money_of(world.ledger, e).held_until == world.time + POLICY.rule_time
    world.ok(ruling(e, "fraud"), VALIDATOR)
    money_of(world.ledger, e)
    world.ok(EscrowClose(e), STEWARD)
    assert money_of(world.ledger, e).held == PRICE + CREDIT
    world.mature()
    money = money_of(world.ledger, e)
    assert (money.pending, money.paid, money.refunded) == (0, 0, 100 * CREDIT)
    assert money.slashed > 0


def test_after_every_block_of_a_town() -> None:
    """Evidence, a liar, held pay, and a job that closes by itself."""
    town = open_town(3, auditors=2, policy=HELD_PAY)
    town.citizens["p0"].lies = True
    record = start(town, replace(job_spec(5), trust="high"))
    looked: set[int] = set()

    def is_over() -> bool:
        escrow = town.ledger.escrows.get(record.escrow)
        if escrow is None:
            return False
        looked.add(money_of(town.ledger, record.escrow).held)
        return escrow.is_closed

    town.run(is_over, 300)
    money = money_of(town.ledger, record.escrow)
    assert max(looked) > 0 and money.evidence > 0 and money.slashed > 0
    assert money.paid + money.commission == sum(chunk.price for chunk in record.chunks)
    assert money.commission == sum(commission(chunk.price) for chunk in record.chunks)


def test_what_is_held_is_told_until_when() -> None:
    said = money_text(Money(cap=5, paid=1, pending=4, held=3, held_until=1_700_000_000_000_000, free=1))
    assert "held" in said and "until 2023-11-14" in said and "not leased" in said
    assert "held" not in money_text(Money(cap=5, paid=5))


def test_before_the_escrow_is_there_nothing_has_moved() -> None:
    view = money_view(record_of(b"x" * 32, cap=7), World().ledger, 5, True)
    assert view["cap"] == 7 and not view["pending"]
