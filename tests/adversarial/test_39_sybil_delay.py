"""Attack 39: delay a decision with many rival claims of one adversary.

Parties are claims, paired in a tournament: the honest one plays a logarithm of games, and everything ends in time.
"""

from __future__ import annotations

import pytest

from tests.verifier.duel import NOW, SECOND_PEER, duel
from tests.verifier.test_tournament import HONEST, contest
from verifier.chess_clock import CLOCK_MAX
from verifier.tournament import GAME_TIME_MAX, Tournament, games_max


@pytest.mark.parametrize("sybils", [1, 2, 3, 7, 15, 31, 63])
def test_time_and_effort_are_logarithmic(sybils: int) -> None:
    games, took, left = contest(sybils + 1, seed=sybils, play=False)
    assert left == HONEST.tree.root
    assert games <= games_max(sybils + 1) <= 6
    assert took <= 2 * games_max(sybils + 1) * GAME_TIME_MAX


def test_played_for_real_against_sixty_three() -> None:
    games, _, left = contest(64, seed=39, play=True)
    assert (left, games) == (HONEST.tree.root, 6)


def test_the_same_root_from_many_identities_is_one_claim() -> None:
    contest_ = Tournament()
    roots = [HONEST.tree.root] * 64
    assert [contest_.enter(root) for root in roots] == [None] * 64
    assert contest_.champion == HONEST.tree.root


def test_a_sybil_that_thinks_as_long_as_it_may_ends_too() -> None:
    ended = duel(100, 60, silent=frozenset([SECOND_PEER])).play()
    assert ended.code == "silent"
    assert ended.at - NOW <= CLOCK_MAX
