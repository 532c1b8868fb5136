"""Claims with units under any behaviour of provider and auditors: there is a verdict, and it is just."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.identity import Identity
from protocol.jobspec import ZERO_DIGEST
from protocol.messages import AuditRequest
from protocol.operations import Verdict
from protocol.proof import Numeric
from simulations.units import EXACT, Conduct
from tests.verifier.court import ME, PROVIDER, STRANGER
from tests.verifier.unit_court import AUDITORS, CHEAPER, NOISE, UnitCourt, noisy, skipping, unit_job
from verifier.deadlines import OPEN_TIMEOUT, REVEAL_TIMEOUT, UNITS_TIMEOUT

COUNT = 5
HONEST, LIES, BREAKS, SILENT = "honest", "lies", "breaks", "silent"


@dataclass(frozen=True)
class Plan:
    """Who does what."""

    numeric: Numeric
    auditors: int
    skipped: frozenset[int]
    cheaper: bool
    unfolds: bool
    opens: bool
    conducts: tuple[str, ...]
    """Of executions, in turn."""

    @property
    def is_honest(self) -> bool:
        return not self.skipped and not (self.cheaper and self.numeric == "D3")

    def provider(self) -> Conduct:
        """In D3 a few units may escape the draw, so all are left out there."""
        if self.numeric == "D1":
            return skipping(*self.skipped)
        if self.cheaper:
            return noisy(CHEAPER)
        return Conduct(skips=lambda index: bool(self.skipped), err=noisy(NOISE).err)


words = st.sampled_from((HONEST, HONEST, HONEST, LIES, BREAKS, SILENT))
plans = st.builds(
    Plan,
    numeric=st.sampled_from(("D1", "D3")),
    auditors=st.integers(1, 2),
    skipped=st.sampled_from((frozenset[int](), frozenset({1}), frozenset(range(COUNT)))),
    cheaper=st.booleans(),
    unfolds=st.sampled_from((True, True, True, False)),
    opens=st.sampled_from((True, True, True, False)),
    conducts=st.lists(st.sampled_from((HONEST, HONEST, HONEST, LIES, BREAKS, SILENT)), min_size=20, max_size=20).map(
        tuple
    ),
)


def act_out(plan: Plan) -> tuple[Verdict, list[str]]:
    """To the verdict. Returns it and what the auditors did who were asked, in turn."""
    court, did = played(plan)
    return court.verdict(), did


def played(plan: Plan) -> tuple[UnitCourt, list[str]]:
    """The same, and the court in which it was signed."""
    spec = unit_job(plan.numeric, count=COUNT, samples=COUNT, auditors=plan.auditors)
    court = UnitCourt(spec, plan.provider(), (*AUDITORS, STRANGER)).begin()
    turns, did = iter(plan.conducts), list[str]()
    asked: dict[bytes, tuple[Identity, AuditRequest, str]] = {}
    for _ in range(200):
        for auditor, request in court.requests():
            asked[auditor.peer] = (auditor, request, next(turns))
            did.append(asked[auditor.peer][2])
        match court.waits_for:
            case "Unfolding" if plan.unfolds:
                court.hear(PROVIDER, court.answer())
            case "Unfolding":
                court.wait(UNITS_TIMEOUT)
            case "Revealing" if plan.opens:
                court.show()
            case "Revealing":
                court.wait(REVEAL_TIMEOUT)
            case "Auditing":
                seal(court, asked)
            case "Checking":
                look(court, asked)
            case "Opening":
                uncover(court, asked)
            case "Decided":
                return court, did
            case other:
                raise AssertionError(other)
    raise AssertionError("no verdict")


def seal(court: UnitCourt, asked: dict[bytes, tuple[Identity, AuditRequest, str]]) -> None:
    """The first auditor that is waited for seals, or its time runs out."""
    state = court.case.state
    peer = state.auditors[0]  # type: ignore[union-attr]
    auditor, request, conduct = asked[peer]
    if conduct == SILENT:
        court.wait(int(state.until) - int(court.now))  # type: ignore[union-attr]
    elif conduct == BREAKS:
        court.commit(ZERO_DIGEST, auditor)
    else:
        court.seal(auditor, request, skipping(*range(COUNT)) if conduct == LIES else EXACT)


def look(court: UnitCourt, asked: dict[bytes, tuple[Identity, AuditRequest, str]]) -> None:
    """The one that is to make the output again seals: an invention of its own, nothing, or what came out."""
    state = court.case.state
    auditor, _, conduct = asked[state.auditors[0]]  # type: ignore[union-attr]
    made = {LIES: court.spec, BREAKS: ZERO_DIGEST}.get(conduct, court.made.output)
    if conduct == SILENT:
        court.wait(int(state.until) - int(court.now))  # type: ignore[union-attr]
        return
    court.commit(made, auditor)
    if conduct != SILENT:
        court.open(made, auditor, "sandbox: it did not start" if conduct == BREAKS else "ok")


def uncover(court: UnitCourt, asked: dict[bytes, tuple[Identity, AuditRequest, str]]) -> None:
    auditor, _, conduct = asked[court.case.state.auditor]  # type: ignore[union-attr]
    if conduct == SILENT:
        court.wait(OPEN_TIMEOUT)
    elif conduct == BREAKS:
        court.open(ZERO_DIGEST, auditor, "sandbox: it did not start")
    else:
        court.uncover(auditor)


@given(plan=plans)
@settings(deadline=None, max_examples=150)
def test_there_is_always_a_just_verdict(plan: Plan) -> None:
    verdict, did = act_out(plan)
    honest, liars = did.count(HONEST), did.count(LIES)
    if not plan.unfolds:
        assert (verdict.outcome, verdict.code) == ("withheld", "withheld")
        return
    if not plan.opens:
        assert verdict.outcome == "missing"
        return
    if verdict.outcome in ("fraud", "rejected"):
        assert not plan.is_honest or liars >= 2, "nobody is condemned by one"
        assert verdict.outcome == ("fraud" if plan.numeric == "D1" else "rejected")
    if verdict.outcome == "accept" and verdict.is_audited and not plan.is_honest:
        assert liars >= plan.auditors, "a cheat stands only on words that were bought"
    if verdict.faulted:
        assert plan.numeric == "D1" and honest + liars >= 3, "outweighed, not contradicted by one"
    if set(did) == {HONEST} and len(did) >= plan.auditors:
        assert (verdict.outcome == "accept") == plan.is_honest
        assert verdict.is_audited


def test_the_judge_itself_is_the_last_who_is_asked() -> None:
    court = UnitCourt(auditors=()).begin().unfold()
    assert court.requests()[0][0] == ME
