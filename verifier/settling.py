"""What several executions of one claim add up to: it stands, it is refuted, or the job itself cannot be reproduced.

A difference must show twice before it condemns anybody, in bitwise classes from two who agree with each other. One who
contradicts is outweighed by one more who agrees than was wanted, and then named. Pure. Spec: specs/11-verification.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from protocol.units import Digest, PeerId

DISTINCT_MAX: Final = 3
"""Different results of auditors, none found twice, after which the job is at fault: one friend's invention must not
pass a cheat off as that."""

Grade = Literal["same", "near", "other"]
"""Against the claim: agrees, is unsure (between the two cut-offs of a score), contradicts."""

End = Literal["stands", "refuted", "irreproducible"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one auditor's execution says about a claim."""

    auditor: PeerId
    output: Digest
    """What it sealed: an output, or its `Results`."""
    grade: Grade
    said: bytes = b""
    """What it found, without what may differ between honest machines: two auditors agree when these are equal."""
    code: str = ""
    """Why it contradicts."""
    score: int | None = None
    """Of a D3 comparison, ppm."""
    units: tuple[int, ...] = ()
    """Units that it finds bad, as far as that is known."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of a hearing."""

    end: End
    by: Finding
    """The execution that decided."""
    faulted: tuple[PeerId, ...] = ()
    """Auditors whose sealed result the others refute, sorted."""
    agreed: tuple[PeerId, ...] = ()
    """Who decided it with `by`, sorted."""
    units: tuple[int, ...] = ()
    """Units that all of them find bad; where they have none in common, those of `by`."""


def settle(findings: Sequence[Finding], wanted: int, is_exact: bool) -> Settlement | None:
    """What the findings, in turn, amount to; None: another execution is needed. `wanted`: auditors who must agree."""
    if not findings:
        return None
    others = [finding for finding in findings if finding.grade == "other"]
    if condemned := _condemned(findings, others, is_exact):
        return condemned
    fine = [finding for finding in findings if finding.grade != "other"]
    unsure = any(finding.grade == "near" for finding in fine)
    if len(fine) >= max(wanted + len(others), 2 if unsure else 1):
        return _decided("stands", fine, _refuted(others, fine) if is_exact else ())
    if len(others) >= DISTINCT_MAX:
        return Settlement("irreproducible", findings[-1])
    return None


def lacking(findings: Sequence[Finding], wanted: int) -> int:
    """How many more executions to ask for at once where nothing is settled: all at the start, then one by one."""
    return max(1, wanted - len(findings))


def _condemned(findings: Sequence[Finding], others: Sequence[Finding], is_exact: bool) -> Settlement | None:
    if not is_exact:
        return _decided("refuted", others, ()) if len(others) > 1 else None
    said, count = Counter(finding.said for finding in others).most_common(1)[0] if others else (b"", 0)
    if count < 2:
        return None
    agreed = [finding for finding in others if finding.said == said]
    rest = [finding for finding in findings if finding.grade != "other" or finding.said != said]
    return _decided("refuted", agreed, _refuted(rest, agreed))


def joined(settlements: Sequence[Settlement]) -> Settlement:
    """Hearings about one claim that all uphold it, as one: the first one's word decides."""
    first = settlements[0]
    faulted = {peer for one in settlements for peer in one.faulted}
    agreed = {peer for one in settlements for peer in (one.by.auditor, *one.agreed)}
    others = agreed - faulted - {first.by.auditor}
    return Settlement(first.end, first.by, tuple(sorted(faulted)), tuple(sorted(others)))


def _decided(end: End, winners: Sequence[Finding], faulted: tuple[PeerId, ...]) -> Settlement:
    by = winners[-1]
    said = [set(finding.units) for finding in winners if finding.units]
    shared = set.intersection(*said) if said else set()
    others = {finding.auditor for finding in winners} - {by.auditor}
    return Settlement(end, by, faulted, tuple(sorted(others)), tuple(sorted(shared or by.units)))


def _refuted(losers: Sequence[Finding], winners: Sequence[Finding]) -> tuple[PeerId, ...]:
    """Who said otherwise. Nobody refutes itself: where one peer alone can audit, it is asked twice."""
    right = {finding.auditor for finding in winners}
    return tuple(sorted({finding.auditor for finding in losers} - right))
