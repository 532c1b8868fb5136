"""Attack 22: Merkle tricks: the last leaf twice, an inner node as a leaf, a tree of another size."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from protocol import merkle
from protocol.errors import Refused
from protocol.proof import Leaf, Opening, Trace
from protocol.trace import TraceTree, effects_bytes, leaf_bytes
from tests.verifier.court import PROVIDER
from tests.verifier.test_trace import trace
from tests.verifier.unit_court import UnitCourt
from verifier.trace import check_effects, check_opening, check_openings

ZERO = bytes(32)


def refused(root: bytes, units: int, opening: Opening) -> str:
    with pytest.raises(Refused) as caught:
        check_opening(root, units, opening)
    return caught.value.code


@pytest.mark.parametrize("units", [1, 2, 3, 6, 7, 8, 9])
def test_the_last_leaf_does_not_open_once_more_behind_itself(units: int) -> None:
    """Trees that repeat the last leaf to fill a level have the same root with it once and twice; these have not."""
    made = trace(units)
    tree = TraceTree(made)
    leaves = [*(leaf_bytes(leaf) for leaf in made.leaves), effects_bytes(made.effects)]
    twice = merkle.Tree([*leaves, leaves[-1]])
    assert twice.root != tree.root
    last = tree.open(units)
    for index in (units + 1, units + 2):
        moved = Opening(msgspec.structs.replace(last.leaf, index=index % 4097), last.path)
        assert refused(tree.root, units, moved) == "bad_path"
        assert refused(tree.root, units + 1, moved) == "bad_path"


def test_an_inner_node_is_no_leaf() -> None:
    """The bytes of two siblings, offered as a leaf whose path is one step shorter."""
    made = trace(6)
    tree = TraceTree(made)
    opening = tree.open(0)
    left = hashlib.sha256(b"shoal/1\0leaf\0" + leaf_bytes(opening.leaf)).digest()
    fake = left + opening.path[0]
    assert not merkle.verify(tree.root, fake, 0, 8, opening.path[1:])
    assert not merkle.verify(tree.root, fake, 0, 4, opening.path[1:])
    assert refused(tree.root, 6, Opening(opening.leaf, opening.path[1:])) == "bad_path"


def test_effects_and_leaves_do_not_stand_for_each_other() -> None:
    made = trace(5)
    tree = TraceTree(made)
    with pytest.raises(Refused) as caught:
        check_effects(tree.root, 5, made.effects, tree.open(5).path)
    assert caught.value.code == "bad_path"
    assert refused(tree.root, 5, Opening(Leaf(5, ZERO, 0, ZERO, ZERO, 0), tree.effects_path)) == "bad_path"
    assert effects_bytes(b"")[:20] != leaf_bytes(made.leaves[0])[:20]


def test_a_leaf_shown_twice_is_not_two_leaves() -> None:
    tree = TraceTree(trace(9))
    with pytest.raises(Refused) as caught:
        check_openings(tree.root, 9, (tree.open(2), tree.open(2)), {2, 3})
    assert caught.value.code == "bad_path"
    court = UnitCourt().begin()
    court.hear(PROVIDER, court.answer())
    answer = court.answer()
    court.hear(PROVIDER, msgspec.structs.replace(answer, openings=(answer.openings[0],) * len(answer.openings)))
    assert court.found() == ("severe", "bad_path", False)


def test_the_honest_twin_opens_everywhere() -> None:
    for units in range(1, 20):
        made: Trace = trace(units)
        tree = TraceTree(made)
        assert [check_opening(tree.root, units, tree.open(index)) for index in range(units + 1)] == list(made.leaves)
        check_effects(tree.root, units, made.effects, tree.effects_path)
