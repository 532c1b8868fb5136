"""storage/galois.py and erasure.py: the field, the matrix, and shards from any k of n."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import LocalError, Unavailable
from storage import galois
from storage.erasure import ANCHOR, ANCHOR_WIDE, COPIES, NUMPY, ROLLING, Code, generator
from storage.galois import PRODUCTS, inverse, inverted


def slow_product(a: int, b: int) -> int:
    """By the book: shift and reduce."""
    found = 0
    while b:
        found ^= a if b & 1 else 0
        a = a << 1 ^ (0x11D if a & 0x80 else 0)
        b >>= 1
    return found


def test_the_table_is_the_field_s() -> None:
    assert all(PRODUCTS[a, b] == slow_product(a, b) for a in range(256) for b in range(256))
    assert all(slow_product(value, inverse(value)) == 1 for value in range(1, 256))


def data_of(k: int, size: int, seed: int = 1) -> list[memoryview]:
    chance = random.Random(seed)
    return [memoryview(chance.randbytes(size)) for _ in range(k)]


def test_a_product_is_sums_of_products() -> None:
    data, chance = data_of(5, 37), random.Random(2)
    matrix = tuple(chance.randbytes(5) for _ in range(11))
    into = [memoryview(bytearray(37)) for _ in matrix]
    galois.product(matrix, data, into)
    for row, found in zip(matrix, into, strict=True):
        for at in range(37):
            expected = 0
            for coefficient, column in zip(row, data, strict=True):
                expected ^= slow_product(coefficient, column[at])
            assert found[at] == expected


def test_the_matrix_is_isa_l_s() -> None:
    rows = generator(Code(4, 7))
    assert rows[:4] == (b"\1\0\0\0", b"\0\1\0\0", b"\0\0\1\0", b"\0\0\0\1")
    assert all(slow_product(rows[i][j], i ^ j) == 1 for i in range(4, 7) for j in range(4))


def test_matrices_without_an_inverse_are_our_own_mistake() -> None:
    with pytest.raises(LocalError):
        inverted((b"\1\2", b"\1\2"))
    assert inverted((b"\0\1", b"\1\0")) == (b"\0\1", b"\1\0")


@pytest.mark.parametrize("code", [Code(2, 4), Code(3, 6), Code(4, 6)])
def test_any_k_shards_give_back_everything(code: Code) -> None:
    data = data_of(code.k, 19)
    shards = dict(enumerate([*data, *(memoryview(one) for one in NUMPY.encode(data, code.n))]))
    for present in itertools.combinations(range(code.n), code.k):
        given_shards = {index: shards[index] for index in present}
        found = NUMPY.decode(given_shards, code.k, code.n, range(code.n))
        assert found == [bytes(shards[index]) for index in range(code.n)]


@given(st.sampled_from([ROLLING, ANCHOR, ANCHOR_WIDE, Code(60, 64), Code(5, 5)]), st.integers(1, 300), st.randoms())
def test_any_losses_that_a_code_allows_are_made_good(code: Code, size: int, chance: random.Random) -> None:
    data = data_of(code.k, size)
    shards = dict(enumerate([*data, *(memoryview(one) for one in NUMPY.encode(data, code.n))]))
    lost = chance.sample(range(code.n), code.n - code.k)
    present = {index: view for index, view in shards.items() if index not in lost}
    assert NUMPY.decode(present, code.k, code.n, lost) == [bytes(shards[index]) for index in lost]


def test_one_shard_too_few_is_unavailable() -> None:
    data = data_of(8, 16)
    with pytest.raises(Unavailable) as caught:
        NUMPY.decode(dict(enumerate(data[:7])), 8, 14, [7])
    assert caught.value.code == "too_few_shards"


def test_long_shards_are_computed_in_blocks() -> None:
    size = galois.BLOCK_BYTES + 5
    data = data_of(3, size)
    parity = NUMPY.encode(data, 5)
    for at in (0, galois.BLOCK_BYTES - 1, galois.BLOCK_BYTES, size - 1):
        assert [bytes(shard[at : at + 1]) for shard in parity] == [
            bytes(shard) for shard in NUMPY.encode([column[at : at + 1] for column in data], 5)
        ]


def test_shards_of_different_lengths_are_our_own_mistake() -> None:
    with pytest.raises(LocalError):
        NUMPY.encode([memoryview(b"ab"), memoryview(b"a")], 4)
    with pytest.raises(LocalError):
        NUMPY.decode({0: memoryview(b"a"), 9: memoryview(b"b")}, 2, 4, [1])


def test_codes_have_limits_and_an_order() -> None:
    for k, n in ((0, 1), (3, 2), (1, 65)):
        with pytest.raises(LocalError):
            Code(k, n)
    assert ANCHOR.is_as_strong_as(ANCHOR_WIDE)
    assert ANCHOR_WIDE.is_as_strong_as(ROLLING)
    assert not ROLLING.is_as_strong_as(ANCHOR)
    assert not COPIES.is_as_strong_as(ROLLING)
    assert (COPIES.kind, ROLLING.kind) == ("copy", "rs")
