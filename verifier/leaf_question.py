"""What is asked of others when two claims differ first in one leaf of a trace: which unit to replay, and what decides.

Spec: specs/37-verification-game.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from protocol.jobspec import ZERO_DIGEST
from protocol.proof import Leaf, UnitResult
from protocol.trace import leaf_bytes
from protocol.units import Digest
from verifier.challenge import INDEPENDENT
from verifier.game import Dispute
from verifier.views import Facts

_DOMAIN: Final = b"shoal/1\0trace-leaf\0"
_NUMBER: Final = 8
_DIGEST: Final = 32


@dataclass(frozen=True, slots=True)
class Question:
    """Replay `unit` from `start`. `what` decides: the state behind it, what it says of itself, or the whole chunk."""

    unit: int
    start: Leaf
    what: Literal["state", "self", "whole"]
    said: tuple[Leaf, Leaf]

    def wrong(self, result: UnitResult) -> tuple[int, ...]:
        """The claims, 0 or 1, that a bitwise replay refutes."""
        if self.what == "state":
            return tuple(side for side, leaf in enumerate(self.said) if leaf.state != result.state)
        right = (result.input, result.aux)
        return tuple(side for side, leaf in enumerate(self.said) if (leaf.input, leaf.aux) != right)


@dataclass(frozen=True, slots=True)
class Settled:
    """No replay is needed: these claims, 0 or 1, have lost."""

    wrong: tuple[int, ...]
    code: str


def read_leaf(data: bytes) -> Leaf | None:
    """The leaf that `protocol.trace.leaf_bytes` made; None for anything else."""
    numbers = len(_DOMAIN) + 3 * _NUMBER
    if not data.startswith(_DOMAIN) or len(data) != numbers + 3 * _DIGEST:
        return None
    at = len(_DOMAIN)
    index, state_bytes, aux_bytes = (
        int.from_bytes(data[start : start + _NUMBER], "big") for start in range(at, numbers, _NUMBER)
    )
    state, given, aux = (Digest(data[start : start + _DIGEST]) for start in range(numbers, len(data), _DIGEST))
    leaf = Leaf(index, state, state_bytes, given, aux, aux_bytes)
    return leaf if leaf_bytes(leaf) == data else None


def question(dispute: Dispute, facts: Facts) -> Question | Settled:
    """What decides between two claims about `facts.units` units."""
    at, last = dispute.index, facts.units
    if at > last:  # Behind the states are only the effects that each claims for itself.
        return Settled((1,), "no_difference")
    read = [read_leaf(data) for data in dispute.leaves]
    bad = tuple(side for side, leaf in enumerate(read) if leaf is None or not _fits(leaf, at, last))
    first, second = read
    if bad or first is None or second is None:
        return Settled(bad, "bad_leaf")
    said = (first, second)
    same_state = (first.state, first.state_bytes) == (second.state, second.state_bytes)
    if same_state:
        return Question(at, first, "self", said)
    agreed = read_leaf(dispute.agreed) if dispute.agreed is not None else None
    if agreed is None or facts.kind in INDEPENDENT:
        return Question(max(0, at - 1), first, "whole", said)
    return Question(at - 1, agreed, "state", said)


def blind(start: Leaf) -> Leaf:
    """What an auditor sees of the leaf before its unit: the state, and nothing that came of it."""
    return Leaf(start.index, start.state, start.state_bytes, ZERO_DIGEST, ZERO_DIGEST, 0)


def _fits(leaf: Leaf, at: int, last: int) -> bool:
    """Whether a leaf says its own index, and the last one nothing but a state."""
    return leaf.index == at and (at < last or (leaf.input, leaf.aux, leaf.aux_bytes) == (ZERO_DIGEST, ZERO_DIGEST, 0))
