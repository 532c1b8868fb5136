"""Held payments and slashes: what waits, what is counted at once, what moves when the window ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol.accounts import FEES, RESERVE, TREASURY
from protocol.errors import LocalError
from protocol.escrow_state import RELEASE
from protocol.genesis import Genesis
from protocol.held import held_id
from protocol.operations import EscrowClose, Mint, Unbond, commission
from protocol.policy import UNBOND_TIME, Policy
from protocol.units import CREDIT, DAY, HOUR, Digest
from tests.protocol.ledger_world import (
    DEADLINE,
    GENESIS,
    OTHER,
    POLICY,
    PRICE,
    PROVIDERS,
    RENTER,
    STAKE,
    STANDBY,
    START,
    STEWARD,
    VALIDATOR,
    WINDOW,
    OutcomeName,
    World,
    again,
    appeal,
    assign,
    claim,
    fence,
    handover,
    open_escrow,
    posted,
    ruling,
    settle,
    verdict,
    with_policy,
)

P, Q = PROVIDERS[:2]
CAP = 100 * CREDIT
FEE = commission(PRICE)
AUDIT_FEE = FEE * 6 // 10
GOLDEN_ROOT = "87c045ebb4a0b9c86c538771e186e6ed3d7634f87a8ded9f30399e3bffbe77d3"
"""Of the history below, taken from the ledger before it knew policies."""
GOLDEN_GENESIS = "3ba5e071aceb7dc9f5247cf81a9d35902f7b307b221c78c52572e510523edb70"


@pytest.fixture
def world() -> World:
    return World(with_policy())


def burnt(world: World, genesis: Genesis = GENESIS) -> int:
    """Money that has left the world."""
    return sum(amount for _, _, amount in genesis.balances) + world.ledger.available(*RESERVE)


# ── no policy ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_without_a_policy_roots_and_digests_are_what_they_were() -> None:
    world = World()

    def block(number: int) -> Digest:
        root = world.ledger.state_root()
        world.ledger.commit(bytes([number]) * 32)
        return root

    e = world.ok(open_escrow(), RENTER)
    for chunk in range(3):
        world.ok(assign(e, chunk, provider=PROVIDERS[chunk]), STEWARD, PROVIDERS[chunk])
    block(1)
    world.ok(claim(e, 0), P)
    world.ok(claim(e, 1, provider=Q), Q)
    world.ok(handover(e, chunk=2), PROVIDERS[2], STEWARD)
    block(2)
    world.ok(verdict(e, "accept", 0, is_audited=True), VALIDATOR)
    world.ok(verdict(e, "wrong", 1), VALIDATOR)
    world.ok(assign(e, 2, 2, provider=Q), STEWARD, Q)
    world.ok(assign(e, 1, 2, provider=PROVIDERS[2]), STEWARD, PROVIDERS[2])
    world.ok(claim(e, 1, 2, provider=PROVIDERS[2]), PROVIDERS[2])
    block(3)
    world.ok(verdict(e, "fraud", 1, 2), VALIDATOR)
    world.ok(claim(e, 2, 2, provider=Q), Q)
    world.ok(verdict(e, "missing", 2, 2), VALIDATOR)
    block(4)
    world.ok(EscrowClose(e), STEWARD)
    assert block(5).hex() == GOLDEN_ROOT
    assert GENESIS.digest.hex() == GOLDEN_GENESIS != with_policy().digest.hex()


# ── pay ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_accepted_pay_is_counted_at_once_and_paid_when_the_window_ends(world: World) -> None:
    e = world.claimed()
    world.ok(verdict(e), VALIDATOR)
    lease, standing = world.lease(e), world.ledger.standings[P.peer]
    assert (lease.state, lease.outcome, lease.output) == ("paid", "accept", b"o" * 32)
    assert lease.held_until == world.time + WINDOW
    assert (standing.accepted, standing.consecutive_valid) == (1, 1)
    assert world.ledger.available("U", P.peer) == world.ledger.available(*FEES) == 0
    assert world.ledger.available("S", P.peer) == STAKE - PRICE
    world.pass_time(lease.held_until)
    assert world.ledger.available("U", P.peer) == 0
    world.pass_time(lease.held_until + 1)
    assert world.ledger.available("U", P.peer) == PRICE - FEE
    assert world.ledger.available(*FEES) == FEE
    assert world.ledger.available("S", P.peer) == STAKE
    assert (lease.held_until, world.held(e).end) == (0, "paid")
    world.pass_time(world.time + 10 * WINDOW)
    assert world.ledger.available("U", P.peer) == PRICE - FEE


def test_an_audited_result_pays_its_auditor_from_the_commission(world: World) -> None:
    e = world.claimed()
    world.ok(verdict(e, is_audited=True, auditor=OTHER), VALIDATOR)
    assert world.ledger.available("U", OTHER.peer) == 0
    world.mature()
    assert world.ledger.available("U", OTHER.peer) == AUDIT_FEE
    assert world.ledger.available(*FEES) == FEE - AUDIT_FEE


@pytest.mark.parametrize("genesis", [GENESIS, with_policy()], ids=["at_once", "held"])
@pytest.mark.parametrize("is_audited", [True, False])
@pytest.mark.parametrize("outcome", ["accept", "wrong", "rejected"])
def test_evidence_is_paid_whatever_the_audit_finds(genesis: Genesis, is_audited: bool, outcome: OutcomeName) -> None:
    """For evidence, not for agreement: by the escrow, or by the slash where there is one, so that the next lease of the
    chunk can be paid. Without an audit it is the renter's again."""
    world = World(genesis)
    e = world.ok(open_escrow(), RENTER)
    world.ok(assign(e, evidence=777), STEWARD, P)
    assert world.ledger.available("E", e) == CAP - PRICE - 777
    world.ok(claim(e), P)
    world.ok(verdict(e, outcome, is_audited=is_audited, auditor=STEWARD), VALIDATOR)
    if outcome == "wrong":
        assert world.ledger.available("E", e) == CAP
    world.mature()
    record = world.ledger.escrows[e]
    fee, share = posted(record, ["fee"]), 777 if is_audited and outcome != "wrong" else 0
    assert (world.ledger.available("U", STEWARD.peer), record.evidence) == (fee, share)
    assert fee >= (777 if is_audited else 0) and posted(record, ["evidence"]) == share
    world.ok(EscrowClose(e), STEWARD)
    spent = PRICE if outcome == "accept" else 0
    assert record.refunded == CAP - share - spent


@pytest.mark.parametrize("genesis", [GENESIS, with_policy()], ids=["at_once", "held"])
def test_evidence_beyond_the_slash_is_the_escrows(genesis: Genesis) -> None:
    world = World(genesis)
    e = world.ok(open_escrow(), RENTER)
    world.ok(assign(e, price=1_000, collateral=1_000, evidence=777), STEWARD, P)
    world.ok(claim(e), P)
    world.ok(verdict(e, "wrong", is_audited=True, auditor=STEWARD), VALIDATOR)
    covered = 50 if world.ledger.policy else 100
    assert world.ledger.available("E", e) == CAP - 777 + covered
    world.mature()
    assert (world.ledger.escrows[e].evidence, world.ledger.available("U", STEWARD.peer)) == (777 - covered, 777)


@pytest.mark.parametrize("is_fenced", [True, False])
def test_evidence_of_a_lease_that_ends_early_goes_back(world: World, is_fenced: bool) -> None:
    e = world.ok(open_escrow(), RENTER)
    world.ok(assign(e, evidence=777), STEWARD, P)
    world.ok(fence(e) if is_fenced else handover(e, 0), *((STEWARD, STANDBY) if is_fenced else (P, STEWARD)))
    assert world.ledger.available("E", e) == CAP


def test_a_network_with_a_policy_but_no_window_pays_at_once() -> None:
    world = World(with_policy(Policy(dispute_window=0)))
    e = world.claimed()
    world.ok(verdict(e), VALIDATOR)
    assert world.ledger.available("U", P.peer) == PRICE - FEE
    assert world.refused(appeal(e, OTHER), OTHER) == "not_held"


def test_shares_of_predecessors_wait_with_the_result(world: World) -> None:
    e = world.leased()
    world.ok(handover(e), P, STEWARD)
    world.ok(assign(e, epoch=2, provider=Q), STEWARD, Q)
    world.ok(claim(e, epoch=2, provider=Q), Q)
    world.ok(verdict(e, epoch=2), VALIDATOR)
    share = world.lease(e).carried[0]
    assert (share.outcome, world.ledger.available("U", P.peer)) == ("", 0)
    world.mature()
    assert share.outcome == "paid"
    assert world.ledger.available("U", P.peer) == share.amount - commission(share.amount)


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────
SLASHES: list[tuple[OutcomeName, int]] = [
    ("wrong", PRICE // 10),
    ("severe", STAKE // 2),
    ("withheld", STAKE // 100),
    ("rejected", 0),
    ("fraud", STAKE),
]


@pytest.mark.parametrize(("outcome", "fine"), SLASHES)
def test_a_fault_frees_the_chunk_at_once_and_slashes_later(world: World, outcome: OutcomeName, fine: int) -> None:
    e = world.claimed()
    world.ok(verdict(e, outcome), VALIDATOR)
    lease, standing = world.lease(e), world.ledger.standings[P.peer]
    assert (lease.state, lease.outcome) == ("free", outcome)
    assert world.ledger.available("E", e) == CAP
    assert (getattr(standing, outcome), standing.consecutive_valid) == (1, 0)
    assert world.ledger.available(*TREASURY) == 0
    assert world.ledger._state.accounts.balance(("S", P.peer)) == STAKE
    world.ok(assign(e, epoch=2, provider=Q), STEWARD, Q)
    world.mature()
    assert world.ledger.available("S", P.peer) == STAKE - fine
    assert burnt(world) == -(-fine // 2)
    assert world.ledger.available(*TREASURY) == fine // 2
    assert world.ledger.escrows[e].slashed == fine
    assert world.held(e).end == ("slashed" if fine else "unpaid")


def test_missing_is_decided_at_once(world: World) -> None:
    e = world.claimed()
    world.ok(verdict(e, "missing"), VALIDATOR)
    assert not world.ledger.held
    assert world.ledger.available("S", P.peer) == STAKE


def test_withholding_doubles_up_to_five_percent(world: World) -> None:
    e = world.ok(open_escrow(), RENTER)
    stake = STAKE
    for chunk, ppm in enumerate((10_000, 20_000, 40_000, 50_000, 50_000)):
        world.ok(again(e, chunk, 1), STEWARD, P)
        world.ok(claim(e, chunk), P)
        world.ok(verdict(e, "withheld", chunk), VALIDATOR)
        world.mature()
        fine = stake * ppm // 1_000_000
        stake -= fine
        assert world.ledger.available("S", P.peer) == stake


def test_fraud_reaches_stake_that_is_leaving_and_bans(world: World) -> None:
    e = world.claimed()
    world.ok(Unbond(P.peer, 0, 0, 30 * CREDIT), P)
    world.ok(verdict(e, "fraud"), VALIDATOR)
    assert world.ledger.available("S", P.peer) == world.ledger.available("B", P.peer) == 0
    assert world.refused(assign(e, epoch=2, price=0, collateral=0), STEWARD, P) == "banned"
    world.mature()
    assert burnt(world) == STAKE // 2
    assert world.ledger._state.accounts.balance(("B", P.peer)) == 0
    world.pass_time(world.time + UNBOND_TIME)
    assert world.ledger.available("U", P.peer) == 0


@pytest.mark.parametrize("is_mistaken", [False, True])
def test_stake_that_is_leaving_waits_for_the_dispute(is_mistaken: bool) -> None:
    """Its time is up while it may yet be slashed: it leaves afterwards, or never."""
    world = World(with_policy(Policy(dispute_window=DAY // 2, rule_time=DAY // 2)))
    world.ok(Unbond(P.peer, 0, 0, 30 * CREDIT), P)
    world.ok(Mint(b"r" * 32, P.peer, 50 * CREDIT), VALIDATOR)
    world.pass_time(START + 7 * DAY + 20 * HOUR)
    e = world.ok(open_escrow(deadline=START + 9 * DAY), RENTER)
    world.ok(assign(e, claim_by=START + 8 * DAY, verdict_by=START + 9 * DAY), STEWARD, P)
    world.ok(claim(e), P)
    world.ok(verdict(e, "fraud"), VALIDATOR)
    if is_mistaken:
        world.ok(appeal(e, P), P)
    world.pass_time(START + UNBOND_TIME + 1)
    assert world.ledger.available("B", P.peer) == 0
    assert world.ledger._state.accounts.balance(("B", P.peer)) == 30 * CREDIT
    if is_mistaken:
        world.ok(ruling(e, "accept"), VALIDATOR)
        world.pass_time(world.time + HOUR)
        assert world.ledger.available("U", P.peer) == 80 * CREDIT
    else:
        world.pass_time(world.time + DAY)
        assert world.ledger.available("U", P.peer) == 50 * CREDIT
        assert world.held(e).end == "slashed"
    world.pass_time(world.time + 2 * HOUR)
    assert not [item for item in world.ledger._state.due if item[1] == RELEASE]


def test_fraud_takes_the_held_pay_of_other_jobs_back(world: World) -> None:
    """Value in flight is lost with the first proof: the one-job bound then holds for any number of jobs."""
    good = world.claimed()
    world.ok(verdict(good), VALIDATOR)
    world.pass_time(world.time + WINDOW // 2)
    bad = world.leased()
    world.ok(claim(bad), P)
    world.ok(verdict(bad, "fraud"), VALIDATOR)
    world.pass_time(START + WINDOW + 1)
    assert (world.held(good).end, world.ledger.available("U", P.peer)) == ("", 0)
    world.mature()
    assert (world.held(good).end, world.held(bad).end) == ("forfeited", "slashed")
    assert world.ledger.available("E", good) == CAP
    assert world.ledger.available("U", P.peer) == 0
    world.mature()
    assert world.ledger.available("U", P.peer) == 0


def test_pay_that_waits_for_an_accusation_is_paid_when_that_falls(world: World) -> None:
    good = world.claimed()
    world.ok(verdict(good), VALIDATOR)
    bad = world.leased()
    world.ok(claim(bad), P)
    world.ok(verdict(bad, "fraud"), VALIDATOR)
    world.ok(Mint(b"r" * 32, P.peer, 100 * CREDIT), VALIDATOR)
    world.ok(appeal(bad, P), P)
    world.mature()
    assert world.held(good).end == ""
    world.ok(ruling(bad, "accept"), VALIDATOR)
    world.mature()
    world.mature()
    assert world.held(good).end == "paid"


def test_pay_that_waits_for_an_accusation_cannot_be_appealed_any_more(world: World) -> None:
    good = world.claimed()
    world.ok(verdict(good), VALIDATOR)
    world.pass_time(world.time + WINDOW // 2)
    bad = world.leased()
    world.ok(claim(bad), P)
    world.ok(verdict(bad, "fraud"), VALIDATOR)
    world.pass_time(START + WINDOW + 1)
    assert world.refused(appeal(good, RENTER), RENTER) == "window_closed"


def test_a_banned_provider_is_not_paid_for_what_still_ran(world: World) -> None:
    """And what its leases gave back in the meantime is taken with the rest."""
    e = world.ok(open_escrow(), RENTER)
    for chunk in range(3):
        late = assign(e, chunk, collateral=10 * CREDIT, claim_by=DEADLINE - 2, verdict_by=DEADLINE)
        world.ok(late, STEWARD, P)
        world.ok(claim(e, chunk), P)
    world.ok(verdict(e, "fraud", 0), VALIDATOR)
    world.ok(verdict(e, "missing", 1), VALIDATOR)
    assert world.ledger.available("S", P.peer) == 10 * CREDIT
    world.mature()
    assert world.ledger._state.accounts.balance(("S", P.peer)) == 10 * CREDIT
    assert world.ledger.escrows[e].slashed == 90 * CREDIT
    world.ok(verdict(e, "accept", 2), VALIDATOR)
    world.mature()
    assert (world.held(e, 2).end, world.ledger.available("U", P.peer)) == ("forfeited", 0)


@pytest.mark.parametrize("genesis", [GENESIS, with_policy()], ids=["at_once", "held"])
def test_a_rejection_brings_probation_that_audited_results_end(genesis: Genesis) -> None:
    world = World(genesis)
    e = world.claimed()
    world.ok(verdict(e, "rejected"), VALIDATOR)
    standing = world.ledger.standings[P.peer]
    assert standing.probation == POLICY.probation == 50
    for epoch, is_audited in ((2, True), (3, False)):
        world.ok(again(e, epoch - 1, 1), STEWARD, P)
        world.ok(claim(e, epoch - 1), P)
        world.ok(verdict(e, chunk=epoch - 1, is_audited=is_audited), VALIDATOR)
    assert standing.probation == 49


def test_half_of_an_odd_slash_is_rounded_towards_the_fire(world: World) -> None:
    e = world.ok(open_escrow(), RENTER)
    world.ok(assign(e, price=70, collateral=7), STEWARD, P)
    world.ok(claim(e), P)
    world.ok(verdict(e, "wrong"), VALIDATOR)
    world.mature()
    assert (burnt(world), world.ledger.available(*TREASURY)) == (4, 3)


def test_a_refuted_auditor_loses_a_share_of_its_stake(world: World) -> None:
    e = world.claimed()
    world.ok(verdict(e, is_audited=True, auditor=OTHER, faulted=(Q, OTHER)), VALIDATOR)
    assert world.ledger.standings[Q.peer].faulted == 1
    assert world.ledger.available("S", Q.peer) == STAKE * 9 // 10
    world.mature()
    assert world.ledger._state.accounts.balance(("S", Q.peer)) == STAKE * 9 // 10
    assert burnt(world) == STAKE // 20
    assert world.ledger.available("U", P.peer) == PRICE - FEE


def test_vouchers_still_pay_at_once(world: World) -> None:
    e = world.leased()
    world.ok(settle(e, PRICE), P, STEWARD)
    assert world.ledger.available("U", P.peer) == PRICE - FEE


# ── the books ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _end_twice(world: World, e: bytes) -> None:
    world.held(e).end = "paid"


def _lose_a_fine(world: World, e: bytes) -> None:
    world.held(e, 1).fines.pop()


def _forget_an_item(world: World, e: bytes) -> None:
    del world.ledger.held[held_id(e, 0, 1)]


def _count_one_less(world: World, e: bytes) -> None:
    world.ledger.escrows[e].held -= 1


def _close_over_it(world: World, e: bytes) -> None:
    world.ledger.escrows[e].is_closed = True


def _close_for_nothing(world: World, e: bytes) -> None:
    world.mature()
    world.ledger.escrows[e].is_closing = True


def _fly_lower(world: World, e: bytes) -> None:
    world.ledger._state.flight[P.peer] = 1


def _owe_less(world: World, e: bytes) -> None:
    world.ledger._state.held_pay[P.peer] -= 1


def _lose_sight(world: World, e: bytes) -> None:
    world.ledger._state.held_in[e].popitem()


def _promise_less(world: World, e: bytes) -> None:
    world.held(e, 1).fines[0].amount -= 1


@pytest.mark.parametrize(
    "damage",
    [
        _end_twice,
        _lose_a_fine,
        _forget_an_item,
        _count_one_less,
        _close_over_it,
        _close_for_nothing,
        _fly_lower,
        _owe_less,
        _lose_sight,
        _promise_less,
    ],
)
def test_the_books_see_damage(world: World, damage: Callable[[World, bytes], None]) -> None:
    e = world.ok(open_escrow(), RENTER)
    for chunk, outcome in enumerate(("accept", "severe")):
        world.ok(assign(e, chunk), STEWARD, P)
        world.ok(claim(e, chunk), P)
        world.ok(verdict(e, "severe" if outcome == "severe" else "accept", chunk), VALIDATOR)
    with pytest.raises(LocalError):
        damage(world, e)
        world.ledger.check()


# ── statement ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("outcome", "fine"), [*SLASHES, ("accept", 0)])
def test_the_statement_adds_up(world: World, outcome: OutcomeName, fine: int) -> None:
    e = world.claimed()
    world.ok(verdict(e, outcome, is_audited=True, auditor=OTHER, faulted=(Q,)), VALIDATOR)
    world.ok(EscrowClose(e), STEWARD)
    world.mature()
    record = world.ledger.escrows[e]
    assert record.is_closed
    assert posted(record, ["slash"]) == record.slashed == fine + STAKE // 10
    assert posted(record, ["collateral", "bond"]) == posted(record, ["return", "slash", "forfeit"])
    assert posted(record, ["reserve"]) == posted(record, ["pay", "commission", "release"])
    assert posted(record, ["fund"]) == posted(record, ["pay", "commission", "refund"])
    assert posted(record, ["burn"]) == burnt(world)
    assert bool(posted(record, ["hold"])) == (outcome == "accept")
    gained = world.ledger.available("U", OTHER.peer)
    assert gained == posted(record, ["fee"]) == (AUDIT_FEE if outcome == "accept" else min(AUDIT_FEE, fine // 2))


def test_the_chain_of_roots_covers_what_is_held() -> None:
    roots = set()
    outcomes: tuple[OutcomeName, ...] = ("accept", "wrong", "fraud", "severe", "rejected", "withheld", "missing")
    for outcome in outcomes:
        world = World(with_policy())
        e = world.claimed()
        world.ok(verdict(e, outcome), VALIDATOR)
        roots.add(world.ledger.state_root())
    assert len(roots) == len(outcomes)
