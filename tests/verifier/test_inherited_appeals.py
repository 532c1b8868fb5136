"""Appeals about claims that went on from another provider's snapshot: who is accused, who sits, whom it costs what."""

from __future__ import annotations

import pytest

from protocol.proof import Trace
from tests.protocol.ledger_world import PRICE, RENTER, STAKE
from tests.verifier.appeals import AUDITORS, BAD, CHALLENGER, FORMER, GOOD, PROVIDER, TRUTH, Appeals, execution
from tests.verifier.quorum import KEYS

INHERITED = 12


def stake(appeals: Appeals, peer: bytes) -> int:
    ledger = appeals.quorum.orderers[KEYS[0].peer].ledger
    return ledger.stakes.get(peer, 0)  # type: ignore[call-overload, no-any-return]


def final(appeals: Appeals) -> None:
    """Nobody appeals any more."""
    appeals.run(11 * 60)
    assert appeals.held.end


def test_who_is_blamed_appeals_in_vain_and_stays_the_one() -> None:
    appeals = Appeals(BAD, trace=execution(7))
    appeals.candidates |= {FORMER.peer: 100 * STAKE, PROVIDER.peer: 100 * STAKE}
    appeals.decided("fraud", INHERITED, is_blamed=True)
    assert (appeals.held.provider, appeals.held.claimant, appeals.held.blamed) == (FORMER.peer, PROVIDER.peer, 1)
    appeals.appeal(FORMER)
    held = appeals.run()
    assert (held.finding, held.code, held.round) == ("fraud", "hash_differs", 1)
    assert (held.provider, held.blamed) == (FORMER.peer, 1)
    assert not {FORMER.peer, PROVIDER.peer} & {peer for peer, _ in appeals.runs}, "neither of the two sits"
    assert {run.sources[:2] for _, run in appeals.runs} == {(run.sources[0], PROVIDER.peer) for _, run in appeals.runs}
    final(appeals)
    assert stake(appeals, FORMER.peer) == 0
    assert stake(appeals, PROVIDER.peer) == STAKE, "who went on from its units loses nothing"


def test_who_is_blamed_for_right_units_is_heard_and_the_claim_paid() -> None:
    appeals = Appeals(GOOD, trace=TRUTH)
    appeals.decided("fraud", INHERITED, is_blamed=True)
    appeals.appeal(FORMER)
    held = appeals.run()
    assert (held.finding, held.code) == ("accept", "hash_equal")
    before = appeals.quorum.orderers[KEYS[0].peer].ledger.available("U", PROVIDER.peer)
    final(appeals)
    ledger = appeals.quorum.orderers[KEYS[0].peer].ledger
    assert stake(appeals, FORMER.peer) == stake(appeals, PROVIDER.peer) == STAKE
    assert before < ledger.available("U", PROVIDER.peer) <= before + PRICE


def test_a_panel_that_cannot_tell_whose_unit_was_bad_costs_nobody_stake() -> None:
    appeals = Appeals(BAD, trace=execution(7))
    appeals.decided("accept", INHERITED)
    appeals.appeal(RENTER)
    held = appeals.run()
    assert (held.finding, held.code) == ("rejected", "hash_differs")
    final(appeals)
    assert stake(appeals, PROVIDER.peer) == stake(appeals, FORMER.peer) == STAKE


@pytest.mark.parametrize(
    ("claimed", "finding"), [(execution(INHERITED + 5), "fraud"), (execution(INHERITED - 5), "rejected")]
)
def test_the_game_tells_whose_unit_it_was(claimed: Trace, finding: str) -> None:
    """Two bought panels let it pass; the game finds the unit, and an own one costs the whole stake."""
    appeals = Appeals(BAD, trace=claimed, lying=frozenset(item.peer for item in AUDITORS))
    appeals.decided("accept", INHERITED)
    for _ in range(2):
        appeals.appeal(CHALLENGER)
        appeals.run()
    appeals.appeal(CHALLENGER, TRUTH)
    held = appeals.run(60)
    assert (held.finding, held.code, held.round) == (finding, "wrong_step", 3)
