"""Evidence of trusted hardware: asked for where it decides about an audit, and nowhere else.

Claims are drawn with one number. Above the rate nobody looks, below the rate with evidence everybody does; only between
the two is the provider asked. Judges must find the same, so a good quote is handed on to the others, and a judge whose
verdict finds no company has the claim audited after all. Spec: specs/40-attestation.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.effects import Effect, Emit, Send, Wake
from protocol.errors import Refused, RemoteViolation
from protocol.quote_messages import Evidence, Quote, QuoteRequest, binding
from protocol.units import PPM, Micros, PeerId
from verifier import sampling
from verifier.attestation import evidence
from verifier.attestation.policy import attested_ppm
from verifier.bench import Bench
from verifier.case import Case, Quoting
from verifier.deadlines import QUOTE_TIMEOUT, last_look, next_look

ALONE_AFTER: Final = 12
"""Times that a verdict is sent again, five seconds apart, before a judge who was shown evidence concludes that others
were not: they audit meanwhile, and it does the same."""

SPARED: Final = "attested"
"""Why a result was accepted for which evidence stood in."""


class Quotes:
    """All questions of one judge for evidence."""

    def __init__(self, bench: Bench, audit: Callable[[Case, Micros], list[Effect]]) -> None:
        self._bench = bench
        self._audit = audit
        """What happens where evidence is missing."""

    def may_spare(self, case: Case, rate: int) -> bool:
        """Whether evidence would spare a claim that is drawn at `rate`, ppm."""
        facts = case.facts
        assert facts is not None
        is_suspect = case.on_probation or case.is_too_fast or self._bench.caution.is_doubted(case.provider)
        if is_suspect or not facts.hardware:
            return False  # Suspicion is not lifted by hardware.
        least = attested_ppm(rate, min(PPM, case.floor(facts.floor_ppm)))
        return not sampling.is_drawn(case.beacon, *case.place, least)

    def begin(self, case: Case, now: Micros) -> list[Effect]:
        """Ask the provider."""
        case.state = Quoting(Micros(now + QUOTE_TIMEOUT), now)
        return [Send(case.provider, QuoteRequest(*case.place)), Wake(next_look(case))]

    def quoted(self, sender: PeerId, message: Quote, now: Micros) -> list[Effect]:
        """The provider's answer, or another judge's copy of it."""
        case = self._bench.cases.get((message.escrow, message.chunk, message.epoch))
        if case is None:
            return []
        if sender != case.provider and sender not in self._bench.validators():
            raise RemoteViolation(sender, "evidence from a peer that did not claim", code="not_the_provider")
        state = case.state
        if not isinstance(state, Quoting) or sender in state.heard:
            return []  # An echo, or too late: it is audited.
        if code := self._fault(case, message, now):
            told = Emit("quote", self._bench.named(case) | {"code": code})
            if sender == case.provider:
                return [told, *self._audit(case, now)]
            case.state = Quoting(state.until, state.asked, state.heard | {sender})
            return [told, Wake(next_look(case))]
        case.quote, case.code = message, SPARED
        told = Emit("quote", self._bench.named(case) | {"code": SPARED})
        copies = [Send(peer, message) for peer in self._others() if sender == case.provider]
        return [*copies, told, *self._bench.ask_reveal(case, now)]

    def late(self, case: Case, state: Quoting, now: Micros) -> list[Effect]:
        """Time is over, or it is time to ask again."""
        if now >= state.until:
            return [Emit("quote", self._bench.named(case) | {"code": "late"}), *self._audit(case, now)]
        case.state = Quoting(state.until, now, state.heard)
        return [Send(peer, QuoteRequest(*case.place)) for peer in (case.provider, *self._others())]

    def asked(self, sender: PeerId, request: QuoteRequest) -> list[Effect]:
        """Another judge still waits for what this one may have been shown."""
        if sender not in self._bench.validators():
            raise RemoteViolation(sender, "only a validator may ask for evidence", code="not_a_validator")
        case = self._bench.cases.get((request.escrow, request.chunk, request.epoch))
        return [] if case is None or case.quote is None else [Send(sender, case.quote)]

    def is_alone(self, case: Case, now: Micros) -> bool:
        """Whether the verdict about a spared claim goes out once more in vain, and there is time for an audit."""
        case.repeats += 1
        return case.quote is not None and case.repeats >= ALONE_AFTER and now < last_look(case)

    def audit_after_all(self, case: Case, now: Micros) -> list[Effect]:
        """As if there had been no evidence. What the provider opened, it opens again: bound by its seal."""
        case.quote, case.code, case.repeats = None, "not_sampled", 0
        case.reveal = case.last = case.hearing = case.upheld = case.finished = None
        case.joined, case.others = {}, {}
        return [Emit("quote", self._bench.named(case) | {"code": "alone"}), *self._audit(case, now)]

    def _others(self) -> list[PeerId]:
        return [peer for peer in self._bench.validators() if peer != self._bench.identity.peer]

    def _fault(self, case: Case, message: Quote, now: Micros) -> str:
        """Why this is no evidence; empty where it is."""
        if not isinstance(message.evidence, Evidence):
            return "missing_quote"
        assert case.facts is not None
        bound = binding(case.provider, *case.place, case.sealed, case.beacon)
        try:
            evidence.check(message.evidence, case.facts.hardware, bound, self._bench.caution.makers, now)
        except Refused as error:
            return error.code
        return ""
