"""The tree of sums: every leaf proves its part of the total, and nothing else does."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from verifier.merkle_sum import LEAF_MAX, Row, Sibling, SumTree, check_path

numbers = st.integers(-LEAF_MAX, LEAF_MAX)
tables = st.integers(1, 3).flatmap(lambda k: st.lists(st.tuples(*[numbers] * k), min_size=1, max_size=20))


def refused(tree: SumTree, index: int, row: Row, path: tuple[Sibling, ...]) -> str:
    with pytest.raises(Refused) as caught:
        check_path(tree.root, index, row, path)
    return caught.value.code


@given(rows=tables)
def test_every_leaf_is_proved_and_the_root_is_their_sum(rows: list[Row]) -> None:
    tree = SumTree(rows)
    assert tree.root.sums == tuple(sum(column) for column in zip(*rows, strict=True))
    assert tree.root.leaves == len(rows)
    for index, row in enumerate(rows):
        check_path(tree.root, index, row, tree.path(index))


@given(rows=tables, data=st.data())
def test_nothing_else_is(rows: list[Row], data: st.DataObject) -> None:
    tree = SumTree(rows)
    index = data.draw(st.integers(0, len(rows) - 1))
    changed = tuple(value + 1 if value < LEAF_MAX else value - 1 for value in rows[index])
    assert refused(tree, index, changed, tree.path(index)) == "sum_differs"
    other = data.draw(st.integers(0, len(rows) + 2))
    if other != index:
        assert refused(tree, other, rows[index], tree.path(index)) in ("bad_path", "sum_differs")
    path = tree.path(index)
    assert refused(tree, index, rows[index], (*path, Sibling(bytes(32), rows[0]))) == "bad_path"
    if path:
        assert refused(tree, index, rows[index], path[:-1]) == "bad_path"


def test_a_total_is_bound_to_its_hash() -> None:
    tree = SumTree([(1,), (2,), (3,), (4,)])
    for change in ({"sums": (11,)}, {"leaves": 3}, {"hash": bytes(32)}):
        root = msgspec.structs.replace(tree.root, **change)
        with pytest.raises(Refused):
            check_path(root, 0, (1,), tree.path(0))


def test_a_sibling_cannot_lend_to_another() -> None:
    """A leaf opened as 5 with a sibling of -2 instead of 1 and 2: the same total, another tree."""
    tree = SumTree([(1,), (2,)])
    assert refused(tree, 0, (5,), (Sibling(tree.path(0)[0].hash, (-2,)),)) == "bad_path"


def test_an_inner_node_is_no_leaf() -> None:
    tree = SumTree([(1,), (2,), (3,), (4,)])
    inner = tree.path(0)[1]
    smaller = msgspec.structs.replace(tree.root, leaves=2)
    with pytest.raises(Refused):
        check_path(smaller, 1, inner.sums, (Sibling(inner.hash, (3,)),))


@pytest.mark.parametrize("rows", [[], [()], [(1,), (1, 2)], [(LEAF_MAX + 1,)], [(0,) * 65], [(0,)] * 4097])
def test_what_cannot_be_added(rows: list[Row]) -> None:
    with pytest.raises(Refused) as caught:
        SumTree(rows)
    assert caught.value.code == "sum_differs"


@pytest.mark.parametrize("sibling", [Sibling(b"", (2,)), Sibling(bytes(32), ()), Sibling(bytes(32), (1 << 90,))])
def test_a_malformed_sibling(sibling: Sibling) -> None:
    assert refused(SumTree([(1,), (2,)]), 0, (1,), (sibling,)) == "bad_path"


def test_there_is_no_path_to_nowhere() -> None:
    with pytest.raises(IndexError):
        SumTree([(1,)]).path(1)
