"""What is shown of a trace, to whom, and when: the provider's answers, and an auditor's blind view of them.

An auditor sees the state before a unit and nothing that the provider got from it. Pure. Spec: specs/11-verification.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from protocol.errors import Refused
from protocol.jobspec import ZERO_DIGEST
from protocol.messages import Reveal, UnitsOpened
from protocol.proof import Leaf
from verifier import trace
from verifier.case import Unfolded


def unfold(root: bytes, units: int, opened: UnitsOpened, indices: Collection[int]) -> Unfolded:
    """What the provider opened, checked against its claim. Raises `Refused` (`bad_path`)."""
    trace.check_effects(root, units, opened.effects, opened.effects_path)
    leaves = trace.check_openings(root, units, opened.openings, indices)
    return Unfolded(opened, tuple(sorted(indices)), leaves)


def effects_of(effects: bytes) -> tuple[int, ...]:
    """One number per unit, to be ranked."""
    return tuple(int.from_bytes(effects[at : at + 2], "big") for at in range(0, len(effects), 2))


def after(units: int, indices: Collection[int]) -> set[int]:
    """Leaves that a claim is opened with: those behind the audited units, and the last."""
    return {index + 1 for index in indices} | {units}


def uncover(root: bytes, units: int, reveal: Reveal, indices: Collection[int]) -> dict[int, Leaf]:
    """The leaves behind the audited units. Raises `Refused`: `bad_path`, or `withheld` when one is not there."""
    missing = after(units, indices) - {opening.leaf.index for opening in reveal.openings}
    leaves = trace.check_openings(root, units, reveal.openings, [opening.leaf.index for opening in reveal.openings])
    if missing:
        raise Refused(f"leaves {sorted(missing)} are not opened", code="withheld")
    return leaves


def blind(leaves: Mapping[int, Leaf], indices: Sequence[int], goes_on: bool) -> tuple[Leaf, ...]:
    """What an auditor gets of the opened units, in order: where to start, nothing of what came out.

    `goes_on`: a unit behind another that is replayed too has zeros for its state, which would be the other's result."""
    shown = []
    for index in indices:
        leaf = leaves[index]
        is_behind = goes_on and index - 1 in indices
        state, size = (ZERO_DIGEST, 0) if is_behind else (leaf.state, leaf.state_bytes)
        shown.append(Leaf(index, state, size, ZERO_DIGEST, ZERO_DIGEST, 0))
    return tuple(shown)
