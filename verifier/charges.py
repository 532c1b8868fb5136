"""What the end of a hearing makes of a claim. Only what is proven bit by bit costs the whole stake.

Pure. Spec: specs/11-verification.md.
"""

from __future__ import annotations

from typing import Literal

from protocol.operations import Found
from verifier import challenge
from verifier.canaries import is_forced
from verifier.case import Case, Charge, Hearing
from verifier.settling import Settlement
from verifier.views import Facts


def wanted(facts: Facts, seed: bytes) -> int:
    """Auditors who must agree. A few times, which the beacon chooses, one more: an auditor who says what its friend
    the provider told it, and has computed nothing, then stands against two where the claim is wrong."""
    return facts.auditors + (facts.is_exact and is_forced(seed))


def is_unfinished(case: Case) -> bool:
    """Whether the replay of units does not say that the output files are made of the last state: where no auditor gets
    that very state, or none was asked for the last unit (a job with few samples). Requests of inference do not follow
    from each other, and are delivered one by one."""
    facts = case.facts
    if facts is None or case.unfolded is None or facts.kind in challenge.INDEPENDENT:
        return False
    is_last_replayed = facts.units - 1 in case.unfolded.indices
    return not facts.is_exact or facts.kind in challenge.PARTIAL or not is_last_replayed


def upheld_as(case: Case, settled: Settlement) -> Literal["hash_equal", "units_equal", "within_tolerance"]:
    """The code of an accepted claim that others executed."""
    if case.unfolded is None:
        return "hash_equal"
    return "units_equal" if settled.by.score is None else "within_tolerance"


def accused(case: Case, hearing: Hearing, settled: Settlement) -> Charge:
    """What a claim is that two executions refute."""
    outcome, code = _blame(case, hearing, settled)
    asked = case.unfolded.indices if case.unfolded is not None and hearing.purpose == "work" else ()
    is_known = set(settled.units) <= set(asked)  # An auditor may say anything of where its replay broke.
    return Charge(outcome, code, settled, settled.units if is_known else ())


def _blame(case: Case, hearing: Hearing, settled: Settlement) -> tuple[Found, str]:
    assert case.facts is not None
    others = [finding for finding in hearing.findings if finding.grade == "other"]
    codes = {finding.code for finding in others}
    proven: Found = "fraud" if case.is_traced else "wrong"
    if hearing.purpose == "check":
        # Whose units are bad, its own or inherited ones, no check of the whole result says.
        failed: Found = "rejected" if case.inherited else proven
        return (failed, "check_failed") if codes == {"check_failed"} else ("rejected", "check_unfinished")
    if settled.by.code == "unit_unreplayable":
        return "rejected", "unit_unreplayable"
    if hearing.purpose == "finish":
        return (proven if case.facts.is_exact else "rejected"), settled.by.code
    if case.facts.is_exact:
        return proven, settled.by.code
    if codes == {"bad_schedule"} and len({finding.said for finding in others}) == 1:
        return "fraud", "bad_schedule"
    return "rejected", "out_of_tolerance"
