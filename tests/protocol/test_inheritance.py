"""Units of earlier leases: who may be named, what a blamed verdict moves, and what an appeal against it restores."""

from __future__ import annotations

from typing import Final

import pytest

from protocol.accounts import FEES, RESERVE, TREASURY
from protocol.held import Held
from protocol.identity import Identity
from protocol.operations import Claim as ClaimOp
from protocol.operations import EscrowClose, Inherited, Mint, Surrender, Verdict, commission, seal
from protocol.policy import Policy
from protocol.prefix import is_prefix_of, sign_prefix
from protocol.units import CREDIT, PPM, Digest
from tests.protocol.ledger_world import (
    CHAIN,
    DEADLINE,
    GENESIS,
    OTHER,
    PRICE,
    PROVIDERS,
    RENTER,
    STAKE,
    STANDBY,
    STEWARD,
    TRACE,
    VALIDATOR,
    WINDOW,
    OutcomeName,
    World,
    appeal,
    assign,
    fence,
    handover,
    open_escrow,
    posted,
    ruling,
    verdict,
    with_policy,
)
from tests.protocol.words import chain

A, B, C = PROVIDERS
FEE: Final = commission(PRICE)
UNITS: Final = 10
ROOT: Final = b"w" * 32
LATE: Final = {"claim_by": DEADLINE - 2, "verdict_by": DEADLINE}
PLAIN: Final = with_policy()


@pytest.fixture
def world() -> World:
    return World(PLAIN)


def word(escrow: bytes, epoch: int, units: int, signer: Identity, chunk: int = 0) -> Inherited:
    return sign_prefix(signer, CHAIN, escrow, chunk, epoch, units, ROOT)


def words(escrow: bytes, *entries: tuple[int, int, Identity]) -> tuple[Inherited, ...]:
    return chain(CHAIN, escrow, 0, ((signer, epoch, units, ROOT) for epoch, units, signer in entries))


def claim(escrow: bytes, epoch: int, signer: Identity, *words: Inherited, units: int = UNITS) -> ClaimOp:
    sealed = seal(signer.peer, bytes(32), Digest(bytes(32)))
    return ClaimOp(escrow, 0, epoch, sealed, TRACE, units, words) if words else ClaimOp(escrow, 0, epoch, sealed)


def lease(world: World, escrow: bytes, epoch: int, provider: Identity, **changes: object) -> None:
    world.ok(assign(escrow, 0, epoch, provider, **(LATE | changes)), STEWARD, provider)


def blame(escrow: bytes, outcome: OutcomeName = "fraud", epoch: int = 2, blamed: int = 1, **changes: object) -> Verdict:
    fields = (escrow, 0, epoch, outcome, True, OTHER.peer, b"o" * 32, b"e" * 32, "unit_differs")
    return Verdict(*fields, blamed=blamed, **changes)  # type: ignore[arg-type]


def inherited(world: World, evidence: int = 0, first: Identity = A, second: Identity = B) -> bytes:
    """A's machine died after two units; B went on from there and has claimed."""
    escrow = world.ok(open_escrow(sequence=world.ledger.next_sequence(RENTER.peer)), RENTER)
    lease(world, escrow, 1, first)
    world.ok(fence(escrow), STEWARD, STANDBY)
    lease(world, escrow, 2, second, evidence=evidence)
    world.ok(claim(escrow, 2, second, word(escrow, 1, 2, first)), second)
    return escrow


def stake(world: World, peer: Identity) -> int:
    return world.ledger._state.accounts.balance(("S", peer.peer))


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_word_is_of_one_network_chunk_epoch_count_and_root() -> None:
    said = word(b"e" * 32, 3, 7, A, chunk=5)
    assert (said.epoch, said.units, said.root) == (3, 7, ROOT)
    assert is_prefix_of(CHAIN, A.peer, b"e" * 32, 5, said)
    assert not is_prefix_of("other", A.peer, b"e" * 32, 5, said)
    assert not is_prefix_of(CHAIN, B.peer, b"e" * 32, 5, said)
    assert not is_prefix_of(CHAIN, A.peer, b"f" * 32, 5, said)
    assert not is_prefix_of(CHAIN, A.peer, b"e" * 32, 6, said)
    for changed in (Inherited(4, 7, ROOT, said.signature), Inherited(3, 8, ROOT, said.signature),
                    Inherited(3, 7, TRACE, said.signature)):  # fmt: skip
        assert not is_prefix_of(CHAIN, A.peer, b"e" * 32, 5, changed)


# ── who may be named ─────────────────────────────────────────────────────────────────────────────────────────────────
def test_every_lease_that_ended_without_a_verdict_is_remembered(world: World) -> None:
    escrow = world.ok(open_escrow(), RENTER)
    lease(world, escrow, 1, A)
    world.ok(fence(escrow), STEWARD, STANDBY)
    lease(world, escrow, 2, B)
    world.ok(Surrender(escrow, 0, 2, "draining"), B)
    lease(world, escrow, 3, C)
    world.ok(handover(escrow, epoch=3), C, STEWARD)
    lease(world, escrow, 4, A, claim_by=world.time)
    world.pass_time(world.time + 1)
    lease(world, escrow, 5, B, claim_by=world.time, verdict_by=world.time + 1)
    world.ok(claim(escrow, 5, B), B)
    world.pass_time(world.time + 2)
    assert world.lease(escrow).outcome == "undecided"
    former = {1: A.peer, 2: B.peer, 3: C.peer, 4: A.peer, 5: B.peer}
    assert world.lease(escrow).former == former
    lease(world, escrow, 6, C)
    world.ok(claim(escrow, 6, C, *words(escrow, *((n, n, who) for n, who in enumerate((A, B, C, A, B), 1)))), C)
    assert world.lease(escrow).inherited == former


@pytest.mark.parametrize("outcome", ["missing", "withheld", "fraud"])
def test_a_lease_that_was_judged_is_not(world: World, outcome: OutcomeName) -> None:
    escrow = world.claimed()
    world.ok(verdict(escrow, outcome), VALIDATOR)
    assert world.lease(escrow).former == {}


def test_an_ended_escrow_forgets_them(world: World) -> None:
    escrow = inherited(world)
    world.ok(verdict(escrow, epoch=2), VALIDATOR)
    assert world.lease(escrow).former == {1: A.peer}
    world.ok(EscrowClose(escrow), STEWARD)
    world.mature()
    assert world.ledger.escrows[escrow].is_closed
    assert world.lease(escrow).former == {}


def test_a_new_lease_inherits_nothing_from_the_claim_before(world: World) -> None:
    escrow = inherited(world)
    world.ok(blame(escrow), VALIDATOR)
    lease(world, escrow, 3, C)
    assert world.lease(escrow).inherited == {}


@pytest.fixture
def third(world: World) -> bytes:
    """An escrow whose chunk A and B had; C has it now, and has not claimed."""
    escrow = world.ok(open_escrow(), RENTER)
    for epoch, who in ((1, A), (2, B)):
        lease(world, escrow, epoch, who)
        world.ok(fence(escrow, epoch=epoch), STEWARD, STANDBY)
    lease(world, escrow, 3, C)
    return escrow


@pytest.mark.parametrize(
    "said",
    [
        ((1, 2, B),),  # Signed by somebody else.
        ((3, 2, C),),  # By the running lease itself.
        ((4, 2, A),),  # Of a lease that never was.
        ((2, 2, B), (1, 3, A)),  # Epochs fall.
        ((1, 2, A), (1, 3, A)),  # Or stay.
        ((1, 3, A), (2, 3, B)),  # Units stay.
        ((1, 3, A), (2, 2, B)),  # Or fall.
        ((1, UNITS, A),),  # All units of the claim.
    ],
)
def test_words_that_do_not_bear_a_claim_are_refused(
    world: World, third: bytes, said: tuple[tuple[int, int, Identity], ...]
) -> None:
    assert world.refused(claim(third, 3, C, *words(third, *said)), C) == "bad_inheritance"
    assert world.lease(third).state == "assigned"
    world.ok(claim(third, 3, C, *words(third, (1, 2, A), (2, 3, B))), C)


def test_nobody_before_another_can_be_left_out_or_added(world: World, third: bytes) -> None:
    """Else a claim could lay the first units on the second provider, who has only gone on from them."""
    both = words(third, (1, 2, A), (2, 3, B))
    assert world.refused(claim(third, 3, C, both[1]), C) == "bad_inheritance"
    alone = word(third, 2, 3, B)
    assert world.refused(claim(third, 3, C, both[0], alone), C) == "bad_inheritance"
    world.ok(claim(third, 3, C, both[0]), C)


def test_words_about_another_chunk_are_refused(world: World, third: bytes) -> None:
    assert world.refused(claim(third, 3, C, word(third, 1, 2, A, chunk=1)), C) == "bad_inheritance"


# ── blame ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("outcome", "fine"), [("fraud", STAKE), ("wrong", PRICE // 10), ("rejected", 0)], ids=["fraud", "wrong", "rejected"]
)
def test_who_signed_pays_and_who_claimed_does_not(world: World, outcome: OutcomeName, fine: int) -> None:
    escrow = inherited(world)
    world.ok(blame(escrow, outcome), VALIDATOR)
    chunk, held = world.lease(escrow), world.held(escrow, epoch=2)
    assert (chunk.state, chunk.outcome, chunk.code) == ("free", "void", "unit_differs")
    assert (held.provider, held.claimant, held.payee, held.blamed) == (A.peer, B.peer, B.peer, 1)
    assert (world.ledger.available("S", B.peer), world.ledger.available("S", A.peer)) == (STAKE, STAKE - fine)
    assert world.ledger.available("E", escrow) == world.ledger.escrows[escrow].cap
    mine = world.ledger.standings.get(B.peer)
    assert mine is None or (mine.wrong, mine.fraud, mine.rejected, mine.missing, mine.probation) == (0, 0, 0, 0, 0)
    theirs = world.ledger.standings[A.peer]
    assert getattr(theirs, outcome) == 1
    assert theirs.probation == (50 if outcome == "rejected" else 0)
    world.mature()
    assert (stake(world, A), stake(world, B)) == (STAKE - fine, STAKE)
    assert world.ledger.available("U", B.peer) == 0
    assert world.ledger.escrows[escrow].slashed == fine
    assert -world.ledger.available(*RESERVE) == sum(one[2] for one in GENESIS.balances) - -(-fine // 2)


def test_the_same_person_in_both_leases_loses_by_the_earlier_one(world: World) -> None:
    escrow = inherited(world, second=A)
    world.ok(blame(escrow), VALIDATOR)
    world.mature()
    assert stake(world, A) == 0


@pytest.mark.parametrize(
    "finding", [blame(b"e" * 32, blamed=2), blame(b"e" * 32, blamed=7),
                *(blame(b"e" * 32, outcome) for outcome in ("accept", "severe", "withheld", "missing"))]
)  # fmt: skip
def test_blame_that_cannot_be_is_refused(world: World, finding: Verdict) -> None:
    escrow = inherited(world)
    fields = (escrow, 0, 2, finding.outcome, True, OTHER.peer, b"o" * 32, b"e" * 32, "unit_differs")
    assert world.refused(Verdict(*fields, blamed=finding.blamed), VALIDATOR) == "bad_blame"
    assert world.lease(escrow).state == "claimed"


def test_who_is_blamed_is_no_auditor(world: World) -> None:
    escrow = inherited(world)
    assert world.refused(blame(escrow, agreed=(A.peer,)), VALIDATOR) == "bad_auditors"
    world.ok(blame(escrow, agreed=(C.peer,)), VALIDATOR)


def test_a_claim_that_inherits_nothing_blames_nobody(world: World, third: bytes) -> None:
    world.ok(claim(third, 3, C), C)
    assert world.refused(blame(third, epoch=3), VALIDATOR) == "bad_blame"


def test_shares_of_a_spoilt_chunk_are_void_and_it_begins_at_nothing(world: World) -> None:
    escrow = world.ok(open_escrow(), RENTER)
    lease(world, escrow, 1, A)
    world.ok(handover(escrow, 300_000), A, STEWARD)
    lease(world, escrow, 2, B)
    world.ok(handover(escrow, 600_000, epoch=2), B, STEWARD)
    lease(world, escrow, 3, C)
    world.ok(claim(escrow, 3, C, *words(escrow, (1, 3, A), (2, 6, B))), C)
    world.ok(blame(escrow, epoch=3, blamed=2), VALIDATOR)
    assert [item.outcome for item in world.lease(escrow).carried] == ["void", "void"]
    assert world.lease(escrow).done_ppm == 0
    assert world.ledger.available("E", escrow) == world.ledger.escrows[escrow].cap
    world.mature()
    assert (stake(world, A), stake(world, B), stake(world, C)) == (STAKE, 0, STAKE)


def test_who_was_blamed_is_not_inherited_from_again(world: World) -> None:
    escrow = inherited(world)
    world.ok(blame(escrow), VALIDATOR)
    lease(world, escrow, 3, C)
    assert world.refused(claim(escrow, 3, C, word(escrow, 1, 2, A)), C) == "bad_inheritance"


def test_the_audit_is_paid_by_the_slash_of_who_signed(world: World) -> None:
    escrow = inherited(world, evidence=1_000)
    world.ok(blame(escrow), VALIDATOR)
    world.mature()
    assert world.ledger.escrows[escrow].evidence == 0
    assert world.ledger.available("U", OTHER.peer) == 1_000 + FEE * 6 // 10


# ── appeals ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def overturned(world: World) -> Held:
    """A is blamed, appeals with its own stake, and is cleared."""
    escrow = inherited(world)
    world.ok(blame(escrow, "wrong"), VALIDATOR)
    world.ok(appeal(escrow, A, epoch=2), A)
    world.ok(ruling(escrow, "accept", epoch=2), VALIDATOR)
    return world.held(escrow, epoch=2)


def test_only_the_accused_may_appeal(world: World) -> None:
    escrow = inherited(world)
    world.ok(blame(escrow, "wrong"), VALIDATOR)
    for other in (B, C, RENTER, STEWARD):
        assert world.refused(appeal(escrow, other, epoch=2), other) == "not_a_party"
    world.ok(appeal(escrow, A, epoch=2), A)


def test_a_panel_has_neither_of_the_two(world: World) -> None:
    escrow = inherited(world)
    world.ok(blame(escrow, "wrong"), VALIDATOR)
    world.ok(appeal(escrow, A, epoch=2), A)
    said = ruling(escrow, "accept", epoch=2)
    for member in (A, B):
        mine = type(said)(escrow, 0, 2, 1, "overturned", "accept", (member.peer,), b"e" * 32, "panel")
        assert world.refused(mine, VALIDATOR) == "bad_panel"


def test_units_that_were_good_after_all_pay_who_claimed_them(world: World) -> None:
    held = overturned(world)
    world.mature()
    assert held.end == "paid"
    assert world.ledger.available("U", B.peer) == PRICE - FEE
    assert world.ledger.available("U", A.peer) == 0
    assert (stake(world, A), stake(world, B)) == (STAKE, STAKE)
    standing = world.ledger.standings[A.peer]
    assert (standing.wrong, standing.accepted) == (0, 0)
    assert world.ledger.available(*FEES) == FEE
    assert world.ledger.available(*TREASURY) == 0


def test_the_run_of_who_is_cleared_is_what_it_was(world: World) -> None:
    other = world.claimed()
    world.ok(verdict(other), VALIDATOR)
    assert world.ledger.standings[A.peer].consecutive_valid == 1
    overturned(world)
    assert world.ledger.standings[A.peer].consecutive_valid == 1


def test_who_is_cleared_may_be_inherited_from_again(world: World) -> None:
    held = overturned(world)
    assert world.lease(held.escrow).former == {1: A.peer}
    world.ok(appeal(held.escrow, RENTER, epoch=2, number=2), RENTER)
    world.ok(ruling(held.escrow, "fraud", epoch=2, number=2), VALIDATOR)
    assert world.lease(held.escrow).former == {}
    world.mature()
    assert (held.end, stake(world, A)) == ("slashed", 0)


def tainted(world: World, finding: OutcomeName = "wrong") -> bytes:
    """C went on from A's snapshot after A was cleared; then A is found to blame again."""
    held = overturned(world)
    lease(world, held.escrow, 3, C)
    world.ok(appeal(held.escrow, RENTER, epoch=2, number=2), RENTER)
    world.ok(ruling(held.escrow, finding, epoch=2, number=2), VALIDATOR)
    cost = PRICE // 10 if finding == "wrong" else 0
    assert (held.end, stake(world, A)) == ("slashed" if cost else "unpaid", STAKE - cost)
    return held.escrow


def test_who_went_on_between_two_rulings_has_not_worked_in_vain(world: World) -> None:
    escrow = tainted(world)
    world.ok(claim(escrow, 3, C, word(escrow, 1, 2, A)), C)
    assert (world.lease(escrow).inherited, world.lease(escrow).tainted) == ({1: A.peer}, {1: A.peer})
    world.ok(verdict(escrow, epoch=3), VALIDATOR)
    world.mature()
    assert world.ledger.available("U", C.peer) == PRICE - FEE


def test_whoever_is_leased_to_later_knows_and_is_refused(world: World) -> None:
    escrow = tainted(world)
    world.ok(Surrender(escrow, 0, 3, "draining"), C)
    lease(world, escrow, 4, B)
    assert world.lease(escrow).tainted == {}
    assert world.refused(claim(escrow, 4, B, word(escrow, 1, 2, A)), B) == "bad_inheritance"


def test_who_is_found_to_blame_twice_for_the_same_units_pays_once(world: World) -> None:
    escrow = tainted(world)
    world.ok(claim(escrow, 3, C, word(escrow, 1, 2, A)), C)
    world.ok(blame(escrow, "wrong", epoch=3), VALIDATOR)
    assert world.lease(escrow).outcome == "void"
    world.mature()
    assert (world.held(escrow, epoch=3).end, stake(world, A), stake(world, C)) == ("unpaid", STAKE - PRICE // 10, STAKE)


def test_a_finding_that_cost_nothing_excuses_from_nothing(world: World) -> None:
    escrow = tainted(world, "rejected")
    world.ok(claim(escrow, 3, C, word(escrow, 1, 2, A)), C)
    world.ok(blame(escrow, "wrong", epoch=3), VALIDATOR)
    world.mature()
    assert (world.held(escrow, epoch=3).end, stake(world, A)) == ("slashed", STAKE - PRICE // 10)


def test_an_ended_escrow_forgets_whose_units_were_found_bad(world: World) -> None:
    escrow = tainted(world)
    world.ok(Surrender(escrow, 0, 3, "draining"), C)
    world.ok(EscrowClose(escrow), STEWARD)
    world.mature()
    assert (world.ledger.escrows[escrow].is_closed, world.lease(escrow).tainted) == (True, {})


def test_nobody_plays_a_third_round_for_another(world: World) -> None:
    held = overturned(world)
    world.ok(appeal(held.escrow, RENTER, epoch=2, number=2), RENTER)
    world.ok(ruling(held.escrow, "wrong", epoch=2, number=2), VALIDATOR)
    assert held.end == "slashed"


def test_who_claimed_cannot_appeal_against_its_own_pay(world: World) -> None:
    held = overturned(world)
    assert world.refused(appeal(held.escrow, B, epoch=2, number=2), B) == "not_a_party"


def test_fraud_elsewhere_of_who_was_cleared_costs_the_claimant_nothing(world: World) -> None:
    """Not even when that becomes final while the claim waits for its window to end."""
    world.ok(Mint(b"r" * 32, A.peer, 100 * CREDIT), VALIDATOR)
    other = world.ok(open_escrow(), RENTER)
    lease(world, other, 1, A)
    world.ok(claim(other, 1, A), A)
    escrow = inherited(world)
    world.ok(verdict(other, "fraud"), VALIDATOR)
    world.pass_time(world.time + WINDOW // 2)
    world.ok(blame(escrow, "wrong"), VALIDATOR)
    world.ok(appeal(escrow, A, epoch=2), A)
    world.ok(ruling(escrow, "accept", epoch=2), VALIDATOR)
    world.pass_time(world.held(other).until + 1)
    held = world.held(escrow, epoch=2)
    assert (world.held(other).end, held.end) == ("slashed", "")
    world.mature()
    assert held.end == "paid"
    assert world.ledger.available("U", B.peer) == PRICE - FEE


def test_fraud_elsewhere_of_who_claimed_costs_its_pay(world: World) -> None:
    held = overturned(world)
    other = world.ok(open_escrow(sequence=1), RENTER)
    lease(world, other, 1, B)
    world.ok(claim(other, 1, B), B)
    world.ok(verdict(other, "fraud"), VALIDATOR)
    world.mature()
    world.mature()
    assert held.end == "forfeited"
    assert world.ledger.available("U", B.peer) == 0


def test_an_escrow_with_a_blamed_verdict_closes_when_it_is_final(world: World) -> None:
    escrow = inherited(world)
    world.ok(blame(escrow), VALIDATOR)
    world.ok(EscrowClose(escrow), STEWARD)
    world.mature()
    record = world.ledger.escrows[escrow]
    assert record.is_closed
    assert posted(record, ["fund"]) == posted(record, ["refund"]) == record.cap
    assert posted(record, ["collateral"]) == posted(record, ["return", "slash"])
    assert world.lease(escrow).former == {}


# ── no policy, no window ─────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("outcome", "fine"), [("fraud", PRICE), ("wrong", PRICE // 10), ("rejected", 0)])
def test_without_a_policy_the_fine_is_what_the_collateral_would_have_been(outcome: OutcomeName, fine: int) -> None:
    world = World(GENESIS)
    escrow = inherited(world, evidence=1_000)
    world.ok(blame(escrow, outcome), VALIDATOR)
    record = world.ledger.escrows[escrow]
    assert (stake(world, A), stake(world, B)) == (STAKE - fine, STAKE)
    assert world.ledger.available("U", OTHER.peer) == 1_000
    assert record.evidence == (0 if fine else 1_000)
    assert world.ledger.available(*TREASURY) == max(0, fine - 1_000)
    assert (record.slashed, world.lease(escrow).outcome, world.lease(escrow).former) == (fine, "void", {})
    assert B.peer not in world.ledger.standings
    assert world.ledger.standings[A.peer].wrong == (outcome != "rejected")


def test_without_a_policy_shares_are_void_too() -> None:
    world = World(GENESIS)
    escrow = world.ok(open_escrow(), RENTER)
    lease(world, escrow, 1, A)
    world.ok(handover(escrow), A, STEWARD)
    lease(world, escrow, 2, B)
    world.ok(claim(escrow, 2, B, word(escrow, 1, 3, A)), B)
    world.ok(blame(escrow), VALIDATOR)
    assert world.lease(escrow).done_ppm == 0
    assert world.ledger.available("E", escrow) == world.ledger.escrows[escrow].cap


def test_without_a_window_a_blamed_verdict_is_final_at_once() -> None:
    world = World(with_policy(Policy(dispute_window=0, burn=PPM)))
    escrow = inherited(world)
    world.ok(blame(escrow), VALIDATOR)
    assert (world.held(escrow, epoch=2).end, stake(world, A), stake(world, B)) == ("slashed", 0, STAKE)
