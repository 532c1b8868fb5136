"""shoal.proof_text, shoal.earnings_text: verdicts, trust, appeals and earnings in words."""

from __future__ import annotations

from gateway.chunk_schemas import ChunkStatus
from gateway.proof_schemas import Caught, Claim, Decision, Evidence, Trust
from shoal.earnings_text import earnings_text
from shoal.proof_text import appeal_pairs, claim_text, evidence_text, trust_text, verdicts_text

MINUTE = 60_000_000
WRONG = ChunkStatus(
    3, outcome="rejected", code="update_differs", sentence="The change is another", fault="provider", fix="Appeal.",
    score=0.41, held_until=MINUTE,
)  # fmt: skip
HELD = Claim(3, 1, finding="rejected", code="update_differs", held_until=MINUTE, rounds=2, bond_min=4_500_000)


def test_trust_tells_work_odds_price_and_stake() -> None:
    odds = [Caught(0.1, 0.01, 0.959), Caught(0.05, 0.0, 0.1), Caught(1.0, 0.2, 0.983)]
    text = trust_text(
        Trust("high", "training", "D1", 48, 0.3, 2, 16, 1 / 3, odds, 0.2, 0.1, 600, 2_000, 12_000_000, 3, 4)
    )
    assert "at least 30 % of claims are audited, each of 2 auditors does 16 of 48 units again" in text
    assert "10 %: 95.9 %, 100 %: 98.3 %" in text and "5 %:" not in text
    assert "costs 10 % of the price on the average, 0.0006 a chunk; 0.002 is set aside" in text
    assert "12" in text and "3 of 4 candidates" in text


def test_trust_without_a_level_costs_nothing_and_says_so() -> None:
    text = trust_text(Trust(audited=0.1))
    assert text == "as `audit` says: at least 10 % of claims are audited, one auditor does all of it again"


def test_a_certificate_is_not_drawn_by_lot() -> None:
    text = trust_text(Trust(kind="certificate", audited=0.1, caught=[Caught(0.1, 0.08, 0.284)]))
    assert "every result" in text and "%" not in text


def test_only_verdicts_that_need_words_are_told() -> None:
    fine = ChunkStatus(0, outcome="accept", code="hash_equal", sentence="All alike")
    text = verdicts_text([fine, WRONG])
    assert text.count("\n") == 0 and "All alike" not in text
    assert text.startswith(
        "chunk 3: rejected (update_differs, score 0.410): The change is another. The provider's fault."
    )
    assert text.endswith("Final at 1970-01-01 00:01:00 UTC.")
    assert verdicts_text([fine]) == ""


def test_a_claim_tells_until_when_one_may_appeal_and_for_how_much() -> None:
    assert claim_text(HELD) == (
        "chunk 3 epoch 1: rejected; may be appealed until 1970-01-01 00:01:00 UTC, against a bond of 4.5"
    )
    assert claim_text(Claim(3, 1, finding="accept", end="paid")) == "chunk 3 epoch 1: accept, final: paid"
    appealed = Claim(3, 1, finding="accept", bond=5_000_000, rounds=3, rule_by=2 * MINUTE)
    assert "appeal 1 of 3, bond 5, is ruled on by 1970-01-01 00:02:00 UTC" in claim_text(appealed)
    assert "lost if the panel finds the same" in appeal_pairs(appealed)


def test_evidence_is_a_table_of_decisions_and_what_is_open() -> None:
    decision = Decision(
        MINUTE, 3, 1, "verdict", "rejected", "update_differs", "The change is another", "provider", "Appeal.",
        peers=["12D3KooWabcdefghijk"], score=0.41, evidence="ab" * 32,
    )  # fmt: skip
    text = evidence_text(Evidence("job_1", True, [HELD], [decision]))
    assert "0.410" in text and "abababab" in text and "update_differs: The change is another. Appeal." in text
    assert "may be appealed until" in text
    assert evidence_text(Evidence("job_1")) == "no claim of this job has been judged yet"
    assert "no dispute window" in evidence_text(Evidence("job_1", False, [], [decision]))


def test_earnings_explain_refusals_what_is_held_and_the_formula() -> None:
    reward = [{"what": "90 % of the payment", "amount": 900_000, "force": "ledger"},
              {"what": "reputation 0.80", "amount": 54_000, "force": "shown"}]  # fmt: skip
    lines = [
        {"chunk": 0, "job": "j", "outcome": "wrong", "code": "hash_differs", "sentence": "Two agree",
         "fault": "provider", "fix": "Run it again."},
        {"chunk": 1, "job": "j", "outcome": "accept", "code": "hash_equal", "held_until": MINUTE, "appeal": "open",
         "reward": reward},
    ]  # fmt: skip
    quality = {"score": 0.5, "tier": "none", "results": 2, "results_min": 50, "parts": {"latency": 0.5}, "promises": {}}
    text = earnings_text({"lines": lines, "quality": quality})
    assert "hash_differs: Two agree. The provider's fault. Run it again." in text
    assert "1 results are not final yet" in text and "1 of them are under appeal" in text
    assert "paid by the ledger" in text and "shown; nobody pays it" in text
    assert "quality of service 0.500 (latency 0.50); no tier: 2 of 50 results" in text


def test_earnings_of_nothing_are_nothing() -> None:
    assert earnings_text({"lines": []}) == ""


def test_a_tier_says_what_it_promises() -> None:
    quality = {
        "score": 0.95,
        "tier": "gold",
        "results": 60,
        "results_min": 50,
        "parts": {},
        "promises": {"uptime": 0.995},
    }
    assert "tier gold, which promises uptime 0.995" in earnings_text({"lines": [], "quality": quality})
