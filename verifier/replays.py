"""An auditor's replay of units against the claimed ones, as far as hashes say it. Pure. Spec: specs/11-verification.md.

The input of a unit is compared in every numeric class: it comes from the specification alone. The result is compared
here in bitwise classes; within a tolerance by `protocol.effects.Score`, for which the pairs are made here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from protocol import wire
from protocol.effects import ScoreItem
from protocol.errors import Refused
from protocol.jobspec import ZERO_DIGEST
from protocol.proof import Leaf, Results, UnitResult
from protocol.units import Digest, PeerId
from verifier import challenge
from verifier.challenge import INDEPENDENT, PARTIAL
from verifier.deadlines import RESULTS_BYTES_MAX
from verifier.views import Facts

_decoder: Final = wire.decoder(Results)


@dataclass(frozen=True, slots=True)
class Examined:
    """What hashes say about a replay."""

    code: str
    """Why it contradicts the claim: `bad_schedule`, `unit_differs`, `output_differs`; '' where it does not."""
    said: bytes
    """All that honest auditors agree about, as one hash."""
    is_open: bool
    """Whether nothing contradicts, and a comparison within a tolerance has the last word."""
    bad: tuple[int, ...] = ()
    """Units that are bad by themselves, in order."""


def read(data: bytes, auditor: PeerId, indices: Sequence[int]) -> Results:
    """The results in a blob, of exactly these units in order. Raises `RemoteViolation`, or `Refused`
    (`malformed_results`)."""
    results = wire.decode(data, _decoder, auditor, RESULTS_BYTES_MAX)
    found = [unit.index for unit in results.units]
    if found != list(indices):
        raise Refused(f"results of units {found}, not of {list(indices)}", code="malformed_results")
    return results


def examine(facts: Facts, leaves: Mapping[int, Leaf], output: bytes, results: Results) -> Examined:
    """Compare what hashes can. `leaves`: those before and behind every unit; `output`: what was revealed.

    Raises `Refused` (`malformed_results`) for a unit without the result that its kind has."""
    said = hashlib.sha256(b"shoal/1\0replay\0")
    codes, is_open = dict[int, str](), False
    for unit in results.units:
        needs_score = _needs_score(facts, unit)
        is_open |= needs_score
        codes[unit.index] = _code(facts, leaves, unit, needs_score)
        said.update(unit.index.to_bytes(8, "big") + unit.input + _found(facts, unit))
    said.update(results.output if facts.is_exact else b"")
    is_other = facts.is_exact and results.output not in (ZERO_DIGEST, output)
    found = {*codes.values(), "output_differs" if is_other else ""}
    code = next((code for code in ("bad_schedule", "unit_differs", "output_differs") if code in found), "")
    return Examined(code, said.digest(), is_open and not code, _bad(facts, codes))


def _bad(facts: Facts, codes: Mapping[int, str]) -> tuple[int, ...]:
    """Units that are bad by themselves. What was replayed behind a differing unit began at another state than the
    claimed one, so that its result says nothing."""
    goes_on, bad, is_tainted = challenge.goes_on(facts.kind, facts.numeric), list[int](), False
    for index in sorted(codes):
        is_tainted &= goes_on and index - 1 in codes
        if codes[index] == "bad_schedule" or (codes[index] and not is_tainted):
            bad.append(index)
        is_tainted |= bool(codes[index])
    return tuple(bad)


def score_items(facts: Facts, leaves: Mapping[int, Leaf], results: Results) -> tuple[ScoreItem, ...]:
    """Every replayed unit as a pair; zeros where there is no state to compare."""
    is_alone = facts.kind in INDEPENDENT
    return tuple(
        ScoreItem(
            unit.index,
            start=Digest(leaves[unit.index].state),
            claimed=ZERO_DIGEST if is_alone else Digest(leaves[unit.index + 1].state),
            replayed=Digest(unit.state),
            claimed_aux=Digest(leaves[unit.index].aux),
            replayed_aux=Digest(unit.aux),
        )
        for unit in results.units
    )


def _needs_score(facts: Facts, unit: UnitResult) -> bool:
    return not facts.is_exact or (facts.kind in PARTIAL and unit.state == ZERO_DIGEST)


def _found(facts: Facts, unit: UnitResult) -> bytes:
    """The part of a unit's result that is equal at all honest auditors. What a unit says of itself may hold times, so
    it counts only where nothing else is there."""
    if not facts.is_exact:
        return b""
    has_state = facts.kind not in INDEPENDENT and unit.state != ZERO_DIGEST
    return unit.state if has_state else unit.aux


def _code(facts: Facts, leaves: Mapping[int, Leaf], unit: UnitResult, needs_score: bool) -> str:
    leaf = leaves[unit.index]
    if unit.input != leaf.input:
        return "bad_schedule"
    if needs_score:
        return ""
    if facts.kind in INDEPENDENT:
        return "" if unit.aux == leaf.aux else "unit_differs"
    if unit.state == ZERO_DIGEST:
        raise Refused(f"unit {unit.index} was replayed without a result", code="malformed_results")
    return "" if unit.state == leaves[unit.index + 1].state else "unit_differs"
