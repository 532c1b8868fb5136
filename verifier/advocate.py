"""Speaks for claims in verification games: opens the traces that it holds, for any referee who asks.

The provider of a claim and whoever appealed against it run one; so may anybody who has the trace of an honest run.
Spec: specs/37-verification-game.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from protocol.court_messages import (
    LEAF_BYTES_MAX,
    BisectOpened,
    BisectRequest,
    LeafOpened,
    LeafRequest,
    LevelOpened,
    LevelRequest,
    Point,
    PointsOpened,
    PointsRequest,
)
from protocol.effects import Effect, Send
from protocol.errors import LocalError, Refused
from protocol.merkle import Tree
from protocol.proof import Trace
from protocol.trace import TraceTree, effects_bytes, leaf_bytes
from protocol.units import Digest, Micros, PeerId
from verifier.operators import Tape

HELD_MAX: Final = 16
"""Traces kept in memory with their trees, two megabytes each; the oldest is read again when it is asked for."""


@dataclass(slots=True)
class Held:
    """One claim whose history is known here."""

    leaves: tuple[bytes, ...]
    tree: Tree
    tape: Callable[[int], Tape | None] = lambda unit: None
    """How a unit went, operator by operator; None for units without a program."""

    @classmethod
    def of(cls, trace: Trace) -> Held:
        """A trace of units."""
        leaves = (*(leaf_bytes(leaf) for leaf in trace.leaves), effects_bytes(trace.effects))
        return cls(leaves, Tree(leaves))

    def point(self, index: int) -> Point:
        """Leaf `index` and its path. Raises `Refused` (`no_such_leaf`)."""
        if not 0 <= index < len(self.leaves) or len(self.leaves[index]) > LEAF_BYTES_MAX:
            raise Refused(f"leaf {index} of {len(self.leaves)}", code="no_such_leaf")
        return Point(index, self.leaves[index], self.tree.path(index))


@dataclass(slots=True)
class Advocate:
    """Answers referees. `referees`: who may ask; nobody else makes a peer hash a whole trace."""

    referees: Callable[[], tuple[PeerId, ...]]
    find: Callable[[Digest], Trace | None] = lambda root: None
    """The trace of a claim, from the store of the one who made it."""
    is_at_issue: Callable[[Digest], bool] = lambda root: True
    """Whether a claim is played about: earlier, its leaves would tell an auditor what to find."""
    held: dict[Digest, Held] = field(default_factory=dict)
    inside: dict[Digest, tuple[Digest, Tape]] = field(default_factory=dict)
    """By game: the trace of a unit that is played inside of, and how it went."""

    @property
    def accepts(self) -> tuple[type, ...]:
        """Questions of referees."""
        return (BisectRequest, PointsRequest, LevelRequest, LeafRequest)

    def receive(self, sender: PeerId, message: object, now: Micros) -> list[Effect]:
        if sender not in self.referees():
            raise Refused("only a validator referees", code="not_a_validator")
        match message:
            case BisectRequest():
                nodes = self._below(message)
                return [Send(sender, BisectOpened(message.game, message.root, message.level, message.place, nodes))]
            case PointsRequest():
                points = tuple(self._point(message, index) for index in message.indices)
                return [Send(sender, PointsOpened(message.game, message.root, points))]
            case LevelRequest():
                return self._level(sender, message)
            case LeafRequest():
                return self._leaf(sender, message)
            case _:
                raise LocalError(f"{type(message).__name__} is not for the advocate", code="not_accepted")

    def tick(self, now: Micros) -> list[Effect]:
        """Nothing waits here."""
        return []

    def _below(self, message: BisectRequest) -> tuple[Digest, ...]:
        trace, tape = self.inside.get(Digest(message.game), (None, None))
        tree = tape.tree if tape and message.root == trace else self._claim(Digest(message.root)).tree
        try:
            return tree.below(message.level, message.place, message.depth)
        except IndexError as error:
            raise Refused(f"there is no {error}", code="no_such_leaf") from error

    def _point(self, message: PointsRequest, index: int) -> Point:
        trace, tape = self.inside.get(Digest(message.game), (None, None))
        if tape is not None and message.root == trace:
            return tape.point(index)
        return self._claim(Digest(message.root)).point(index)

    def _claim(self, root: Digest) -> Held:
        held = self.held.get(root)
        if not self.is_at_issue(root):
            self.held.pop(root, None)
            raise Refused("no game is played about this claim", code="not_at_issue", fix="Appeal first.")
        if held is None:
            trace = self.find(root)
            if trace is None or TraceTree(trace).root != root:
                raise Refused("no such trace is here", code="no_trace", fix="Ask whoever made the claim.")
            while len(self.held) >= HELD_MAX:
                del self.held[next(iter(self.held))]
            held = self.held[root] = Held.of(trace)
        return held

    def _level(self, sender: PeerId, message: LevelRequest) -> list[Effect]:
        tape = self._claim(Digest(message.root)).tape(message.unit)
        if tape is None:
            raise Refused(f"unit {message.unit} was not recorded", code="no_tape")
        self.inside[Digest(message.game)] = (tape.tree.root, tape)
        opened = LevelOpened(message.game, message.root, message.unit, tape.tree.root, tape.frame())
        return [Send(sender, opened)]

    def _leaf(self, sender: PeerId, message: LeafRequest) -> list[Effect]:
        _, tape = self.inside.get(Digest(message.game), (None, None))
        if tape is None or not 1 <= message.index < tape.leaves:
            raise Refused("no such step is at issue here", code="no_tape")
        return [Send(sender, LeafOpened(message.game, message.root, message.index, tape.evidence(message.index)))]


def claim_of(leaves: tuple[bytes, ...]) -> Held:
    """A claim over any leaves."""
    return Held(leaves, Tree(leaves))
