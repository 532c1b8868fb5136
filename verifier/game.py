"""The verification game: two claims about one computation, and the first step about which they differ.

A claim is a Merkle root over leaves, each of which binds a state. The referee holds neither history. It has both claims
open the nodes some levels below the one they differ in, and goes on with the first of these that differs; it compares
the two, and never asks one of them what is right. Everything to the left is then equal, so the leaf that it ends at is
the first one they differ in. Spec: specs/37-verification-game.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protocol import merkle
from protocol.court_messages import NODES_MAX, Point
from protocol.errors import LocalError, RemoteViolation
from protocol.units import Digest, PeerId

PARTS: Final = 8
"""Nodes that one round opens: among peers a round trip costs more than 256 bytes."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """Asked of a claim: what is below one node, `depth` levels down at most."""

    level: int
    place: int
    depth: int


@dataclass(frozen=True, slots=True)
class Dispute:
    """Where two claims part: they agree on leaf `index` - 1 (`agreed`), and `leaves` are what they say of leaf `index`.

    They may differ from the very start: then `index` is 0, `agreed` None, and `after` what they say of leaf 1."""

    index: int
    agreed: bytes | None
    leaves: tuple[bytes, bytes]
    """In the order of the game's roots."""
    after: tuple[bytes, bytes] | None = None


def rounds(count: int, parts: int) -> int:
    """Rounds until the first different leaf is known; opening it is one more.

    >>> rounds(2**20, 2), rounds(2**20, 8), rounds(2**20, 32), rounds(1, 8)
    (20, 7, 4, 0)
    """
    return -(-merkle.height(count) // (parts.bit_length() - 1))


def game_id(first: bytes, second: bytes, about: bytes) -> Digest:
    """The name of the game between two roots about one thing (a place, or a unit of another game); order is kept."""
    return Digest(hashlib.sha256(b"shoal/1\0game\0" + first + second + about).digest())


class Game:
    """Two different roots over `count` leaves each. Moves when both have opened what was wanted."""

    def __init__(self, first: Digest, second: Digest, count: int, parts: int = PARTS) -> None:
        if first == second or count < 2 or parts not in (2, 4, 8, 16, NODES_MAX):
            raise LocalError("a game needs two roots, two leaves, and 2, 4, 8, 16 or 32 parts", code="bad_game")
        self.roots = (first, second)
        self.count = count
        self.depth = parts.bit_length() - 1
        self.round = 0
        """Rounds that were played to the end."""
        self.dispute: Dispute | None = None
        """Where they part, once that is known: the end of the game."""
        self._level, self._place = merkle.height(count), 0
        self._node: tuple[bytes, bytes] | None = None
        """What the two claims have at (level, place); None at the top, which their roots bind."""
        self._below: tuple[list[bytes], list[bytes]] = ([], [])
        self._leaves: tuple[dict[int, bytes], dict[int, bytes]] = ({}, {})

    def wanted(self, root: Digest) -> Nodes | tuple[int, ...]:
        """What this claim still owes in this round: nodes, or leaves by index; () when it has moved, or at the end."""
        side = self._side(root)
        if self.dispute is not None:
            return ()
        if self._level > 0:
            return () if self._below[side] else Nodes(self._level, self._place, self.depth)
        near = (self._place - 1, self._place) if self._place else (0, 1)
        return tuple(index for index in near if index not in self._leaves[side])

    def narrow(self, root: Digest, level: int, place: int, nodes: Sequence[bytes], sender: PeerId) -> bool:
        """Take the nodes below one of a claim's, from anybody; True when a round ended by it. Late ones change nothing.

        Raises `RemoteViolation` (`bad_path`): the sender's fault, and nothing is held against the claim."""
        side = self._side(root)
        if self.wanted(root) != Nodes(level, place, self.depth):
            return False
        levels = min(self.depth, level)
        fits = len(nodes) == merkle.span(self.count, level, place, levels)
        node = merkle.fold(nodes, levels) if fits else b""
        if not (merkle.is_top(root, node, self.count) if self._node is None else node == self._node[side]):
            raise RemoteViolation(sender, f"not what is below node {place} of level {level}", code="bad_path")
        self._below[side].extend(nodes)
        if not self._below[1 - side]:
            return False
        mine, theirs = self._below
        first = next(at for at, (one, other) in enumerate(zip(mine, theirs, strict=True)) if one != other)
        self._node = (mine[first], theirs[first])
        self._level, self._place = level - levels, (place << levels) + first
        self._below = ([], [])
        self.round += 1
        return True

    def open(self, root: Digest, points: Sequence[Point], sender: PeerId) -> bool:
        """Take leaves of a claim, from anybody; True when the game ended by it. Others than wanted change nothing.

        Raises `RemoteViolation` (`bad_path`): the sender's fault, and nothing is held against the claim."""
        for point in points:
            if not merkle.verify(root, point.leaf, point.index, self.count, point.path):
                raise RemoteViolation(sender, f"leaf {point.index} is not under this root", code="bad_path")
        wanted = self.wanted(root)
        if isinstance(wanted, Nodes):
            return False
        known = self._leaves[self._side(root)]
        known.update((point.index, point.leaf) for point in points if point.index in wanted)
        if self.dispute is not None or any(self.wanted(item) for item in self.roots):
            return False
        mine, theirs = self._leaves
        at = self._place
        after = None if at else (mine[1], theirs[1])
        self.dispute = Dispute(at, mine[at - 1] if at else None, (mine[at], theirs[at]), after)
        return True

    def _side(self, root: Digest) -> int:
        if root not in self.roots:
            raise LocalError("a root that does not play this game", code="bad_game")
        return self.roots.index(root)
