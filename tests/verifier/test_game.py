"""The game alone: the first different leaf is found, in as many rounds as said, and lies about paths change nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import merkle, wire
from protocol.court_messages import BisectOpened, BisectRequest, Point, PointsOpened, PointsRequest
from protocol.errors import LocalError, RemoteViolation
from protocol.units import Digest, PeerId
from tests.verifier.duel import history
from verifier.game import Game, Nodes, game_id, rounds

SOMEBODY = PeerId(b"p" * 32)


def answer(game: Game, root: Digest, tree: merkle.Tree, leaves: tuple[bytes, ...]) -> list[object]:
    """What a claim owes now, given; the messages that it takes."""
    wanted = game.wanted(root)
    if isinstance(wanted, Nodes):
        nodes = tree.below(wanted.level, wanted.place, wanted.depth)
        game.narrow(root, wanted.level, wanted.place, nodes, SOMEBODY)
        ask = BisectRequest(root, root, wanted.level, wanted.place, wanted.depth)
        return [ask, BisectOpened(root, root, wanted.level, wanted.place, nodes)]
    points = tuple(Point(index, leaves[index], tree.path(index)) for index in wanted)
    if not points:
        return []
    game.open(root, points, SOMEBODY)
    return [PointsRequest(root, root, wanted), PointsOpened(root, root, points)]


def play(one: tuple[bytes, ...], other: tuple[bytes, ...], parts: int) -> tuple[Game, int]:
    """(finished game, bytes of all messages)."""
    trees = (merkle.Tree(one), merkle.Tree(other))
    game = Game(trees[0].root, trees[1].root, len(one), parts)
    size = 0
    while game.dispute is None:
        for tree, leaves in zip(trees, (one, other), strict=True):
            size += sum(len(wire.encode(item)) for item in answer(game, tree.root, tree, leaves))
    return game, size


@given(
    count=st.integers(2, 300), parts=st.sampled_from((2, 4, 8, 16, 32)), at=st.integers(0, 10**6), only=st.booleans()
)
def test_the_first_different_leaf_is_found(count: int, parts: int, at: int, only: bool) -> None:
    at %= count
    one = history(count, 1)
    other = (*one[:at], b"another", *one[at + 1 :]) if only else history(count, 1, at)
    game, _ = play(one, other, parts)
    assert game.dispute is not None
    assert (game.dispute.index, game.dispute.leaves) == (at, (one[at], other[at]))
    assert game.dispute.agreed == (one[at - 1] if at else None)
    assert (game.dispute.after is None) == bool(at)
    assert game.round == rounds(count, parts)


@given(seeds=st.lists(st.sampled_from((0, 1)), min_size=2, max_size=40), parts=st.sampled_from((2, 8, 32)))
def test_histories_that_differ_anywhere(seeds: list[int], parts: int) -> None:
    """Units may be independent: differences in the middle, with equal ends, are found as well."""
    one = tuple(b"same %d" % index for index in range(len(seeds)))
    other = tuple(b"other" if seed else leaf for seed, leaf in zip(seeds, one, strict=True))
    if one == other:
        return
    game, _ = play(one, other, parts)
    assert game.dispute is not None
    assert game.dispute.index == seeds.index(1)


@settings(max_examples=30)
@given(count=st.integers(2, 100), spoil=st.integers(0, 3), at=st.integers(0, 10**6))
def test_what_does_not_fit_is_the_senders_fault(count: int, spoil: int, at: int) -> None:
    one, other = history(count, 1), history(count, 1, at % count)
    trees = (merkle.Tree(one), merkle.Tree(other))
    game = Game(trees[0].root, trees[1].root, count)
    wanted = game.wanted(trees[0].root)
    assert isinstance(wanted, Nodes)
    nodes = trees[0].below(wanted.level, wanted.place, wanted.depth)
    wrong = [
        trees[1].below(wanted.level, wanted.place, wanted.depth),
        nodes[:-1],
        (*nodes, nodes[-1]),
        (bytes(32), *nodes[1:]),
    ][spoil]
    with pytest.raises(RemoteViolation) as caught:
        game.narrow(trees[0].root, wanted.level, wanted.place, wrong, SOMEBODY)
    assert caught.value.code == "bad_path"
    assert game.wanted(trees[0].root) == wanted, "the claim still has its move"
    assert not game.narrow(trees[0].root, 0, 7, nodes, SOMEBODY), "what was not asked for is let pass"
    elsewhere = Point((at + 1) % count, one[at % count], trees[0].path(at % count))
    with pytest.raises(RemoteViolation, match="not under this root"):
        game.open(trees[0].root, (elsewhere,), SOMEBODY)


def test_a_node_is_no_leaf_and_the_count_is_bound() -> None:
    leaves = history(8, 1)
    tree = merkle.Tree(leaves)
    assert not merkle.verify(tree.root, b"".join(tree.below(1, 0, 1)), 0, 4, tree.path(0)[1:])
    game = Game(tree.root, merkle.root(history(8, 2)), 9)
    with pytest.raises(RemoteViolation):
        game.narrow(tree.root, merkle.height(9), 0, tree.below(3, 0, 3), SOMEBODY)


def test_games_that_are_none() -> None:
    one, other = Digest(b"1" * 32), Digest(b"2" * 32)
    for wrong in ((one, one, 8, 8), (one, other, 1, 8), (one, other, 8, 3), (one, other, 8, 64)):
        with pytest.raises(LocalError):
            Game(*wrong)
    with pytest.raises(LocalError):
        Game(one, other, 8).wanted(Digest(b"3" * 32))


def test_the_name_of_a_game_binds_both_claims_and_what_it_is_about() -> None:
    names = {game_id(a, b, c) for a in (b"1" * 32, b"2" * 32) for b in (b"3" * 32, b"4" * 32) for c in (b"x", b"y")}
    assert len(names) == 8


@pytest.mark.parametrize("parts", [2, 8, 32])
def test_rounds_and_bytes_at_4096(parts: int) -> None:
    """The table of the specification, at a size that a test can afford; the measured one is of 2**20 leaves."""
    game, size = play(history(4096, 1), history(4096, 1, 3001), parts)
    assert game.round == rounds(4096, parts)
    assert size < {2: 10_000, 8: 7_500, 32: 10_500}[parts]
