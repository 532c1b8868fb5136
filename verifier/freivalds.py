"""Checking products of matrices in two dot products a row, instead of computing them again.

For a secret random r, fixed before the product is seen: r · (W x) = (r W) · x. The right side needs one vector v = r W
for each matrix, made once. A product that is wrong anywhere passes with probability 1 / PRIME, whoever made it, unless
it knows r: so r is derived from a secret that stays with the auditor, changes with the epoch, and is never sent. The
product itself must be in the auditor's hands; a prover that sends r · z instead of z has shown nothing.
Spec: specs/34-inference-proof.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from protocol.errors import Refused
from verifier import int8
from verifier.int8 import Bytes8, Ints, Products

PRIME: Final = 2**32 - 5
"""The largest prime of 32 bits: a product of two residues fits 64."""
ROWS_MAX: Final = 1 << 22
"""Rows or columns of one matrix: sums of residues times 8 bits, or of residues alone, fit 63 bits."""
EPOCH_CHECKS_MAX: Final = 1_000_000
"""Products that one key checks before the next epoch: after so many, a forger that tries has 1 chance in 4,000."""
HASH_BYTES: Final = 32
"""Of one leaf."""

Tensors = Mapping[str, npt.NDArray[np.generic]]


class Key:
    """The auditor's secret for one epoch: v = r W for every matrix, and r. Has no form that could be sent."""

    def __init__(self, secret: bytes, epoch: int, matrices: Mapping[str, Bytes8]) -> None:
        self._left = EPOCH_CHECKS_MAX
        self._r = {name: residues(secret, epoch, name, len(matrix)) for name, matrix in matrices.items()}
        self._v = {name: _times(self._r[name], matrix) for name, matrix in matrices.items()}

    def is_product(self, name: str, rows: Bytes8, products: Products) -> bool:
        """Whether products (n, m) are rows (n, k) times the matrix `name`, for every row by itself.

        Refused `malformed_proof` for other shapes or types, `key_worn_out` when the epoch is over."""
        r, v = self._r[name], self._v[name]
        if products.dtype != np.int32 or products.shape != (len(rows), len(r)) or rows.shape[1:] != v.shape:
            raise Refused(
                f"products of {name} are {products.dtype} {products.shape}, not int32 {(len(rows), len(r))}",
                code="malformed_proof",
            )
        if len(rows) > self._left:
            raise Refused("this key has checked enough", code="key_worn_out", fix="Make the key of the next epoch.")
        self._left -= len(rows)
        left = (rows.astype(np.int64) @ v) % PRIME
        right = _dot(products, r)
        return bool((left == right).all())

    def __repr__(self) -> str:
        """Nothing of what is secret."""
        return f"Key({', '.join(self._r)})"

    def __reduce__(self) -> str:
        """Raises TypeError."""
        raise TypeError("a key is not sent")


def residues(secret: bytes, epoch: int, name: str, count: int) -> Ints:
    """r for one matrix: `count` numbers below PRIME. Words of 64 bits: no residue is likelier than another by 2^-32."""
    place = b"shoal/1\0freivalds\0%d/%d\0" % (epoch, len(secret)) + secret + name.encode()
    words = np.frombuffer(hashlib.shake_256(place).digest(8 * count), "<u8")
    return (words % np.uint64(PRIME)).astype(np.int64)


class Opened(NamedTuple):
    """What a provider opens for one request: the products of every matrix at every position."""

    tokens: Ints
    """(positions,): the prompt and the answer without its last token, as they were fed."""
    products: Mapping[str, Products]
    """Name of a matrix -> int32 (positions, rows of the matrix)."""
    leaves: npt.NDArray[np.uint8]
    """(positions, 32): what was committed to."""


def audit(weights: Tensors, opened: Opened, key: Key) -> tuple[str, Ints]:
    """(code, logits (positions, vocabulary) in 2^-16) of an opened request: `equal`, `wrong_product`, `wrong_leaf`,
    `malformed_proof`.

    Every matrix is checked by its key; norms, attention, tables and requantisation are computed again. `weights` needs
    no matrices, only `embed`, `place`, `heads` and the scales."""
    wrong: list[str] = []

    def look_up(name: str, rows: Bytes8) -> Products:
        product = opened.products[name]
        if not key.is_product(name, rows, product):
            wrong.append(name)
        return product

    nothing = np.empty((0, 0), np.int64)
    if opened.leaves.dtype != np.uint8 or opened.leaves.shape != (len(opened.tokens), HASH_BYTES):
        return "malformed_proof", nothing
    try:
        logits, _ = int8.Network(weights, look_up).extend(opened.tokens)
    except (IndexError, KeyError):
        return "malformed_proof", nothing
    except Refused as refused:
        if refused.code != "malformed_proof":
            raise
        return refused.code, nothing
    if wrong:
        return "wrong_product", nothing
    for place, token in enumerate(opened.tokens):
        row = {name: product[place] for name, product in opened.products.items()}
        if int8.leaf(int(token), row, logits[place]) != opened.leaves[place].tobytes():
            return "wrong_leaf", nothing
    return "equal", logits


def _times(r: Ints, matrix: Bytes8) -> Ints:
    """r W mod PRIME. |r W| < 2^32 × 2^7 × ROWS_MAX = 2^61."""
    if max(matrix.shape) > ROWS_MAX:
        raise Refused(f"a matrix of {matrix.shape} is too large for a key", code="too_large")
    v: Ints = (r @ matrix.astype(np.int64)) % PRIME
    return v


def _dot(products: Products, r: Ints) -> Ints:
    """products · r mod PRIME, row by row; every term is reduced before the sum."""
    terms = (products.astype(np.int64) % PRIME).astype(np.uint64) * r.astype(np.uint64) % np.uint64(PRIME)
    total: Ints = terms.sum(axis=1, dtype=np.uint64).astype(np.int64) % PRIME
    return total
