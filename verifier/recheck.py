"""A decided claim checked again from what was opened of it: by anybody, without executing anything.

The claim and its verdict come from certified blocks. Under the claim's seal must lie the judged output; under its
trace root every leaf; of the beacon must follow the units; each auditor must have opened what it sealed; and what the
auditors got must say what the verdict says. Bits are compared; of a comparison within a tolerance there are digests
only, so that its score rests on the judges who signed it. Pure. Spec: specs/11-verification.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import UnsetType

from protocol import operations, wire
from protocol.dossier import Dossier, Heard
from protocol.errors import Refused, RemoteViolation
from protocol.jobspec import ZERO_DIGEST
from protocol.operations import Claim, Verdict
from protocol.proof import Leaf
from protocol.units import Digest, PeerId
from verifier import challenge, openings, replays, trace
from verifier.audits import UNFIT
from verifier.case import OF_TRACE, Purpose
from verifier.views import Facts

UNITS_FALSE: Final = "units_false"
"""What was opened is not what the verdict says."""

UNITS_GAP: Final = "units_gap"
"""What was opened is not all there."""

FINDINGS: Final[Mapping[str, tuple[tuple[Purpose, ...], tuple[str, ...]]]] = {
    "hash_equal": (("work",), ("accept",)),
    "units_equal": (("work",), ("accept",)),
    "within_tolerance": (("work",), ("accept",)),
    "check_passed": (("check",), ("accept",)),
    "hash_differs": (("work",), ("wrong", "fraud")),
    "unit_differs": (("work",), ("fraud",)),
    "bad_schedule": (("work",), ("fraud",)),
    "output_differs": (("work", "finish"), ("fraud", "rejected")),
    "check_failed": (("check",), ("wrong", "fraud", "rejected")),
    "check_unfinished": (("check",), ("rejected",)),
    "unit_unreplayable": (("work", "finish"), ("rejected",)),
    "out_of_tolerance": (("work",), ("rejected",)),
}
"""By code of a verdict that rests on executions by others: of what, and what it may find."""

CANARY: Final = "wrong_canary"
"""A verdict on an answer that was known: it rests on the opened canary, a blob of the validator (specs/38)."""

_FAILED: Final = ("bad_path", "withheld")
"""What was opened of such a claim is not under its root, or not there: there is nothing to look at."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """What the ledger says of one claim."""

    claim: Claim
    verdict: Verdict
    provider: PeerId
    facts: Facts
    """Of the specification that the escrow names."""
    beacon: bytes

    @property
    def where(self) -> str:
        """For people."""
        return f"chunk {self.claim.chunk} epoch {self.claim.epoch}"

    @property
    def is_traced(self) -> bool:
        """Whether its work is proven unit by unit."""
        return self.facts.units_of(self.claim.chunk) > 0


@dataclass(frozen=True, slots=True)
class Shown:
    """What a dossier has shown."""

    units: tuple[int, ...] = ()
    """Those that the beacon drew, in order."""
    executions: int = 0
    """By auditors, that say what the verdict says."""
    scored: int = 0
    """Of these, compared within a tolerance: the score is the judges' word."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What one auditor's execution says."""

    by: Heard
    code: str
    """Why it contradicts the claim; '' where it does not, as far as bits say."""
    said: bytes
    is_open: bool = False
    """Whether a comparison within a tolerance had the last word."""


def check(dossier: Dossier, ordered: Ordered) -> Shown:
    """What was opened of a claim against what the ledger says of it. Raises `Refused`: `units_false` with what does not
    agree, `units_gap` with what is missing."""
    claim, verdict = ordered.claim, ordered.verdict
    if (dossier.escrow, dossier.chunk, dossier.epoch) != (claim.escrow, claim.chunk, claim.epoch):
        raise _false(ordered, f"it is about chunk {dossier.chunk} epoch {dossier.epoch} of another claim")
    _check_reveal(dossier, ordered)
    units, leaves = _opened(dossier, ordered)
    said = [_said(heard, dossier, ordered, units, leaves) for heard in dossier.heard]
    if not verdict.is_audited:
        _check_named(dossier, ordered)
        return Shown(units)
    if verdict.code == CANARY:
        return Shown(units)
    named = (verdict.auditor, *(verdict.agreed or ()))
    winners = [one for one in _winners(said, ordered) if one.by.auditor in named]
    return Shown(units, len(_auditors(winners)), len(_auditors(one for one in winners if one.is_open)))


def _check_reveal(dossier: Dossier, ordered: Ordered) -> None:
    """The judged output is what the provider had sealed when nobody knew what would be asked."""
    claim, verdict, reveal = ordered.claim, ordered.verdict, dossier.reveal
    if isinstance(reveal, UnsetType):
        if verdict.output != ZERO_DIGEST:
            raise _gap(ordered, "the provider's opening is missing")
        return
    if reveal.output != verdict.output:
        raise _false(ordered, f"it opens output {_short(reveal.output)}, {_short(verdict.output)} was judged")
    sealed = operations.seal(ordered.provider, reveal.salt, Digest(reveal.output))
    if (sealed == claim.sealed) == (verdict.code == "seal_mismatch"):
        raise _false(ordered, f"the opening gives seal {_short(sealed)}, the claim has {_short(claim.sealed)}")


def _check_named(dossier: Dossier, ordered: Ordered) -> None:
    """Where nobody executed it, the verdict's evidence is a part of the claim."""
    claim, verdict = ordered.claim, ordered.verdict
    if verdict.code == "equivocation":
        return  # The other claim, which the ledger refused: a receipt has both.
    if claim.trace and verdict.code in OF_TRACE:
        expected = claim.trace
    elif isinstance(dossier.reveal, UnsetType) or verdict.code == "seal_mismatch":
        expected = claim.sealed
    else:
        expected = dossier.reveal.output
    if verdict.evidence != expected:
        raise _false(ordered, f"{_short(verdict.evidence)} is its evidence, {_short(expected)} was opened")


# ── units ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _opened(dossier: Dossier, ordered: Ordered) -> tuple[tuple[int, ...], dict[int, Leaf]]:
    """The drawn units, and the leaves before and behind them: all under the root of the claim."""
    claim, opened, reveal = ordered.claim, dossier.units, dossier.reveal
    if not claim.trace or not ordered.is_traced:
        if not isinstance(opened, UnsetType):
            raise _false(ordered, "leaves of a claim without a trace")
        return (), {}
    root, count = claim.trace, claim.units or 0
    if count != ordered.facts.units_of(claim.chunk):
        raise _false(ordered, f"the claim has {count} units, the job {ordered.facts.units_of(claim.chunk)}")
    units: tuple[int, ...] = ()
    leaves: dict[int, Leaf] = {}
    try:
        if not isinstance(opened, UnsetType):
            trace.check_effects(root, count, opened.effects, opened.effects_path)
            units = tuple(opening.leaf.index for opening in opened.openings)
            leaves |= trace.check_openings(root, count, opened.openings, units)
        if units:
            _check_draw(tuple(sorted(units)), openings.effects_of(opened.effects if opened else b""), ordered)
        if not isinstance(reveal, UnsetType) and ordered.verdict.code not in (*_FAILED, "seal_mismatch"):
            leaves |= openings.uncover(root, count, reveal, units)
    except Refused as error:
        if error.code in (UNITS_FALSE, UNITS_GAP):
            raise
        raise _false(ordered, error.detail) from error
    return tuple(sorted(units)), leaves


def _check_draw(units: tuple[int, ...], effects: Sequence[int], ordered: Ordered) -> None:
    """Whether the beacon drew these."""
    claim, facts = ordered.claim, ordered.facts
    place = (claim.escrow, claim.chunk, claim.epoch)
    seed = challenge.seed(place, claim.sealed, claim.trace or b"", ordered.beacon)
    touch = challenge.may_touch(facts.kind, facts.numeric)
    drawn = challenge.indices(seed, len(effects), facts.samples, effects, touch)
    if units != drawn:
        raise _false(ordered, f"units {_listed(units)} were opened, the beacon drew {_listed(drawn)}")


# ── auditors ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _said(
    heard: Heard, dossier: Dossier, ordered: Ordered, units: tuple[int, ...], leaves: Mapping[int, Leaf]
) -> _Said:
    """What an execution says, if it is what its auditor had sealed."""
    name = f"auditor {_short(heard.auditor)}"
    if heard.auditor == ordered.provider:
        raise _false(ordered, "the provider is among its own auditors")
    sealed = operations.seal(PeerId(heard.auditor), heard.salt, Digest(heard.output))
    if sealed != heard.sealed:
        raise _false(ordered, f"what {name} opened gives seal {_short(sealed)}, it sealed {_short(heard.sealed)}")
    if isinstance(dossier.reveal, UnsetType):
        raise _gap(ordered, "auditors have opened, the provider has not")
    end, output = heard.reason.partition(":")[0], dossier.reveal.output
    is_replay = heard.purpose == "work" and ordered.is_traced
    if heard.purpose == "check":
        is_same = heard.reason == "ok" and heard.output == output
        code = "" if is_same else "check_failed" if end == "exit" else "check_unfinished"
        return _Said(heard, code, b"unfit" if code else heard.output)
    if end in UNFIT and ordered.is_traced:
        return _Said(heard, "unit_unreplayable", b"unfit")
    if heard.reason != "ok":
        raise _false(ordered, f"the execution of {name} failed ({end!r}) and counts for nothing")
    if not is_replay:
        differs = "hash_differs" if heard.purpose == "work" else "output_differs"
        return _Said(heard, "" if heard.output == output else differs, heard.output)
    if wire.digest(heard.results) != heard.output:
        what = f"hash to {_short(wire.digest(heard.results))}" if heard.results else "are missing"
        raise _false(ordered, f"the results of {name} {what}, it sealed {_short(heard.output)}")
    try:
        results = replays.read(heard.results, PeerId(heard.auditor), units)
        examined = replays.examine(ordered.facts, leaves, output, results)
    except (RemoteViolation, Refused, KeyError) as error:
        detail = error.detail if isinstance(error, RemoteViolation | Refused) else f"leaf {error} was not opened"
        raise _false(ordered, f"the results of {name}: {detail}") from error
    return _Said(heard, examined.code, examined.said, examined.is_open)


def _winners(said: Sequence[_Said], ordered: Ordered) -> list[_Said]:
    """The executions on which the verdict rests. Raises `Refused` where they do not say what it says."""
    verdict, facts = ordered.verdict, ordered.facts
    known = FINDINGS.get(verdict.code)
    if known is None or verdict.outcome not in known[1]:
        raise _false(ordered, f"no execution can find {verdict.outcome!r} for {verdict.code!r}")
    mine = [one for one in said if one.by.purpose in known[0]]
    by = [one for one in mine if (one.by.auditor, one.by.output) == (verdict.auditor, verdict.evidence)]
    if not by:
        heard = f"nobody of {len(mine)} auditors that were heard"
        named = f"{_short(verdict.auditor)} with evidence {_short(verdict.evidence)}"
        raise _gap(ordered, f"{heard} is {named}, on which the verdict rests")
    purpose, is_accepted = by[0].by.purpose, verdict.outcome == "accept"
    mine = [one for one in mine if one.by.purpose == purpose]
    is_exact = facts.is_exact or purpose != "work"
    others = [one for one in mine if one.code]
    winners = [one for one in mine if not one.code or one.is_open] if is_accepted else _refuting(others, mine, by[0])
    if by[0] not in winners or not _agrees(by[0], verdict.code, is_exact):
        found = by[0].code or ("a comparison" if by[0].is_open else "the claim")
        raise _false(ordered, f"auditor {_short(verdict.auditor)} found {found}, the verdict says {verdict.code}")
    uphold, contradict = len(_auditors(winners)), len(_auditors(others))
    if not is_accepted and uphold < 2:
        raise _false(ordered, "one execution alone refutes the claim, and two are needed")
    if is_accepted and contradict >= uphold:
        raise _false(ordered, f"{contradict} executions contradict the claim, {uphold} uphold it")
    unnamed = _auditors(others) - set(verdict.faulted or ()) if is_accepted and is_exact else set()
    if unnamed - _auditors(winners):
        raise _false(ordered, f"auditor {_short(min(unnamed))} contradicts the claim, and the verdict does not say so")
    _check_agreed(said, winners, ordered)
    return winners


def _auditors(said: Iterable[_Said]) -> set[bytes]:
    """Who they are: an execution that stands twice in a dossier counts once."""
    return {one.by.auditor for one in said}


def _refuting(others: Sequence[_Said], mine: Sequence[_Said], by: _Said) -> list[_Said]:
    """Who contradicts with `by`: bit by bit the same, or within a tolerance whatever it is."""
    if by.is_open:
        return [one for one in mine if one.code or one.is_open]
    return [one for one in others if one.said == by.said]


def _agrees(by: _Said, code: str, is_exact: bool) -> bool:
    """Whether an execution can be why a verdict has its code."""
    if by.is_open:
        return code in ("units_equal", "within_tolerance", "unit_differs", "out_of_tolerance")
    if code in ("hash_equal", "units_equal", "check_passed", "within_tolerance"):
        return not by.code
    is_one_of_many = not is_exact and code == "out_of_tolerance"
    return bool(by.code) if is_one_of_many or code == "check_unfinished" else by.code == code


def _check_agreed(said: Sequence[_Said], winners: Sequence[_Said], ordered: Ordered) -> None:
    """Whoever shares the auditors' pay has said the same, in this hearing or in another about the claim."""
    is_accepted = ordered.verdict.outcome == "accept"
    right = _auditors(winners) | _auditors(one for one in said if is_accepted and not one.code)
    for peer in ordered.verdict.agreed or ():
        if peer not in right:
            told = _auditors(said)
            what = "says something else" if peer in told else "is not among those that were heard"
            error = _false if peer in told else _gap
            raise error(ordered, f"auditor {_short(peer)} shares in the finding and {what}")


def _false(ordered: Ordered, what: str) -> Refused:
    fix = "Get the file again from another gateway; whoever handed it on, or a judge, says what is not so."
    return Refused(f"{ordered.where}: {what}", code=UNITS_FALSE, fix=fix)


def _gap(ordered: Ordered, what: str) -> Refused:
    fix = "Get the file again with `shoal job evidence JOB --save`: judges keep what was opened for two weeks."
    return Refused(f"{ordered.where}: {what}", code=UNITS_GAP, fix=fix)


def _short(digest: bytes) -> str:
    return digest.hex()[:16]


def _listed(units: Sequence[int]) -> str:
    return ", ".join(map(str, units)) or "none"
