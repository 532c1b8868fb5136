"""Attack 30: requester and auditor frame an executor.

The renter's friends hold the panels, or the challenger's seat. The executor appeals to the game, where no majority
counts, and wins; whoever accused it without ground loses the bond. Honest twin: a claim that is wrong is refuted.
"""

from __future__ import annotations

from tests.protocol.ledger_world import RENTER, STAKE
from tests.verifier.appeals import AUDITORS, BAD, CHALLENGER, GOOD, PROVIDER, TRUTH, Appeals, execution
from tests.verifier.quorum import KEYS


def test_an_accuser_without_ground_loses_the_bond() -> None:
    appeals = Appeals(GOOD, trace=TRUTH)
    appeals.decided("accept")
    ledger = appeals.quorum.orderers[KEYS[0].peer].ledger
    before = ledger.available("S", CHALLENGER.peer)
    appeals.appeal(CHALLENGER)
    held = appeals.run()
    assert (held.finding, held.code) == ("accept", "hash_equal")
    assert before - ledger.available("S", CHALLENGER.peer) == 50_000_000, "all of it"


def test_a_framed_executor_wins_before_an_honest_panel() -> None:
    appeals = Appeals(GOOD, trace=TRUTH)
    appeals.decided("fraud")
    ledger = appeals.quorum.orderers[KEYS[0].peer].ledger
    assert ledger.available("S", PROVIDER.peer) == 0, "the slash is held"
    appeals.appeal(PROVIDER)
    held = appeals.run(11 * 60)
    assert (held.finding, held.code, held.fines) == ("accept", "hash_equal", [])
    assert ledger.available("S", PROVIDER.peer) >= STAKE, "nothing is lost"


def test_captured_panels_do_not_win_the_game() -> None:
    appeals = Appeals(GOOD, trace=TRUTH, lying=frozenset(item.peer for item in AUDITORS))
    appeals.decided("accept")
    appeals.appeal(RENTER)
    assert appeals.run().finding == "fraud", "the panel lies"
    appeals.appeal(PROVIDER)
    assert appeals.run().finding == "fraud", "and so does the next"
    appeals.candidates = {key.peer: STAKE for key in KEYS}
    appeals.appeal(PROVIDER, TRUTH)
    held = appeals.run()
    assert (held.finding, held.end) == ("accept", "paid")


def test_honest_twin_a_wrong_claim_is_refuted_and_its_accuser_rewarded() -> None:
    appeals = Appeals(BAD, trace=execution(11))
    appeals.decided("accept")
    ledger = appeals.quorum.orderers[KEYS[0].peer].ledger
    before = sum(ledger.available(cls, CHALLENGER.peer) for cls in "SU")
    appeals.appeal(CHALLENGER)
    held = appeals.run(11 * 60)
    assert (held.finding, held.code, held.end) == ("fraud", "hash_differs", "slashed")
    assert sum(ledger.available(cls, CHALLENGER.peer) for cls in "SU") > before
