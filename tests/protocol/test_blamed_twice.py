"""One lease whose units several findings are about: it pays for the costliest that stands, once, whatever the order."""

from __future__ import annotations

from typing import Final, Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from protocol.held import Held
from protocol.identity import Identity
from protocol.operations import Claim, Inherited, Mint, Ruling, Verdict, seal
from protocol.prefix import sign_prefix
from protocol.units import CREDIT, DAY, SECOND, Digest
from tests.protocol.ledger_world import (
    CHAIN,
    OTHER,
    PROVIDERS,
    RENTER,
    STAKE,
    STANDBY,
    START,
    STEWARD,
    TRACE,
    VALIDATOR,
    WINDOW,
    World,
    appeal,
    assign,
    fence,
    open_escrow,
    with_policy,
)

A, B, C = PROVIDERS
Finding = Literal["accept", "wrong", "fraud", "severe", "rejected"]
RANKS: Final = ("accept", "rejected", "wrong", "severe", "fraud")
LATE: Final = START + 300 * DAY
TIMES: Final = {"claim_by": LATE - 2, "verdict_by": LATE - 1}


class Story:
    """A's machine died after two units; whoever takes the chunk goes on from there, as long as the ledger allows it."""

    def __init__(self) -> None:
        self.world = World(with_policy())
        self.world.ok(Mint(b"m" * 32, A.peer, 900 * CREDIT), VALIDATOR)
        self.escrow = self.world.ok(open_escrow(500 * CREDIT, deadline=LATE), RENTER)
        self.world.ok(assign(self.escrow, 0, 1, A, **TIMES), STEWARD, A)
        self.world.ok(fence(self.escrow), STEWARD, STANDBY)
        self.word: Inherited = sign_prefix(A, CHAIN, self.escrow, 0, 1, 2, bytes(32))

    @property
    def items(self) -> list[Held]:
        """Findings about A's units, oldest first."""
        return [held for held in self.world.ledger.held.values() if held.blamed]

    def lease(self, who: Identity, price: int) -> int:
        epoch = self.world.lease(self.escrow).epoch + 1
        self.world.ok(assign(self.escrow, 0, epoch, who, price=price, collateral=price, **TIMES), STEWARD, who)
        return epoch

    def claim(self) -> None:
        lease = self.world.lease(self.escrow)
        who = next(one for one in PROVIDERS if one.peer == lease.provider)
        sealed = seal(who.peer, bytes(32), Digest(bytes(32)))
        self.world.ok(Claim(self.escrow, 0, lease.epoch, sealed, TRACE, 10, (self.word,)), who)

    def blame(self, finding: Finding) -> Held:
        epoch = self.world.lease(self.escrow).epoch
        fields = (self.escrow, 0, epoch, finding, True, OTHER.peer, b"o" * 32, b"e" * 32, "unit_differs")
        self.world.ok(Verdict(*fields, blamed=1), VALIDATOR)
        return self.world.held(self.escrow, epoch=epoch)

    def rule(self, held: Held, finding: Finding) -> None:
        """Somebody appeals, and this is found."""
        who, number = (RENTER if held.finding == "accept" else A), held.round + 1
        bond = STAKE + CREDIT  # More than any stake covers: it comes from free money, and the stake shows slashes only.
        self.world.ok(appeal(self.escrow, who, bond, epoch=held.epoch, number=number), who)
        word: Literal["upheld", "overturned"] = "upheld" if finding == held.finding else "overturned"
        fields = (self.escrow, 0, held.epoch, number, word, finding, (VALIDATOR.peer,), b"e" * 32, "no_majority")
        self.world.ok(Ruling(*fields), VALIDATOR)  # The code gives a bond back where nothing new was found.

    @property
    def taken(self) -> int:
        """What A has lost for good."""
        lines = self.world.ledger.escrows[self.escrow].lines
        return sum(line.amount for line in lines if line.kind == "slash" and line.debit[1] == A.peer)

    @property
    def at_risk(self) -> int:
        """What A has promised on top."""
        return sum(fine.amount for held in self.items for fine in held.fines)

    def end(self) -> None:
        """Nobody appeals any more."""
        for _ in range(4):
            self.world.pass_time(self.world.time + WINDOW + 1)
        assert all(held.end for held in self.items)


def cleared(price: int = CREDIT) -> tuple[Story, Held]:
    """A was blamed in epoch 2, and cleared; B has a lease of epoch 3 and may go on from A's snapshot."""
    story = Story()
    story.lease(B, price)
    story.claim()
    first = story.blame("wrong")
    story.rule(first, "accept")
    story.lease(C, price)
    return story, first


def test_condemned_again_and_acquitted_elsewhere_it_still_pays() -> None:
    """The second finding stood when the first came back, so the first cost nothing; then the second fell."""
    story, first = cleared()
    story.claim()
    second = story.blame("wrong")
    assert (len(first.fines), len(second.fines)) == (0, 1)
    story.rule(first, "wrong")
    assert story.taken == CREDIT // 10, "its last round: it is final, and pays"
    assert story.at_risk == 0
    story.rule(second, "accept")
    story.end()
    assert story.taken == CREDIT // 10
    assert (first.end, second.end) == ("slashed", "paid")


@pytest.mark.parametrize("is_first_final", [False, True])
def test_a_fault_that_stands_excuses_no_fraud(is_first_final: bool) -> None:
    story, first = cleared()
    if is_first_final:
        story.rule(first, "wrong")
    story.claim()
    second = story.blame("fraud")
    assert story.taken == (CREDIT // 10 if is_first_final else 0)
    assert story.at_risk == STAKE - story.taken, "all that is left"
    assert story.world.ledger.available("S", A.peer) == 0
    story.rule(second, "wrong")
    assert story.taken + story.at_risk == CREDIT // 10, "no more than one of two equal ones"
    story.end()
    assert story.taken == CREDIT // 10


def test_the_dearer_of_two_equal_faults_is_paid() -> None:
    story, first = cleared(CREDIT)
    story.world.ok(fence(story.escrow, epoch=3), STEWARD, STANDBY)
    story.lease(B, 5 * CREDIT)
    story.claim()
    second = story.blame("wrong")
    assert [fine.amount for fine in second.fines] == [CREDIT // 2]
    story.rule(first, "wrong")
    assert (story.taken, story.at_risk) == (CREDIT // 10, CREDIT // 2 - CREDIT // 10)
    story.end()
    assert story.taken == CREDIT // 2


def test_after_proven_fraud_nothing_more_is_taken() -> None:
    story, first = cleared()
    story.rule(first, "fraud")
    assert story.taken == STAKE
    story.claim()
    assert story.blame("fraud").fines == []
    story.end()
    assert story.taken == STAKE


def test_who_stands_condemned_is_not_named_again_because_another_finding_fell() -> None:
    story, first = cleared()
    story.rule(first, "wrong")
    story.claim()
    story.rule(story.blame("wrong"), "accept")
    assert story.world.lease(story.escrow).former == {}


class BlamedMachine(RuleBasedStateMachine):
    """Any order of leases, claims, findings, rulings and ends."""

    def __init__(self) -> None:
        super().__init__()
        self.story = Story()

    @property
    def open(self) -> list[Held]:
        return [held for held in self.story.items if not held.end]

    def state(self) -> str:
        return self.story.world.lease(self.story.escrow).state

    @initialize(prices=st.tuples(st.integers(1, 9), st.integers(1, 9)))
    def begin(self, prices: tuple[int, int]) -> None:
        """One finding is overturned, and somebody has gone on."""
        self.story.lease(B, prices[0] * CREDIT)
        self.blame("wrong")
        self.clear_and_go_on(prices[1])

    @rule(price=st.integers(1, 9))
    @precondition(lambda self: self.state() == "free" and any(held.round == 0 for held in self.open))
    def clear_and_go_on(self, price: int) -> None:
        held = next(held for held in reversed(self.open) if held.round == 0)
        self.story.rule(held, "accept")
        if 1 in self.story.world.lease(self.story.escrow).former:
            self.story.lease(C, price * CREDIT)

    @rule(finding=st.sampled_from(["wrong", "wrong", "fraud", "rejected"]))
    @precondition(lambda self: self.state() == "assigned")
    def blame(self, finding: Finding) -> None:
        self.story.claim()
        self.story.blame(finding)

    @rule(data=st.data(), finding=st.sampled_from(["accept", "accept", "wrong", "fraud", "severe", "rejected"]))
    @precondition(lambda self: bool(self.open))
    def decide(self, data: st.DataObject, finding: Finding) -> None:
        self.story.rule(data.draw(st.sampled_from(self.open)), finding)

    @rule(span=st.sampled_from([SECOND, WINDOW // 3, WINDOW // 3, WINDOW + 1]))
    def wait(self, span: int) -> None:
        self.story.world.pass_time(self.story.world.time + span)

    @invariant()
    def one_penalty_stands(self) -> None:
        """Of what may still be appealed the costliest alone is pending; no more is taken or pending than it costs."""
        if not self.story.items:
            return
        final = [held for held in self.story.items if held.end and held.finding != "accept"]
        payers = [held for held in self.open if held.fines]
        worst = max((RANKS.index(held.finding) for held in self.open), default=0)
        assert len(payers) <= 1
        standing = [held for held in (*final, *self.open) if RANKS.index(held.finding) > 1]
        cost = self.story.taken + self.story.at_risk
        if any(held.finding == "fraud" for held in standing):
            assert cost == STAKE
        elif any(held.finding == "severe" for held in standing):
            assert cost == STAKE // 2
        else:
            assert cost == max((held.price // 10 for held in standing), default=0)
        assert all(RANKS.index(held.finding) == worst for held in payers)

    def teardown(self) -> None:
        self.story.end()
        self.one_penalty_stands()
        left = self.story.world.ledger._state.accounts.balance(("S", A.peer))
        assert self.story.taken + left == STAKE


BlamedMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=30)
TestBlamed = BlamedMachine.TestCase
