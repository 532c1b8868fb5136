"""The verification game: two claims about one computation, and the first step about which they differ.

A claim is a Merkle root over leaves 0..last, each of which binds a state. The referee holds neither history. It has
both claims open the leaves that cut the interval in `parts`, and goes on with the first part whose ends are agreed on
the left and disputed on the right; it compares the two, and never asks one of them what is right.
Spec: specs/37-verification-game.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protocol import merkle
from protocol.court_messages import POINTS_MAX, Point
from protocol.errors import LocalError, RemoteViolation
from protocol.units import Digest, PeerId

PARTS: Final = 8
"""Parts that a round cuts the interval in: among peers a round trip costs more than the bytes of seven openings."""

PARTS_MAX: Final = POINTS_MAX - 1


@dataclass(frozen=True, slots=True)
class Dispute:
    """Where two claims part: they agree on leaf `index` - 1 (`agreed`), and `leaves` are what they say of leaf `index`.

    They may differ from the very start: then `agreed` is None, `index` 0, and `after` holds what they say of leaf 1."""

    index: int
    agreed: bytes | None
    leaves: tuple[bytes, bytes]
    """In the order of the game's roots."""
    after: tuple[bytes, bytes] | None = None


@dataclass(frozen=True, slots=True)
class Void:
    """The two claims end alike: there is nothing to judge, and who opened the dispute has lost it."""

    code: str = "no_difference"


def interior(low: int, high: int, parts: int) -> tuple[int, ...]:
    """The leaves strictly between two others that cut them in `parts` as equal as can be.

    >>> interior(0, 16, 8), interior(3, 5, 8), interior(3, 4, 8)
    ((2, 4, 6, 8, 10, 12, 14), (4,), ())
    """
    cuts = {low + (high - low) * part // parts for part in range(1, parts)}
    return tuple(sorted(cuts - {low, high}))


def rounds(last: int, parts: int) -> int:
    """Rounds until one step is left, the opening of both ends not counted: ceil(log_parts(last)).

    >>> rounds(2**20, 2), rounds(2**20, 8), rounds(2**20, 32), rounds(1, 8)
    (20, 7, 4, 0)
    """
    width, count = last, 0
    while width > 1:
        width, count = -(-width // parts), count + 1
    return count


def game_id(first: bytes, second: bytes, about: bytes) -> Digest:
    """The name of the game between two roots about one thing (a place, or a unit of another game); order is kept."""
    return Digest(hashlib.sha256(b"shoal/1\0game\0" + first + second + about).digest())


class Game:
    """Two different roots over `count` leaves, of which number `last` is the outcome. Moves when both have opened."""

    def __init__(self, first: Digest, second: Digest, count: int, last: int, parts: int = PARTS) -> None:
        if first == second or not 1 <= last < count or not 2 <= parts <= PARTS_MAX:
            raise LocalError("a game needs two roots, an outcome among the leaves, and 2 to 32 parts", code="bad_game")
        self.roots = (first, second)
        self.count, self.last, self.parts = count, last, parts
        self.result: Dispute | Void | None = None
        self.round = 0
        """Rounds that were played to the end; the first, 0, opens both ends."""
        self._open: tuple[dict[int, bytes], dict[int, bytes]] = ({}, {})
        self._low = self._high = -1
        """Agreed and disputed leaf; -1 before the ends are open."""
        self._wanted: tuple[int, ...] = (0, last)

    def wanted(self, root: Digest) -> tuple[int, ...]:
        """The leaves that this claim still owes in this round; none when it has moved or the game is over."""
        if self.result is not None:
            return ()
        known = self._open[self._side(root)]
        return tuple(index for index in self._wanted if index not in known)

    def open(self, root: Digest, points: Sequence[Point], sender: PeerId) -> bool:
        """Take leaves of a claim, from anybody; True when a round ended by it. Late and repeated ones change nothing.

        Raises `RemoteViolation` (`bad_path`): the sender's fault, and nothing is held against the claim."""
        for point in points:
            if not merkle.verify(root, point.leaf, point.index, self.count, point.path):
                raise RemoteViolation(sender, f"leaf {point.index} is not under this root", code="bad_path")
        wanted = self.wanted(root)
        known = self._open[self._side(root)]
        known.update((point.index, point.leaf) for point in points if point.index in wanted)
        if self.result is not None or any(self.wanted(item) for item in self.roots):
            return False
        self._advance()
        return True

    def _side(self, root: Digest) -> int:
        if root not in self.roots:
            raise LocalError("a root that does not play this game", code="bad_game")
        return self.roots.index(root)

    def _advance(self) -> None:
        """Both have opened what was wanted: narrow the interval, or end."""
        mine, theirs = self._open
        if self._high < 0:
            self._begin()
        else:
            points = [self._low, *self._wanted, self._high]
            at = next(place for place, index in enumerate(points) if mine[index] != theirs[index])
            self._low, self._high = points[at - 1], points[at]
        if self.result is not None or self._high < 0:
            return
        self.round += 1
        self._wanted = interior(self._low, self._high, self.parts)
        if not self._wanted:
            self.result = Dispute(self._high, mine[self._low], (mine[self._high], theirs[self._high]))
        for known in self._open:  # Only the ends of the interval are of use from here on.
            for index in [index for index in known if index not in (self._low, self._high)]:
                del known[index]

    def _begin(self) -> None:
        """The ends are open: the precondition is one start and two outcomes."""
        mine, theirs = self._open
        if mine[self.last] == theirs[self.last]:
            self.result = Void()
        elif mine[0] == theirs[0]:
            self._low, self._high = 0, self.last
        elif 1 not in mine:
            self._wanted = (1,)  # The first unit starts from the specification, so leaf 1 tells who is wrong.
        elif mine[1] == theirs[1]:
            self._low, self._high = 1, self.last
        else:
            self.result = Dispute(0, None, (mine[0], theirs[0]), (mine[1], theirs[1]))
