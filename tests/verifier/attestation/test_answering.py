"""A provider's attestant: one quote per claim, over the claim as its own ledger has it, for validators alone."""

from __future__ import annotations

from typing import Final

import pytest
from msgspec import structs

from protocol.completions import Attested
from protocol.effects import Attest, Compute, Effect, LeaseKey, Send, Wake
from protocol.errors import LocalError, RemoteViolation
from protocol.greetings import Goodbye
from protocol.jobspec import JobSpec
from protocol.operations import Assign
from protocol.proof import Hardware, Proof
from protocol.provider_lease import Lease
from protocol.quote_messages import CpuQuote, Evidence, GpuReport, Quote, QuoteRequest, binding
from protocol.units import Digest, Micros
from tests.verifier.court import ESCROW, ME, NOW, PROVIDER, RENTER, STEWARD, STRANGER, Court, job
from verifier.attestation.answering import LOOK, WORDS_CHARS_MAX, Attestant

KEY: Final[LeaseKey] = (ESCROW, 0, 1)
ASKED: Final = QuoteRequest(*KEY)
EVIDENCE: Final = Evidence(CpuQuote("tdx", b"signed"))
PROOF: Final = Proof("deterministic", hardware=(Hardware("tdx", (bytes(48),)), Hardware("nvidia", (bytes(48),))))


class Stand:
    """A provider with one lease that it has claimed."""

    def __init__(self, spec: JobSpec | None = None, has_beacon: bool = True) -> None:
        self.court = Court()
        self.court.claim()
        self.chunk = self.court.escrow.chunks[0]
        self.beacon, self.chunk.beacon = self.chunk.beacon, self.chunk.beacon if has_beacon else b""
        spec = spec or structs.replace(job(), proof=PROOF)
        assign = Assign(ESCROW, 0, 1, PROVIDER.peer, 1, 0, 0, 0, ())
        lease = Lease(Digest(bytes(32)), assign, b"j" * 16, STEWARD.peer, RENTER.peer, spec, (), (), "claimed", NOW)
        self.leases: dict[LeaseKey, Lease] = {KEY: lease}
        self.attestant = Attestant(
            PROVIDER.peer, lambda: (ME.peer, STRANGER.peer), self.leases, lambda: self.court.state
        )

    def ask(self, now: Micros = NOW) -> list[Effect]:
        return self.attestant.receive(ME.peer, ASKED, now)


def test_two_validators_get_the_one_quote_that_the_hardware_makes() -> None:
    stand = Stand()
    bound = binding(PROVIDER.peer, *KEY, stand.chunk.sealed, stand.beacon)
    assert stand.ask() == [Compute(Attest(KEY, bound, ("tdx", "nvidia")))]
    assert stand.attestant.receive(STRANGER.peer, ASKED, NOW) == []
    made = Quote(*KEY, EVIDENCE)
    sent = stand.attestant.receive(PROVIDER.peer, Attested(KEY, EVIDENCE), NOW)
    assert sent == [Send(ME.peer, made), Send(STRANGER.peer, made)]
    assert stand.ask() == [Send(ME.peer, made)]


def test_what_the_hardware_cannot_do_is_said_at_once_and_not_tried_again() -> None:
    stand = Stand()
    stand.ask()
    (sent,) = stand.attestant.receive(PROVIDER.peer, Attested(KEY, None, "no " * 99), NOW)
    assert sent == Send(ME.peer, Quote(*KEY, why=("no " * 99)[:WORDS_CHARS_MAX]))
    assert stand.ask() == [sent]
    large = GpuReport(bytes(16_384), bytes(16_384))
    other = Stand()
    other.ask()
    (said,) = other.attestant.receive(PROVIDER.peer, Attested(KEY, Evidence(EVIDENCE.cpu, (large, large))), NOW)
    assert isinstance(said, Send) and isinstance(said.message, Quote) and "fit a message" in said.message.why


def test_a_job_that_takes_no_evidence_wakes_no_hardware() -> None:
    (sent,) = Stand(job()).ask()
    assert isinstance(sent, Send) and isinstance(sent.message, Quote) and sent.message.why


def test_a_judge_that_is_ahead_waits_until_the_beacon_is_here_too() -> None:
    stand = Stand(has_beacon=False)
    assert stand.ask() == [Wake(Micros(NOW + LOOK))]
    assert stand.attestant.tick(NOW) == [Wake(Micros(NOW + LOOK))]
    stand.chunk.beacon = stand.beacon
    (begun,) = stand.attestant.tick(Micros(NOW + LOOK))
    assert isinstance(begun, Compute)


def test_strangers_and_leases_that_are_over_get_nothing() -> None:
    stand = Stand()
    with pytest.raises(RemoteViolation) as caught:
        stand.attestant.receive(RENTER.peer, ASKED, NOW)
    assert caught.value.code == "not_a_validator"
    assert stand.attestant.receive(ME.peer, QuoteRequest(ESCROW, 1, 1), NOW) == []
    stand.ask()
    stand.leases.clear()
    assert stand.attestant.tick(NOW) == []
    assert stand.attestant.receive(PROVIDER.peer, Attested(KEY, EVIDENCE), NOW) == []
    assert stand.ask() == []
    with pytest.raises(LocalError):
        stand.attestant.receive(ME.peer, Goodbye("x"), NOW)
