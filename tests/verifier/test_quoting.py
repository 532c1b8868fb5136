"""Evidence of trusted hardware before the judge: asked for in the band only, handed on, and never the last word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest

from protocol.completions import Fetched
from protocol.errors import RemoteViolation
from protocol.jobspec import JobSpec
from protocol.messages import AuditRequest, RevealRequest, Submit
from protocol.quote_messages import Evidence, Quote, QuoteRequest, binding
from tests.verifier.attestation.foundry import Foundry
from tests.verifier.court import BAD, GOOD, ME, PROVIDER, SECOND_AUDITOR, STRANGER, Court, job
from tests.verifier.quote_court import BELOW, CAUTION, FOUNDRY, IN_BAND, PLACE, beacon, bound, court, quote, spec, told
from verifier.attestation.policy import attested_ppm
from verifier.case import Auditing, Decided, Quoting, Revealing
from verifier.deadlines import ASK_AGAIN, QUOTE_TIMEOUT
from verifier.quoting import ALONE_AFTER


def test_good_evidence_spares_the_audit_and_nothing_else() -> None:
    here = court()
    assert [peer for peer, _ in here.sent(QuoteRequest)] == [PROVIDER.peer]
    assert here.sent(AuditRequest) == here.sent(RevealRequest) == []
    good = quote(FOUNDRY.evidence(bound(here)))
    here.hear(PROVIDER, good)
    assert told(here) == ["attested"]
    assert here.sent(Quote) == [(STRANGER.peer, good)]
    assert isinstance(here.case.state, Revealing) and here.sent(AuditRequest) == []
    here.hear(STRANGER, QuoteRequest(*PLACE))
    assert here.sent(Quote) == [(STRANGER.peer, good)]
    with pytest.raises(RemoteViolation) as caught:
        here.hear(SECOND_AUDITOR, QuoteRequest(*PLACE))
    assert caught.value.code == "not_a_validator"
    here.reveal()
    here.hear(ME, Fetched(GOOD, 10))
    assert here.found() == ("accept", "attested", False)


@pytest.mark.parametrize(
    ("beacon", "of", "valid"),
    [(BELOW, spec(), 0), (IN_BAND, job(), 0), (IN_BAND, spec(audit_ppm=1_000_000), 0)],
    ids=["below half the rate", "a job that takes none", "a floor of 1"],
)
def test_outside_of_the_band_nobody_is_asked_and_everybody_audited(beacon: bytes, of: JobSpec, valid: int) -> None:
    here = court(beacon, of, valid)
    assert here.sent(QuoteRequest) == []
    assert len(here.sent(AuditRequest)) == 1


def test_who_is_not_drawn_is_not_asked() -> None:
    here = court(valid=10**9)
    assert here.sent(QuoteRequest) == here.sent(AuditRequest) == []
    assert isinstance(here.case.state, Revealing)


def test_the_band_ends_at_the_floor() -> None:
    """At 15 % and a floor of 10 %, evidence brings 10 %, not 7.5."""
    assert attested_ppm(150_000, 100_000) == 100_000
    of = spec(audit_ppm=100_000)
    assert len(court(beacon(75_000, 100_000), of, valid=5).sent(AuditRequest)) == 1
    assert len(court(beacon(100_000, 150_000), of, valid=5).sent(QuoteRequest)) == 1


def test_suspicion_is_not_lifted_by_hardware() -> None:
    here = Court(spec=spec(), caution=CAUTION)
    here.state.standings[PROVIDER.peer].probation = 1
    here.beacon = IN_BAND
    here.claim()
    here.know_spec()
    doubted = court(caution=replace(CAUTION, is_doubted=lambda peer: peer == PROVIDER.peer))
    for one in (here, doubted):
        assert one.sent(QuoteRequest) == [] and len(one.sent(AuditRequest)) == 1


OTHERS: Final = Foundry()


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (lambda here: None, "missing_quote"),
        (lambda here: FOUNDRY.evidence(binding(STRANGER.peer, *PLACE, here.case.sealed, IN_BAND)), "stale_nonce"),
        (lambda here: FOUNDRY.evidence(binding(PROVIDER.peer, *PLACE, here.case.sealed, BELOW)), "stale_nonce"),
        (lambda here: OTHERS.evidence(bound(here)), "untrusted_root"),
    ],
    ids=["none", "another node's", "an old one", "another root"],
)
def test_without_good_evidence_it_is_audited_as_ever_and_nobody_is_slashed(
    made: Callable[[Court], Evidence | None], code: str
) -> None:
    here = court()
    here.hear(PROVIDER, quote(made(here)))
    assert told(here) == [code]
    assert len(here.sent(AuditRequest)) == 1 and isinstance(here.case.state, Auditing)
    here.hear(PROVIDER, quote(FOUNDRY.evidence(bound(here))))
    assert here.effects == []
    here.commit(GOOD)
    here.reveal()
    here.hear(ME, Fetched(GOOD, 10))
    here.open(GOOD)
    assert here.found() == ("accept", "hash_equal", True)


def test_silence_is_asked_again_and_then_audited() -> None:
    here = court()
    here.wait(ASK_AGAIN)
    assert [peer for peer, _ in here.sent(QuoteRequest)] == [PROVIDER.peer, STRANGER.peer]
    here.wait(QUOTE_TIMEOUT)
    assert told(here) == ["late"]
    assert len(here.sent(AuditRequest)) == 1


def test_another_judges_copy_counts_if_it_is_good_and_hurts_nobody_if_it_is_not() -> None:
    here = court()
    here.hear(STRANGER, quote(None))
    here.hear(STRANGER, quote(FOUNDRY.evidence(bound(here))))
    assert isinstance(here.case.state, Quoting) and here.effects == []  # One try per judge.
    other = court()
    other.hear(STRANGER, quote(FOUNDRY.evidence(bound(other))))
    assert isinstance(other.case.state, Revealing) and other.sent(Quote) == []
    with pytest.raises(RemoteViolation) as caught:
        court().hear(SECOND_AUDITOR, quote(None))
    assert caught.value.code == "not_the_provider"


def test_a_judge_that_stays_alone_with_its_evidence_audits_after_all_and_finds_what_the_others_find() -> None:
    """Of two judges one got the quote and one did not: their verdicts differ, so neither is a quorum's."""
    spared, other = court(), court()
    spared.hear(PROVIDER, quote(FOUNDRY.evidence(bound(spared))))
    other.wait(QUOTE_TIMEOUT)
    for one in (spared, other):
        if one is other:
            one.commit(GOOD)
        one.reveal()
        one.hear(ME, Fetched(GOOD, 10))
    other.open(GOOD)
    first, wanted = spared.verdict(), other.verdict()
    assert first.code == "attested" and first != wanted
    for _ in range(ALONE_AFTER - 1):
        spared.wait(ASK_AGAIN)
        assert spared.sent(Submit)
    spared.wait(ASK_AGAIN)
    assert told(spared) == ["alone"] and len(spared.sent(AuditRequest)) == 1
    spared.commit(GOOD)
    spared.reveal()
    spared.hear(ME, Fetched(GOOD, 10))
    spared.open(GOOD)
    assert spared.verdict() == wanted


def test_what_was_opened_once_cannot_be_opened_another_way_later() -> None:
    here = court()
    here.hear(PROVIDER, quote(FOUNDRY.evidence(bound(here))))
    here.reveal()
    here.hear(ME, Fetched(GOOD, 10))
    for _ in range(ALONE_AFTER):
        here.wait(ASK_AGAIN)
    here.commit(BAD)
    here.reveal(BAD)
    assert here.found() == ("wrong", "seal_mismatch", False)


def test_a_verdict_that_the_ledger_takes_late_is_only_repeated_where_no_evidence_played_a_part() -> None:
    here = court(valid=10**9)
    here.reveal()
    here.hear(ME, Fetched(GOOD, 10))
    for _ in range(3 * ALONE_AFTER):
        here.wait(ASK_AGAIN)
        assert here.found() == ("accept", "not_sampled", False)
    assert isinstance(here.case.state, Decided)
