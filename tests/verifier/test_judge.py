"""The judge against a real ledger state: every way a claim can end, and every deadline."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import operations, wire
from protocol.block import header_hash
from protocol.completions import Fetched, FetchFailed, RunDone
from protocol.effects import Compute, Effect, Emit, Fetch, Run, Send
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.escrow_state import ChunkLease, Escrow, LedgerState, Standing
from protocol.identity import Identity
from protocol.jobspec import Chunk, JobSpec, Resources
from protocol.ledger import operation_decoder
from protocol.messages import (
    AuditCommit,
    AuditOpenRequest,
    AuditRequest,
    AuditReveal,
    Goodbye,
    Header,
    InputsNotice,
    Message,
    Outcome,
    Receipt,
    Receipts,
    Reveal,
    RevealRequest,
    Submit,
)
from protocol.operations import Claim, Verdict
from protocol.units import MINUTE, SECOND, Digest, Micros, PeerId
from protocol.validators import ValidatorSet
from verifier.auditor import Auditor
from verifier.case import Auditing, Case, Decided, Gathering, Opening, Revealing
from verifier.course import (
    ASK_AGAIN,
    FETCH_AGAIN,
    FETCH_TRIES,
    INPUTS_TIMEOUT,
    OPEN_TIMEOUT,
    REVEAL_TIMEOUT,
    VERDICT_MARGIN,
)
from verifier.judge import Judge

CHAIN = "test"
NOW = Micros(1_000_000 * SECOND)
LAG = 7 * SECOND
"""The ledger's clock is this much behind ours."""
ME, PROVIDER, STEWARD, RENTER, SECOND_AUDITOR, STRANGER = (Identity(bytes([n]) * 32) for n in range(1, 7))
ESCROW = b"e" * 32
SALT = b"s" * 32
GOOD, BAD, ODD = (Digest(bytes([letter]) * 32) for letter in b"gbo")
CHUNKS = 4
WINDOW = 30 * MINUTE


def job(audit_ppm: int = 0) -> JobSpec:
    return JobSpec(
        name="job",
        runtime="python",
        commands=("true",),
        chunks=(Chunk(),) * CHUNKS,
        reduce=("true",),
        resources=Resources(disk_bytes=1000),
        audit_ppm=audit_ppm,
    )


class Court:
    """One judge, the ledger state it reads, and what it asked for."""

    def __init__(self, audit_ppm: int = 0, valid: int = 0, auditors: tuple[Identity, ...] = (ME,)) -> None:
        self.blob = wire.encode(job(audit_ppm))
        self.spec = wire.digest(self.blob)
        self.state = LedgerState(CHAIN, ValidatorSet(CHAIN, [(ME.peer, 1)]), NOW - LAG)
        self.escrow = Escrow(ESCROW, bytes(16), RENTER.peer, STEWARD.peer, 10**6, self.spec, NOW + 10 * WINDOW)
        self.state.escrows[ESCROW] = self.escrow
        self.state.standings[PROVIDER.peer] = Standing(consecutive_valid=valid)
        stakes = {auditor.peer: 1 for auditor in auditors}
        self.judge = Judge(
            ME,
            CHAIN,
            lambda: self.state,
            lambda: (ME.peer, STRANGER.peer),
            lambda facts, provider: stakes,
            lambda _: self.blob,
        )
        self.now = NOW
        self.effects: list[Effect] = []

    def header(self) -> Header:
        zero = bytes(32)
        return Header(CHAIN, 5, NOW - LAG, zero, zero, zero, zero, zero, 1)

    def claim(self, chunk: int = 0, output: Digest = GOOD, status: str = "applied") -> None:
        """The ledger orders a claim, and this validator hears of it."""
        sealed = operations.seal(PROVIDER.peer, SALT, output)
        self.escrow.chunks[chunk] = ChunkLease(
            chunk,
            1,
            "claimed",
            PROVIDER.peer,
            verdict_by=NOW - LAG + WINDOW,
            sealed=sealed,
            claimed_in=header_hash(self.header()),
        )
        operation = operations.signed_op(CHAIN, Claim(ESCROW, chunk, 1, sealed), PROVIDER)
        self.hear(ME, self.receipts(operation, status))

    def receipts(self, operation: operations.SignedOp, status: str = "applied") -> Receipts:
        outcome = Outcome(operation.op_id, "applied" if status == "applied" else "refused", "ok", "")
        signature = operations.Signature(ME.peer, bytes(64))
        return Receipts(self.header(), (signature,), (operation,), (Receipt(outcome, 0, ()),))

    def hear(self, sender: Identity, message: Message | Fetched | FetchFailed) -> list[Effect]:
        self.effects = self.judge.receive(sender.peer, message, self.now)
        return self.effects

    def wait(self, span: int) -> list[Effect]:
        self.now = Micros(self.now + span)
        self.effects = self.judge.tick(self.now)
        return self.effects

    def know_spec(self) -> None:
        self.hear(ME, Fetched(self.spec, len(self.blob)))

    def reveal(
        self, output: Digest = GOOD, size: int = 10, salt: bytes = SALT, sender: Identity = PROVIDER
    ) -> list[Effect]:
        return self.hear(sender, Reveal(ESCROW, 0, 1, output, size, salt))

    def commit(self, output: Digest, auditor: Identity = ME) -> None:
        self.hear(auditor, AuditCommit(ESCROW, 0, 1, operations.seal(auditor.peer, SALT, output)))

    def open(self, output: Digest, auditor: Identity = ME, reason: str = "ok", salt: bytes = SALT) -> None:
        self.hear(auditor, AuditReveal(ESCROW, 0, 1, output, salt, reason))

    def sent(self, kind: type[Message]) -> list[tuple[PeerId, Message]]:
        return [(e.peer, e.message) for e in self.effects if isinstance(e, Send) and isinstance(e.message, kind)]

    def fetches(self) -> list[Fetch]:
        return [e.work for e in self.effects if isinstance(e, Compute) and isinstance(e.work, Fetch)]

    @property
    def case(self) -> Case:
        return self.judge.cases[ESCROW, 0, 1]

    def verdict(self) -> Verdict:
        """What was sent to every validator, in the last step."""
        submits = self.sent(Submit)
        assert [peer for peer, _ in submits] == [ME.peer, STRANGER.peer]
        message = submits[0][1]
        assert isinstance(message, Submit)
        operation = wire.decode(message.operations[0].body, operation_decoder, ME.peer)
        assert isinstance(operation, Verdict)
        assert message.operations[0].signatures[0].signer == ME.peer
        return operation

    def found(self) -> tuple[str, str, bool]:
        verdict = self.verdict()
        return verdict.outcome, verdict.code, verdict.is_audited


def in_audit(**settings: tuple[Identity, ...]) -> Court:
    """A newcomer's claim: certain to be audited."""
    court = Court(**settings)  # type: ignore[arg-type]
    court.claim()
    court.know_spec()
    assert isinstance(court.case.state, Auditing)
    return court


def test_not_drawn_reveal_fetch_accept() -> None:
    court = Court(valid=10**9)
    court.claim()
    assert court.fetches() == [Fetch(court.spec, 16 << 20, (STEWARD.peer, PROVIDER.peer))]
    court.know_spec()
    assert court.sent(RevealRequest) == [(PROVIDER.peer, RevealRequest(ESCROW, 0, 1))]
    court.reveal()
    (fetch,) = court.fetches()
    assert (fetch.digest, fetch.is_output, fetch.sources[0]) == (GOOD, True, PROVIDER.peer)
    court.hear(ME, Fetched(GOOD, 10))
    verdict = court.verdict()
    assert (verdict.outcome, verdict.code, verdict.is_audited) == ("accept", "not_sampled", False)
    assert (verdict.auditor, verdict.output, verdict.evidence) == (ME.peer, GOOD, GOOD)
    assert any(isinstance(effect, Emit) and effect.name == "verdict" for effect in court.effects)


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


def to_open(court: Court, audited: Digest, auditor: Identity = ME) -> None:
    """Up to the point where the auditor opens; the provider claimed GOOD."""
    court.commit(audited, auditor)
    court.reveal()
    court.hear(ME, Fetched(GOOD, 10))


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
    ("second", "found"),
    [(GOOD, ("accept", "hash_equal", True)), (ODD, ("accept", "not_reproducible", False))],
)
def test_an_auditor_that_stands_alone_condemns_nobody(second: Digest, found: tuple[str, str, bool]) -> None:
    court = in_audit()
    to_open(court, BAD)
    court.open(BAD)
    court.commit(second)
    court.open(second)
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
    court = in_audit(auditors=(SECOND_AUDITOR,))
    for turn in range(2):
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


def test_a_false_seal_is_a_wrong_result() -> None:
    court = Court(valid=10**9)
    court.claim(output=BAD)
    court.know_spec()
    court.reveal(GOOD)
    assert court.found() == ("wrong", "seal_mismatch", False)
    assert court.verdict().evidence == court.case.sealed


def test_no_opening_is_asked_for_again_then_missing() -> None:
    court = Court(valid=10**9)
    court.claim()
    court.know_spec()
    court.wait(ASK_AGAIN)
    assert court.sent(RevealRequest)
    court.wait(REVEAL_TIMEOUT - ASK_AGAIN)
    assert court.found() == ("missing", "not_revealed", False)


def test_an_output_that_nobody_can_get_is_missing() -> None:
    court = Court(valid=10**9)
    court.claim()
    court.know_spec()
    court.reveal()
    for turn in range(FETCH_TRIES):
        assert court.fetches(), turn
        court.hear(ME, FetchFailed(GOOD, "gone"))
        if turn < FETCH_TRIES - 1:
            court.wait(FETCH_AGAIN)
    assert court.found() == ("missing", "output_unavailable", False)


def test_an_output_larger_than_the_job_allows_is_not_even_fetched() -> None:
    court = Court(valid=10**9)
    court.claim()
    court.know_spec()
    court.reveal(size=1001)
    assert court.found() == ("missing", "output_too_large", False)
    assert court.fetches() == []


def test_equal_outputs_of_two_claims_are_fetched_from_both() -> None:
    court = Court(valid=10**9)
    for chunk in (0, 1):
        court.claim(chunk)
        court.know_spec()
        court.hear(PROVIDER, Reveal(ESCROW, chunk, 1, GOOD, 10, SALT))
    court.hear(ME, Fetched(GOOD, 10))
    assert all(isinstance(case.state, Decided) for case in court.judge.cases.values())


def test_a_specification_that_nobody_serves_or_that_is_none() -> None:
    court = Court()
    court.claim()
    court.wait(ASK_AGAIN)
    assert court.fetches()
    court.wait(INPUTS_TIMEOUT)
    assert court.found() == ("missing", "inputs_missing", False)
    court = Court()
    court.blob = b"\xc1"
    court.claim()
    court.know_spec()
    assert court.found() == ("missing", "bad_spec", False)


def test_the_reduce_step_reads_what_the_ledger_accepted() -> None:
    court = Court()
    for chunk in range(CHUNKS):
        court.escrow.chunks[chunk] = ChunkLease(chunk, 1, "paid", PROVIDER.peer, output=bytes([chunk]) * 32)
    court.claim(CHUNKS)
    court.know_spec()
    ((_, request),) = court.sent(AuditRequest)
    assert isinstance(request, AuditRequest)
    assert request.outputs == tuple(bytes([chunk]) * 32 for chunk in range(CHUNKS))


def test_a_reduce_step_before_its_inputs_and_a_chunk_that_is_not_there() -> None:
    for chunk in (CHUNKS, CHUNKS + 1):
        court = Court()
        court.claim(chunk)
        court.know_spec()
        assert court.found() == ("missing", "inputs_missing", False)


def notice(court: Court, **changes: object) -> InputsNotice:
    fields = {"spec": court.spec, "spec_size": len(court.blob), "outputs": (), "sources": (PROVIDER.peer,), **changes}
    return InputsNotice(ESCROW, 0, 1, **fields)  # type: ignore[arg-type]


def test_inputs_are_fetched_ahead_and_checked() -> None:
    court = Court(valid=10**9)
    court.hear(STEWARD, notice(court))
    assert court.fetches() == [Fetch(court.spec, len(court.blob), (PROVIDER.peer,))]
    court.know_spec()
    court.claim()
    assert court.sent(RevealRequest)
    with pytest.raises(RemoteViolation) as caught:
        court.hear(STEWARD, notice(court, outputs=(GOOD,)))
    assert caught.value.code == "wrong_inputs"


def test_notices_that_are_not_the_stewards_or_not_the_escrows() -> None:
    court = Court()
    with pytest.raises(RemoteViolation) as caught:
        court.hear(STRANGER, notice(court))
    assert caught.value.code == "not_the_steward"
    with pytest.raises(RemoteViolation) as caught:
        court.hear(STEWARD, notice(court, spec=GOOD))
    assert caught.value.code == "wrong_spec"
    court.state.escrows.clear()
    with pytest.raises(Refused) as refused:
        court.hear(STEWARD, notice(court))
    assert refused.value.code == "no_escrow"


def test_foreign_openings_and_seals_are_violations_and_change_nothing() -> None:
    court = in_audit()
    before = court.case.state
    with pytest.raises(RemoteViolation) as caught:
        court.reveal(sender=STRANGER)
    assert caught.value.code == "not_the_provider"
    with pytest.raises(RemoteViolation) as caught:
        court.commit(GOOD, STRANGER)
    assert caught.value.code == "not_the_auditor"
    court.open(GOOD, STRANGER)
    assert court.effects == []
    assert court.case.state == before
    with pytest.raises(LocalError):
        court.hear(ME, Goodbye("x"))


def test_only_ones_own_receipts_of_applied_claims_open_cases() -> None:
    court = Court()
    court.claim(status="refused")
    assert court.judge.cases == {}
    operation = operations.signed_op(CHAIN, Claim(ESCROW, 0, 1, bytes(32)), PROVIDER)
    court.hear(STRANGER, court.receipts(operation))
    assert court.judge.cases == {}


def test_a_verdict_is_sent_again_until_the_ledger_has_it() -> None:
    court = Court(valid=10**9)
    court.claim()
    court.know_spec()
    court.reveal()
    court.hear(ME, Fetched(GOOD, 10))
    first = court.sent(Submit)
    court.wait(ASK_AGAIN)
    assert court.sent(Submit) == first
    message = first[0][1]
    assert isinstance(message, Submit)
    court.hear(ME, court.receipts(message.operations[0]))
    assert court.judge.cases == {}


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
    assert isinstance(other.case.state, Gathering)
    other.know_spec()
    assert isinstance(other.case.state, Auditing)


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
