"""Several auditors of one claim, auditors that fail, and the job's own check over every result."""

from __future__ import annotations

import pytest

from protocol.errors import RemoteViolation
from protocol.identity import Identity
from protocol.jobspec import ZERO_DIGEST
from protocol.messages import AuditCommit, AuditOpenRequest, AuditRequest, RevealRequest
from protocol.proof import Numeric
from protocol.units import PPM
from simulations.units import EXACT, Conduct
from tests.verifier.court import ESCROW, ME, PROVIDER, SECOND_AUDITOR, STRANGER, Court
from tests.verifier.unit_court import AUDITORS, THIRD, UNITS, UnitCourt, skipping, unit_job
from verifier.bench import Caution
from verifier.deadlines import AUDIT_FAILURES_MAX, AUDITOR_FAILURES_MAX, UNREACHABLE_MAX

PAIR = unit_job(samples=UNITS, auditors=2)
FOUR = (ME, SECOND_AUDITOR, THIRD, STRANGER)


def seal_all(court: UnitCourt, conduct: Conduct) -> list[Identity]:
    """Two auditors seal, the first of them behaving like this."""
    asked = court.requests()
    for number, (auditor, request) in enumerate(asked):
        court.seal(auditor, request, conduct if number == 0 else EXACT)
    return [auditor for auditor, _ in asked]


def test_two_are_asked_at_once_and_both_seal_before_anything_is_shown() -> None:
    court = UnitCourt(PAIR).begin().unfold()
    (first, request), (second, same) = court.requests()
    assert first != second and request == same
    court.seal(first, request)
    assert court.sent(RevealRequest) == [] and court.waits_for == "Auditing"
    court.seal(second, same)
    court.show()
    assert court.sent(AuditOpenRequest) == [(first.peer, AuditOpenRequest(ESCROW, 0, 1))]
    court.uncover(first)
    assert court.waits_for == "Opening"
    court.uncover(second)
    assert court.found() == ("accept", "units_equal", True)


def test_one_bribed_auditor_of_two_does_not_save_a_cheat() -> None:
    court = UnitCourt(PAIR, skipping(3), FOUR).begin().unfold()
    bribed, honest = seal_all(court, skipping(3))
    court.show()
    court.uncover(bribed)
    court.uncover(honest)
    third = court.replay()
    court.uncover(third)
    assert court.found() == ("fraud", "unit_differs", True)
    assert court.verdict().faulted == (bribed.peer,), "it vouched for what two others refute"


def test_one_lying_auditor_of_two_does_not_condemn() -> None:
    court = UnitCourt(PAIR, auditors=FOUR).begin().unfold()
    liar, honest = seal_all(court, skipping(3))
    court.show()
    court.uncover(liar)
    court.uncover(honest)
    for _ in range(2):
        court.uncover(court.replay())
    assert court.found() == ("accept", "units_equal", True)
    assert court.verdict().faulted == (liar.peer,)


def test_where_there_is_one_auditor_one_is_enough() -> None:
    court = UnitCourt(PAIR, auditors=(ME,))
    assert court.judged(EXACT) == ("accept", "units_equal", True)


def test_auditors_who_cannot_get_the_states_prove_that_they_are_withheld() -> None:
    court = UnitCourt().begin().unfold()
    asked = [break_down(court, number, "inputs: nobody has the state") for number in range(UNREACHABLE_MAX)]
    assert len(set(asked)) == UNREACHABLE_MAX
    assert court.found() == ("withheld", "withheld", False)


def test_one_who_says_that_nothing_can_be_had_proves_nothing_against_others_who_broke_down() -> None:
    court = UnitCourt().begin().unfold()
    for number, reason in enumerate(("inputs: gone", "sandbox: broken", "inputs: gone", "stopped", "memory?", "x")):
        break_down(court, number, reason)
    assert court.found() == ("accept", "audit_failed", False)


def test_auditors_who_break_down_themselves_condemn_nobody() -> None:
    court = UnitCourt().begin().unfold()
    asked = [break_down(court, number, "sandbox: it did not start") for number in range(AUDIT_FAILURES_MAX)]
    assert {asked.count(auditor) for auditor in asked} == {AUDITOR_FAILURES_MAX}, "each once more, at the end"
    assert set(asked[: len(AUDITORS)]) == set(AUDITORS)
    assert court.found() == ("accept", "audit_failed", False)


def break_down(court: UnitCourt, number: int, reason: str) -> Identity:
    """The one auditor that is asked seals nothing, and says why; the first of them before the claim is opened."""
    auditor = court.requests()[0][0]
    court.commit(ZERO_DIGEST, auditor)
    if not number:
        court.show()
    court.open(ZERO_DIGEST, auditor, reason)
    return auditor


@pytest.mark.parametrize("numeric", ["D1", "D3"])
def test_states_that_break_the_program_are_rejected_and_do_not_pass_as_failed_audits(numeric: Numeric) -> None:
    court = UnitCourt(unit_job(numeric)).begin().unfold()
    for number in range(2):
        auditor = court.requests()[0][0]
        court.commit(ZERO_DIGEST, auditor)
        if not number:
            court.show()
        court.open(ZERO_DIGEST, auditor, "exit: shapes do not fit")
    assert court.found() == ("rejected", "unit_unreplayable", True)


def test_one_auditor_whose_program_breaks_condemns_nobody() -> None:
    court = UnitCourt().begin().unfold()
    auditor = court.requests()[0][0]
    court.commit(ZERO_DIGEST, auditor)
    court.show()
    court.open(ZERO_DIGEST, auditor, "exit: out of luck")
    for _ in range(2):
        court.uncover(court.replay())
    assert court.found() == ("accept", "units_equal", True)


def test_results_that_are_none_cost_the_auditor_its_turn() -> None:
    for body in (b"\xc1", b""):
        court = UnitCourt().begin().unfold()
        auditor = court.replay()
        court.show()
        court.results[auditor.peer].blobs[court.results[auditor.peer].output] = body
        court.uncover(auditor)
        assert court.sent(AuditRequest), "somebody else"


def test_two_seals_for_one_audit_are_equivocation() -> None:
    court = UnitCourt(PAIR).begin().unfold()
    ((first, request), _) = court.requests()
    court.seal(first, request)
    with pytest.raises(RemoteViolation) as caught:
        court.hear(first, AuditCommit(ESCROW, 0, 1, b"x" * 32))
    assert caught.value.code == "equivocation"
    echo = AuditCommit(ESCROW, 0, 1, court.case.hearing.seals[first.peer] if court.case.hearing else b"")
    assert court.hear(first, echo) == []


def test_nobody_of_the_providers_network_audits_it() -> None:
    networks = {PROVIDER.peer: frozenset({"a"}), SECOND_AUDITOR.peer: frozenset({"a"}), THIRD.peer: frozenset({"b"})}
    caution = Caution(networks=lambda peer: networks.get(peer, frozenset()))
    court = UnitCourt(auditors=(SECOND_AUDITOR, THIRD), caution=caution).begin().unfold()
    assert court.requests()[0][0] == THIRD


class TestCheck:
    """The job's own check."""

    def test_every_result_is_checked_drawn_or_not(self) -> None:
        for valid, code in ((0, "units_equal"), (10**9, "check_passed")):
            spec = unit_job(check=("check",), audit_ppm=0, samples=2)
            court = UnitCourt(spec, valid=valid).begin()
            if not valid:
                court.unfold()
                auditor = court.replay()
                court.show()
                court.uncover(auditor)
            else:
                court.show()
            assert court.waits_for == "Checking"
            ((auditor, request),) = court.requests()
            assert request.result == court.made.output and request.units == ()
            court.commit(court.made.output, auditor)
            court.open(court.made.output, auditor)
            assert court.found() == ("accept", code, True)

    @pytest.mark.parametrize(
        ("reasons", "found"),
        [
            (("exit: 1", "exit: 1"), ("fraud", "check_failed", True)),
            (("exit: 1", "timeout: 60 s"), ("rejected", "check_unfinished", True)),
            (("exit: 1", "", ""), ("accept", "check_passed", True)),
            (("inputs: gone", "sandbox: broken", "stopped") * 2, ("accept", "not_sampled", False)),
        ],
    )
    def test_what_fails_twice_is_bad(self, reasons: tuple[str, ...], found: tuple[str, str, bool]) -> None:
        court = UnitCourt(unit_job(check=("check",), audit_ppm=0), valid=10**9).begin()
        court.show()
        for reason in reasons:
            auditor = court.requests()[0][0]
            output = ZERO_DIGEST if reason else court.made.output
            court.commit(output, auditor)
            court.open(output, auditor, reason or "ok")
        assert court.found() == found

    def test_a_certificate_is_never_computed_again(self) -> None:
        spec = unit_job("D1", "certificate", count=0, check=("check",), audit_ppm=PPM)
        court = Court(spec=spec)
        court.claim()
        court.know_spec()
        assert court.sent(AuditRequest) == [] and court.sent(RevealRequest)
