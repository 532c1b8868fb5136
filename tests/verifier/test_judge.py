"""The judge against a real ledger state: every way a claim can end, and every deadline."""

from __future__ import annotations

import pytest

from protocol import operations
from protocol.completions import Fetched, FetchFailed
from protocol.effects import Emit, Fetch
from protocol.errors import Refused, RemoteViolation
from protocol.escrow_state import ChunkLease
from protocol.messages import (
    AuditRequest,
    InputsNotice,
    Reveal,
    RevealRequest,
    Submit,
)
from protocol.operations import Claim
from protocol.units import Digest
from tests.verifier.court import BAD, CHAIN, CHUNKS, ESCROW, GOOD, ME, PROVIDER, SALT, STEWARD, STRANGER, Court
from verifier.case import Decided
from verifier.deadlines import ASK_AGAIN, FETCH_AGAIN, FETCH_TRIES, INPUTS_TIMEOUT, REVEAL_TIMEOUT


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


def notice(court: Court, spec: Digest | None = None, outputs: tuple[Digest, ...] = ()) -> InputsNotice:
    return InputsNotice(ESCROW, 0, 1, spec or court.spec, len(court.blob), outputs, (PROVIDER.peer,))


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


def test_a_claim_of_a_job_that_the_ledger_has_forgotten_is_nothing_to_judge() -> None:
    """Who catches up has executed every block that came along before it hears of the claims in the first."""
    court = Court(valid=10**9)
    del court.state.escrows[ESCROW]
    court.claim()
    assert (court.effects, court.judge.cases) == ([], {})


def test_a_job_that_is_forgotten_before_its_specification_is_here_ends_with_the_next_look() -> None:
    court = Court(valid=10**9)
    court.claim()
    del court.state.escrows[ESCROW]
    court.know_spec()
    court.wait(ASK_AGAIN)
    assert court.judge.cases == {}


def test_a_second_opening_changes_nothing_and_another_one_is_an_offence() -> None:
    court = Court(valid=10**9)
    court.claim()
    court.know_spec()
    court.reveal()
    before = court.case.state
    assert court.reveal() == []
    with pytest.raises(RemoteViolation) as caught:
        court.reveal(BAD)
    assert caught.value.code == "equivocation"
    assert court.case.state == before
    assert court.case.reveal is not None
    assert court.case.reveal.output == GOOD
