"""The executions of a claim by others: asked for blind, sealed, opened one after the other, compared.

Of the work itself when the claim is drawn, and of the job's own check over every result. An auditor's failure never
condemns, and a difference must show twice. Spec: specs/11-verification.md.
"""

from __future__ import annotations

from typing import Literal

from protocol import operations
from protocol.completions import Scored
from protocol.effects import Compute, Effect, Emit, Fetch, Score, Send, Wake
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.messages import AuditCommit, AuditOpenRequest, AuditRequest, AuditReveal
from protocol.operations import Found
from protocol.proof import Leaf
from protocol.units import Digest, Micros, PeerId
from verifier import challenge, openings, replays, score, settling
from verifier.bench import Bench
from verifier.canaries import is_forced
from verifier.case import Auditing, Case, Checking, Hearing, Opening, Scoring
from verifier.deadlines import (
    AUDIT_FAILURES_MAX,
    AUDIT_MARGIN,
    AUDIT_SHARE,
    OPEN_TIMEOUT,
    RESULTS_BYTES_MAX,
    SCORE_TIMEOUT,
    last_look,
    next_look,
)
from verifier.settling import Finding, Grade, Settlement
from verifier.views import Facts

UNFIT: frozenset[str] = frozenset({"exit", "timeout", "memory", "disk"})
"""Ends of a check, or of a replay from an opened state, that speak against the claim: states that break the job's own
program, and results that cannot be checked within its limits, are none."""

BLAMES = "inputs"
"""How the reason of an auditor begins who could not get what the provider owes it."""


class Audits:
    """Every hearing of one judge."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def begin(self, case: Case, purpose: Literal["work", "check"], now: Micros) -> list[Effect]:
        """Have a claim executed again, or its revealed output checked."""
        assert case.facts is not None
        case.hearing = Hearing(purpose, wanted(case.facts, case.seed) if purpose == "work" else 1)
        return self.proceed(case, now)

    def proceed(self, case: Case, now: Micros) -> list[Effect]:
        """The next step of a hearing: settled, more auditors, the provider's opening, or the next auditor's."""
        hearing, settled = _hearing(case), self._settled(case)
        if settled is not None:
            return self._conclude(case, settled, now)
        waiting = case.state.auditors if isinstance(case.state, Auditing | Checking) else ()
        until = case.state.until if waiting and isinstance(case.state, Auditing | Checking) else now
        lack = settling.lacking(hearing.findings, hearing.wanted) - len(hearing.seals) - len(waiting)
        drawn = self._draw(case, lack)
        if not drawn and not waiting and not hearing.seals:
            return self.give_up(case, "no_auditor", now)
        if len(drawn) < lack:
            hearing.wanted = max(1, len(hearing.findings) + len(hearing.seals) + len(waiting) + len(drawn))
        asked = [effect for auditor in drawn for effect in self._ask(case, auditor)]
        if waiting or drawn:
            until = max([until, *(Micros(now + self._limit(case, auditor, now)) for auditor in drawn)])
            kind = Auditing if hearing.purpose == "work" else Checking
            case.state = kind((*waiting, *drawn), until)
            return [*asked, Wake(next_look(case))]
        return self.open(case, now)

    def _settled(self, case: Case) -> Settlement | None:
        hearing = _hearing(case)
        assert case.facts is not None
        is_exact = case.facts.is_exact or hearing.purpose == "check"
        return settling.settle(hearing.findings, hearing.wanted, is_exact)

    def open(self, case: Case, now: Micros) -> list[Effect]:
        """Everybody who was asked has sealed: first the provider opens, then the auditors in turn."""
        if case.reveal is None:
            return self._bench.ask_reveal(case, now)
        auditor = next(iter(_hearing(case).seals))
        case.state = Opening(auditor, Micros(now + OPEN_TIMEOUT))
        return [Send(auditor, AuditOpenRequest(*case.place)), Wake(next_look(case))]

    def _draw(self, case: Case, lack: int) -> list[PeerId]:
        """That many auditors at most. One who was asked before is asked again only where nobody else can be: its word
        must not count twice against another's."""
        hearing, drawn = _hearing(case), list[PeerId]()
        is_debated = len({finding.auditor for finding in hearing.findings}) > 1
        for _ in range(lack):
            auditor = self._bench.draw(case, hearing.tried, is_fresh=bool(drawn or hearing.seals or is_debated))
            if auditor is None:
                break
            case.turn += 1
            hearing.tried.add(auditor)
            drawn.append(auditor)
        return drawn

    def _limit(self, case: Case, auditor: PeerId, now: Micros) -> int:
        assert case.facts is not None
        limit = max(0, last_look(case) - now) // AUDIT_SHARE
        if auditor == self._bench.identity.peer:
            return limit
        return min(limit, 2 * case.facts.timeout + AUDIT_MARGIN)

    def _ask(self, case: Case, auditor: PeerId) -> list[Effect]:
        facts, is_check = case.facts, _hearing(case).purpose == "check"
        assert facts is not None
        outputs = self._bench.outputs(case.place[0], case.place[1], facts) or ()
        units: tuple[Leaf, ...] = ()
        if case.unfolded is not None and not is_check:
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
            result=case.reveal.output if is_check and case.reveal is not None else b"",
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
        hearing, output = _hearing(case), Digest(message.output)
        if case.reveal is None or sender not in hearing.seals:
            raise LocalError("an audit is being opened before the claim", code="bad_state")
        if operations.seal(sender, message.salt, output) != hearing.seals.pop(sender):
            return self.failed(case, (sender,), "seal_mismatch", now)
        if hearing.purpose == "check":
            return self._checked(case, sender, output, message.reason, now)
        if case.unfolded is not None and message.reason.partition(":")[0] in UNFIT:
            return self._found(case, Finding(sender, output, "other", b"unfit", "unit_unreplayable"), now)
        if message.reason != "ok":
            return self.failed(case, (sender,), message.reason, now)
        if case.unfolded is not None:
            case.state = Scoring(sender, output, Micros(now + SCORE_TIMEOUT))
            return [Compute(Fetch(output, RESULTS_BYTES_MAX, (sender,))), Wake(next_look(case))]
        code = "" if output == case.reveal.output else "hash_differs"
        return self._found(case, Finding(sender, output, "other" if code else "same", output, code), now)

    def _checked(self, case: Case, auditor: PeerId, output: Digest, reason: str, now: Micros) -> list[Effect]:
        assert case.reveal is not None
        end = reason.partition(":")[0]
        if reason == "ok" and output == case.reveal.output:
            return self._found(case, Finding(auditor, output, "same"), now)
        if end not in UNFIT:
            return self.failed(case, (auditor,), "other_output" if reason == "ok" else reason, now)
        code = "check_failed" if end == "exit" else "check_unfinished"
        return self._found(case, Finding(auditor, output, "other", b"unfit", code), now)

    # ── comparing replays ────────────────────────────────────────────────────────────────────────────────────────────
    def fetched(self, case: Case, now: Micros) -> list[Effect]:
        """The results of a replay are here."""
        state, facts = case.state, case.facts
        assert isinstance(state, Scoring)
        assert facts is not None
        assert case.unfolded is not None
        assert case.reveal is not None
        leaves = case.unfolded.leaves
        try:
            results = replays.read(self._bench.read_blob(state.output), state.auditor, case.unfolded.indices)
            examined = replays.examine(facts, leaves, case.reveal.output, results)
        except (RemoteViolation, Refused) as error:
            return self.failed(case, (state.auditor,), error.code, now)
        if not examined.is_open:
            grade: Grade = "other" if examined.code else "same"
            finding = Finding(state.auditor, state.output, grade, examined.said, examined.code)
            return self._found(case, finding, now)
        escrow, chunk, epoch = case.place
        task = f"score-{escrow.hex()[:16]}-{chunk}-{epoch}-{case.turn}-{state.auditor.hex()[:8]}"
        case.state = Scoring(state.auditor, state.output, state.until, results, task)
        items = replays.score_items(facts, leaves, results)
        return [
            Compute(
                Score(task, facts.kind, facts.tolerance, items, case.provider, state.auditor, self._bench.drifts.secret)
            )
        ]

    def scored(self, scored: Scored, now: Micros) -> list[Effect]:
        """A comparison within a tolerance is done."""
        waiting = (
            (case, case.state) for case in self._bench.cases.values()
            if isinstance(case.state, Scoring) and case.state.task == scored.task
        )  # fmt: skip
        case, state = next(waiting, (None, None))
        if case is None or state is None or state.results is None or not scored.task:
            return []
        assert case.facts is not None
        assert case.unfolded is not None
        assert case.reveal is not None
        if scored.fault == "provider":
            outcome: Found = "withheld" if scored.code == "withheld" else "rejected"
            return self._bench.decide(case, outcome, scored.code[:128], now)
        if scored.fault == "auditor":
            return self.failed(case, (state.auditor,), scored.code, now)
        grade: Grade = "same" if scored.score >= score.ACCEPT else "near" if scored.score >= score.SECOND else "other"
        if case.facts.is_exact and grade == "near":
            grade = "other"
        said = replays.examine(case.facts, case.unfolded.leaves, case.reveal.output, state.results).said
        code = "unit_differs" if case.facts.is_exact else "out_of_tolerance"
        points = None if case.facts.is_exact else scored.score
        told = Emit("scored", self._bench.fields(case, state.auditor) | {"score": scored.score, "code": scored.code})
        return [
            told,
            *self._drifted(case, scored, grade),
            *self._found(case, Finding(state.auditor, state.output, grade, said, code, points), now),
        ]

    def _drifted(self, case: Case, scored: Scored, grade: Grade) -> list[Effect]:
        """Small errors go on the provider's account, once per unit: what several auditors say of one unit is one."""
        assert case.facts is not None
        if grade != "same" or any(finding.score is not None for finding in _hearing(case).findings):
            return []
        tolerance = case.facts.tolerance
        found = self._bench.drifts.note(case.provider, tolerance, scored.errors)
        if found is None:
            return []
        named = self._bench.named(case) | {"profile": tolerance.profile, "units": found.units, "detail": found.detail}
        return [Emit("drift", named)]

    def _found(self, case: Case, finding: Finding, now: Micros) -> list[Effect]:
        _hearing(case).findings.append(finding)
        return self.proceed(case, now)

    # ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def failed(self, case: Case, auditors: tuple[PeerId, ...], why: str, now: Micros) -> list[Effect]:
        """Auditors got nothing, or nothing that counts: others, unless that happened too often."""
        hearing = _hearing(case)
        said: list[Effect] = []
        for auditor in auditors:
            hearing.failures += 1
            hearing.unreachable += why.startswith(BLAMES)
            case.heard.discard(hearing.seals.pop(auditor, b""))
            said.append(Emit("auditor_fault", self._bench.fields(case, auditor) | {"code": why[:128]}))
        left: tuple[PeerId, ...] = ()
        if isinstance(case.state, Auditing | Checking):
            left = tuple(peer for peer in case.state.auditors if peer not in auditors)
            case.state = type(case.state)(left, case.state.until)
        if hearing.failures < AUDIT_FAILURES_MAX + hearing.wanted - 1:
            return [*said, *self.proceed(case, now)]
        hearing.wanted = len(hearing.findings) + len(hearing.seals) + len(left)
        is_over = not hearing.seals and not left and self._settled(case) is None
        if is_over or any(finding.grade == "other" for finding in hearing.findings):
            return [*said, *self.give_up(case, "audit_failed", now)]
        return [*said, *self.proceed(case, now)]

    def give_up(self, case: Case, code: str, now: Micros) -> list[Effect]:
        """Go on without: an unconfirmed difference neither pays nor slashes, everything else is as if not drawn."""
        hearing, case.hearing = _hearing(case), None
        if hearing.purpose == "work" and case.unfolded is not None and hearing.unreachable >= AUDIT_FAILURES_MAX:
            return self._bench.decide(case, "withheld", "withheld", now)
        if any(finding.grade == "other" for finding in hearing.findings):
            return self._bench.decide(case, "missing", "unconfirmed", now)
        if hearing.purpose == "check":
            return self._accept(case, now)
        case.code = code
        if case.reveal is None:
            return self._bench.ask_reveal(case, now)
        return self.unheard(case, now)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def unheard(self, case: Case, now: Micros) -> list[Effect]:
        """The output is here and nobody's execution speaks against it: the job's own check, if it has one."""
        assert case.facts is not None
        if case.facts.is_checked(case.place[1]):
            return self.begin(case, "check", now)
        return self._accept(case, now)

    def _conclude(self, case: Case, settled: Settlement, now: Micros) -> list[Effect]:
        hearing, case.hearing = _hearing(case), None
        if settled.end == "refuted":
            outcome, code = _blame(case, hearing, settled)
            return self._bench.decide(case, outcome, code, now, settled.by, settled.faulted)
        if hearing.purpose == "check":
            return self._accept(case, now, settled)
        if settled.end == "stands":
            case.upheld = settled
        else:
            case.code = "not_reproducible"
        return self.unheard(case, now)

    def _accept(self, case: Case, now: Micros, checked: Settlement | None = None) -> list[Effect]:
        upheld, faulted = case.upheld, checked.faulted if checked is not None else ()
        if upheld is not None:
            named = tuple(sorted({*faulted, *upheld.faulted}))
            return self._bench.decide(case, "accept", _agreed(case, upheld), now, upheld.by, named)
        if checked is not None:
            return self._bench.decide(case, "accept", "check_passed", now, checked.by, faulted)
        return self._bench.decide(case, "accept", case.code, now)


def wanted(facts: Facts, seed: bytes) -> int:
    """Auditors who must agree. A few times, which the beacon chooses, one more: an auditor who says what its friend
    the provider told it, and has computed nothing, then stands against two where the claim is wrong."""
    return facts.auditors + (facts.is_exact and is_forced(seed))


def _hearing(case: Case) -> Hearing:
    if case.hearing is None:
        raise LocalError("a claim that nobody executes again has no hearing", code="bad_state")
    return case.hearing


def _agreed(case: Case, upheld: Settlement) -> str:
    if case.unfolded is None:
        return "hash_equal"
    return "units_equal" if upheld.by.score is None else "within_tolerance"


def _blame(case: Case, hearing: Hearing, settled: Settlement) -> tuple[Found, str]:
    """What a claim is that two executions refute. Only what is proven bit by bit costs the whole stake."""
    assert case.facts is not None
    others = [finding for finding in hearing.findings if finding.grade == "other"]
    codes = {finding.code for finding in others}
    proven: Found = "fraud" if case.is_traced else "wrong"
    if hearing.purpose == "check":
        return (proven, "check_failed") if codes == {"check_failed"} else ("rejected", "check_unfinished")
    if settled.by.code == "unit_unreplayable":
        return "rejected", "unit_unreplayable"
    if case.facts.is_exact:
        return proven, settled.by.code
    if codes == {"bad_schedule"} and len({finding.said for finding in others}) == 1:
        return "fraud", "bad_schedule"
    return "rejected", "out_of_tolerance"
