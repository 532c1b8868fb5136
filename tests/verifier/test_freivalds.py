"""verifier/freivalds.py: right products pass always, wrong ones never, and a key is for one epoch."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.guest.work.int8_model import Int8Model
from protocol.errors import Refused
from tests.verifier import answers
from verifier import freivalds, int8
from verifier.freivalds import PRIME, Key, Opened

CHANCE = np.random.default_rng(4)
MATRIX = CHANCE.integers(-127, 128, (48, 32)).astype(np.int8)
ROWS = CHANCE.integers(-127, 128, (5, 32)).astype(np.int8)
PRODUCTS = int8.multiply(ROWS, MATRIX)
KEY = Key(b"secret", 1, {"w": MATRIX})


def test_the_prime_is_one() -> None:
    assert all(PRIME % divisor for divisor in range(2, 65_537))


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=40)
def test_right_products_pass(seed: int, n: int, m: int, k: int) -> None:
    chance = np.random.default_rng(seed)
    rows, matrix = (chance.integers(-128, 128, (count, k)).astype(np.int8) for count in (n, m))
    key = Key(seed.to_bytes(8, "big"), 0, {"w": matrix})
    assert key.is_product("w", rows, int8.multiply(rows, matrix))


@given(st.integers(0, 4), st.integers(0, 47), st.integers(-(2**31), 2**31 - 1).filter(bool))
def test_one_wrong_number_is_found(row: int, column: int, by: int) -> None:
    wrong = PRODUCTS.astype(np.int64)
    wrong[row, column] += by
    assert not KEY.is_product("w", ROWS, (wrong & 0xFFFFFFFF).astype(np.uint32).view(np.int32))


def test_errors_that_cancel_in_a_sum_do_not_cancel_here() -> None:
    wrong = PRODUCTS.copy()
    wrong[0, 0] += 1
    wrong[0, 1] -= 1
    assert not KEY.is_product("w", ROWS, wrong)
    assert not KEY.is_product("w", ROWS, PRODUCTS[::-1])


@pytest.mark.parametrize(
    "products",
    [PRODUCTS[:, :-1], PRODUCTS[:-1], PRODUCTS.reshape(-1), PRODUCTS.astype(np.int64), PRODUCTS.astype(np.float32)],
)
def test_products_of_another_shape_are_malformed(products: int8.Products) -> None:
    with pytest.raises(Refused) as refused:
        KEY.is_product("w", ROWS, products)
    assert refused.value.code == "malformed_proof"


def test_a_key_wears_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freivalds, "EPOCH_CHECKS_MAX", 12)
    key = Key(b"secret", 1, {"w": MATRIX})
    assert key.is_product("w", ROWS, PRODUCTS) and key.is_product("w", ROWS, PRODUCTS)
    with pytest.raises(Refused) as refused:
        key.is_product("w", ROWS, PRODUCTS)
    assert refused.value.code == "key_worn_out"


def test_a_key_is_never_sent_or_shown() -> None:
    assert repr(KEY) == "Key(w)"
    for leak in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError):
            leak(KEY)


def test_epochs_names_and_secrets_have_their_own_randomness() -> None:
    drawn = {
        freivalds.residues(secret, epoch, name, 4).tobytes()
        for secret, epoch, name in [(b"a", 1, "w"), (b"b", 1, "w"), (b"a", 2, "w"), (b"a", 1, "v"), (b"aw", 1, "")]
    }
    assert len(drawn) == 5
    assert (freivalds.residues(b"a", 1, "w", 1000) < PRIME).all()


def opened(text: str = "The lease ") -> tuple[Opened, Int8Model]:
    model = answers.integers()
    model.reset()
    tokens = np.array(answers.tokens_of(text))
    leaves = model.extend(tokens).leaves
    return Opened(tokens, dict(model.products), leaves), model


def tools() -> tuple[freivalds.Tensors, Key]:
    weights = answers.integer_weights()
    matrices = {name: value.astype(np.int8) for name, value in weights.items() if value.dtype == np.int8}
    return {name: value for name, value in weights.items() if name not in matrices}, Key(b"secret", 7, matrices)


def test_an_honest_opening_is_equal_and_gives_the_logits() -> None:
    claim, model = opened()
    weights, key = tools()
    code, logits = freivalds.audit(weights, claim, key)
    model.reset()
    assert code == "equal" and np.array_equal(logits, model.extend(claim.tokens).logits)


@pytest.mark.parametrize("name", ["layer0.qkv", "layer1.down", "head"])
def test_one_wrong_product_is_found_in_any_layer(name: str) -> None:
    claim, _ = opened()
    wrong = claim.products[name].copy()
    wrong[3, 5] += 1
    weights, key = tools()
    assert freivalds.audit(weights, claim._replace(products={**claim.products, name: wrong}), key)[0] == "wrong_product"


def test_leaves_that_bind_other_numbers_are_found() -> None:
    claim, _ = opened()
    other, _ = opened("The leash ")
    weights, key = tools()
    assert freivalds.audit(weights, claim._replace(leaves=other.leaves), key)[0] == "wrong_leaf"


def test_malformed_openings_are_named() -> None:
    claim, _ = opened()
    weights, key = tools()
    without = {name: product for name, product in claim.products.items() if name != "layer1.up"}
    short = {**claim.products, "head": claim.products["head"][:2]}
    for bad in (
        claim._replace(products=without),
        claim._replace(products=short),
        claim._replace(tokens=claim.tokens + 90),
        claim._replace(leaves=claim.leaves[:3]),
        claim._replace(leaves=claim.leaves.astype(np.int8)),
    ):
        assert freivalds.audit(weights, bad, key)[0] == "malformed_proof"
