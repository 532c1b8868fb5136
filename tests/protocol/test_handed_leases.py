"""Leases that are handed over: who signs, when, what is set aside, and that nobody is paid for more than the chunk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.accounts import FEES
from protocol.carried import waiting
from protocol.identity import Identity
from protocol.operations import (
    HANDED_PPM_MAX,
    PRICE_STEP,
    EscrowClose,
    commission,
    handed_share,
    remaining_price,
)
from protocol.units import CREDIT, SECOND, Micros
from tests.protocol.ledger_world import (
    CLAIM_BY,
    OTHER,
    PRICE,
    PROVIDERS,
    RENTER,
    STAKE,
    STANDBY,
    STEWARD,
    VALIDATOR,
    World,
    assign,
    claim,
    handover,
    open_escrow,
    posted,
    settle,
    surrender,
    verdict,
)

P, Q, R = PROVIDERS
CAP = 100 * CREDIT


@pytest.fixture
def world() -> World:
    return World()


def test_the_share_waits_and_everything_else_is_free_at_once(world: World) -> None:
    escrow = world.leased()
    world.ok(handover(escrow, 250_000), P, STEWARD)
    lease = world.lease(escrow)
    share = PRICE // 4 // 10 * 10
    assert (lease.state, lease.outcome, lease.done_ppm) == ("free", "handed", 250_000)
    assert [(item.epoch, item.provider, item.amount) for item in lease.carried] == [(1, P.peer, share)]
    assert world.ledger.available("S", P.peer) == STAKE
    assert world.ledger.available("U", P.peer) == 0
    assert world.ledger.available("E", escrow) == CAP - share
    assert world.ledger.standings[P.peer].handed == 1
    assert world.ledger.standings[P.peer].surrendered == 0


@pytest.mark.parametrize(
    "signers", [(), (P,), (STEWARD,), (RENTER,), (Q, STEWARD), (P, STANDBY), (P, OTHER, VALIDATOR)]
)
def test_both_sides_must_sign(world: World, signers: tuple[Identity, ...]) -> None:
    escrow = world.leased()
    assert world.refused(handover(escrow), *signers) == "not_signed"
    world.ok(handover(escrow), P, RENTER)


def test_only_a_lease_that_runs_can_be_handed_over(world: World) -> None:
    escrow = world.leased()
    assert world.refused(handover(escrow, epoch=2), P, STEWARD) == "future_epoch"
    world.ok(claim(escrow), P)
    assert world.refused(handover(escrow), P, STEWARD) == "wrong_state"
    other = world.leased()
    world.ok(surrender(other), P)
    assert world.refused(handover(other), P, STEWARD) == "wrong_state"
    third = world.leased()
    world.pass_time(CLAIM_BY + 1)
    assert world.refused(handover(third), P, STEWARD) == "wrong_state"


def test_a_handover_happens_once(world: World) -> None:
    escrow = world.leased()
    first = world.ok(handover(escrow), P, STEWARD)
    before = world.ledger.encode()
    assert world.ok(handover(escrow), P, STEWARD) == first, "the same operation: its first outcome, no effect"
    assert world.ledger.encode() == before
    assert world.refused(handover(escrow, 600_000), P, STEWARD) == "wrong_state"
    world.ok(assign(escrow, epoch=2), STEWARD, P)
    assert world.refused(handover(escrow, 600_000), P, STEWARD) == "stale_epoch"
    assert world.refused(surrender(escrow), P) == "stale_epoch"


def test_a_notice_that_ran_out_and_a_handover_cannot_both_hold(world: World) -> None:
    """The provider gave up and surrendered while the steward ordered the handover: whichever came first, holds."""
    first, second = world.leased(), world.leased()
    world.ok(surrender(first), P)
    assert world.refused(handover(first), P, STEWARD) == "wrong_state"
    world.ok(handover(second), P, STEWARD)
    assert world.refused(surrender(second), P) == "wrong_state"


def test_an_accepted_chunk_pays_everybody_who_brought_it_on(world: World) -> None:
    escrow = world.leased()
    world.ok(handover(escrow, 400_000), P, STEWARD)
    world.ok(assign(escrow, epoch=2, provider=Q, price=600), STEWARD, Q)
    world.ok(handover(escrow, 700_000, epoch=2), Q, STEWARD)
    world.ok(assign(escrow, epoch=3, provider=R, price=300), STEWARD, R)
    world.ok(claim(escrow, epoch=3, provider=R), R)
    world.ok(verdict(escrow, epoch=3), VALIDATOR)
    shares = [item.amount for item in world.lease(escrow).carried]
    assert shares == [handed_share(PRICE, 0, 400_000), 300]
    for provider, amount in zip(PROVIDERS, (*shares, 300), strict=True):
        assert world.ledger.available("U", provider.peer) == amount - commission(amount)
    assert world.ledger.available(*FEES) == sum(commission(amount) for amount in (*shares, 300))
    record = world.ledger.escrows[escrow]
    assert posted(record, ["pay"]) == record.paid
    assert posted(record, ["commission"]) == record.commission
    world.ok(EscrowClose(escrow), STEWARD)
    assert record.refunded == CAP - sum(shares) - 300
    assert world.ledger.standings[P.peer].accepted == 0, "only who claimed is credited with the result"


@pytest.mark.parametrize("outcome", ["wrong", "fraud"])
def test_a_wrong_result_pays_nobody_and_the_chunk_begins_again(world: World, outcome: str) -> None:
    escrow = world.leased()
    world.ok(handover(escrow), P, STEWARD)
    world.ok(assign(escrow, epoch=2, provider=Q), STEWARD, Q)
    world.ok(claim(escrow, epoch=2, provider=Q), Q)
    world.ok(verdict(escrow, "wrong" if outcome == "wrong" else "fraud", epoch=2), VALIDATOR)
    lease = world.lease(escrow)
    assert (lease.done_ppm, waiting(lease)) == (0, [])
    assert world.ledger.available("E", escrow) == CAP
    assert world.ledger.available("S", P.peer) == STAKE, "the predecessor is not slashed"
    world.ok(assign(escrow, epoch=3, provider=R), STEWARD, R)
    world.ok(handover(escrow, 100_000, epoch=3), R, STEWARD)
    assert world.lease(escrow).done_ppm == 100_000


def test_a_closed_escrow_owes_nobody(world: World) -> None:
    escrow = world.leased()
    world.ok(handover(escrow), P, STEWARD)
    world.ok(EscrowClose(escrow), STEWARD)
    assert world.ledger.available("U", P.peer) == 0
    assert world.ledger.escrows[escrow].refunded == CAP
    late = world.ok(open_escrow(sequence=1, deadline=Micros(world.time + 100 * SECOND)), RENTER)
    world.ok(assign(late, claim_by=world.time + SECOND, verdict_by=world.time + 2 * SECOND), STEWARD, P)
    world.ok(handover(late), P, STEWARD)
    world.pass_time(world.time + 101 * SECOND)
    assert world.ledger.escrows[late].is_closed
    assert world.ledger.escrows[late].chunks[0].carried[0].outcome == "void"


def test_a_voucher_over_nothing_still_pays_the_predecessors(world: World) -> None:
    """The renter took the chunk as done: who brought it on before cannot be cut out of it."""
    escrow = world.leased()
    world.ok(handover(escrow), P, STEWARD)
    world.ok(assign(escrow, epoch=2, provider=Q), STEWARD, Q)
    world.ok(settle(escrow, 0, epoch=2), Q, STEWARD)
    share = world.lease(escrow).carried[0].amount
    assert world.ledger.available("U", P.peer) == share - commission(share)


def test_a_share_needs_no_money_that_is_not_there(world: World) -> None:
    """The escrow holds exactly one price: the share is a part of it."""
    escrow = world.ok(open_escrow(cap=PRICE), RENTER)
    world.ok(assign(escrow), STEWARD, P)
    world.ok(handover(escrow, HANDED_PPM_MAX), P, STEWARD)
    left = world.ledger.available("E", escrow)
    assert left == PRICE - handed_share(PRICE, 0, HANDED_PPM_MAX)
    world.ok(assign(escrow, epoch=2, price=remaining_price(PRICE, HANDED_PPM_MAX)), STEWARD, P)


@given(
    full=st.lists(st.integers(0, 2**40).map(lambda n: n * PRICE_STEP), min_size=1, max_size=8),
    done=st.lists(st.integers(0, HANDED_PPM_MAX), max_size=7).map(sorted),
)
def test_a_chunk_never_costs_more_than_at_its_dearest_provider(full: list[int], done: list[int]) -> None:
    """Each lease priced by `remaining_price`, each handed over at the next share, the last one finishes."""
    done = done[: len(full) - 1]
    before, total = 0, 0
    for price, at in zip(full, done, strict=False):
        lease = remaining_price(price, before)
        share = handed_share(lease, before, at)
        assert 0 <= share <= lease
        assert share % PRICE_STEP == 0
        assert commission(share) * 10 == share, "the commission is exact"
        before, total = at, total + share
    last = remaining_price(full[len(done)], before)
    assert total + last <= max(full)


@given(price=st.integers(0, 2**62), before=st.integers(0, HANDED_PPM_MAX), done=st.integers(0, HANDED_PPM_MAX))
def test_more_done_is_never_paid_less(price: int, before: int, done: int) -> None:
    before, done = sorted((before, done))
    share = handed_share(price, before, done)
    assert handed_share(price, before, before) == 0 <= share <= handed_share(price, before, HANDED_PPM_MAX) <= price
