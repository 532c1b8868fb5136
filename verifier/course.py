"""The course of one case: blind audit, opening, comparison, verdict. Spec: specs/11-verification.md.

An auditor's failure never condemns, a difference must show twice, and every wait has a deadline and a way on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from protocol import operations
from protocol.effects import Compute, Effect, Emit, Fetch, Send, Wake
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.identity import Identity, peer_text
from protocol.messages import AuditCommit, AuditOpenRequest, AuditRequest, AuditReveal, Reveal, RevealRequest, Submit
from protocol.units import MIB, MINUTE, SECOND, Digest, Micros, PeerId
from verifier import sampling
from verifier.case import (
    Auditing,
    Case,
    Decided,
    Facts,
    Fetching,
    Finding,
    Found,
    Gathering,
    LedgerView,
    Opening,
    Place,
    Revealing,
    verdict_of,
)

INPUTS_TIMEOUT: Final = Micros(30 * SECOND)
"""Microseconds to get a specification, which its steward and its provider both hold."""

REVEAL_TIMEOUT: Final = Micros(30 * SECOND)
"""Microseconds for a provider to open its claim; it needs no work for that, only a connection."""

OPEN_TIMEOUT: Final = Micros(30 * SECOND)
"""Microseconds for an auditor to open its seal."""

ASK_AGAIN: Final = Micros(5 * SECOND)
"""Microseconds until a question or a verdict that got no answer is sent again."""

FETCH_AGAIN: Final = Micros(2 * SECOND)
"""Microseconds between two tries to fetch."""

FETCH_TRIES: Final = 3
"""Tries until an output counts as undeliverable."""

AUDIT_FAILURES_MAX: Final = 2
"""Auditors that may fail per claim before it is judged without one."""

AUDIT_SHARE: Final = 3
"""One audit gets at most this part of the time left, so that a second and a confirmation still fit."""

AUDIT_MARGIN: Final = Micros(2 * MINUTE)
"""Microseconds that a distant auditor gets on top of twice the chunk's time limit, for its queue and for inputs."""

VERDICT_MARGIN: Final = Micros(90 * SECOND)
"""Microseconds before the ledger's deadline at which waiting ends: one opening, one fetch, one block."""

OUTPUT_MARGIN: Final = 1 * MIB
"""Bytes on top of the stated size of an output: its manifest."""

SPEC_BYTES_MAX: Final = 16 * MIB
"""Bytes of an encoded specification."""

Auditors = Callable[[Facts, PeerId], Mapping[PeerId, int]]
"""Peers whose execution of this specification can be compared with this provider's, and their stakes."""


@dataclass(slots=True)
class Bench:
    """What all cases of one judge share; wired once."""

    identity: Identity
    chain: str
    ledger: Callable[[], LedgerView]
    validators: Callable[[], tuple[PeerId, ...]]
    auditors: Auditors
    facts: dict[Digest, Facts] = field(default_factory=dict)
    cases: dict[Place, Case] = field(default_factory=dict)

    def outputs(self, escrow: bytes, chunk: int, facts: Facts) -> tuple[Digest, ...] | None:
        """What a step reads of earlier ones, by the ledger's own record; None when one of them is not accepted."""
        if chunk < facts.chunks:
            return ()
        chunks = self.ledger().escrows[escrow].chunks
        leases = [chunks.get(index) for index in range(facts.chunks)]
        outputs = tuple(Digest(lease.output) for lease in leases if lease is not None and lease.state == "paid")
        return outputs if len(outputs) == facts.chunks else None


class Course:
    """Moves a case from one state to the next; every method returns what is to happen."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def begin(self, case: Case, now: Micros) -> list[Effect]:
        """The specification is known: let the beacon decide."""
        case.facts = facts = self._bench.facts[case.spec]
        escrow, chunk, epoch = case.place
        if chunk >= facts.steps or self._bench.outputs(escrow, chunk, facts) is None:
            return self.decide(case, "missing", "inputs_missing", now)
        ppm = 0 if facts.is_interactive else sampling.audit_ppm(facts.audit_ppm, case.consecutive_valid)
        if sampling.is_drawn(case.beacon, escrow, chunk, epoch, ppm):
            return self._audit(case, now)
        return self._ask_reveal(case, now)

    def _audit(self, case: Case, now: Micros) -> list[Effect]:
        """Draw an auditor, one who has not been asked if there is one, and ask."""
        facts = case.facts
        auditor = self._draw(case)
        outputs = self._bench.outputs(case.place[0], case.place[1], facts) if facts is not None else None
        if facts is None or outputs is None or auditor is None:
            return self._audit_impossible(case, "no_auditor", now)
        case.turn += 1
        case.tried.add(auditor)
        case.seal = None
        limit = max(0, case.due - VERDICT_MARGIN - now) // AUDIT_SHARE
        if auditor != self._bench.identity.peer:
            limit = min(limit, 2 * facts.timeout + AUDIT_MARGIN)
        case.state = Auditing(auditor, Micros(now + limit))
        request = AuditRequest(
            *case.place,
            spec=facts.digest,
            spec_size=facts.size,
            outputs=outputs,
            sources=(case.steward, case.provider),
            renter=case.renter,
        )
        return [Send(auditor, request), Emit("audit", self._fields(case, auditor)), Wake(next_look(case))]

    def _draw(self, case: Case) -> PeerId | None:
        if case.facts is None:
            return None
        candidates = self._bench.auditors(case.facts, case.provider)
        partial = frozenset((case.provider, case.renter, case.steward))
        for excluded in (partial | case.tried, partial):
            drawn = sampling.draw_auditor(case.beacon, case.place, case.turn, candidates, excluded)
            if drawn is not None:
                return drawn
        return self._bench.identity.peer if self._bench.identity.peer != case.provider else None

    def committed(self, sender: PeerId, message: AuditCommit, now: Micros) -> list[Effect]:
        case = self._bench.cases.get((message.escrow, message.chunk, message.epoch))
        if case is None or (
            sender in case.tried and not (isinstance(case.state, Auditing) and case.state.auditor == sender)
        ):
            return []
        if sender not in case.tried:
            raise Refused(
                "a seal from a peer that was not drawn",
                code="not_the_auditor",
                fix="Nothing: whoever was drawn before this validator was started again will be asked again.",
            )
        case.seal = (sender, Digest(message.sealed))
        return self._ask_reveal(case, now) if case.reveal is None else self._ask_open(case, now)

    def _ask_open(self, case: Case, now: Micros) -> list[Effect]:
        if case.seal is None:
            raise LocalError("an auditor was to open what it never sealed", code="bad_state")
        case.state = Opening(case.seal[0], Micros(now + OPEN_TIMEOUT))
        return [Send(case.seal[0], AuditOpenRequest(*case.place)), Wake(next_look(case))]

    def audit_opened(self, sender: PeerId, message: AuditReveal, now: Micros) -> list[Effect]:
        case = self._bench.cases.get((message.escrow, message.chunk, message.epoch))
        if case is None or not isinstance(case.state, Opening) or case.state.auditor != sender:
            return []
        if case.seal is None or case.reveal is None:
            raise LocalError("an audit is being opened before the claim", code="bad_state")
        output = Digest(message.output)
        if operations.seal(sender, message.salt, output) != case.seal[1]:
            fault = "seal_mismatch"
        else:
            fault = "" if message.reason == "ok" else message.reason
        if fault:
            said = Emit("auditor_fault", self._fields(case, sender) | {"code": fault})
            return [said, *self._auditor_failed(case, now)]
        return self._compare(case, sender, output, now)

    def _compare(self, case: Case, auditor: PeerId, output: Digest, now: Micros) -> list[Effect]:
        """Equal: accepted. Different: once more, and only two that agree with each other condemn."""
        assert case.reveal is not None
        if output == case.reveal.output:
            return self.decide(case, "accept", "hash_equal", now, (auditor, output))
        if case.finding is None:
            case.finding = Finding(auditor, output)
            return self._audit(case, now)
        if output == case.finding.output:
            return self.decide(case, "wrong", "hash_differs", now, (auditor, output))
        return self.decide(case, "accept", "not_reproducible", now)

    def _auditor_failed(self, case: Case, now: Micros) -> list[Effect]:
        """Somebody else, unless that happened too often or there is no time."""
        case.failures += 1
        case.seal = None
        if case.failures >= AUDIT_FAILURES_MAX:
            return self._audit_impossible(case, "audit_failed", now)
        return self._audit(case, now)

    def _audit_impossible(self, case: Case, code: str, now: Micros) -> list[Effect]:
        """Go on without: an unconfirmed difference neither pays nor slashes, everything else is as if not drawn."""
        case.seal = None
        if case.finding is not None:
            return self.decide(case, "missing", "unconfirmed", now)
        case.code = code
        if case.reveal is None:
            return self._ask_reveal(case, now)
        return self.decide(case, "accept", code, now)

    def _ask_reveal(self, case: Case, now: Micros) -> list[Effect]:
        case.state = Revealing(Micros(now + REVEAL_TIMEOUT), now)
        return [Send(case.provider, RevealRequest(*case.place)), Wake(next_look(case))]

    def revealed(self, sender: PeerId, message: Reveal, now: Micros) -> list[Effect]:
        case = self._bench.cases.get((message.escrow, message.chunk, message.epoch))
        if case is None:
            return []
        if sender != case.provider:
            raise RemoteViolation(sender, "an opening from a peer that did not claim", code="not_the_provider")
        if case.reveal is not None:
            return []
        if not isinstance(case.state, Revealing):
            raise Refused(
                "the claim is to be opened only when asked for", code="too_early", fix="Wait for the request."
            )
        case.reveal = message
        if operations.seal(case.provider, message.salt, Digest(message.output)) != case.sealed:
            return self.decide(case, "wrong", "seal_mismatch", now)
        if case.facts is None or message.output_bytes > case.facts.disk_bytes:
            return self.decide(case, "missing", "output_too_large", now)
        case.state = Fetching(1, None)
        return [*self._fetch_output(case), Wake(next_look(case))]

    def _fetch_output(self, case: Case) -> list[Effect]:
        """From everybody who may have it: equal outputs of several claims are one blob."""
        assert case.reveal is not None
        digest = case.reveal.output
        same = [other for other in self._bench.cases.values() if other.reveal and other.reveal.output == digest]
        holders = [
            peer for other in same if isinstance(other.state, Fetching) for peer in (other.provider, other.steward)
        ]
        sources = tuple(dict.fromkeys((case.provider, *holders)))
        return [Compute(Fetch(Digest(digest), case.reveal.output_bytes + OUTPUT_MARGIN, sources, is_output=True))]

    def fetch_spec(self, case: Case) -> Effect:
        return Compute(Fetch(case.spec, SPEC_BYTES_MAX, (case.steward, case.provider)))

    def delivered(self, case: Case, now: Micros) -> list[Effect]:
        """The output is here and anybody can have it from us."""
        if case.seal is None:
            return self.decide(case, "accept", case.code, now)
        return self._ask_open(case, now)

    def fetch_failed(self, digest: Digest, now: Micros) -> list[Effect]:
        effects: list[Effect] = []
        for case in list(self._bench.cases.values()):
            state = case.state
            if (
                not isinstance(state, Fetching)
                or state.again is not None
                or case.reveal is None
                or case.reveal.output != digest
            ):
                continue
            if state.tries >= FETCH_TRIES:
                effects += self.decide(case, "missing", "output_unavailable", now)
            else:
                case.state = Fetching(state.tries, Micros(now + FETCH_AGAIN))
                effects.append(Wake(next_look(case)))
        return effects

    def late(self, case: Case, now: Micros) -> list[Effect]:
        if next_look(case) > now:
            return []
        match case.state:
            case Gathering(until=until):
                if now >= until:
                    return self.decide(case, "missing", "inputs_missing", now)
                case.state = Gathering(until, now)
                return [self.fetch_spec(case)]
            case Auditing() | Opening() if now >= case.due - VERDICT_MARGIN:
                return self._audit_impossible(case, "audit_late", now)
            case Auditing() | Opening():
                return self._auditor_failed(case, now)
            case Revealing(until=until):
                if now >= until:
                    return self.decide(case, "missing", "not_revealed", now)
                case.state = Revealing(until, now)
                return [Send(case.provider, RevealRequest(*case.place))]
            case Fetching(tries=tries, again=again):
                if again is None or now < again:
                    return self.decide(case, "missing", "output_unavailable", now)
                case.state = Fetching(tries + 1, None)
                return self._fetch_output(case)
            case Decided(verdict=verdict):
                case.state = Decided(verdict, now)
                return [Send(peer, Submit((verdict,))) for peer in self._bench.validators()]

    def decide(
        self, case: Case, outcome: Found, code: str, now: Micros, audit: tuple[PeerId, Digest] | None = None
    ) -> list[Effect]:
        first = self._bench.validators()[0]
        verdict = verdict_of(case, first, outcome, code, audit)
        signed = operations.signed_op(self._bench.chain, verdict, self._bench.identity)
        case.state = Decided(signed, now)
        said = Emit("verdict", self._fields(case, PeerId(verdict.auditor)) | {"outcome": outcome, "code": code})
        return [*(Send(peer, Submit((signed,))) for peer in self._bench.validators()), said, Wake(next_look(case))]

    def _fields(self, case: Case, auditor: PeerId) -> dict[str, str | int]:
        escrow, chunk, epoch = case.place
        return {
            "escrow": escrow.hex(), "chunk": chunk, "epoch": epoch, "provider": peer_text(case.provider),
            "auditor": peer_text(auditor),
        }  # fmt: skip


def next_look(case: Case) -> Micros:
    """When this case needs a look if nothing comes in."""
    end = Micros(case.due - VERDICT_MARGIN)
    match case.state:
        case Gathering(until=until, asked=asked) | Revealing(until=until, asked=asked):
            return Micros(min(until, asked + ASK_AGAIN))
        case Auditing(until=until) | Opening(until=until):
            return until
        case Fetching(again=again):
            return end if again is None else again
        case Decided(sent=sent):
            return Micros(sent + ASK_AGAIN)
