"""Merkle trees over ordered leaves, after RFC 9162, with the number of leaves bound into the root.

A path proves "this is leaf `index` of `count`", and no other index or count. Spec: specs/08-blocks.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from protocol.units import Digest

_LEAF = b"shoal/1\0leaf\0"
_NODE = b"shoal/1\0node\0"
_ROOT = b"shoal/1\0root\0"


def root(leaves: Sequence[bytes]) -> Digest:
    """The root over these leaves (any bytes, any number, none included)."""
    return Tree(leaves).root


def path(leaves: Sequence[bytes], index: int) -> tuple[Digest, ...]:
    """Sibling hashes from leaf `index` up. Raises IndexError outside the leaves."""
    return Tree(leaves).path(index)


class Tree:
    """All levels of one tree, for callers that need several paths."""

    __slots__ = ("_levels", "root")

    def __init__(self, leaves: Sequence[bytes]) -> None:
        level = [hashlib.sha256(_LEAF + leaf).digest() for leaf in leaves]
        self._levels = [level]
        while len(level) > 1:
            above = [_node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
            if len(level) % 2:
                above.append(level[-1])
            self._levels.append(above)
            level = above
        self.root = _bind(level[0] if level else bytes(32), len(leaves))

    def path(self, index: int) -> tuple[Digest, ...]:
        """Sibling hashes from leaf `index` up. Raises IndexError outside the leaves."""
        if not 0 <= index < len(self._levels[0]):
            raise IndexError(f"leaf {index} of {len(self._levels[0])}")
        siblings = []
        for level in self._levels[:-1]:
            if index ^ 1 < len(level):
                siblings.append(Digest(level[index ^ 1]))
            index //= 2
        return tuple(siblings)

    def below(self, level: int, place: int, depth: int) -> tuple[Digest, ...]:
        """The nodes up to `depth` levels below node `place` of a level; leaves' hashes are level 0.

        Raises IndexError for a node that does not exist."""
        if not 0 <= level < len(self._levels) or not 0 <= place < len(self._levels[level]):
            raise IndexError(f"node {place} of level {level}")
        lower = max(0, level - depth)
        shift = level - lower
        return tuple(Digest(node) for node in self._levels[lower][place << shift : (place + 1) << shift])


def height(count: int) -> int:
    """Levels above the leaves.

    >>> [height(count) for count in (1, 2, 3, 4, 5)]
    [0, 1, 2, 2, 3]
    """
    return max(0, count - 1).bit_length()


def span(count: int, level: int, place: int, depth: int) -> int:
    """How many nodes there are up to `depth` levels below node `place` of a level, in a tree of `count` leaves.

    >>> span(5, 3, 0, 2), span(5, 3, 0, 3), span(5, 1, 2, 1)
    (3, 5, 1)
    """
    lower = max(0, level - depth)
    width = -(-count >> lower)
    return max(0, min(width, (place + 1) << (level - lower)) - (place << (level - lower)))


def fold(nodes: Sequence[bytes], levels: int) -> bytes:
    """The node so many levels above these, which are all there are below it, from its leftmost on."""
    above = list(nodes)
    for _ in range(levels):
        odd = [above[-1]] if len(above) % 2 else []
        above = [_node(above[i], above[i + 1]) for i in range(0, len(above) - 1, 2)] + odd
    return above[0]


def is_top(expected: bytes, top: bytes, count: int) -> bool:
    """Whether a root binds this topmost node and number of leaves."""
    return _bind(top, count) == expected


def verify(expected: bytes, leaf: bytes, index: int, count: int, siblings: Sequence[bytes]) -> bool:
    """Whether `leaf` is number `index` of `count` under the root `expected`. Never raises."""
    if not 0 <= index < count:
        return False
    current, rest, width = hashlib.sha256(_LEAF + leaf).digest(), list(siblings), count
    while width > 1:
        if index ^ 1 < width:
            if not rest:
                return False
            sibling = rest.pop(0)
            current = _node(sibling, current) if index % 2 else _node(current, sibling)
        index //= 2
        width = (width + 1) // 2
    return not rest and _bind(current, count) == expected


def replaced(leaf: bytes, index: int, count: int, siblings: Sequence[bytes]) -> Digest:
    """The root after leaf `index` has become `leaf`, from a path that was verified for what was there before."""
    current, rest, width = hashlib.sha256(_LEAF + leaf).digest(), list(siblings), count
    while width > 1:
        if index ^ 1 < width:
            sibling = rest.pop(0)
            current = _node(sibling, current) if index % 2 else _node(current, sibling)
        index //= 2
        width = (width + 1) // 2
    return _bind(current, count)


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()


def _bind(top: bytes, count: int) -> Digest:
    return Digest(hashlib.sha256(_ROOT + count.to_bytes(8, "big") + top).digest())
