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


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()


def _bind(top: bytes, count: int) -> Digest:
    return Digest(hashlib.sha256(_ROOT + count.to_bytes(8, "big") + top).digest())
