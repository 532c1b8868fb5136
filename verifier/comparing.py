"""A claimed unit beside its replay: the comparison of its class, and the report over all units of one audit.

Everything here was made by strangers and is parsed by now; a class's comparison checks that numbers are finite before
it compares. Spec: specs/31-units.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Protocol

from msgspec import Meta, Struct

from protocol.errors import Refused
from protocol.proof import PPT, SAMPLES_MAX, Kind, Tolerance
from verifier import inference, rendering, scientific, training
from verifier.score import ACCEPT, Comparison, score
from verifier.tensors import Tensors

ERR_MAX: Final = 2**62
"""Parts per trillion that stand for any larger error, and for none that is a number."""

WITHIN: Final = "within_tolerance"
"""The code of a report whose worst unit is accepted."""


class Comparator(Protocol):
    """What each class module offers under the name `compare`."""

    def __call__(
        self,
        start: Tensors,
        claimed: Tensors | None,
        replayed: Tensors | None,
        claimed_aux: Tensors,
        replayed_aux: Tensors,
        tolerance: Tolerance,
    ) -> Comparison: ...


CLASSES: Final[Mapping[str, Comparator]] = {
    "training": training.compare,
    "inference": inference.compare,
    "rendering": rendering.compare,
    "scientific": scientific.compare,
}
"""Kind of work -> the comparison that knows it."""


class UnitScore(Struct, frozen=True, forbid_unknown_fields=True):
    """One unit of a report."""

    index: int
    score: int
    """Parts per million."""
    err: int
    """Parts per trillion, at most ERR_MAX."""
    code: str
    detail: Annotated[str, Meta(max_length=400)]


class Report(Struct, frozen=True, forbid_unknown_fields=True):
    """What a comparison found, for people and for appeals: a blob."""

    kind: Kind
    tolerance: Tolerance
    units: Annotated[tuple[UnitScore, ...], Meta(max_length=SAMPLES_MAX)]

    @property
    def score(self) -> int:
        """Parts per million, the worst of all units."""
        return min((unit.score for unit in self.units), default=0)

    @property
    def code(self) -> str:
        """WITHIN, or the reason of the worst unit."""
        worst = min(self.units, key=lambda unit: unit.score, default=None)
        if worst is None:
            return "nothing_compared"
        return WITHIN if worst.score >= ACCEPT else worst.code


def compare(
    kind: str,
    start: Tensors,
    claimed: Tensors | None,
    replayed: Tensors | None,
    claimed_aux: Tensors,
    replayed_aux: Tensors,
    tolerance: Tolerance,
) -> Comparison:
    """The error of one unit. Raises Refused: `malformed_proof` for tensors that cannot be compared, `no_comparison` for
    a kind that only equality proves."""
    return comparator(kind)(start, claimed, replayed, claimed_aux, replayed_aux, tolerance)


def comparator(kind: str) -> Comparator:
    """The comparison of a class. Refused (`no_comparison`) where there is none."""
    if kind not in CLASSES:
        raise Refused(
            f"{kind} work is compared as bytes",
            code="no_comparison",
            fix="Use numeric D0, D1 or D2 for it.",
        )
    return CLASSES[kind]


def scored(index: int, found: Comparison, tolerance: Tolerance) -> UnitScore:
    """A comparison as a line of the report."""
    err = ERR_MAX if not 0 <= found.err < math.inf else min(ERR_MAX, round(found.err * PPT))
    return UnitScore(index, score(found.err, tolerance), err, found.code, found.detail[:400])


def report(kind: Kind, tolerance: Tolerance, units: Sequence[UnitScore]) -> Report:
    """All units, in the order of their indices."""
    return Report(kind, tolerance, tuple(sorted(units, key=lambda unit: unit.index)))
