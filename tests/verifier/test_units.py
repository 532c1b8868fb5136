"""Claims with units before a judge: drawn units, blind replays, and every way in which they can end."""

from __future__ import annotations

import pytest

from protocol.completions import Fetched, Scored
from protocol.effects import Compute, Score
from protocol.jobspec import ZERO_DIGEST
from protocol.messages import AuditRequest, RevealRequest
from protocol.units import PPM, PeerId
from simulations.units import EXACT, Conduct
from tests.verifier.court import ME, PROVIDER
from tests.verifier.unit_court import CHEAPER, NOISE, UNITS, UnitCourt, noisy, skipping, unit_job
from verifier.case import Scoring

ALL = unit_job(samples=UNITS)


def test_honest_units_are_accepted() -> None:
    court = UnitCourt()
    assert court.judged(EXACT) == ("accept", "units_equal", True)
    verdict = court.verdict()
    assert (verdict.output, verdict.evidence) == (court.made.output, court.results[PeerId(verdict.auditor)].output)


def test_the_auditor_sees_where_to_start_and_nothing_that_came_out() -> None:
    court = UnitCourt().begin().unfold()
    ((_, request),) = court.requests()
    assert len(request.units) == 4 and {0, UNITS - 1} <= {leaf.index for leaf in request.units}
    assert len(request.seed) == 32
    shown = {leaf.state for leaf in request.units if leaf.state != ZERO_DIGEST}
    hidden = {leaf.state for index, leaf in court.case.unfolded.leaves.items()} if court.case.unfolded else set()
    assert shown <= hidden
    for leaf in request.units:
        assert leaf.input == leaf.aux == ZERO_DIGEST and leaf.aux_bytes == 0
        is_behind = any(other.index == leaf.index - 1 for other in request.units)
        assert (leaf.state == ZERO_DIGEST) == is_behind
    assert court.sent(RevealRequest) == []


def test_effects_first_then_the_units_that_they_help_to_choose() -> None:
    court = UnitCourt(conduct=Conduct(effect=lambda index: 50.0 if index == 7 else 1.0)).begin()
    assert court.asked().indices == ()
    court.hear(PROVIDER, court.answer())
    assert {0, 7, UNITS - 1} < set(court.asked().indices)


@pytest.mark.parametrize("unit", [0, 5, UNITS - 1])
def test_one_unit_left_out_is_fraud_when_two_say_so(unit: int) -> None:
    court = UnitCourt(ALL, skipping(unit))
    assert court.judged(EXACT, EXACT) == ("fraud", "unit_differs", True)


def test_other_data_than_the_schedule_is_fraud() -> None:
    court = UnitCourt(ALL, Conduct(feeds=lambda index: index == 4))
    assert court.judged(EXACT, EXACT) == ("fraud", "bad_schedule", True)


def test_a_lying_auditor_is_refuted_and_named() -> None:
    court = UnitCourt(ALL)
    assert court.judged(skipping(3), EXACT, EXACT) == ("accept", "units_equal", True)
    assert court.verdict().faulted == (next(iter(court.results)),)


def test_four_that_all_differ_are_the_jobs_fault() -> None:
    court = UnitCourt(ALL, skipping(3))
    assert court.judged(skipping(5), noisy(7), noisy(8), beacon=2) == ("accept", "not_reproducible", False)


class TestTolerance:
    """Class D3."""

    def test_noise_is_tolerated(self) -> None:
        court = UnitCourt(unit_job("D3"), noisy(NOISE))
        assert court.judged(noisy(-NOISE)) == ("accept", "within_tolerance", True)
        assert court.verdict().score == PPM

    def test_drift_is_rejected_by_two_and_slashes_nobody(self) -> None:
        court = UnitCourt(unit_job("D3"), noisy(CHEAPER))
        assert court.judged(EXACT, EXACT) == ("rejected", "out_of_tolerance", True)
        assert court.verdict().score == 0 and not court.verdict().faulted

    def test_one_who_finds_a_difference_alone_does_not_reject(self) -> None:
        court = UnitCourt(unit_job("D3"), noisy(NOISE))
        assert court.judged(noisy(CHEAPER), EXACT, EXACT) == ("accept", "within_tolerance", True)
        assert not court.verdict().faulted, "statistics name nobody"

    def test_between_the_cut_offs_a_second_one_is_asked(self) -> None:
        unsure = round(1_000_000 * 1000**0.1)
        court = UnitCourt(unit_job("D3"), noisy(unsure))
        assert court.judged(EXACT, EXACT) == ("accept", "within_tolerance", True)
        assert court.verdict().score == 900_000, "whole percents, so that judges sign alike"

    def test_other_data_is_proven_even_here(self) -> None:
        court = UnitCourt(unit_job("D3", count=3), Conduct(feeds=lambda index: True))
        assert court.judged(EXACT, EXACT) == ("fraud", "bad_schedule", True)

    def test_states_that_nobody_can_get_are_withheld(self) -> None:
        court = UnitCourt(unit_job("D3")).begin().unfold()
        auditor = court.replay()
        court.show()
        court.provided.blobs = court.blobs = {**court.blobs}
        court.open(court.results[auditor.peer].output, auditor)
        court.blobs |= court.results[auditor.peer].blobs
        court.hear(ME, _fetched(court))
        state = court.case.state
        assert isinstance(state, Scoring)
        assert any(isinstance(effect, Compute) and isinstance(effect.work, Score) for effect in court.effects)
        court.hear(ME, Scored(state.task, 0, "withheld", ZERO_DIGEST, "provider"))
        assert court.found() == ("withheld", "withheld", False)

    def test_malformed_states_are_rejected_and_malformed_results_cost_the_auditor_its_turn(self) -> None:
        for fault, found in (("provider", ("rejected", "malformed_proof", False)), ("auditor", None)):
            court = UnitCourt(unit_job("D3")).begin().unfold()
            auditor = court.replay()
            court.show()
            court.open(court.results[auditor.peer].output, auditor)
            court.blobs |= court.results[auditor.peer].blobs
            court.hear(ME, _fetched(court))
            state = court.case.state
            assert isinstance(state, Scoring)
            court.hear(ME, Scored(state.task, 0, "malformed_proof", ZERO_DIGEST, "provider" if found else "auditor"))
            if found:
                assert court.found() == found
            else:
                assert court.sent(AuditRequest), fault


def _fetched(court: UnitCourt) -> Fetched:
    (fetch,) = court.fetches()
    return Fetched(fetch.digest, 1)
