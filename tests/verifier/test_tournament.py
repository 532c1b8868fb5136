"""Tournaments: one honest claim among any number of lies, in time that grows with the logarithm of their number."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.units import Digest, Micros
from tests.verifier.duel import NOW, Duel, history
from verifier.advocate import Held, claim_of
from verifier.chess_clock import CLOCK_MAX, EXTENSION, EXTENSIONS_MAX, LOW, TOTAL, ChessClock
from verifier.tournament import GAME_TIME_MAX, Pair, Tournament, divide, games_max

TRUTH = history(40, 1)
HONEST = claim_of(TRUTH)


def contest(claims: int, seed: int, play: bool) -> tuple[int, int, Digest | None]:
    """(games of the honest claim, µs that everything took when pairs play side by side, who is left)."""
    dice = Random(seed)
    lies: dict[Digest, Held] = {}
    while len(lies) < claims - 1:
        lie = claim_of(history(40, 1, dice.randrange(40), b"%d" % len(lies)))
        lies[lie.tree.root] = lie
    known = {**lies, HONEST.tree.root: HONEST}
    order = list(known)
    dice.shuffle(order)
    contest_, free_at, honest_games = Tournament(), dict.fromkeys(order, 0), 0
    pairs = [pair for claim in order if (pair := contest_.enter(claim)) is not None]
    while pairs or (last := contest_.close()) is not None:
        pair = pairs.pop(0) if pairs else last
        assert isinstance(pair, Pair)
        begin = max(free_at[pair.first], free_at[pair.second])
        winner, took = result(pair, known, dice, play)
        honest_games += HONEST.tree.root in (pair.first, pair.second)
        loser = pair.second if winner == pair.first else pair.first
        for claim in (pair.first, pair.second):
            free_at[claim] = begin + took
        following = contest_.won(winner, loser)
        pairs += [following] if following is not None else []
    return honest_games, max(free_at.values()), contest_.champion


def result(pair: Pair, known: dict[Digest, Held], dice: Random, play: bool) -> tuple[Digest | None, int]:
    if play:
        game = Duel(known[pair.first], known[pair.second], TRUTH, seed=dice.randrange(10**6), loss=0.1)
        ended = game.play()
        return ended.winner, ended.at - NOW
    if HONEST.tree.root in (pair.first, pair.second):
        return HONEST.tree.root, GAME_TIME_MAX
    return dice.choice((pair.first, pair.second, None)), GAME_TIME_MAX


@settings(max_examples=60, deadline=None)
@given(claims=st.integers(1, 64), seed=st.integers(0, 10**6))
def test_one_honest_claim_is_left_and_its_effort_is_logarithmic(claims: int, seed: int) -> None:
    games, took, left = contest(claims, seed, play=False)
    assert left == HONEST.tree.root
    assert games <= games_max(claims)
    assert took <= 2 * games_max(claims) * GAME_TIME_MAX


@pytest.mark.parametrize("claims", [1, 2, 5, 16, 64])
def test_the_same_with_games_that_are_played(claims: int) -> None:
    games, took, left = contest(claims, claims, play=True)
    assert left == HONEST.tree.root
    assert games <= games_max(claims)
    assert took <= 2 * games_max(claims) * GAME_TIME_MAX


def test_a_root_posted_twice_is_one_claim() -> None:
    contest_ = Tournament()
    one, other = Digest(b"1" * 32), Digest(b"2" * 32)
    assert contest_.enter(one) is None
    assert contest_.enter(one) is None
    assert contest_.enter(other) == Pair(one, other)
    assert contest_.close() is None, "a game is on"
    assert contest_.champion is None
    assert contest_.won(None, one) is None
    assert contest_.champion is None, "both have lost"


@given(bond=st.integers(1, 2**62))
def test_at_most_half_of_a_bond_goes_to_the_winner(bond: int) -> None:
    reward, burned = divide(bond)
    assert reward + burned == bond
    assert 0 <= reward <= burned


# ── clocks ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@given(moves=st.lists(st.integers(0, TOTAL), max_size=60))
def test_a_clock_runs_no_longer_than_its_bound(moves: list[int]) -> None:
    clock, now, thought = ChessClock(), NOW, 0
    for move in moves:
        clock.start(now)
        deadline = clock.deadline
        assert deadline is not None
        now = Micros(min(now + move, deadline))
        if clock.is_out(now):
            break
        thought += move
        clock.stop(now)
        now = Micros(now + 5)
        assert not clock.is_out(Micros(now + 10**15)), "a clock that stands does not run out"
    assert thought <= CLOCK_MAX
    assert clock.extensions <= EXTENSIONS_MAX


def test_a_clock_that_is_nearly_out_is_extended_on_the_move() -> None:
    clock = ChessClock()
    clock.stop(NOW)
    clock.start(NOW)
    clock.start(Micros(NOW + 1))
    clock.stop(Micros(NOW + TOTAL - LOW))
    assert (clock.left, clock.extensions) == (LOW, 0)
    clock.start(NOW)
    clock.stop(Micros(NOW + 1))
    assert (clock.left, clock.extensions) == (LOW - 1 + EXTENSION, 1)
