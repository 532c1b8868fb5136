"""Appeals and rulings: who may, against what bond, in which round, and that an overturned finding leaves no trace."""

from __future__ import annotations

import copy

import pytest
from msgspec.structs import replace

from protocol.accounts import FEES, RESERVE, TREASURY
from protocol.disputes import NOTHING_FOUND, bond_min
from protocol.escrow_state import Standing
from protocol.identity import Identity
from protocol.operations import EscrowClose, Mint, Ruling, commission
from protocol.units import CREDIT
from tests.protocol.ledger_world import (
    FUNDS,
    OTHER,
    POLICY,
    PRICE,
    PROVIDERS,
    RENTER,
    RULE_TIME,
    STAKE,
    STEWARD,
    TRACE,
    VALIDATOR,
    WINDOW,
    OutcomeName,
    World,
    again,
    appeal,
    assign,
    claim,
    open_escrow,
    posted,
    ruling,
    verdict,
    with_policy,
)

P, Q, R = PROVIDERS
FEE = commission(PRICE)
BOND = 40 * CREDIT
FAULTS: list[OutcomeName] = ["wrong", "fraud", "severe", "rejected", "withheld"]
RIVAL = b"r" * 32


@pytest.fixture
def world() -> World:
    world = World(with_policy())
    for number, peer in enumerate((P, STEWARD, OTHER)):
        world.ok(Mint(bytes([number]) * 32, peer.peer, 100 * CREDIT), VALIDATOR)
    return world


def judged(world: World, outcome: OutcomeName, is_traced: bool = False) -> bytes:
    escrow = world.claimed(is_traced)
    world.ok(verdict(escrow, outcome), VALIDATOR)
    return escrow


def snapshot(world: World) -> Standing:
    return copy.copy(world.ledger.standings[P.peer])


# ── who may ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("outcome", ["accept", *FAULTS])
@pytest.mark.parametrize("who", [P, STEWARD, RENTER, OTHER, Q])
def test_only_who_loses_by_a_finding_may_appeal(world: World, outcome: OutcomeName, who: Identity) -> None:
    e = judged(world, outcome)
    may = (who is P) if outcome != "accept" else who in (STEWARD, RENTER, Q)
    if may:
        world.ok(appeal(e, who), who)
    else:
        assert world.refused(appeal(e, who), who) == "not_a_party"


def test_a_refuted_auditor_may_appeal(world: World) -> None:
    world.ok(Mint(b"q" * 32, Q.peer, 100 * CREDIT), VALIDATOR)
    e = world.claimed()
    world.ok(verdict(e, "wrong", faulted=(Q,)), VALIDATOR)
    world.ok(appeal(e, Q), Q)
    world.ok(ruling(e, "accept"), VALIDATOR)
    assert world.ledger.available("S", Q.peer) == STAKE
    assert world.ledger.standings[Q.peer].faulted == 0


def test_what_an_appeal_needs(world: World) -> None:
    e = judged(world, "wrong")
    least = bond_min(POLICY, PRICE, 1)
    assert least == PRICE * 9 // 2
    assert world.refused(appeal(e, P), Q) == "not_signed"
    assert world.refused(appeal(e, P, least - 1), P) == "bond_too_small"
    assert world.refused(appeal(e, P, epoch=2), P) == "not_held"
    assert world.refused(appeal(e, P, 1_000 * CREDIT), P) == "insufficient_user"
    world.ok(appeal(e, P, least), P)
    assert world.refused(appeal(e, P, least + 1), P) == "already_appealed"
    assert world.ledger.available("S", P.peer) == STAKE - PRICE - least


def test_a_bond_comes_from_free_money_where_stake_does_not_cover_it(world: World) -> None:
    e = judged(world, "fraud")
    world.ok(appeal(e, P), P)
    assert world.ledger.available("U", P.peer) == 100 * CREDIT - BOND


def test_after_the_window_nothing_can_be_appealed(world: World) -> None:
    e = judged(world, "wrong")
    world.pass_time(world.time + WINDOW)
    signed = appeal(e, P)
    world.pass_time(world.time + 1)
    assert world.refused(signed, P) == "not_held"


def test_without_a_policy_there_is_nothing_to_appeal() -> None:
    world = World()
    e = world.claimed()
    world.ok(verdict(e, "wrong"), VALIDATOR)
    assert world.refused(appeal(e, P), P) == "not_held"


# ── rulings ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_what_a_ruling_needs(world: World) -> None:
    e = judged(world, "wrong")
    assert world.refused(ruling(e, "accept"), VALIDATOR) == "no_appeal"
    world.ok(appeal(e, P), P)
    assert world.refused(ruling(e, "accept"), OTHER) == "not_signed"
    assert world.refused(ruling(e, "accept", number=2), VALIDATOR) == "no_appeal"
    assert world.refused(ruling(e, "accept", is_upheld=True), VALIDATOR) == "bad_finding"
    assert world.refused(ruling(e, "wrong"), VALIDATOR) == "bad_finding"
    for panel in ((P.peer,), (OTHER.peer, OTHER.peer)):
        bad = Ruling(e, 0, 1, 1, "overturned", "accept", panel, b"e" * 32, "panel")
        assert world.refused(bad, VALIDATOR) == "bad_panel"


@pytest.mark.parametrize("outcome", FAULTS)
def test_an_overturned_fault_never_happened(world: World, outcome: OutcomeName) -> None:
    """The slash is unheld, the standing as if accepted, the provider paid from the escrow."""
    e = judged(world, outcome)
    world.ok(appeal(e, P), P)
    world.ok(ruling(e, "accept"), VALIDATOR)
    standing = snapshot(world)
    assert standing == Standing(accepted=1, consecutive_valid=1)
    world.mature()
    assert world.ledger.available("S", P.peer) == STAKE
    assert world.ledger.available("U", P.peer) == 100 * CREDIT + PRICE - FEE
    assert world.ledger.available(*FEES) == FEE
    assert world.ledger.available(*TREASURY) == 0
    record = world.ledger.escrows[e]
    assert (record.paid, record.commission, record.slashed) == (PRICE - FEE, FEE, 0)
    world.ok(again(e), STEWARD, P)


def test_compensation_never_exceeds_what_the_escrow_has(world: World) -> None:
    e = world.ok(open_escrow(cap=PRICE), RENTER)
    world.ok(assign(e), STEWARD, P)
    world.ok(claim(e), P)
    world.ok(verdict(e, "wrong"), VALIDATOR)
    world.ok(again(e, provider=Q), STEWARD, Q)
    world.ok(appeal(e, P), P)
    world.ok(ruling(e, "accept"), VALIDATOR)
    world.mature()
    assert world.ledger.available("U", P.peer) == 100 * CREDIT + PRICE - 1_000 - commission(PRICE - 1_000)


@pytest.mark.parametrize("finding", FAULTS)
def test_an_accepted_result_proven_bad_is_not_paid_and_slashed(world: World, finding: OutcomeName) -> None:
    e = judged(world, "accept")
    world.ok(appeal(e, Q), Q)
    world.ok(ruling(e, finding), VALIDATOR)
    assert world.ledger.available("S", Q.peer) == STAKE
    lease = world.lease(e)
    assert (lease.state, lease.outcome) == ("paid", "accept")
    world.mature()
    fine = STAKE - world.ledger._state.accounts.balance(("S", P.peer))
    half, hundredth = STAKE // 2, STAKE // 100
    due = {"wrong": PRICE // 10, "fraud": STAKE, "severe": half, "rejected": 0, "withheld": hundredth}[finding]
    assert fine == due
    assert world.ledger.available("U", Q.peer) == fine // 2
    assert (lease.state, lease.outcome) == ("free", finding)
    standing = snapshot(world)
    assert (standing.accepted, getattr(standing, finding), standing.consecutive_valid) == (0, 1, 0)
    world.ok(again(e, provider=Q), STEWARD, Q)


def test_a_mistaken_audit_is_not_paid(world: World) -> None:
    e = world.ok(open_escrow(), RENTER)
    world.ok(assign(e, evidence=CREDIT), STEWARD, P)
    world.ok(claim(e), P)
    world.ok(verdict(e, "rejected", is_audited=True, auditor=OTHER), VALIDATOR)
    world.ok(appeal(e, P), P)
    world.ok(ruling(e, "accept"), VALIDATOR)
    world.mature()
    record = world.ledger.escrows[e]
    assert (record.evidence, posted(record, ["evidence"]), record.paid) == (0, 0, PRICE - FEE)
    assert world.ledger.available("E", e) == 100 * CREDIT - PRICE


def test_who_gets_a_lighter_finding_for_himself_gets_no_reward(world: World) -> None:
    e = judged(world, "fraud")
    world.ok(appeal(e, P), P)
    world.ok(ruling(e, "severe"), VALIDATOR)
    assert world.held(e).winner == b""
    world.mature()
    assert world.ledger.available("S", P.peer) == STAKE // 2
    assert world.ledger.available("U", P.peer) == 100 * CREDIT


def test_a_lost_appeal_costs_the_bond(world: World) -> None:
    e = judged(world, "accept")
    owed = -world.ledger.available(*RESERVE)
    world.ok(appeal(e, RENTER), RENTER)
    world.ok(ruling(e, "accept", is_upheld=True), VALIDATOR)
    world.mature()
    assert world.ledger.available("U", RENTER.peer) == FUNDS - 100 * CREDIT - BOND
    assert -world.ledger.available(*RESERVE) == owed - BOND // 2
    assert world.ledger.available(*TREASURY) == BOND // 2
    assert world.ledger.available("U", P.peer) == 100 * CREDIT + PRICE - FEE


@pytest.mark.parametrize("code", sorted(NOTHING_FOUND))
def test_a_court_that_finds_nothing_takes_no_bond(world: World, code: str) -> None:
    e = judged(world, "wrong", is_traced=True)
    for number in (1, 2):
        world.ok(appeal(e, P, number=number), P)
        world.ok(replace(ruling(e, "wrong", is_upheld=True, number=number), code=code), VALIDATOR)
        assert world.ledger.available("U", P.peer) + world.ledger.available("S", P.peer) == 200 * CREDIT - PRICE
        assert (world.held(e).round, world.held(e).code) == (number, code)
    assert world.ledger.available(*TREASURY) == 0
    world.mature()
    assert world.held(e).end == "slashed"


def test_without_a_ruling_the_finding_stands_and_the_bond_goes_back(world: World) -> None:
    e = judged(world, "severe")
    world.ok(appeal(e, P), P)
    world.pass_time(world.time + RULE_TIME)
    assert world.held(e).end == ""
    world.pass_time(world.time + 1)
    assert world.held(e).end == "slashed"
    assert world.ledger.available("S", P.peer) == STAKE // 2
    assert world.refused(ruling(e, "accept"), VALIDATOR) == "not_held"


def test_rounds_go_on_until_the_last(world: World) -> None:
    e = judged(world, "accept", is_traced=True)
    world.ok(appeal(e, Q), Q)
    world.ok(ruling(e, "fraud"), VALIDATOR)
    assert world.refused(appeal(e, Q, number=2), Q) == "not_a_party"
    least = bond_min(POLICY, PRICE, 2)
    assert world.refused(appeal(e, P, least - 1, number=2), P) == "bond_too_small"
    assert world.refused(appeal(e, P, least), P) == "wrong_round"
    world.ok(appeal(e, P, least, number=2), P)
    world.ok(ruling(e, "accept", number=2), VALIDATOR)
    assert world.held(e).winner == b""
    assert world.refused(appeal(e, Q, number=3), Q) == "no_rival"
    assert world.refused(appeal(e, Q, rival=TRACE, number=3), Q) == "no_rival"
    world.ok(appeal(e, Q, rival=RIVAL, number=3), Q)
    world.ok(ruling(e, "fraud", number=3), VALIDATOR)
    assert world.held(e).end == "slashed"
    assert world.ledger.available("U", Q.peer) == STAKE // 2
    assert world.refused(appeal(e, P), P) == "not_held"


def test_a_claim_without_a_trace_has_two_rounds(world: World) -> None:
    e = judged(world, "wrong")
    world.ok(appeal(e, P), P)
    world.ok(ruling(e, "wrong", is_upheld=True), VALIDATOR)
    world.ok(appeal(e, P, number=2), P)
    world.ok(ruling(e, "accept", number=2), VALIDATOR)
    assert world.held(e).end == "paid"


# ── standing ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def several(world: World, outcomes: list[OutcomeName]) -> bytes:
    e = world.ok(open_escrow(), RENTER)
    for chunk, outcome in enumerate(outcomes):
        world.ok(again(e, chunk, 1), STEWARD, P)
        world.ok(claim(e, chunk), P)
        world.ok(verdict(e, outcome, chunk), VALIDATOR)
    return e


ROWS: list[tuple[list[OutcomeName], int]] = [
    (["accept", "wrong", "accept"], 1),
    (["accept", "wrong", "wrong", "accept"], 1),
    (["accept", "wrong", "accept", "wrong", "accept"], 3),
    (["accept", "wrong", "missing", "accept"], 1),
    (["rejected", "accept", "rejected"], 2),
    (["rejected", "accept", "rejected"], 0),
    (["accept", "severe", "rejected", "accept", "withheld"], 1),
]


@pytest.mark.parametrize(("outcomes", "chunk"), ROWS)
def test_an_overturned_finding_leaves_the_standing_of_a_world_without_it(
    outcomes: list[OutcomeName], chunk: int
) -> None:
    worlds = []
    for is_mistaken in (True, False):
        world = World(with_policy())
        world.ok(Mint(b"m" * 32, P.peer, 500 * CREDIT), VALIDATOR)
        listed = list(outcomes)
        if not is_mistaken:
            listed[chunk] = "accept"
        e = several(world, listed)
        if is_mistaken:
            world.ok(appeal(e, P, chunk=chunk), P)
            world.ok(ruling(e, "accept", chunk=chunk), VALIDATOR)
        worlds.append(world)
    assert snapshot(worlds[0]) == snapshot(worlds[1])


def test_a_streak_does_not_come_back_over_a_fault_that_stands(world: World) -> None:
    e = several(world, ["accept", "accept", "wrong"])
    world.ok(appeal(e, P, chunk=2), P)
    world.ok(again(e, 3, 1), STEWARD, P)
    world.ok(claim(e, 3), P)
    world.ok(verdict(e, "wrong", 3), VALIDATOR)
    world.mature()
    world.ok(ruling(e, "accept", chunk=2), VALIDATOR)
    assert snapshot(world).consecutive_valid == 0


def test_probation_that_an_overturned_result_had_shortened_is_as_long_again(world: World) -> None:
    e = several(world, ["rejected"])
    world.ok(again(e, 1, 1), STEWARD, P)
    world.ok(claim(e, 1), P)
    world.ok(verdict(e, "accept", 1, is_audited=True), VALIDATOR)
    assert snapshot(world).probation == 49
    world.ok(appeal(e, RENTER, chunk=1), RENTER)
    world.ok(ruling(e, "severe", chunk=1), VALIDATOR)
    assert snapshot(world).probation == 50


def test_probation_stays_when_a_later_rejection_stands(world: World) -> None:
    e = several(world, ["rejected"])
    world.ok(appeal(e, P), P)
    world.ok(again(e, 1, 1), STEWARD, P)
    world.ok(claim(e, 1), P)
    world.ok(verdict(e, "rejected", 1), VALIDATOR)
    world.mature()
    world.ok(ruling(e, "accept"), VALIDATOR)
    assert snapshot(world).probation == 50


def test_an_audit_that_said_too_much_is_not_covered_by_the_slash(world: World) -> None:
    """Fraud was said, wrong it was: the auditor has its fee, not the evidence."""
    e = world.ok(open_escrow(), RENTER)
    world.ok(assign(e, evidence=100), STEWARD, P)
    world.ok(claim(e), P)
    world.ok(verdict(e, "severe", is_audited=True, auditor=OTHER), VALIDATOR)
    assert world.held(e).cover == 100
    world.ok(appeal(e, P), P)
    world.ok(ruling(e, "withheld"), VALIDATOR)
    world.mature()
    assert posted(world.ledger.escrows[e], ["fee"]) == FEE * 6 // 10


# ── statement ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("is_upheld", [True, False])
@pytest.mark.parametrize("outcome", ["accept", *FAULTS])
def test_the_statement_of_a_dispute_adds_up(world: World, outcome: OutcomeName, is_upheld: bool) -> None:
    e = judged(world, outcome)
    who = RENTER if outcome == "accept" else P
    world.ok(appeal(e, who), who)
    finding: OutcomeName = outcome if is_upheld else "severe" if outcome == "accept" else "accept"
    world.ok(ruling(e, finding, is_upheld), VALIDATOR)
    world.ok(EscrowClose(e), STEWARD)
    world.mature()
    record = world.ledger.escrows[e]
    assert record.is_closed
    assert posted(record, ["slash"]) == record.slashed
    assert posted(record, ["collateral", "bond"]) == posted(record, ["return", "slash", "forfeit"])
    assert posted(record, ["forfeit"]) == (BOND if is_upheld else 0)
    assert posted(record, ["fund"]) == posted(record, ["pay", "commission", "refund"])
    assert posted(record, ["burn"]) == -(-record.slashed // 2) + posted(record, ["forfeit"]) // 2
