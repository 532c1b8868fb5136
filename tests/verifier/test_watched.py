"""What a judge looks at though the beacon did not draw it: providers whose offers were shown to be false, and drift."""

from __future__ import annotations

from protocol import wire
from protocol.ledger import operation_decoder
from protocol.operations import Verdict
from simulations.units import EXACT, Conduct
from tests.verifier.court import ME, PROVIDER, STRANGER, Court
from tests.verifier.unit_court import UnitCourt, skipping, unit_job
from verifier.bench import CARELESS, Caution
from verifier.case import Decided
from verifier.drift_watch import LOOKED_AT, DriftWatch
from verifier.views import EXACT as EXACT_TOLERANCE

DOUBTING = Caution(is_doubted=lambda peer: peer == PROVIDER.peer)
RARELY = unit_job(audit_ppm=1)
"""With a provider that has a thousand good results behind it, one claim in a thousand is drawn."""


def court(caution: Caution = CARELESS, is_alone: bool = False, conduct: Conduct = EXACT) -> UnitCourt:
    made = UnitCourt(RARELY, conduct, valid=1_000, caution=caution)
    if is_alone:
        made.judge._bench.validators = lambda: (ME.peer,)
    return made


def undrawn() -> UnitCourt:
    made = court().begin()
    assert made.waits_for == "Revealing", "the fixture's beacon draws nothing"
    made.show()
    return made


def signed(made: UnitCourt) -> Verdict:
    state = made.case.state
    assert isinstance(state, Decided)
    operation = wire.decode(state.verdict.body, operation_decoder, ME.peer)
    assert isinstance(operation, Verdict)
    return operation


def test_a_doubted_provider_is_audited_though_nothing_was_drawn() -> None:
    made = court(DOUBTING, is_alone=True)
    assert made.begin().waits_for == "Unfolding"
    made.unfold()
    auditor = made.replay()
    made.show()
    made.uncover(auditor)
    found = signed(made)
    assert (found.outcome, found.code, found.is_audited, found.auditor) == ("accept", "units_equal", True, auditor.peer)


def test_where_others_judge_too_what_confirms_is_signed_as_by_those_who_did_not_look() -> None:
    careless = undrawn()
    made = court(DOUBTING).begin().unfold()
    auditor = made.replay()
    made.show()
    made.uncover(auditor)
    assert signed(made) == signed(careless), "signatures add up over equal bytes"
    assert not signed(made).is_audited


def test_what_it_refutes_is_its_own_word() -> None:
    made = court(DOUBTING, conduct=skipping(*range(12)))
    outcome, code, is_audited = made.judged(EXACT, EXACT)
    assert (outcome, code, is_audited) == ("fraud", "unit_differs", True)


def test_drift_has_the_next_claims_of_that_profile_audited_and_no_more() -> None:
    made = court()
    made.judge._bench.drifts.left[PROVIDER.peer, EXACT_TOLERANCE.profile] = 1
    assert made.begin().waits_for == "Unfolding" and made.case.is_extra
    again = court()
    again.judge._bench.drifts.left[STRANGER.peer, EXACT_TOLERANCE.profile] = 1
    assert again.begin().waits_for == "Revealing"


def test_the_count_goes_down_and_starts_anew_with_every_look_that_shows_a_direction() -> None:
    watch = DriftWatch(b"secret")
    account = (PROVIDER.peer, "adamw")
    watch.left[account] = LOOKED_AT
    taken = sum(watch.take(*account) for _ in range(3 * LOOKED_AT))
    assert taken == LOOKED_AT and not watch.left
    assert not watch.take(STRANGER.peer, "adamw")


def test_a_certificate_is_not_executed_again_for_that() -> None:
    """Its own check runs over every result and says more."""
    job = unit_job(kind="certificate", count=0, check=("check",))
    made = Court(spec=job, caution=DOUBTING)
    made.claim()
    made.know_spec()
    assert type(made.case.state).__name__ == "Revealing"
