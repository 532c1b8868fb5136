"""Attack 45: a prover learns the auditor's r, from a leak or from many challenges, and forges products that pass.

The defence: r is derived from a secret for one epoch, is never sent, and its key wears out. A forgery that fits one
epoch's r fails the next.
"""

from __future__ import annotations

import inspect
import pickle

import numpy as np
import pytest

from protocol.errors import Refused
from verifier import freivalds, int8
from verifier.freivalds import PRIME, Key, residues

CHANCE = np.random.default_rng(9)
MATRIX = CHANCE.integers(-127, 128, (64, 96)).astype(np.int8)
ROWS = CHANCE.integers(-127, 128, (1, 96)).astype(np.int8)
PRODUCTS = int8.multiply(ROWS, MATRIX)
SECRET = b"the auditor's"


def forged(r: int8.Ints) -> int8.Products:
    """A wrong product with the right r · z: small changes d with r · d = 0, found by a birthday among sums of three."""
    sums: dict[int, tuple[int, ...]] = {}
    for draw in CHANCE.integers(-30_000, 30_000, (400_000, 3)).tolist():
        total = sum(int(r[place]) * change for place, change in enumerate(draw)) % PRIME
        if total in sums and sums[total] != tuple(draw):
            wrong = PRODUCTS.copy()
            wrong[0, :3] += np.array(draw, np.int32) - np.array(sums[total], np.int32)
            return wrong
        sums[total] = tuple(draw)
    raise AssertionError("no birthday")


def test_a_forgery_for_a_leaked_r_passes_its_epoch_and_no_other() -> None:
    wrong = forged(residues(SECRET, 1, "w", 64))
    assert not np.array_equal(wrong, PRODUCTS)
    assert Key(SECRET, 1, {"w": MATRIX}).is_product("w", ROWS, wrong), "with r known the check is worth nothing"
    assert not Key(SECRET, 2, {"w": MATRIX}).is_product("w", ROWS, wrong), "the next epoch has another r"
    assert not Key(b"another auditor's", 1, {"w": MATRIX}).is_product("w", ROWS, wrong)


def test_the_honest_product_passes_every_epoch() -> None:
    assert all(Key(SECRET, epoch, {"w": MATRIX}).is_product("w", ROWS, PRODUCTS) for epoch in range(5))


def test_a_key_shows_nothing_and_cannot_be_sent() -> None:
    key = Key(SECRET, 1, {"w": MATRIX})
    assert SECRET.decode() not in repr(key) and str(int(residues(SECRET, 1, "w", 1)[0])) not in repr(key)
    with pytest.raises(TypeError):
        pickle.dumps(key)
    assert inspect.signature(Key.is_product).return_annotation == "bool", "one bit is all that a prover can learn"


def test_a_key_wears_out_before_guessing_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert freivalds.EPOCH_CHECKS_MAX * 4_000 < PRIME
    monkeypatch.setattr(freivalds, "EPOCH_CHECKS_MAX", 3)
    key = Key(SECRET, 1, {"w": MATRIX})
    assert all(key.is_product("w", ROWS, PRODUCTS) for _ in range(3))
    with pytest.raises(Refused) as refused:
        key.is_product("w", ROWS, PRODUCTS)
    assert refused.value.code == "key_worn_out"
