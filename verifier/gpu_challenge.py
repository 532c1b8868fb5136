"""A seeded benchmark: a product of 8-bit matrices that nobody could compute beforehand, committed row by row.

The matrices come from a beacon, so they cannot be stored; rows are opened that a later beacon chooses, and each costs
the verifier one vector-matrix product. Making the matrices and committing to rows takes a host longer than the product
takes a large card: so this tells a card from an ordinary processor, and not one large card from another.

A product that is not committed before the rows are chosen proves nothing: from C·r alone one can answer A·(B·r) without
ever having C. Spec: specs/38-canaries.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from protocol import merkle
from protocol.errors import Refused
from protocol.units import SECOND, Digest, Micros

ROWS_OPENED: Final = 12
"""Rows of all products together that are opened: who computes nine tenths of them is caught in 7 of 10 benchmarks, who
computes half in 4095 of 4096."""

SIZE_MAX: Final = 16_384
"""Rows and columns of one matrix: a verifier makes one of them again, 256 MiB."""

BLOCK: Final = 1024
"""Columns whose products a float of 24 bits adds up exactly: 1024 × 127 × 127 < 2^24."""

EFFICIENCY: Final = 4
"""An honest card reaches a quarter of its peak at least."""

MADE_PER_SECOND: Final = 300_000_000
"""Bytes of matrices that an honest host makes per second with one thread (SHAKE-256)."""

COMMITTED_PER_SECOND: Final = 500_000_000
"""Bytes of products that it fetches from its card and hashes per second."""

STANDARD_SIZE: Final = 8_192
"""Of the benchmark that is asked: 1.1 · 10^12 operations, a second of an honest host, a minute of a processor."""

Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Challenge:
    """`count` products of square matrices of `size`."""

    seed: bytes
    """Of a beacon that is younger than the request."""
    size: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.size <= SIZE_MAX or not 1 <= self.count <= 1 << 20:
            raise Refused("a benchmark of an impossible size", code="bad_challenge")

    @property
    def gop(self) -> float:
        """Billions of operations of all products."""
        return 2 * self.size**3 * self.count / 1e9

    def matrix(self, index: int, side: str) -> Int8:
        """Factor `a` or `b` of product `index`: (size, size) int8."""
        return np.stack([self.row(index, side, number) for number in range(self.size)])

    def row(self, index: int, side: str, number: int) -> Int8:
        """One row of a factor: bytes of SHAKE-256, -128 taken as -127, (size,) int8."""
        name = b"shoal/1\0gpu\0%s%s%d/%d" % (self.seed, side.encode(), index, number)
        plain: Int8 = np.maximum(np.frombuffer(hashlib.shake_256(name).digest(self.size), np.int8), -127)
        return plain

    def limit(self, gops: float, rtt: int) -> Micros:
        """Microseconds within which the host of a card of so many billions of operations per second has committed."""
        made = 2 * self.size**2 * self.count / MADE_PER_SECOND
        committed = 4 * self.size**2 * self.count / COMMITTED_PER_SECOND
        return Micros(int((self.gop * EFFICIENCY / gops + made + committed) * SECOND) + rtt)


def standard(seed: bytes) -> Challenge:
    """The benchmark that is asked."""
    return Challenge(seed, STANDARD_SIZE, 1)


def product(left: Int8, right: Int8) -> Int32:
    """left (m, k) @ right (k, n), exact: blocks of BLOCK columns through the float unit, added up as integers."""
    total = np.zeros((left.shape[0], right.shape[1]), np.int32)
    for start in range(0, left.shape[1], BLOCK):
        part = left[:, start : start + BLOCK].astype(np.float32) @ right[start : start + BLOCK].astype(np.float32)
        total += part.astype(np.int32)
    return total


class Answer:
    """All products of one prover, ready to open rows. Rows are leaves: product index × size + row."""

    def __init__(self, challenge: Challenge, products: Sequence[Int32]) -> None:
        self.challenge = challenge
        self.products = products
        self.tree = merkle.Tree([row.astype("<i4").tobytes() for item in products for row in item])

    @property
    def root(self) -> Digest:
        """The commitment, sent within the limit."""
        return self.tree.root

    def open(self, leaf: int) -> tuple[Int32, tuple[Digest, ...]]:
        """One row and its path."""
        index, row = divmod(leaf, self.challenge.size)
        return self.products[index][row], self.tree.path(leaf)


def chosen(challenge: Challenge, root: bytes, beacon: bytes) -> tuple[int, ...]:
    """The rows to open: of a beacon that did not exist when the root came. Distinct, in order."""
    leaves = challenge.size * challenge.count
    words = hashlib.shake_256(b"shoal/1\0rows\0" + challenge.seed + root + beacon).digest(16 * 8 * ROWS_OPENED)
    found = dict.fromkeys(int.from_bytes(words[at : at + 16], "big") % leaves for at in range(0, len(words), 16))
    return tuple(sorted(list(found)[:ROWS_OPENED]))


def check(
    challenge: Challenge,
    root: bytes,
    beacon: bytes,
    opened: Sequence[tuple[Int32, Sequence[bytes]]],
    took: int,
    limit: int,
) -> None:
    """Raises `Refused`: `too_slow` (µs on the verifier's clock), `bad_path`, or `wrong_row`. Integers are compared, so
    there is no tolerance that a cheaper computation could hide in."""
    if not took <= limit:
        raise Refused(
            f"the benchmark took {took} µs, the declared card has {limit}",
            code="too_slow",
            fix="Declare the card that is there.",
            numbers={"took": took, "limit": limit},
        )
    leaves = chosen(challenge, root, beacon)
    if len(opened) != len(leaves):
        raise Refused(f"{len(opened)} rows, {len(leaves)} were asked for", code="bad_path")
    total = challenge.size * challenge.count
    factors = {leaf // challenge.size: challenge.matrix(leaf // challenge.size, "b") for leaf in leaves}
    for leaf, (row, path) in zip(leaves, opened, strict=True):
        if row.shape != (challenge.size,) or row.dtype != np.int32:
            raise Refused("a row of another shape", code="bad_path")
        if not merkle.verify(root, row.astype("<i4").tobytes(), leaf, total, path):
            raise Refused(f"row {leaf} is not under this root", code="bad_path")
        index, number = divmod(leaf, challenge.size)
        right = product(challenge.row(index, "a", number)[None], factors[index])[0]
        if not np.array_equal(row, right):
            raise Refused(f"row {number} of product {index} is not the product", code="wrong_row")
