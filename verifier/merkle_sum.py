"""A Merkle tree whose nodes also carry sums: the root says what all leaves add up to, and no leaf can be counted twice.

Each leaf is a row of k integers. A node's hash covers both children and both their sums, so an opened leaf proves its
part of the total with a path of log2(n) siblings. Spec: specs/36-scientific-proof.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from protocol.errors import Refused

LEAVES_MAX: Final = 4096
"""Streams of one chunk, as many as a chunk has units."""

VALUES_MAX: Final = 64
"""Numbers of one stream: a path of twelve siblings stays below 16 KiB."""

LEAF_MAX: Final = 1 << 62
"""Largest absolute value in a leaf; sums of LEAVES_MAX of them fit 16 bytes."""

BYTES: Final = 16
"""Of one number: big endian, signed."""

Row = tuple[int, ...]


class Sibling(Struct, frozen=True, forbid_unknown_fields=True):
    """One step of a path: the other child, and what it adds."""

    hash: bytes
    sums: tuple[int, ...]


class SumRoot(Struct, frozen=True, forbid_unknown_fields=True):
    """What a tree commits to."""

    hash: bytes
    leaves: int
    sums: tuple[int, ...]


class SumTree:
    """The tree over some rows. Refused (`sum_differs`) for rows that cannot be added."""

    def __init__(self, rows: Sequence[Row]) -> None:
        _check_rows(rows)
        self.rows = [tuple(row) for row in rows]
        self._levels = [[(leaf_hash(i, row), row) for i, row in enumerate(self.rows)]]
        while len(self._levels[-1]) > 1:
            below = self._levels[-1]
            pairs = [below[at : at + 2] for at in range(0, len(below), 2)]
            self._levels.append([pair[0] if len(pair) == 1 else _join(*pair) for pair in pairs])

    @property
    def root(self) -> SumRoot:
        """Hash, number of leaves, and their sum."""
        top, sums = self._levels[-1][0]
        return SumRoot(root_hash(len(self.rows), top, sums), len(self.rows), sums)

    def path(self, index: int) -> tuple[Sibling, ...]:
        """What proves leaf `index`. Raises IndexError for one that is not there."""
        if not 0 <= index < len(self.rows):
            raise IndexError(index)
        found = []
        for level in self._levels[:-1]:
            if index ^ 1 < len(level):
                found.append(Sibling(*level[index ^ 1]))
            index >>= 1
        return tuple(found)


def check_path(root: SumRoot, index: int, row: Row, path: Sequence[Sibling]) -> None:
    """Refused `bad_path` unless `row` is leaf `index` below `root`, `sum_differs` where the sums do not add up."""
    if not 0 < root.leaves <= LEAVES_MAX or not 0 <= index < root.leaves:
        raise Refused(f"there is no leaf {index} of {root.leaves}", code="bad_path")
    _check_rows([row])
    _check_sums(root.sums, len(row))
    digest, sums, at, width, steps = leaf_hash(index, row), tuple(row), index, root.leaves, iter(path)
    while width > 1:
        if at ^ 1 < width:
            step = next(steps, None)
            if step is None or len(step.hash) != hashlib.sha256().digest_size:
                raise Refused(f"the path of leaf {index} ends early", code="bad_path")
            _check_sums(step.sums, len(row))
            other = (step.hash, step.sums)
            digest, sums = _join(other, (digest, sums)) if at & 1 else _join((digest, sums), other)
        at, width = at >> 1, (width + 1) >> 1
    if next(steps, None) is not None:
        raise Refused(f"the path of leaf {index} is too long", code="bad_path")
    if sums != root.sums:
        raise Refused(f"leaf {index} and its path add up to {sums}, not {root.sums}", code="sum_differs")
    if root_hash(root.leaves, digest, sums) != root.hash:
        raise Refused(f"leaf {index} is not the one below this root", code="bad_path")


def leaf_hash(index: int, row: Row) -> bytes:
    """Of one row at its place."""
    return _hash(b"sum-leaf", index.to_bytes(4, "big"), *map(_number, row))


def root_hash(leaves: int, top: bytes, sums: Row) -> bytes:
    """Of the whole tree: binds how many leaves there are."""
    return _hash(b"sum-root", leaves.to_bytes(4, "big"), top, *map(_number, sums))


def _join(left: tuple[bytes, Row], right: tuple[bytes, Row]) -> tuple[bytes, Row]:
    sums = tuple(a + b for a, b in zip(left[1], right[1], strict=True))
    return _hash(b"sum-node", left[0], *map(_number, left[1]), right[0], *map(_number, right[1])), sums


def _hash(domain: bytes, *parts: bytes) -> bytes:
    data = b"shoal/1\0" + b"".join(len(part).to_bytes(4, "big") + part for part in (domain, *parts))
    return hashlib.sha256(data).digest()


def _number(value: int) -> bytes:
    return value.to_bytes(BYTES, "big", signed=True)


def _check_rows(rows: Sequence[Row]) -> None:
    if not 0 < len(rows) <= LEAVES_MAX or not 0 < len(rows[0]) <= VALUES_MAX:
        raise Refused(f"{len(rows)} rows: 1 to {LEAVES_MAX} of 1 to {VALUES_MAX} numbers are", code="sum_differs")
    if any(len(row) != len(rows[0]) or any(abs(value) > LEAF_MAX for value in row) for row in rows):
        raise Refused("the rows differ in length, or a number is beyond 2^62", code="sum_differs")


def _check_sums(sums: Row, length: int) -> None:
    if len(sums) != length or any(abs(value) > LEAF_MAX * LEAVES_MAX for value in sums):
        raise Refused(f"a sum of {len(sums)} numbers beside a row of {length}", code="bad_path")
