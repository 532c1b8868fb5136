"""Attack 32: an auditor copies another auditor instead of replaying."""

from __future__ import annotations

import pytest

from protocol import operations
from protocol.effects import Emit
from protocol.errors import Refused
from protocol.messages import AuditCommit, AuditOpenRequest, AuditRequest, RevealRequest
from protocol.units import SECOND, Digest
from simulations.units import EXACT
from tests.verifier.court import ESCROW, GOOD, SALT, STRANGER, in_audit
from tests.verifier.unit_court import THIRD, UNITS, UnitCourt, unit_job

PAIR = unit_job(samples=UNITS, auditors=2)


def faults(court: UnitCourt) -> list[str]:
    return [
        str(effect.fields["code"]) for effect in court.effects if isinstance(effect, Emit) and "code" in effect.fields
    ]


def test_a_copied_seal_counts_for_nobody_and_runs_into_its_deadline() -> None:
    court = UnitCourt(PAIR).begin().unfold()
    ((first, request), (copier, _)) = court.requests()
    court.seal(first, request)
    seal = court.case.hearing.seals[first.peer] if court.case.hearing else b""
    court.hear(copier, AuditCommit(ESCROW, 0, 1, seal))
    assert court.sent(RevealRequest) == [], "nothing is shown while one seal is missing"
    court.wait(30 * 60 * SECOND // 3)
    assert "late" in faults(court)
    assert copier.peer not in {peer for peer, _ in court.sent(AuditRequest)}


def test_a_seal_over_anothers_result_cannot_be_opened() -> None:
    """The seal names its maker: whoever learns salt and result of another cannot open its own seal with them."""
    court = in_audit()
    court.commit(GOOD)
    court.reveal()
    foreign = operations.seal(STRANGER.peer, SALT, GOOD)
    assert foreign != operations.seal(court.judge._me, SALT, GOOD)
    court = UnitCourt().begin().unfold()
    ((auditor, request),) = court.requests()
    court.seal(auditor, request)
    court.case.hearing.seals[auditor.peer] = Digest(foreign) if court.case.hearing else Digest(b"")  # type: ignore[union-attr]
    court.show()
    court.open(court.results[auditor.peer].output, auditor)
    assert "seal_mismatch" in faults(court)
    assert court.sent(AuditRequest), "somebody else computes it"


def test_nobody_shows_anything_before_all_have_sealed() -> None:
    court = UnitCourt(PAIR).begin().unfold()
    ((first, request), (second, _)) = court.requests()
    court.seal(first, request)
    assert court.sent(AuditOpenRequest) == [] and court.sent(RevealRequest) == []
    court.open(court.results[first.peer].output, first)
    assert court.effects == [], "an opening that nobody asked for is not taken"
    court.seal(second, request)
    assert court.sent(RevealRequest) and court.sent(AuditOpenRequest) == []


def test_who_was_not_drawn_cannot_vouch() -> None:
    court = UnitCourt(auditors=(THIRD,)).begin().unfold()
    with pytest.raises(Refused) as caught:
        court.hear(STRANGER, AuditCommit(ESCROW, 0, 1, b"x" * 32))
    assert caught.value.code == "not_the_auditor"


def test_copying_the_claims_own_states_needs_states_that_are_not_shown() -> None:
    court = UnitCourt(PAIR).begin().unfold()
    for _, request in court.requests():
        shown = {leaf.state for leaf in request.units}
        assert court.case.unfolded is not None
        behind = {court.case.unfolded.leaves[leaf.index + 1].state for leaf in request.units[:-1]}
        assert not shown & behind


def test_the_honest_twins_seal_apart_and_agree() -> None:
    court = UnitCourt(PAIR).begin().unfold()
    asked = court.requests()
    for auditor, request in asked:
        court.seal(auditor, request, EXACT)
    assert court.case.hearing is not None
    assert len(set(court.case.hearing.seals.values())) == 2
    court.show()
    for auditor, _ in asked:
        court.uncover(auditor)
    assert court.found() == ("accept", "units_equal", True)
