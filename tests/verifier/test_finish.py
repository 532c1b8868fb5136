"""Output files of a job within a tolerance: made once more of the revealed last state, by one auditor or two."""

from __future__ import annotations

import pytest

from protocol.jobspec import ZERO_DIGEST
from protocol.messages import AuditRequest
from protocol.proof import Kind, Numeric
from protocol.units import Digest
from simulations.units import EXACT
from tests.verifier.court import BAD, ODD, STRANGER
from tests.verifier.heir_court import HeirCourt
from tests.verifier.unit_court import AUDITORS, NOISE, UNITS, UnitCourt, forging, noisy, unit_job
from verifier.charges import is_unfinished
from verifier.deadlines import AUDIT_FAILURES_MAX, AUDITOR_FAILURES_MAX, UNREACHABLE_MAX

FOUR = (*AUDITORS, STRANGER)


def replayed(court: UnitCourt) -> UnitCourt:
    """To the question about the output files."""
    court.begin().unfold()
    auditor = court.replay()
    court.show()
    court.uncover(auditor)
    return court


def say(court: UnitCourt, output: Digest, reason: str = "ok") -> None:
    """The one auditor that is asked seals and opens this."""
    ((auditor, request),) = court.requests()
    assert request.last == court.case.last
    court.commit(output, auditor)
    court.open(output, auditor, reason)


def test_the_question_shows_the_last_state_and_not_what_was_made_of_it() -> None:
    court = replayed(UnitCourt(unit_job("D3")))
    ((_, request),) = court.requests()
    assert request.last == court.provided.trace.behind(court.key.peer, court.provided.read)[-1].leaf
    assert (request.units, request.seed, request.result) == ((), b"", b"")


@pytest.mark.parametrize(
    ("numeric", "kind", "is_asked"),
    [("D3", "training", True), ("D3", "scientific", True), ("D3", "inference", False), ("D1", "training", False)],
)
def test_it_is_asked_where_the_replay_does_not_say_it(numeric: Numeric, kind: Kind, is_asked: bool) -> None:
    court = UnitCourt(unit_job(numeric, kind)).begin().unfold()
    assert is_unfinished(court.case) == is_asked


def test_it_is_asked_of_few_samples_where_the_last_unit_is_none_of_them() -> None:
    """Else the files of an exact job with one sample would be whatever its provider likes."""
    found = set()
    for beacon in range(1, 30):
        court = UnitCourt(unit_job(samples=1)).begin(beacon).unfold()
        assert court.case.unfolded is not None
        has_last = UNITS - 1 in court.case.unfolded.indices
        assert is_unfinished(court.case) == (not has_last)
        found.add(has_last)
    assert found == {True, False}


def test_forged_files_of_an_exact_job_are_fraud() -> None:
    court = forging(UnitCourt(unit_job(samples=1), auditors=FOUR))
    court.begin(next(beacon for beacon in range(1, 30) if not _replays_last(beacon))).unfold()
    auditor = court.replay()
    court.show()
    court.uncover(auditor)
    honest = court.finished().output
    say(court, honest)
    say(court, honest)
    assert court.found() == ("fraud", "output_differs", True)


def _replays_last(beacon: int) -> bool:
    case = UnitCourt(unit_job(samples=1)).begin(beacon).unfold().case
    return case.unfolded is not None and UNITS - 1 in case.unfolded.indices


def test_forged_files_are_rejected_when_two_say_so_and_slash_nobody() -> None:
    court = replayed(forging(UnitCourt(unit_job("D3"), noisy(NOISE), FOUR)))
    honest = court.finished().output
    say(court, honest)
    say(court, honest)
    assert court.found() == ("rejected", "output_differs", True)
    assert court.verdict().agreed and not court.verdict().faulted


def test_one_who_makes_something_else_of_it_condemns_nobody() -> None:
    court = replayed(UnitCourt(unit_job("D3"), auditors=FOUR))
    say(court, BAD)
    liar = court.case.hearing.findings[0].auditor if court.case.hearing else None
    for _ in range(2):
        say(court, court.made.output)
    assert court.found() == ("accept", "within_tolerance", True)
    assert court.verdict().faulted == (liar,), "equal bytes are to be expected here"


def test_files_that_come_out_differently_everywhere_are_the_jobs_fault() -> None:
    court = replayed(UnitCourt(unit_job("D3"), auditors=FOUR))
    for output in (BAD, ODD, Digest(b"3" * 32)):
        say(court, output)
    assert court.found() == ("accept", "not_reproducible", False)


def test_a_last_state_of_which_nothing_can_be_made_is_rejected() -> None:
    court = replayed(UnitCourt(unit_job("D3")))
    for _ in range(2):
        say(court, ZERO_DIGEST, "exit: shapes")
    assert court.found() == ("rejected", "unit_unreplayable", True)


def test_a_last_state_that_no_auditor_can_read_is_withheld() -> None:
    court = replayed(UnitCourt(unit_job("D3")))
    for _ in range(UNREACHABLE_MAX):
        say(court, ZERO_DIGEST, "inputs: malformed_proof: no tensors")
    assert court.found() == ("withheld", "withheld", False)


def test_where_nobody_makes_it_again_the_audit_has_failed() -> None:
    court = replayed(UnitCourt(unit_job("D3")))
    for _ in range(min(AUDIT_FAILURES_MAX, AUDITOR_FAILURES_MAX * len(AUDITORS))):
        say(court, ZERO_DIGEST, "sandbox: broken")
    assert court.found() == ("accept", "audit_failed", False)
    assert court.sent(AuditRequest) == []


def test_whoever_upheld_a_claim_shares_and_the_first_is_named() -> None:
    court = replayed(UnitCourt(unit_job("D3", check=("check",)), auditors=FOUR))
    say(court, court.made.output)
    ((checker, request),) = court.requests()
    assert request.result == court.made.output
    court.commit(court.made.output, checker)
    court.open(court.made.output, checker)
    verdict = court.verdict()
    assert (verdict.outcome, verdict.code) == ("accept", "within_tolerance")
    assert verdict.auditor == next(iter(court.results))
    agreed = verdict.agreed or ()
    assert agreed == tuple(sorted(set(agreed))) and verdict.auditor not in agreed
    assert set(agreed) == {*court.salts} - {verdict.auditor}


def test_files_are_the_claimants_own_even_where_units_are_inherited() -> None:
    court = HeirCourt((4,), unit_job("D3"), auditors=FOUR)
    forging(court)
    court.heard()
    honest = court.finished().output
    say(court, honest)
    say(court, honest)
    assert (*court.found(), court.blamed) == ("rejected", "output_differs", True, 0)


def test_honest_files_of_a_noisy_machine_are_accepted() -> None:
    court = UnitCourt(unit_job("D3"), noisy(NOISE))
    assert court.judged(EXACT) == ("accept", "within_tolerance", True)
