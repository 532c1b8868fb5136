"""Games over a bad line: the honest claim wins whatever happens to messages, and silence loses."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.court_messages import BisectOpened, LeafOpened, LevelOpened, Point, PointsOpened
from protocol.effects import Effect, Send, Wake
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.units import SECOND, Digest, Micros
from tests.verifier.duel import ABOUT, FIRST, NOW, REFEREE, SECOND_PEER, STRANGER, Duel, duel, history
from verifier import referee as rules
from verifier.advocate import Advocate, claim_of
from verifier.chess_clock import CLOCK_MAX, TOTAL
from verifier.game import Dispute, Game
from verifier.referee import Referee
from verifier.tournament import GAME_TIME_MAX


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(2, 600),
    at=st.integers(0, 10**6),
    honest_first=st.booleans(),
    parts=st.sampled_from((2, 8, 32)),
    seed=st.integers(0, 10**6),
    loss=st.sampled_from((0.0, 0.1, 0.3)),
)
def test_the_honest_claim_always_wins(
    count: int, at: int, honest_first: bool, parts: int, seed: int, loss: float
) -> None:
    game = duel(count, at % count, honest_first, seed=seed, loss=loss, parts=parts)
    ended = game.play()
    honest = (game.first if honest_first else game.second).tree.root
    assert (ended.winner, ended.code) == (honest, "wrong_step")
    assert ended.at - NOW <= GAME_TIME_MAX
    assert not game.referee.matches


@pytest.mark.parametrize("silent", [FIRST, SECOND_PEER])
def test_silence_loses_that_claim_only(silent: bytes) -> None:
    game = duel(100, 50, silent=frozenset([silent]))
    ended = game.play()
    assert ended.code == "silent"
    assert ended.winner == (game.second if silent == FIRST else game.first).tree.root
    assert TOTAL <= ended.at - NOW <= CLOCK_MAX


def test_both_silent_both_lose() -> None:
    ended = duel(100, 50, silent=frozenset([FIRST, SECOND_PEER])).play()
    assert (ended.winner, ended.code) == (None, "silent")


def test_two_lies_both_lose() -> None:
    game = Duel(claim_of(history(64, 1, 40, b"a")), claim_of(history(64, 1, 40, b"b")), history(64, 1))
    assert game.play().winner is None


def test_a_stranger_can_speak_for_a_claim_but_not_against_it() -> None:
    game = duel(64, 40, silent=frozenset([FIRST]))
    root = game.first.tree.root
    helper = Advocate(lambda: (REFEREE,))
    helper.held[root] = game.first
    other = game.second.tree
    effects = game.referee.begin(Game(root, other.root, 64), ABOUT, ((FIRST,), (SECOND_PEER,)), NOW)
    [question] = [e.message for e in effects if isinstance(e, Send) and e.peer == FIRST]
    forged = msgspec.structs.replace(
        helper.receive(REFEREE, question, NOW)[0].message,  # type: ignore[union-attr]
        nodes=other.below(6, 0, 3),
    )
    with pytest.raises(RemoteViolation) as caught:
        game.referee.receive(STRANGER, forged, NOW)
    assert (caught.value.peer, caught.value.code) == (STRANGER, "bad_path")
    [reply] = helper.receive(REFEREE, question, NOW)
    assert isinstance(reply, Send)
    game.referee.receive(STRANGER, reply.message, NOW)
    [match] = game.referee.matches.values()
    assert not match.owes(0) and match.owes(1)
    assert match.clocks[0].deadline is None and match.clocks[1].deadline is not None


def test_a_move_after_the_flag_has_fallen_is_no_move() -> None:
    game = duel(64, 40)
    effects = game.referee.begin(
        Game(game.first.tree.root, game.second.tree.root, 64), ABOUT, ((FIRST,), (SECOND_PEER,)), NOW
    )
    late: list[Effect] = []
    for peer in (SECOND_PEER, FIRST):
        [question] = [e.message for e in effects if isinstance(e, Send) and e.peer == peer]
        [reply] = game.machines[peer].receive(REFEREE, question, NOW)
        assert isinstance(reply, Send)
        at = NOW if peer == SECOND_PEER else Micros(NOW + TOTAL)
        late += game.referee.receive(peer, reply.message, at)
    assert game.ended is not None
    assert (game.ended.winner, game.ended.code) == (game.second.tree.root, "silent")


def test_questions_are_asked_again_and_only_of_who_owes() -> None:
    game = duel(64, 40)
    first = game.referee.begin(
        Game(game.first.tree.root, game.second.tree.root, 64), ABOUT, ((FIRST,), (SECOND_PEER,)), NOW
    )
    again = game.referee.tick(Micros(NOW + rules.ASK_AGAIN))
    asked = [[e.peer for e in effects if isinstance(e, Send)] for effects in (first, again)]
    assert asked == [[FIRST, SECOND_PEER]] * 2
    [question] = [e.message for e in first if isinstance(e, Send) and e.peer == FIRST]
    [reply] = game.machines[FIRST].receive(REFEREE, question, NOW)
    assert isinstance(reply, Send)
    assert game.referee.receive(FIRST, reply.message, NOW) == [], "the other one still owes"
    later = game.referee.tick(Micros(NOW + 2 * rules.ASK_AGAIN))
    assert [e.peer for e in later if isinstance(e, Send)] == [SECOND_PEER]
    assert any(isinstance(e, Wake) for e in later)


def test_what_belongs_to_no_game_is_let_pass() -> None:
    referee = Referee(lambda *a: [], lambda *a: [])
    assert referee.receive(FIRST, BisectOpened(b"g" * 32, b"r" * 32, 1, 0, (b"n" * 32,)), NOW) == []
    assert referee.decide(Digest(b"g" * 32), 0, "wrong_step", NOW) == []
    assert referee.tick(NOW) == []
    with pytest.raises(LocalError):
        referee.receive(FIRST, "text", NOW)


def test_one_game_is_played_once_and_their_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "GAMES_MAX", 1)
    referee = Referee(lambda *a: [], lambda *a: [])
    roots = [claim_of(history(4, seed)).tree.root for seed in range(3)]
    people = ((FIRST,), (SECOND_PEER,))
    assert referee.begin(Game(roots[0], roots[1], 4), ABOUT, people, NOW)
    assert referee.begin(Game(roots[0], roots[1], 4), ABOUT, people, NOW) == []
    with pytest.raises(Refused) as caught:
        referee.begin(Game(roots[0], roots[2], 4), ABOUT, people, NOW)
    assert caught.value.code == "busy"


def test_leaves_at_the_start_come_with_what_follows() -> None:
    found: list[Dispute] = []

    def leaf(game: Digest, dispute: Dispute, now: Micros) -> list[Effect]:
        found.append(dispute)
        return duel_.referee.decide(game, 1, "wrong_step", now)

    duel_ = duel(30, 0)
    duel_.referee = Referee(duel_._said, leaf)
    duel_.play()
    assert (found[0].index, found[0].agreed) == (0, None)
    assert found[0].after == (duel_.first.leaves[1], duel_.second.leaves[1])


def test_advocates_answer_referees_only_and_only_what_they_hold() -> None:
    game = duel(64, 40)
    advocate = game.machines[FIRST]
    effects = game.referee.begin(
        Game(game.first.tree.root, game.second.tree.root, 64), ABOUT, ((FIRST,), (SECOND_PEER,)), NOW
    )
    [question] = [e.message for e in effects if isinstance(e, Send) and e.peer == SECOND_PEER]
    codes = []
    for sender, message in ((STRANGER, question), (REFEREE, question)):
        with pytest.raises(Refused) as caught:
            advocate.receive(sender, message, NOW)
        codes.append(caught.value.code)
    assert codes == ["not_a_validator", "no_trace"]
    assert advocate.tick(NOW) == []
    with pytest.raises(LocalError):
        advocate.receive(REFEREE, PointsOpened(b"g" * 32, b"r" * 32, ()), NOW)


def test_a_game_of_the_largest_trace_is_short() -> None:
    game = duel(4098, 3000)
    game.play()
    assert game.ended is not None
    assert game.ended.at - NOW < 60 * SECOND


hashes = st.sampled_from((b"a" * 32, b"b" * 32, bytes(32)))
one_point = st.builds(Point, st.integers(0, 80), st.binary(max_size=40), st.tuples(hashes))
points = st.lists(one_point, min_size=1, max_size=2)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), side=st.integers(0, 1), level=st.integers(0, 7), place=st.integers(0, 80))
def test_whatever_strangers_send_changes_nothing(data: st.DataObject, side: int, level: int, place: int) -> None:
    game = duel(64, 40)
    roots = (game.first.tree.root, game.second.tree.root)
    game.referee.begin(Game(*roots, 64), ABOUT, ((FIRST,), (SECOND_PEER,)), NOW)
    [name] = game.referee.matches
    nodes = tuple(data.draw(st.lists(hashes, min_size=1, max_size=32)))
    for message in (
        BisectOpened(name, roots[side], level, place, nodes),
        PointsOpened(name, roots[side], tuple(data.draw(points))),
        LevelOpened(name, roots[side], place, nodes[0], b"junk"),
        LeafOpened(name, roots[side], place, b"junk"),
    ):
        try:
            game.referee.receive(STRANGER, message, NOW)
        except RemoteViolation as error:
            assert (error.peer, error.code) == (STRANGER, "bad_path")
    [match] = game.referee.matches.values()
    assert match.owes(0) and match.owes(1)
    assert game.ended is None
