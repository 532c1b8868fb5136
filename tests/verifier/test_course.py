"""Audited claims: blindness, differences, failing auditors, and a just verdict whatever is lost on the way."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.completions import Fetched, FetchFailed, RunDone
from protocol.effects import Compute, Effect, Fetch, Run, Send
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.greetings import Goodbye
from protocol.jobspec import ZERO_DIGEST
from protocol.messages import AuditCommit, AuditOpenRequest, AuditRequest, AuditReveal, RevealRequest, Submit
from protocol.operations import Verdict
from protocol.units import SECOND, Digest
from tests.verifier.court import (
    BAD,
    CHAIN,
    ESCROW,
    GOOD,
    ME,
    NOW,
    ODD,
    PROVIDER,
    RENTER,
    SALT,
    SECOND_AUDITOR,
    STEWARD,
    STRANGER,
    WINDOW,
    Court,
    in_audit,
    to_open,
)
from verifier.auditor import Auditor
from verifier.case import Auditing, Opening, Revealing
from verifier.deadlines import AUDITOR_FAILURES_MAX, OPEN_TIMEOUT, VERDICT_MARGIN


def test_drawn_audit_before_the_opening_and_equal() -> None:
    court = in_audit()
    ((auditor, request),) = court.sent(AuditRequest)
    assert auditor == ME.peer
    assert isinstance(request, AuditRequest)
    assert (request.spec, request.spec_size, request.outputs) == (court.spec, len(court.blob), ())
    assert court.sent(RevealRequest) == []
    court.commit(GOOD)
    assert court.sent(RevealRequest)
    court.reveal()
    court.hear(ME, Fetched(GOOD, 10))
    assert court.sent(AuditOpenRequest) == [(ME.peer, AuditOpenRequest(ESCROW, 0, 1))]
    court.open(GOOD)
    assert court.found() == ("accept", "hash_equal", True)


def test_blindness_the_claim_may_not_be_opened_early() -> None:
    court = in_audit()
    with pytest.raises(Refused) as caught:
        court.reveal()
    assert caught.value.code == "too_early"
    assert court.case.reveal is None


def test_a_difference_must_show_twice_before_it_condemns() -> None:
    court = in_audit()
    to_open(court, BAD)
    court.open(BAD)
    assert court.sent(Submit) == []
    assert court.sent(AuditRequest)
    court.commit(BAD)
    assert court.sent(AuditOpenRequest)
    court.open(BAD)
    verdict = court.verdict()
    assert (verdict.outcome, verdict.code, verdict.is_audited) == ("wrong", "hash_differs", True)
    assert (verdict.output, verdict.evidence) == (GOOD, BAD)


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ((GOOD, GOOD), ("accept", "hash_equal", True)),
        ((ODD, ZERO_DIGEST), ("accept", "not_reproducible", False)),
        ((GOOD, BAD), ("wrong", "hash_differs", True)),
    ],
)
def test_an_auditor_that_stands_alone_condemns_nobody(more: tuple[Digest, ...], found: tuple[str, str, bool]) -> None:
    court = in_audit()
    to_open(court, BAD)
    court.open(BAD)
    for output in more:
        court.commit(output)
        court.open(output)
    assert court.found() == found


def test_the_second_execution_goes_to_somebody_else_when_there_is_one() -> None:
    court = in_audit(auditors=(ME, SECOND_AUDITOR))
    ((first, _),) = court.sent(AuditRequest)
    by = {ME.peer: ME, SECOND_AUDITOR.peer: SECOND_AUDITOR}
    to_open(court, BAD, by[first])
    court.open(BAD, by[first])
    ((second, _),) = court.sent(AuditRequest)
    assert {first, second} == set(by)


def test_parties_of_the_lease_never_audit_it() -> None:
    court = in_audit(auditors=(PROVIDER, STEWARD, RENTER, SECOND_AUDITOR))
    assert court.sent(AuditRequest)[0][0] == SECOND_AUDITOR.peer


@pytest.mark.parametrize("fault", ["reason", "seal"])
def test_an_auditors_failure_is_drawn_again_and_at_last_ignored(fault: str) -> None:
    court = in_audit()
    to_open(court, BAD)
    for turn in range(2):
        if turn:
            court.commit(BAD)
        court.open(BAD, reason="exit: 1" if fault == "reason" else "ok", salt=SALT if fault == "reason" else b"x" * 32)
    assert court.found() == ("accept", "audit_failed", False)


def test_a_silent_auditor_is_replaced_then_done_without() -> None:
    """Twice each: the one that there is, and then the judge itself."""
    court = in_audit(auditors=(SECOND_AUDITOR,))
    for turn in range(2 * AUDITOR_FAILURES_MAX):
        state = court.case.state
        assert isinstance(state, Auditing), turn
        court.wait(state.until - court.now)
    assert isinstance(court.case.state, Revealing)
    court.reveal()
    court.hear(ME, Fetched(GOOD, 10))
    assert court.found() == ("accept", "audit_failed", False)


def test_an_auditor_that_does_not_open() -> None:
    court = in_audit()
    to_open(court, GOOD)
    assert isinstance(court.case.state, Opening)
    court.wait(OPEN_TIMEOUT)
    assert court.sent(AuditRequest)
    court.wait(WINDOW - VERDICT_MARGIN)
    assert court.found() == ("accept", "audit_late", False)


def test_an_unconfirmed_difference_neither_pays_nor_slashes() -> None:
    court = in_audit()
    to_open(court, BAD)
    court.open(BAD)
    court.wait(WINDOW - VERDICT_MARGIN)
    assert court.found() == ("missing", "unconfirmed", False)


def test_foreign_openings_and_seals_are_violations_and_change_nothing() -> None:
    court = in_audit()
    before = court.case.state
    with pytest.raises(RemoteViolation) as caught:
        court.reveal(sender=STRANGER)
    assert caught.value.code == "not_the_provider"
    with pytest.raises(Refused) as refused:  # No accusation: it may have been drawn before we were started again.
        court.commit(GOOD, STRANGER)
    assert refused.value.code == "not_the_auditor"
    court.open(GOOD, STRANGER)
    assert court.effects == []
    assert court.case.state == before
    with pytest.raises(LocalError):
        court.hear(ME, Goodbye("x"))


def test_a_claim_that_the_ledger_ended_is_dropped() -> None:
    court = in_audit()
    court.escrow.chunks[0].state = "free"
    court.wait(SECOND)
    assert court.judge.cases == {}


def test_after_a_restart_open_claims_are_taken_up_with_the_same_draw() -> None:
    court = in_audit()
    other = Court()
    other.escrow.chunks[0] = court.escrow.chunks[0]
    other.effects = other.judge.resume(NOW)
    assert (other.case.beacon, other.case.due) == (court.case.beacon, court.case.due)
    assert other.fetches()
    other.know_spec()
    assert other.sent(AuditRequest) == [
        (
            ME.peer,
            AuditRequest(ESCROW, 0, 1, court.spec, len(court.blob), (), (STEWARD.peer, PROVIDER.peer), RENTER.peer),
        )
    ]


@dataclass(frozen=True)
class Plan:
    """How the parties of one case behave."""

    claimed: Digest
    audits: tuple[Digest | None, ...]
    """Output of each execution in turn; None = it fails."""
    opens: bool
    serves: bool
    drops: frozenset[int]
    """Numbers of messages that are lost."""


plans = st.builds(
    Plan,
    claimed=st.sampled_from((GOOD, BAD)),
    audits=st.lists(st.sampled_from((GOOD, GOOD, BAD, None)), min_size=4, max_size=4).map(tuple),
    opens=st.sampled_from((True, True, True, False)),
    serves=st.sampled_from((True, True, True, False)),
    drops=st.frozensets(st.integers(0, 12), max_size=3),
)


def act_out(plan: Plan) -> Verdict:
    """Judge and real auditor over a lossy wire, until the verdict."""
    court = Court()
    auditor = Auditor(ME, CHAIN, lambda: (ME.peer,), lambda _: court.blob)
    executions = iter(plan.audits)
    waiting: deque[Effect] = deque()
    court.claim(output=plan.claimed)
    waiting.extend(court.effects)
    number = 0
    while True:
        while waiting:
            effect, number = waiting.popleft(), number + 1
            match effect:
                case Send(message=Submit()):
                    court.effects = [effect, Send(STRANGER.peer, effect.message)]
                    return court.verdict()
                case Send() if number in plan.drops:
                    continue
                case Send(message=RevealRequest()) if plan.opens:
                    waiting.extend(court.reveal(plan.claimed))
                case Send(message=AuditRequest() | AuditOpenRequest() as message):
                    waiting.extend(auditor.receive(ME.peer, message, court.now))
                case Send(message=AuditCommit() | AuditReveal() as message):
                    waiting.extend(court.hear(ME, message))
                case Compute(work=Fetch(digest=digest)):
                    is_here = digest == court.spec or plan.serves
                    answer = Fetched(digest, 10) if is_here else FetchFailed(digest, "gone")
                    waiting.extend(court.hear(ME, answer))
                    waiting.extend(auditor.receive(ME.peer, answer, court.now))
                case Compute(work=Run(task=task)):
                    output = next(executions)
                    done = RunDone(task, "ok" if output else "exit", 0, output or Digest(bytes(32)), 1, 0.1, "")
                    waiting.extend(auditor.receive(ME.peer, done, court.now))
        assert court.now < NOW + WINDOW, "no verdict in time"
        waiting.extend(court.wait(SECOND))
        waiting.extend(auditor.tick(court.now))


@given(plan=plans)
def test_whatever_happens_there_is_a_just_verdict_in_time(plan: Plan) -> None:
    verdict = act_out(plan)
    if verdict.outcome == "wrong":
        assert plan.opens
        assert plan.serves
        assert sum(output not in (None, plan.claimed) for output in plan.audits) >= 2
    if verdict.outcome == "accept":
        assert plan.opens
        assert plan.serves
        assert verdict.output == plan.claimed
    if not plan.drops and plan.opens and plan.serves and set(plan.audits) == {GOOD}:
        assert verdict.outcome == ("accept" if plan.claimed == GOOD else "wrong")
        assert verdict.is_audited
    if not plan.serves or not plan.opens:
        assert verdict.outcome == "missing"
