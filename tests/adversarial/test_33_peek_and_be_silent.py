"""Attack 33: an auditor seals, waits until the claim is open, and does not open when that does not suit it."""

from __future__ import annotations

from protocol.effects import Emit
from protocol.identity import Identity
from protocol.messages import AuditRequest
from protocol.operations import commission
from protocol.policy import Policy
from protocol.tallies import is_unheard
from protocol.units import CREDIT, PPM
from simulations.units import EXACT
from tests.verifier.court import PROVIDER
from tests.verifier.unit_court import UNITS, UnitCourt, skipping, unit_job
from verifier.deadlines import AUDIT_FAILURES_MAX, OPEN_TIMEOUT

ALL = unit_job(samples=UNITS)


def silent(court: UnitCourt) -> None:
    """Nobody answers the question that is out."""
    court.wait(OPEN_TIMEOUT)


def test_the_silent_auditor_is_named_loses_the_fee_and_the_cheat_is_found_without_it() -> None:
    court = UnitCourt(ALL, skipping(4)).begin().unfold()
    peeking = court.replay(skipping(4))
    court.show()
    silent(court)
    (fault,) = [effect for effect in court.effects if isinstance(effect, Emit) and effect.name == "auditor_fault"]
    assert fault.fields["code"] == "late"
    ((peer, _),) = court.sent(AuditRequest)
    assert peer != peeking.peer, "another one is asked"
    for _ in range(2):
        court.uncover(court.replay())
    assert court.found() == ("fraud", "unit_differs", True)
    assert court.verdict().auditor != peeking.peer, "the fee goes to who opened"


def test_silence_does_not_hurt_an_honest_provider() -> None:
    court = UnitCourt(ALL).begin().unfold()
    court.replay()
    court.show()
    silent(court)
    court.uncover(court.replay())
    assert court.found() == ("accept", "units_equal", True)


def test_opening_is_worth_more_than_silence() -> None:
    """A fee against nothing; and who opens what others refute loses stake, so peeking changes no honest word."""
    policy = Policy()
    fee = commission(CREDIT) * policy.audit_fee // PPM
    assert fee > 0
    assert policy.auditor_slash > 0


GANG = tuple(Identity(bytes([100 + number]) * 32) for number in range(AUDIT_FAILURES_MAX))


def test_a_gang_of_silent_auditors_must_be_everybody_who_is_drawn() -> None:
    """Five of six are silent, and the sixth finds it."""
    court = UnitCourt(ALL, skipping(4), GANG).begin(1).unfold()
    for number in range(AUDIT_FAILURES_MAX - 1):
        court.replay(skipping(4))
        if not number:
            court.show()
        silent(court)
    for _ in range(2):
        court.uncover(court.replay())
    assert court.found() == ("fraud", "unit_differs", True)


def test_silencing_all_of_them_buys_one_claim() -> None:
    """It is accepted, counts as nothing, and the provider's next claim is audited whatever the beacon says."""
    court = UnitCourt(ALL, skipping(4), GANG).begin(1).unfold()
    for number in range(AUDIT_FAILURES_MAX):
        court.replay(skipping(4))
        if not number:
            court.show()
        silent(court)
    assert court.found() == ("accept", "audit_failed", False)
    assert is_unheard(is_audited=False, code=court.verdict().code)
    after = UnitCourt(unit_job(audit_ppm=0), skipping(4), GANG, valid=10**9)
    after.state.standings[PROVIDER.peer].probation = 1
    assert after.begin(1).waits_for == "Unfolding"
    undrawn = UnitCourt(unit_job(audit_ppm=0), skipping(4), GANG, valid=10**9)
    assert undrawn.begin(1).waits_for == "Revealing", "the same claim of a provider that owes no audit"


def test_the_honest_twin_opens_and_is_named_as_auditor() -> None:
    court = UnitCourt(ALL).begin().unfold()
    auditor = court.replay(EXACT)
    court.show()
    court.uncover(auditor)
    assert court.found() == ("accept", "units_equal", True)
    assert court.verdict().auditor == auditor.peer
