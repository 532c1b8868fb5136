"""The executions of a claim by others: asked for blind, sealed, opened one after the other.

Of the work itself when the claim is drawn, of what makes output files of its last state where the work does not show
that, and of the job's own check over every result. An auditor's failure never condemns, and a difference must show
twice. What was found is compared in `verifier.comparisons`. Spec: specs/11-verification.md.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import UNSET

from protocol import operations
from protocol.dossier import HEARD_MAX, Heard
from protocol.effects import Compute, Effect, Emit, Fetch, Send, Wake
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.messages import AuditCommit, AuditOpenRequest, AuditRequest, AuditReveal
from protocol.proof import Leaf
from protocol.units import Digest, Micros, PeerId
from verifier import challenge, openings, settling
from verifier.bench import Bench
from verifier.case import Auditing, Case, Checking, Hearing, Opening, Purpose, Scoring
from verifier.charges import accused, is_unfinished, upheld_as, wanted
from verifier.deadlines import (
    AUDIT_FAILURES_MAX,
    AUDIT_MARGIN,
    AUDIT_SHARE,
    OPEN_TIMEOUT,
    RESULTS_BYTES_MAX,
    SCORE_TIMEOUT,
    UNREACHABLE_MAX,
    UNREACHABLE_MIN,
    last_look,
    next_look,
)
from verifier.prefixes import Prefixes
from verifier.settling import Finding, Settlement

UNFIT: Final = frozenset({"exit", "timeout", "memory", "disk"})
"""Ends of a check, or of a replay from an opened state, that speak against the claim: states that break the job's own
program, and results that cannot be checked within its limits, are none."""

BLAMES: Final = "inputs"
"""How the reason of an auditor begins who could not get what the provider owes it."""

_UNIT: Final = re.compile(r"\bunit (\d{1,4})\b")


class Audits:
    """Every hearing of one judge."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.prefixes = Prefixes(bench)

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def begin(self, case: Case, purpose: Purpose, now: Micros) -> list[Effect]:
        """Have a claim executed again, its revealed output made again, or that output checked."""
        assert case.facts is not None
        case.hearing = Hearing(purpose, wanted(case.facts, case.seed) if purpose == "work" else 1)
        return self.proceed(case, now)

    def proceed(self, case: Case, now: Micros) -> list[Effect]:
        """The next step of a hearing: settled, more auditors, the provider's opening, or the next auditor's."""
        hearing, settled = hearing_of(case), self._settled(case)
        if settled is not None:
            return self._conclude(case, settled, now)
        waiting = case.state.auditors if isinstance(case.state, Auditing | Checking) else ()
        until = case.state.until if waiting and isinstance(case.state, Auditing | Checking) else now
        lack = settling.lacking(hearing.findings, hearing.wanted) - len(hearing.seals) - len(waiting)
        drawn = self._draw(case, lack, now)
        if len(drawn) < lack:
            hearing.wanted = max(1, len(hearing.findings) + len(hearing.seals) + len(waiting) + len(drawn))
        if not drawn and not waiting and not hearing.seals:
            settled = self._settled(case)
            if settled is not None:
                return self._conclude(case, settled, now)
            return self.give_up(case, "audit_failed" if hearing.failures else "no_auditor", now)
        asked = [effect for auditor in drawn for effect in self._ask(case, auditor)]
        if waiting or drawn:
            until = max([until, *(Micros(now + self._limit(case, auditor, now)) for auditor in drawn)])
            kind = Auditing if hearing.purpose == "work" else Checking
            case.state = kind((*waiting, *drawn), until)
            return [*asked, Wake(next_look(case))]
        return self.open(case, now)

    def _settled(self, case: Case) -> Settlement | None:
        hearing = hearing_of(case)
        assert case.facts is not None
        is_exact = case.facts.is_exact or hearing.purpose != "work"
        return settling.settle(hearing.findings, hearing.wanted, is_exact)

    def open(self, case: Case, now: Micros) -> list[Effect]:
        """Everybody who was asked has sealed: first the provider opens, then the auditors in turn."""
        if case.reveal is None:
            return self._bench.ask_reveal(case, now)
        hearing = hearing_of(case)
        auditor = next(peer for peer in hearing.tried if peer in hearing.seals)
        case.state = Opening(auditor, Micros(now + OPEN_TIMEOUT))
        return [Send(auditor, AuditOpenRequest(*case.place)), Wake(next_look(case))]

    def _draw(self, case: Case, lack: int, now: Micros) -> list[PeerId]:
        """That many auditors at most. One who was asked before is asked again only where nobody else can be: its word
        must not count twice against another's."""
        hearing, drawn = hearing_of(case), list[PeerId]()
        is_debated = len({finding.auditor for finding in hearing.findings}) > 1
        for _ in range(lack):
            is_fresh = bool(drawn or hearing.seals or is_debated)
            auditor = self._bench.draw(case, hearing, is_fresh, now)
            if auditor is None:
                break
            case.turn += 1
            hearing.tried[auditor] = None
            drawn.append(auditor)
        return drawn

    def _limit(self, case: Case, auditor: PeerId, now: Micros) -> int:
        assert case.facts is not None
        limit = max(0, last_look(case) - now) // AUDIT_SHARE
        if auditor == self._bench.identity.peer:
            return limit
        return min(limit, 2 * case.facts.timeout + AUDIT_MARGIN)

    def _ask(self, case: Case, auditor: PeerId) -> list[Effect]:
        facts, purpose = case.facts, hearing_of(case).purpose
        assert facts is not None
        outputs = self._bench.outputs(case.place[0], case.place[1], facts) or ()
        units: tuple[Leaf, ...] = ()
        if case.unfolded is not None and purpose == "work":
            goes_on = challenge.goes_on(facts.kind, facts.numeric)
            units = openings.blind(case.unfolded.leaves, case.unfolded.indices, goes_on)
        request = AuditRequest(
            *case.place,
            spec=facts.digest,
            spec_size=facts.size,
            outputs=outputs,
            sources=(case.steward, case.provider),
            renter=case.renter,
            units=units,
            seed=case.seed if units else b"",
            result=case.reveal.output if purpose == "check" and case.reveal is not None else b"",
            last=case.last if purpose == "finish" and case.last is not None else UNSET,
        )
        return [Send(auditor, request), Emit("audit", self._bench.fields(case, auditor))]

    # ── seals and openings ───────────────────────────────────────────────────────────────────────────────────────────
    def committed(self, sender: PeerId, message: AuditCommit, now: Micros) -> list[Effect]:
        """An auditor has sealed what it got."""
        case = self._bench.cases.get((message.escrow, message.chunk, message.epoch))
        if case is None:
            return []
        hearing, sealed = case.hearing, Digest(message.sealed)
        if hearing is None or sender not in hearing.tried:
            raise Refused(
                "a seal from a peer that was not drawn",
                code="not_the_auditor",
                fix="Nothing: whoever was drawn before this validator was started again will be asked again.",
            )
        if hearing.seals.get(sender, sealed) != sealed:
            raise RemoteViolation(sender, "two different seals for one audit", code="equivocation")
        state = case.state
        if not isinstance(state, Auditing | Checking) or sender not in state.auditors or sealed in case.heard:
            return []
        hearing.seals[sender] = sealed
        case.heard.add(sealed)
        case.state = type(state)(tuple(peer for peer in state.auditors if peer != sender), state.until)
        return self.proceed(case, now)

    def opened(self, sender: PeerId, message: AuditReveal, now: Micros) -> list[Effect]:
        """An auditor shows what it sealed."""
        case = self._bench.cases.get((message.escrow, message.chunk, message.epoch))
        if case is None or not isinstance(case.state, Opening) or case.state.auditor != sender:
            return []
        hearing, output = hearing_of(case), Digest(message.output)
        if case.reveal is None or sender not in hearing.seals:
            raise LocalError("an audit is being opened before the claim", code="bad_state")
        sealed = hearing.seals.pop(sender)
        if operations.seal(sender, message.salt, output) != sealed:
            return self.failed(case, (sender,), "seal_mismatch", now)
        case.telling = Heard(sender, hearing.purpose, sealed, message.salt, output, message.reason)
        if hearing.purpose == "check":
            return self._checked(case, sender, output, message.reason, now)
        if case.unfolded is not None and message.reason.partition(":")[0] in UNFIT:
            units = _broken(message.reason) if hearing.purpose == "work" else ()
            return self.found(case, Finding(sender, output, "other", b"unfit", "unit_unreplayable", units=units), now)
        if message.reason != "ok":
            return self.failed(case, (sender,), message.reason, now)
        if case.unfolded is not None and hearing.purpose == "work":
            case.state = Scoring(sender, output, Micros(now + SCORE_TIMEOUT))
            return [Compute(Fetch(output, RESULTS_BYTES_MAX, (sender,))), Wake(next_look(case))]
        differs = "hash_differs" if hearing.purpose == "work" else "output_differs"
        code = "" if output == case.reveal.output else differs
        return self.found(case, Finding(sender, output, "other" if code else "same", output, code), now)

    def _checked(self, case: Case, auditor: PeerId, output: Digest, reason: str, now: Micros) -> list[Effect]:
        assert case.reveal is not None
        end = reason.partition(":")[0]
        if reason == "ok" and output == case.reveal.output:
            return self.found(case, Finding(auditor, output, "same"), now)
        if end not in UNFIT:
            return self.failed(case, (auditor,), "other_output" if reason == "ok" else reason, now)
        code = "check_failed" if end == "exit" else "check_unfinished"
        return self.found(case, Finding(auditor, output, "other", b"unfit", code), now)

    # ── what was found ───────────────────────────────────────────────────────────────────────────────────────────────
    def found(self, case: Case, finding: Finding, now: Micros) -> list[Effect]:
        """One more execution counts."""
        hearing_of(case).findings.append(finding)
        if case.telling is not None and len(case.heard_of) < HEARD_MAX:
            case.heard_of.append(case.telling)
        case.telling = None
        self._bench.no_shows.forgive(finding.auditor)
        return self.proceed(case, now)

    # ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def failed(self, case: Case, auditors: tuple[PeerId, ...], why: str, now: Micros) -> list[Effect]:
        """Auditors got nothing, or nothing that counts: others, unless that happened too often."""
        hearing = hearing_of(case)
        said: list[Effect] = []
        for auditor in auditors:
            hearing.failures[auditor] = hearing.failures.get(auditor, 0) + 1
            case.heard.discard(hearing.seals.pop(auditor, b""))
            if why.startswith(BLAMES):
                hearing.unreachable += 1
            else:
                hearing.mute.add(auditor)
            said.append(Emit("auditor_fault", self._bench.fields(case, auditor) | {"code": why[:128]}))
        left: tuple[PeerId, ...] = ()
        if isinstance(case.state, Auditing | Checking):
            left = tuple(peer for peer in case.state.auditors if peer not in auditors)
            case.state = type(case.state)(left, case.state.until)
        failures = sum(hearing.failures.values())
        if failures < AUDIT_FAILURES_MAX + hearing.wanted - 1 and hearing.unreachable < UNREACHABLE_MAX:
            return [*said, *self.proceed(case, now)]
        hearing.wanted = len(hearing.findings) + len(hearing.seals) + len(left)
        is_over = not hearing.seals and not left and self._settled(case) is None
        if is_over or any(finding.grade == "other" for finding in hearing.findings):
            return [*said, *self.give_up(case, "audit_failed", now)]
        return [*said, *self.proceed(case, now)]

    def give_up(self, case: Case, code: str, now: Micros) -> list[Effect]:
        """Go on without: an unconfirmed difference neither pays nor slashes, everything else is as if not drawn."""
        hearing, case.hearing = hearing_of(case), None
        if hearing.purpose != "check" and case.unfolded is not None and _is_withheld(hearing):
            return self._bench.decide(case, "withheld", "withheld", now)
        if any(finding.grade == "other" for finding in hearing.findings):
            return self._bench.decide(case, "missing", "unconfirmed", now)
        if hearing.purpose == "check":
            return self._accept(case, now)
        case.code, case.upheld = code, None
        if case.reveal is None:
            return self._bench.ask_reveal(case, now)
        return self.unheard(case, now)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def unheard(self, case: Case, now: Micros) -> list[Effect]:
        """The output is here and nobody's execution speaks against it: the job's own check, if it has one."""
        assert case.facts is not None
        if case.is_extra:  # What confirms the claim is signed as by judges who did not look: else there is no quorum.
            case.upheld, case.finished, case.code, case.turn = None, None, "not_sampled", 0
        if case.facts.is_checked(case.place[1]):
            return self.begin(case, "check", now)
        return self._accept(case, now)

    def _conclude(self, case: Case, settled: Settlement, now: Micros) -> list[Effect]:
        hearing, case.hearing = hearing_of(case), None
        self._bench.no_shows.note(hearing.mute - {finding.auditor for finding in hearing.findings}, now)
        if settled.end == "refuted":
            return self.prefixes.accuse(case, accused(case, hearing, settled), now)
        if hearing.purpose == "check":
            return self._accept(case, now, settled)
        if settled.end == "irreproducible":
            case.code, case.upheld = "not_reproducible", None
        elif hearing.purpose == "finish":
            case.finished = settled
        else:
            case.upheld = settled
            if is_unfinished(case):
                return self.begin(case, "finish", now)
        return self.unheard(case, now)

    def _accept(self, case: Case, now: Micros, checked: Settlement | None = None) -> list[Effect]:
        finished = case.finished if case.upheld is not None else None
        stands = [one for one in (case.upheld, finished, checked) if one is not None]
        if not stands:
            return self._bench.decide(case, "accept", case.code, now)
        code = upheld_as(case, case.upheld) if case.upheld is not None else "check_passed"
        return self._bench.decide(case, "accept", code, now, settling.joined(stands))


def hearing_of(case: Case) -> Hearing:
    """The hearing under way."""
    if case.hearing is None:
        raise LocalError("a claim that nobody executes again has no hearing", code="bad_state")
    return case.hearing


def _is_withheld(hearing: Hearing) -> bool:
    """Whether most of those who failed say that the provider gave them nothing."""
    failures = sum(hearing.failures.values())
    return hearing.unreachable >= UNREACHABLE_MIN and 2 * hearing.unreachable > failures


def _broken(reason: str) -> tuple[int, ...]:
    """The unit at which a replay ended, where the auditor's node says it."""
    found = _UNIT.search(reason)
    return (int(found.group(1)),) if found is not None else ()
