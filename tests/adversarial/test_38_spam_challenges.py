"""Attack 38: bury an honest executor, or the judges, under challenges.

One game per distinct claim, a bond of one and a half times what a round costs, and a defender who only opens hashes.
"""

from __future__ import annotations

import pytest

from protocol import wire
from protocol.disputes import PANELS, bond_min
from protocol.effects import Send
from protocol.errors import Refused
from protocol.policy import Policy
from tests.verifier.appeals import CHALLENGER, GOOD, TRUTH, Appeals, execution
from tests.verifier.duel import ABOUT, FIRST, NOW, SECOND_PEER, duel, history
from tests.verifier.quorum import KEYS
from verifier import referee as rules
from verifier.advocate import claim_of
from verifier.game import Game
from verifier.referee import Referee


def test_a_lost_challenge_costs_more_than_what_it_caused() -> None:
    price = 3_000_000
    for number, seats in enumerate(PANELS, start=1):
        assert bond_min(Policy(), price, number) >= 1.5 * seats * price
    appeals = Appeals(GOOD, trace=TRUTH)
    appeals.decided("accept")
    ledger = appeals.quorum.orderers[KEYS[0].peer].ledger
    before, lost = ledger.available("S", CHALLENGER.peer), 0
    for rival in (None, None, execution(5)):
        bond = bond_min(Policy(), appeals.held.price, appeals.held.round + 1)
        appeals.appeal(CHALLENGER, rival, bond)
        lost += bond
        assert appeals.run(60).finding == "accept"
    assert before - ledger.available("S", CHALLENGER.peer) == lost
    executions = sum(not run.units for _, run in appeals.runs)
    assert executions * appeals.held.price <= lost // 2, "the network's cost is less than half of the attacker's"
    assert executions == 10


def test_the_defender_only_opens_hashes() -> None:
    game = duel(4098, 2000)
    game.play()
    said = [message for message in game.bytes_sent if getattr(message, "root", b"") == game.first.tree.root]
    assert sum(len(wire.encode(message)) for message in said) < 8_000, "a few kilobytes, and no computing"


def test_the_same_challenge_again_is_the_same_game() -> None:
    referee = Referee(lambda *a: [], lambda *a: [])
    one, other = claim_of(history(8, 1)).tree.root, claim_of(history(8, 2)).tree.root
    first = referee.begin(Game(one, other, 8), ABOUT, ((FIRST,), (SECOND_PEER,)), NOW)
    assert any(isinstance(effect, Send) for effect in first)
    for _ in range(100):
        assert referee.begin(Game(one, other, 8), ABOUT, ((FIRST,), (SECOND_PEER,)), NOW) == []
    assert len(referee.matches) == 1


def test_many_different_ones_are_bounded() -> None:
    referee = Referee(lambda *a: [], lambda *a: [])
    one = claim_of(history(8, 1)).tree.root
    rivals = [claim_of(history(8, 2 + n)).tree.root for n in range(rules.GAMES_MAX + 1)]
    for rival in rivals[:-1]:
        referee.begin(Game(one, rival, 8), ABOUT, ((FIRST,), (SECOND_PEER,)), NOW)
    with pytest.raises(Refused) as caught:
        referee.begin(Game(one, rivals[-1], 8), ABOUT, ((FIRST,), (SECOND_PEER,)), NOW)
    assert caught.value.code == "busy"


def test_honest_twin_one_grounded_challenge_gets_its_bond_back() -> None:
    appeals = Appeals(GOOD, trace=execution(9))
    appeals.claimed = GOOD
    appeals.decided("accept")
    ledger = appeals.quorum.orderers[KEYS[0].peer].ledger
    for _ in range(2):
        appeals.appeal(CHALLENGER)
        appeals.run()
    before = sum(ledger.available(cls, CHALLENGER.peer) for cls in "SU")
    appeals.appeal(CHALLENGER, TRUTH)
    held = appeals.run(60)
    assert (held.finding, held.code) == ("fraud", "wrong_step")
    assert sum(ledger.available(cls, CHALLENGER.peer) for cls in "SU") > before
