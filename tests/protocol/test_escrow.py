"""Every operation of the ledger: who must sign, when it is valid, and to the unit what it moves."""

from __future__ import annotations

import itertools

import pytest

from protocol.accounts import FEES, RESERVE, TREASURY
from protocol.identity import Identity
from protocol.operations import (
    Bond,
    EscrowClose,
    Fence,
    Mint,
    Operation,
    Transfer,
    Unbond,
    WithdrawEnd,
    WithdrawExt,
    commission,
    signed_op,
)
from protocol.policy import UNBOND_TIME
from protocol.units import CREDIT, SECOND
from tests.protocol.ledger_world import (
    CHAIN,
    CLAIM_BY,
    DEADLINE,
    FUNDS,
    GENESIS,
    OTHER,
    PRICE,
    PROVIDERS,
    RENTER,
    STAKE,
    STANDBY,
    START,
    STEWARD,
    VALIDATOR,
    VERDICT_BY,
    OutcomeName,
    World,
    assign,
    claim,
    extend,
    fence,
    open_escrow,
    settle,
    surrender,
    verdict,
)

P = PROVIDERS[0]
CAP = 100 * CREDIT


@pytest.fixture
def world() -> World:
    return World()


def test_an_accepted_chunk_pays_price_less_commission_to_the_unit(world: World) -> None:
    escrow = world.claimed()
    world.ok(verdict(escrow, is_audited=True), VALIDATOR, at=CLAIM_BY)
    fee = PRICE * 100_000 // 1_000_000
    assert world.ledger.available("U", P.peer) == PRICE - fee
    assert world.ledger.available(*FEES) == fee
    assert world.ledger.available("S", P.peer) == STAKE
    world.ok(EscrowClose(escrow), STEWARD)
    assert world.ledger.available("U", RENTER.peer) == FUNDS - PRICE
    record, lease = world.ledger.escrows[escrow], world.lease(escrow)
    assert (record.paid, record.commission, record.refunded, record.slashed) == (PRICE - fee, fee, CAP - PRICE, 0)
    assert (lease.state, lease.outcome, lease.output, lease.is_audited) == ("paid", "accept", b"o" * 32, True)
    standing = world.ledger.standings[P.peer]
    assert (standing.accepted, standing.consecutive_valid, standing.audited) == (1, 1, 1)


@pytest.mark.parametrize(("outcome", "fine"), [("wrong", PRICE // 10), ("fraud", PRICE), ("missing", 0)])
def test_a_bad_verdict_returns_the_price_and_takes_the_fine(world: World, outcome: OutcomeName, fine: int) -> None:
    escrow = world.claimed()
    world.ok(verdict(escrow, outcome), VALIDATOR)
    assert world.ledger.available("E", escrow) == CAP
    assert world.ledger.available("U", P.peer) == 0
    assert world.ledger.available("S", P.peer) == STAKE - fine
    assert world.ledger.available(*TREASURY) == fine
    assert world.ledger.escrows[escrow].slashed == fine
    lease, standing = world.lease(escrow), world.ledger.standings[P.peer]
    assert (lease.state, lease.epoch, lease.outcome) == ("free", 1, outcome)
    assert (standing.wrong, standing.missing) == ((0, 1) if outcome == "missing" else (1, 0))
    world.ok(assign(escrow, epoch=2, provider=PROVIDERS[1]), STEWARD, PROVIDERS[1])


def test_a_fine_is_never_more_than_the_collateral(world: World) -> None:
    escrow = world.ok(open_escrow(), RENTER)
    world.ok(assign(escrow, collateral=5), STEWARD, P)
    world.ok(claim(escrow), P)
    world.ok(verdict(escrow, "wrong"), VALIDATOR)
    assert world.ledger.available("S", P.peer) == STAKE - 5


def test_price_and_collateral_may_be_nothing(world: World) -> None:
    escrow = world.ok(open_escrow(), RENTER)
    world.ok(assign(escrow, price=0, collateral=0), STEWARD, P)
    assert world.refused(EscrowClose(escrow), STEWARD) == "leases_open"
    world.ok(claim(escrow), P)
    world.ok(verdict(escrow), VALIDATOR)
    world.ok(EscrowClose(escrow), STEWARD)
    assert world.ledger.available("U", RENTER.peer) == FUNDS


def test_consecutive_valid_counts_from_the_last_failure(world: World) -> None:
    escrow = world.ok(open_escrow(), RENTER)
    outcomes: list[OutcomeName] = ["accept", "accept", "wrong", "accept"]
    for chunk, outcome in enumerate(outcomes):
        world.ok(assign(escrow, chunk), STEWARD, P)
        world.ok(claim(escrow, chunk), P)
        world.ok(verdict(escrow, outcome, chunk), VALIDATOR)
    assert world.ledger.standings[P.peer].consecutive_valid == 1


def test_response_time_is_summed_over_accepted_results(world: World) -> None:
    escrow = world.leased()
    world.ok(claim(escrow), P, at=START + 1_234)
    world.ok(verdict(escrow), VALIDATOR, at=START + 99_999)
    assert world.ledger.standings[P.peer].response_time_sum == 1_234


# ── assign ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"price": CAP + 1}, "insufficient_escrow"),
        ({"collateral": STAKE + 1}, "insufficient_stake"),
        ({"claim_by": START - 1}, "bad_times"),
        ({"claim_by": VERDICT_BY}, "bad_times"),
        ({"verdict_by": DEADLINE + 1}, "bad_times"),
        ({"epoch": 2}, "future_epoch"),
        ({"watchers": (OTHER.peer, STANDBY.peer)}, "bad_watchers"),
        ({"watchers": (STEWARD.peer, STEWARD.peer)}, "bad_watchers"),
        ({"escrow": b"x" * 32}, "no_escrow"),
    ],
)
def test_an_invalid_assign_pends_nothing(world: World, changes: dict[str, object], code: str) -> None:
    escrow = world.ok(open_escrow(), RENTER)
    fields = {"escrow": escrow, **changes}
    assert world.refused(assign(**fields), STEWARD, P) == code  # type: ignore[arg-type]
    assert not world.ledger.escrows[escrow].chunks


def test_price_and_collateral_are_pended_together(world: World) -> None:
    """The price alone would fit; the collateral does not: neither happens."""
    escrow = world.ok(open_escrow(), RENTER)
    world.ok(assign(escrow, 0, collateral=STAKE), STEWARD, P)
    assert world.refused(assign(escrow, 1, collateral=1), STEWARD, P) == "insufficient_stake"
    assert world.ledger.available("E", escrow) == CAP - PRICE


def test_a_lease_is_exclusive_and_epochs_count_up(world: World) -> None:
    escrow = world.leased()
    assert world.refused(assign(escrow, epoch=2), STEWARD, P) == "wrong_state"
    world.ok(surrender(escrow), P)
    assert world.refused(assign(escrow, epoch=1, price=1), STEWARD, P) == "stale_epoch"
    assert world.refused(assign(escrow, epoch=3), STEWARD, P) == "future_epoch"
    world.ok(assign(escrow, epoch=2), STEWARD, P)


# ── extend ───────────────────────────────────────────────────────────────────────────────────────────────────────────
LATER = DEADLINE + 50 * SECOND


def test_an_extension_adds_money_and_time(world: World) -> None:
    escrow = world.ok(open_escrow(), RENTER)
    world.ok(extend(escrow, 7, deadline=LATER), RENTER)
    record = world.ledger.escrows[escrow]
    assert (record.cap, record.deadline) == (CAP + 7, LATER)
    assert world.ledger.available("E", escrow) == CAP + 7
    assert world.ledger.available("U", RENTER.peer) == FUNDS - CAP - 7
    line = record.lines[-1]
    assert (line.debit, line.credit, line.amount) == (("U", RENTER.peer), ("E", escrow), 7)
    assert (line.kind, line.note) == ("fund", "escrow extended")
    world.ok(assign(escrow, price=CAP + 7, verdict_by=LATER), STEWARD, P)


def test_an_extended_escrow_closes_at_its_new_deadline_only(world: World) -> None:
    escrow = world.ok(open_escrow(), RENTER)
    world.ok(extend(escrow, 7, deadline=LATER), RENTER, at=DEADLINE)
    world.pass_time(LATER)
    assert not world.ledger.escrows[escrow].is_closed
    world.pass_time(LATER + 1)
    record = world.ledger.escrows[escrow]
    assert record.is_closed and record.refunded == CAP + 7
    assert [line.kind for line in record.lines] == ["fund", "fund", "refund"]
    assert world.ledger.available("U", RENTER.peer) == FUNDS


def test_money_or_time_alone_can_be_added_and_either_changes_the_root(world: World) -> None:
    escrow = world.ok(open_escrow(), RENTER)
    roots = {world.ledger.state_root()}
    world.ok(extend(escrow, 7), RENTER)
    roots.add(world.ledger.state_root())
    world.ok(extend(escrow, 0, 2, LATER), RENTER)
    roots.add(world.ledger.state_root())
    other = World()
    other.ok(open_escrow(), RENTER)
    other.ledger.state_root()
    other.ok(extend(escrow, 7), RENTER)
    other.ledger.state_root()
    other.ok(extend(escrow, 0, 2, LATER + 1), RENTER)
    assert len(roots | {other.ledger.state_root()}) == 4
    record = world.ledger.escrows[escrow]
    assert (record.cap, record.deadline, len(record.lines)) == (CAP + 7, LATER, 2)


@pytest.mark.parametrize(
    ("amount", "deadline", "code"),
    [
        (1, DEADLINE - 1, "bad_times"),
        (0, DEADLINE, "no_change"),
        (FUNDS - CAP + 1, LATER, "insufficient_user"),
    ],
)
def test_an_invalid_extension_adds_nothing(world: World, amount: int, deadline: int, code: str) -> None:
    escrow = world.ok(open_escrow(), RENTER)
    assert world.refused(extend(escrow, amount, deadline=deadline), RENTER) == code
    record = world.ledger.escrows[escrow]
    assert (record.cap, record.deadline, len(record.lines)) == (CAP, DEADLINE, 1)
    world.ok(extend(escrow, FUNDS - CAP, sequence=2), RENTER)


def test_only_the_owner_extends_and_only_an_open_escrow(world: World) -> None:
    world.ok(Mint(b"r" * 32, OTHER.peer, CREDIT), VALIDATOR)
    escrow = world.ok(open_escrow(), RENTER)
    assert world.refused(extend(escrow, 1, 0, owner=OTHER), OTHER) == "not_owner"
    assert world.refused(extend(b"x" * 32, 1, 1), RENTER) == "no_escrow"
    world.ok(EscrowClose(escrow), STEWARD)
    assert world.refused(extend(escrow, 1, 2), RENTER) == "escrow_closed"


# ── signatures ───────────────────────────────────────────────────────────────────────────────────────────────────────
ALL = (RENTER, STEWARD, STANDBY, OTHER, VALIDATOR, P, PROVIDERS[1])


def needs(world: World, operation: Operation, enough: set[frozenset[Identity]]) -> None:
    """The operation is refused for every pair and single signer that does not contain a sufficient set."""
    for count in (0, 1, 2):
        for signers in itertools.combinations(ALL, count):
            if not any(group <= set(signers) for group in enough):
                assert world.refused(operation, *signers) == "not_signed", signers
    world.ok(operation, *next(iter(enough)))


def one(*alternatives: Identity) -> set[frozenset[Identity]]:
    return {frozenset({item}) for item in alternatives}


def test_each_operation_needs_its_signers(world: World) -> None:
    needs(world, open_escrow(), one(RENTER))
    escrow = next(iter(world.ledger.escrows))
    needs(world, extend(escrow), one(RENTER))
    both = {frozenset({STEWARD, P}), frozenset({RENTER, P})}
    needs(world, assign(escrow), both)
    needs(world, claim(escrow), one(P))
    needs(world, verdict(escrow), one(VALIDATOR))
    world.ok(assign(escrow, 1), STEWARD, P)
    needs(world, settle(escrow, 5, 1), both)
    world.ok(assign(escrow, 2), STEWARD, P)
    needs(world, surrender(escrow, 2), one(P))
    world.ok(assign(escrow, 3), STEWARD, P)
    pairs = {frozenset(pair) for pair in itertools.combinations((STEWARD, STANDBY, OTHER), 2)}
    needs(world, fence(escrow, 3), pairs)
    needs(world, EscrowClose(escrow), one(STEWARD, RENTER))
    needs(world, Mint(b"r" * 32, RENTER.peer, 9), one(VALIDATOR))
    for operation in (Bond(RENTER.peer, 1, 0, 9), Unbond(RENTER.peer, 1, 1, 9), Transfer(RENTER.peer, 1, 2, P.peer, 9)):
        needs(world, operation, one(RENTER))
    withdrawal = WithdrawExt(RENTER.peer, 1, 3, "bank", 9)
    needs(world, withdrawal, one(RENTER))
    needs(world, WithdrawEnd(signed_op(CHAIN, withdrawal).op_id, True), one(VALIDATOR))


def test_forged_and_foreign_signatures_leave_no_trace(world: World) -> None:
    good = signed_op(CHAIN, open_escrow(), RENTER)
    foreign = signed_op("other chain", open_escrow(), RENTER)
    assert world.ledger.apply(foreign, START).code == "bad_signature"
    assert world.ledger.apply(good, START).status == "applied"


def test_an_operation_sent_half_signed_is_not_spoilt(world: World) -> None:
    escrow = world.leased()
    assert world.refused(fence(escrow), STEWARD) == "not_signed"
    world.ok(fence(escrow), STEWARD, OTHER)


def test_with_two_watchers_both_must_agree(world: World) -> None:
    escrow = world.ok(open_escrow(), RENTER)
    world.ok(assign(escrow, watchers=(STEWARD.peer, OTHER.peer)), STEWARD, P)
    assert world.refused(fence(escrow), STEWARD) == "not_signed"
    world.ok(fence(escrow), STEWARD, OTHER)


# ── how leases end ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_fenced_or_surrendered_chunk_is_free_and_its_old_epoch_dead(world: World) -> None:
    escrow = world.leased()
    world.ok(fence(escrow), STEWARD, OTHER)
    assert world.refused(claim(escrow), P) == "wrong_state"
    world.ok(assign(escrow, epoch=2, provider=PROVIDERS[1]), STEWARD, PROVIDERS[1])
    assert world.refused(claim(escrow, epoch=1), P) == "stale_epoch"
    assert world.refused(claim(escrow, epoch=2), P) == "not_signed"
    assert world.refused(claim(escrow, epoch=3), PROVIDERS[1]) == "future_epoch"
    assert world.ledger.standings[P.peer].fenced == 1


def test_a_claimed_chunk_can_be_neither_fenced_nor_surrendered_nor_claimed_again(world: World) -> None:
    escrow = world.claimed()
    assert world.refused(fence(escrow), STEWARD, OTHER) == "wrong_state"
    assert world.refused(surrender(escrow), P) == "wrong_state"
    sealed_otherwise = claim(escrow, provider=PROVIDERS[1])
    assert world.refused(sealed_otherwise, P) == "wrong_state"


def test_only_one_verdict_counts(world: World) -> None:
    escrow = world.claimed()
    world.ok(verdict(escrow), VALIDATOR)
    assert world.refused(verdict(escrow, "wrong"), VALIDATOR) == "wrong_state"


def test_a_verdict_before_the_claim_is_refused(world: World) -> None:
    escrow = world.leased()
    assert world.refused(verdict(escrow), VALIDATOR) == "wrong_state"


@pytest.mark.parametrize("cumulative", [0, 1, 9, 10, PRICE - 1, PRICE])
@pytest.mark.parametrize("is_claimed", [True, False])
def test_a_voucher_pays_its_part(world: World, cumulative: int, is_claimed: bool) -> None:
    escrow = world.leased()
    if is_claimed:
        world.ok(claim(escrow), P)
    assert world.refused(settle(escrow, PRICE + 1), P, STEWARD) == "over_price"
    world.ok(settle(escrow, cumulative), P, STEWARD)
    assert world.ledger.available("U", P.peer) == cumulative - commission(cumulative)
    assert world.ledger.available("E", escrow) == CAP - cumulative
    assert world.ledger.available("S", P.peer) == STAKE
    assert world.refused(settle(escrow, 2), RENTER, P) == "wrong_state"


# ── by itself ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_lease_expires_just_after_claim_by(world: World) -> None:
    escrow = world.leased()
    world.pass_time(CLAIM_BY)
    assert world.lease(escrow).state == "assigned"
    world.pass_time(CLAIM_BY + 1)
    lease = world.lease(escrow)
    assert (lease.state, lease.outcome) == ("free", "expired")
    assert world.ledger.standings[P.peer].expired == 1
    assert world.ledger.available("E", escrow) == CAP
    assert world.ledger.available("S", P.peer) == STAKE


def test_a_claim_at_claim_by_is_in_time_and_a_verdict_at_verdict_by(world: World) -> None:
    escrow = world.leased()
    world.ok(claim(escrow), P, at=CLAIM_BY)
    world.ok(verdict(escrow), VALIDATOR, at=VERDICT_BY)


def test_an_unjudged_claim_ends_without_blame(world: World) -> None:
    escrow = world.claimed()
    world.pass_time(VERDICT_BY + 1)
    assert world.lease(escrow).outcome == "undecided"
    assert P.peer not in world.ledger.standings
    assert world.refused(verdict(escrow), VALIDATOR) == "wrong_state"


def test_an_old_deadline_does_not_end_a_new_epoch(world: World) -> None:
    escrow = world.leased()
    world.ok(surrender(escrow), P)
    world.ok(assign(escrow, epoch=2, claim_by=CLAIM_BY + 10), STEWARD, P)
    world.pass_time(CLAIM_BY + 5)
    assert world.lease(escrow).state == "assigned"


def test_at_its_deadline_an_escrow_closes_after_its_leases(world: World) -> None:
    escrow = world.ok(open_escrow(), RENTER)
    world.ok(assign(escrow, claim_by=DEADLINE - 1, verdict_by=DEADLINE), STEWARD, P)
    world.ok(claim(escrow), P)
    world.pass_time(DEADLINE)
    assert not world.ledger.escrows[escrow].is_closed
    world.pass_time(DEADLINE + 1)
    assert world.ledger.escrows[escrow].is_closed
    assert world.ledger.available("U", RENTER.peer) == FUNDS
    assert world.refused(EscrowClose(escrow), STEWARD) == "escrow_closed"


def test_a_halted_ledger_catches_up_in_order(world: World) -> None:
    escrow = world.leased()
    world.pass_time(DEADLINE + UNBOND_TIME)
    assert world.lease(escrow).outcome == "expired"
    assert [line.kind for line in world.ledger.escrows[escrow].lines][-1] == "refund"


def test_stake_comes_back_after_the_unbonding_time(world: World) -> None:
    escrow = world.leased()
    assert world.refused(Unbond(P.peer, 0, 0, STAKE), P) == "insufficient_stake"
    world.ok(Unbond(P.peer, 0, 1, STAKE - PRICE), P)
    assert world.ledger.available("S", P.peer) == 0
    world.pass_time(START + UNBOND_TIME - 1)
    assert world.ledger.available("U", P.peer) == 0
    world.pass_time(START + UNBOND_TIME)
    assert world.ledger.available("U", P.peer) == STAKE - PRICE
    assert world.ledger.escrows[escrow].is_closed


# ── free money ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_sequences_are_exact_and_a_refusal_uses_one_up(world: World) -> None:
    assert world.refused(Transfer(RENTER.peer, 0, 1, P.peer, 1), RENTER) == "sequence_gap"
    poor = Transfer(RENTER.peer, 0, 0, P.peer, FUNDS + 1)
    assert world.refused(poor, RENTER) == "insufficient_user"
    assert world.refused(Transfer(RENTER.peer, 0, 0, P.peer, 1), RENTER) == "sequence_used"
    world.ok(Mint(b"r" * 32, RENTER.peer, FUNDS), VALIDATOR)
    assert world.refused(poor, RENTER) == "insufficient_user", "a repeated operation gets its first outcome"
    world.ok(Transfer(RENTER.peer, 0, 1, P.peer, 1), RENTER)
    world.ok(Transfer(RENTER.peer, 7, 0, P.peer, 1), RENTER)
    assert world.ledger.next_sequence(RENTER.peer, 0) == 2


def test_a_gap_may_be_filled_and_the_operation_sent_again(world: World) -> None:
    later = Transfer(RENTER.peer, 0, 1, P.peer, 1)
    assert world.refused(later, RENTER) == "sequence_gap"
    world.ok(Transfer(RENTER.peer, 0, 0, P.peer, 1), RENTER)
    world.ok(later, RENTER)


def test_a_replay_has_one_effect(world: World) -> None:
    first = world.ok(Transfer(RENTER.peer, 0, 0, P.peer, 5), RENTER)
    assert world.ok(Transfer(RENTER.peer, 0, 0, P.peer, 5), RENTER) == first
    assert world.ledger.available("U", P.peer) == 5


def test_a_deposit_is_minted_once_and_never_over_the_supply(world: World) -> None:
    world.ok(Mint(b"r" * 32, P.peer, 7), VALIDATOR)
    assert world.refused(Mint(b"r" * 32, P.peer, 8), VALIDATOR) == "reference_used"
    assert world.refused(Mint(b"s" * 32, P.peer, 2**62), VALIDATOR) == "over_supply"
    assert world.ledger.available("U", P.peer) == 7


@pytest.mark.parametrize("is_paid", [True, False])
def test_a_withdrawal_leaves_or_comes_back_once(world: World, is_paid: bool) -> None:
    withdrawal = world.ok(WithdrawExt(RENTER.peer, 0, 0, "bank", 400), RENTER)
    assert world.ledger.available("U", RENTER.peer) == FUNDS - 400
    supply = -world.ledger.available(*RESERVE)
    world.ok(WithdrawEnd(withdrawal, is_paid), VALIDATOR)
    assert world.ledger.available("U", RENTER.peer) == (FUNDS - 400 if is_paid else FUNDS)
    assert -world.ledger.available(*RESERVE) == (supply - 400 if is_paid else supply)
    assert world.refused(WithdrawEnd(withdrawal, not is_paid), VALIDATOR) == "no_withdrawal"


def test_a_withdrawal_cannot_end_a_lease(world: World) -> None:
    escrow = world.leased()
    assert world.refused(WithdrawEnd(world.lease(escrow).assign, True), VALIDATOR) == "no_withdrawal"


def test_nothing_is_sent_to_oneself(world: World) -> None:
    assert world.refused(Transfer(RENTER.peer, 0, 0, RENTER.peer, 1), RENTER) == "same_account"


def test_an_escrow_needs_money_and_a_future(world: World) -> None:
    assert world.refused(open_escrow(FUNDS + 1), RENTER) == "insufficient_user"
    assert world.refused(open_escrow(1, 1, deadline=START), RENTER) == "bad_times"


# ── the statement ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_genesis_money_is_all_there(world: World) -> None:
    assert -world.ledger.available(*RESERVE) == sum(amount for _, _, amount in GENESIS.balances)


def test_unknown_bytes_are_an_outcome_too(world: World) -> None:
    signed = signed_op(CHAIN, Fence(b"x" * 32, 0, 1), RENTER)
    assert world.ledger.apply(signed, START).code == "no_escrow"
