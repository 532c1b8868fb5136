"""Auditors: several who found the same share what an audit brings, and a result that none answered for owes one."""

from __future__ import annotations

from typing import Final

import pytest
from msgspec import UNSET

from protocol import tallies
from protocol.accounts import TREASURY
from protocol.genesis import Genesis
from protocol.identity import Identity
from protocol.operations import Verdict, commission
from protocol.penalties import burnt_of
from tests.protocol.ledger_world import (
    GENESIS,
    OTHER,
    PRICE,
    PROVIDERS,
    RENTER,
    STAKE,
    STEWARD,
    VALIDATOR,
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
EVIDENCE: Final = 1_000
FEE: Final = commission(PRICE) * 6 // 10
HELD: Final = with_policy()


def world_of(genesis: Genesis = HELD) -> tuple[World, bytes]:
    world = World(genesis)
    escrow = world.ok(open_escrow(), RENTER)
    world.ok(assign(escrow, evidence=EVIDENCE), STEWARD, P)
    world.ok(claim(escrow), P)
    return world, escrow


def said(
    escrow: bytes,
    *auditors: Identity,
    outcome: OutcomeName = "accept",
    audited: bool = True,
    faulted: Identity | None = None,
) -> Verdict:
    fields = (escrow, 0, 1, outcome, audited, auditors[0].peer, b"o" * 32, b"e" * 32, "hash_equal")
    refuted = (faulted.peer,) if faulted else UNSET
    return Verdict(*fields, agreed=tuple(one.peer for one in auditors[1:]), faulted=refuted)


def gains(world: World, *peers: Identity) -> tuple[int, ...]:
    return tuple(world.ledger.available("U", peer.peer) for peer in peers)


def thirds(amount: int) -> tuple[int, int, int]:
    return amount - 2 * (amount // 3), amount // 3, amount // 3


def test_fee_and_evidence_of_an_accepted_result_are_shared() -> None:
    world, escrow = world_of()
    world.ok(said(escrow, Q, R, OTHER), VALIDATOR)
    world.mature()
    fee, money = thirds(FEE), thirds(EVIDENCE)
    assert gains(world, Q, R, OTHER) == tuple(one + two for one, two in zip(fee, money, strict=True))
    assert money == (334, 333, 333)
    assert posted(world.ledger.escrows[escrow], ["fee"]) == FEE + EVIDENCE


def test_what_a_slash_pays_is_shared() -> None:
    world, escrow = world_of()
    world.ok(said(escrow, Q, R, OTHER, outcome="fraud"), VALIDATOR)
    world.mature()
    assert gains(world, Q, R, OTHER) == thirds(FEE + EVIDENCE)
    assert world.ledger.available(*TREASURY) == STAKE - burnt_of(world.ledger._state, STAKE) - FEE - EVIDENCE


def test_evidence_of_a_rejected_result_is_shared() -> None:
    world, escrow = world_of()
    world.ok(said(escrow, Q, R, OTHER, outcome="rejected"), VALIDATOR)
    world.mature()
    assert gains(world, Q, R, OTHER) == thirds(EVIDENCE)


def test_a_mistaken_audit_pays_none_of_them() -> None:
    world, escrow = world_of()
    world.ok(said(escrow, Q, R, outcome="wrong"), VALIDATOR)
    world.ok(appeal(escrow, P), P)
    world.ok(ruling(escrow, "accept"), VALIDATOR)
    world.mature()
    assert gains(world, Q, R) == (0, 0)


@pytest.mark.parametrize("outcome", ["accept", "wrong"])
def test_without_a_policy_they_share_at_once(outcome: OutcomeName) -> None:
    world, escrow = world_of(GENESIS)
    world.ok(said(escrow, Q, R, OTHER, outcome=outcome), VALIDATOR)
    assert gains(world, Q, R, OTHER) == thirds(EVIDENCE)


@pytest.mark.parametrize("genesis", [GENESIS, HELD], ids=["at_once", "held"])
@pytest.mark.parametrize(
    "auditors",
    [(Q, Q), (Q, R, R), (Q, P), (P, Q), (Q, STEWARD), (STEWARD, Q), (Q, RENTER), (RENTER, Q)],
    ids=["named", "twice", "provider", "by_provider", "steward", "by_steward", "owner", "by_owner"],
)
def test_nobody_shares_twice_or_with_a_side(genesis: Genesis, auditors: tuple[Identity, ...]) -> None:
    world, escrow = world_of(genesis)
    assert world.refused(said(escrow, *auditors), VALIDATOR) == "bad_auditors"
    assert world.lease(escrow).state == "claimed"


@pytest.mark.parametrize("refuted", [Q, R])
def test_who_was_refuted_does_not_share(refuted: Identity) -> None:
    world, escrow = world_of()
    assert world.refused(said(escrow, Q, R, faulted=refuted), VALIDATOR) == "bad_auditors"
    world.ok(said(escrow, Q, R, faulted=OTHER), VALIDATOR)


def test_nobody_agrees_with_an_audit_that_was_none() -> None:
    world, escrow = world_of()
    assert world.refused(said(escrow, Q, R, audited=False), VALIDATOR) == "bad_auditors"


# ── nobody answers ───────────────────────────────────────────────────────────────────────────────────────────────────
def unheard(escrow: bytes, code: str = "audit_late", audited: bool = False) -> Verdict:
    return Verdict(escrow, 0, 1, "accept", audited, VALIDATOR.peer, b"o" * 32, b"e" * 32, code)


@pytest.mark.parametrize("genesis", [GENESIS, HELD], ids=["at_once", "held"])
@pytest.mark.parametrize("code", sorted(tallies.UNHEARD))
def test_a_result_that_nobody_audited_though_it_was_due_owes_an_audit(genesis: Genesis, code: str) -> None:
    world, escrow = world_of(genesis)
    world.ok(unheard(escrow, code), VALIDATOR)
    standing = world.ledger.standings[P.peer]
    assert (standing.accepted, standing.consecutive_valid, standing.probation) == (1, 0, 1)
    world.ok(again(escrow, 1, 1), STEWARD, P)
    world.ok(claim(escrow, 1), P)
    world.ok(verdict(escrow, chunk=1, is_audited=True), VALIDATOR)
    assert (standing.accepted, standing.consecutive_valid, standing.probation) == (2, 1, 0)


@pytest.mark.parametrize("genesis", [GENESIS, HELD], ids=["at_once", "held"])
def test_one_that_was_audited_or_not_drawn_owes_nothing(genesis: Genesis) -> None:
    for said in (("audit_late", True), ("not_sampled", False)):
        world, escrow = world_of(genesis)
        world.ok(unheard(escrow, *said), VALIDATOR)
        standing = world.ledger.standings[P.peer]
        assert (standing.consecutive_valid, standing.probation) == (1, 0)


def test_what_is_owed_is_no_more_than_one_and_goes_with_the_result() -> None:
    world, escrow = world_of()
    world.ok(unheard(escrow), VALIDATOR)
    standing = world.ledger.standings[P.peer]
    world.ok(again(escrow, 1, 1), STEWARD, P)
    world.ok(claim(escrow, 1), P)
    second = Verdict(escrow, 1, 1, "accept", False, VALIDATOR.peer, b"o" * 32, b"e" * 32, "no_auditor")
    world.ok(second, VALIDATOR)
    assert standing.probation == 1
    world.ok(appeal(escrow, RENTER), RENTER)
    world.ok(ruling(escrow, "wrong"), VALIDATOR)
    assert (standing.accepted, standing.wrong, standing.consecutive_valid, standing.probation) == (1, 1, 0, 0)


def test_probation_of_a_rejection_since_then_stays() -> None:
    world, escrow = world_of()
    world.ok(unheard(escrow), VALIDATOR)
    world.ok(again(escrow, 1, 1), STEWARD, P)
    world.ok(claim(escrow, 1), P)
    world.ok(verdict(escrow, "rejected", 1), VALIDATOR)
    world.ok(appeal(escrow, RENTER), RENTER)
    world.ok(ruling(escrow, "wrong"), VALIDATOR)
    assert world.ledger.standings[P.peer].probation == 50
