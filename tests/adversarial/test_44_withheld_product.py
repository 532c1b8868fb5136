"""Attack 44: a prover answers A(B r) to a Freivalds challenge and never computes the product C = A B.

The defence: the auditor takes the whole product, bound by leaves before its key matters, and multiplies by r itself; an
answer in the product's place has the wrong shape, and r is nobody's to know.
"""

from __future__ import annotations

import numpy as np
import pytest

from protocol.errors import Refused
from verifier import int8
from verifier.freivalds import PRIME, Key, residues

CHANCE = np.random.default_rng(8)
MATRIX = CHANCE.integers(-127, 128, (64, 96)).astype(np.int8)
ROWS = CHANCE.integers(-127, 128, (40, 96)).astype(np.int8)


def cheap_answer(r: int8.Ints) -> int8.Ints:
    """(r W) x for every row: the answer to a challenge r that its prover knows, in O(n²), without the product."""
    v = (r @ MATRIX.astype(np.int64)) % PRIME
    return (ROWS.astype(np.int64) @ v) % PRIME


def test_a_check_that_believes_the_provers_dot_products_is_fooled() -> None:
    """What the defence is against: the naive check compares the prover's own C r with A (B r)."""
    r = residues(b"public challenge", 0, "w", 64)
    claimed = cheap_answer(r)
    assert np.array_equal(claimed, cheap_answer(r)), "it always agrees, and no product was computed"
    honest = (int8.multiply(ROWS, MATRIX).astype(object) @ r.astype(object)) % PRIME
    assert np.array_equal(claimed, honest.astype(np.int64))


@pytest.mark.parametrize("withheld", ["row of answers", "column of answers", "nothing"])
def test_an_answer_in_the_products_place_is_malformed(withheld: str) -> None:
    key = Key(b"secret", 1, {"w": MATRIX})
    answer = (cheap_answer(residues(b"guess", 1, "w", 64)) & 0x7FFFFFFF).astype(np.int32)
    sent = {"row of answers": answer, "column of answers": answer[:, None], "nothing": np.zeros((0, 64), np.int32)}
    with pytest.raises(Refused) as refused:
        key.is_product("w", ROWS, sent[withheld])
    assert refused.value.code == "malformed_proof"


def test_a_product_that_was_made_up_is_wrong() -> None:
    key = Key(b"secret", 1, {"w": MATRIX})
    made_up = CHANCE.integers(-(2**20), 2**20, (40, 64)).astype(np.int32)
    assert not key.is_product("w", ROWS, made_up)


def test_the_product_itself_is_accepted() -> None:
    assert Key(b"secret", 1, {"w": MATRIX}).is_product("w", ROWS, int8.multiply_fast(ROWS, MATRIX))
