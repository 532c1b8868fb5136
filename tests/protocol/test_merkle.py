"""Merkle paths prove one leaf at one index of one count, and nothing else."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import merkle

LEAVES = st.lists(st.binary(max_size=8), min_size=1, max_size=40)


@given(leaves=LEAVES, data=st.data())
def test_every_path_verifies_and_only_at_its_place(leaves: list[bytes], data: st.DataObject) -> None:
    root = merkle.root(leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = merkle.path(leaves, index)
    assert merkle.verify(root, leaves[index], index, len(leaves), path)
    other = data.draw(st.integers(-2, len(leaves) + 2).filter(lambda value: value != index))
    if not 0 <= other < len(leaves) or leaves[other] != leaves[index]:
        assert not merkle.verify(root, leaves[index], other, len(leaves), path)
    count = data.draw(st.integers(0, 80).filter(lambda value: value != len(leaves)))
    assert not merkle.verify(root, leaves[index], index, count, path)
    assert not merkle.verify(root, leaves[index] + b"x", index, len(leaves), path)
    assert not merkle.verify(root, leaves[index], index, len(leaves), (*path, bytes(32)))
    if path:
        assert not merkle.verify(root, leaves[index], index, len(leaves), path[:-1])


@given(first=LEAVES, second=LEAVES)
def test_roots_differ_when_leaves_do(first: list[bytes], second: list[bytes]) -> None:
    assert (merkle.root(first) == merkle.root(second)) == (first == second)


def test_the_root_of_nothing_is_not_the_root_of_an_empty_leaf() -> None:
    assert merkle.root([]) != merkle.root([b""])


def test_a_node_is_no_leaf() -> None:
    """The concatenation of two hashes as a leaf does not give the tree above them."""
    hashes = [hashlib.sha256(b"shoal/1\0leaf\0" + leaf).digest() for leaf in (b"a", b"b")]
    assert merkle.root([b"".join(hashes)]) != merkle.root([b"a", b"b"])


@pytest.mark.parametrize("index", [-1, 3])
def test_no_path_outside(index: int) -> None:
    with pytest.raises(IndexError):
        merkle.path([b"a", b"b", b"c"], index)


@given(junk=st.lists(st.binary(max_size=40), max_size=6), index=st.integers(-5, 50), count=st.integers(-5, 50))
def test_junk_never_verifies_or_raises(junk: list[bytes], index: int, count: int) -> None:
    assert not merkle.verify(bytes(32), b"leaf", index, count, junk)
