"""An auditor's replay of units beside the claim: fetched, compared by hashes, and in D3 by the judge's own node.

What is found goes into the hearing (`verifier.audits`). Spec: specs/11-verification.md.
"""

from __future__ import annotations

from msgspec.structs import replace

from protocol.completions import Scored
from protocol.effects import Compute, Effect, Emit, Score
from protocol.errors import Refused, RemoteViolation
from protocol.units import Micros
from verifier import replays, score
from verifier.audits import Audits, hearing_of
from verifier.bench import Bench
from verifier.case import Case, Charge, Scoring
from verifier.settling import Finding, Grade


class Comparisons:
    """Every comparison of one judge."""

    def __init__(self, bench: Bench, audits: Audits) -> None:
        self._bench = bench
        self._audits = audits

    def fetched(self, case: Case, now: Micros) -> list[Effect]:
        """The results of a replay are here."""
        state, facts = case.state, case.facts
        assert isinstance(state, Scoring)
        assert facts is not None
        assert case.unfolded is not None
        assert case.reveal is not None
        leaves = case.unfolded.leaves
        data = self._bench.read_blob(state.output)
        try:
            results = replays.read(data, state.auditor, case.unfolded.indices)
            examined = replays.examine(facts, leaves, case.reveal.output, results)
        except (RemoteViolation, Refused) as error:
            return self._audits.failed(case, (state.auditor,), error.code, now)
        if case.telling is not None:
            case.telling = replace(case.telling, results=data)
        if not examined.is_open:
            grade: Grade = "other" if examined.code else "same"
            finding = Finding(state.auditor, state.output, grade, examined.said, examined.code, units=examined.bad)
            return self._audits.found(case, finding, now)
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
        bad = tuple(unit for unit in scored.units if unit in case.unfolded.indices)
        if scored.fault == "provider" and scored.code == "withheld":
            return self._bench.decide(case, "withheld", "withheld", now)
        if scored.fault == "provider":
            return self._audits.prefixes.accuse(case, Charge("rejected", scored.code[:128], units=bad), now)
        if scored.fault == "auditor":
            return self._audits.failed(case, (state.auditor,), scored.code, now)
        grade: Grade = "same" if scored.score >= score.ACCEPT else "near" if scored.score >= score.SECOND else "other"
        if case.facts.is_exact and grade == "near":
            grade = "other"
        said = replays.examine(case.facts, case.unfolded.leaves, case.reveal.output, state.results).said
        code = "unit_differs" if case.facts.is_exact else "out_of_tolerance"
        points = None if case.facts.is_exact else scored.score
        told = Emit("scored", self._bench.fields(case, state.auditor) | {"score": scored.score, "code": scored.code})
        finding = Finding(state.auditor, state.output, grade, said, code, points, bad)
        return [told, *self._drifted(case, scored, grade), *self._audits.found(case, finding, now)]

    def _drifted(self, case: Case, scored: Scored, grade: Grade) -> list[Effect]:
        """Small errors go on the provider's account, once per unit: what several auditors say of one unit is one. Not
        where some of the units may be another's."""
        assert case.facts is not None
        if grade != "same" or case.inherited or any(finding.score is not None for finding in hearing_of(case).findings):
            return []
        tolerance = case.facts.tolerance
        found = self._bench.drifts.note(case.provider, tolerance, scored.errors)
        if found is None:
            return []
        named = self._bench.named(case) | {"profile": tolerance.profile, "units": found.units, "detail": found.detail}
        return [Emit("drift", named)]
