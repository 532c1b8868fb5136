"""Rounds of dial-backs: two of three random peers decide, liars are noted, silence changes nothing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import wire
from protocol.errors import RemoteViolation
from protocol.identity import Identity
from protocol.overlay.reachability import (
    AGREE_MIN,
    ASKS_MAX,
    DOUBTS_MAX,
    RETRY_INTERVAL,
    ROUND_INTERVAL,
    WITNESSES,
    Ask,
    Contradicted,
    Reachability,
    ReachEffect,
    Settled,
    Witness,
)
from protocol.overlay.verdicts import FRESH, DialBack, DialledBack, Outcome, Verdict, judge, open_verdict, sign_verdict
from protocol.units import MINUTE, SECOND, Micros, PeerId

NOW = Micros(1_800_000_000 * SECOND)
ME = Identity(b"m" * 32)
PEERS = [Identity(bytes([number]) * 32) for number in range(1, 21)]
BY_ID = {identity.peer: identity for identity in PEERS}
HOME = "/ip4/44.1.2.3/tcp/4301"
OTHER = "/ip4/44.1.2.3/tcp/29001"


def witnesses(count: int, block: int = 0) -> list[Witness]:
    """Peers of different subnets, or all of one `block`."""
    return [Witness(one.peer, f"11.{block or number}.0.{number + 1}") for number, one in enumerate(PEERS[:count], 1)]


def reply(
    witness: Identity, question: DialBack, outcomes: dict[str, Outcome], now: int = NOW, **more: object
) -> DialledBack:
    verdicts = tuple(
        sign_verdict(witness, "reef", Verdict(ME.peer, address, outcome, question.nonce, now))
        for address, outcome in outcomes.items()
    )
    elsewhere = more.get("elsewhere", ())
    return DialledBack(verdicts, HOME, elsewhere if isinstance(elsewhere, tuple) else ())


class Play:
    """A machine whose witnesses answer by a table; absent = no answer."""

    def __init__(self, seed: int = 1) -> None:
        self.machine = Reachability(ME.peer, "reef", random.Random(seed))
        self.answers: dict[PeerId, dict[str, Outcome]] = {}
        self.elsewhere: dict[PeerId, tuple[str, ...]] = {}
        self.asked: list[PeerId] = []
        self.said: list[Contradicted] = []
        self.ends: list[Settled] = []
        self.now = int(NOW)
        self.rounds = 0

    def round(self, pool: list[Witness], addresses: tuple[str, ...] = (HOME,)) -> Settled:
        self.asked, self.said = [], []
        self.rounds += 1
        nonce = self.rounds.to_bytes(16, "big")
        self.act(self.machine.begin(nonce, addresses, pool, Micros(self.now)))
        assert not self.machine.is_asking
        return self.ends[-1]

    def act(self, effects: list[ReachEffect]) -> None:
        for effect in effects:
            match effect:
                case Ask(peer=peer, question=question):
                    self.asked.append(peer)
                    outcomes = self.answers.get(peer)
                    if outcomes is None:
                        self.act(self.machine.failed(peer, Micros(self.now)))
                    else:
                        words = reply(BY_ID[peer], question, outcomes, self.now, elsewhere=self.elsewhere.get(peer, ()))
                        self.act(self.machine.answered(peer, words, Micros(self.now)))
                case Contradicted():
                    self.said.append(effect)
                case Settled():
                    self.ends.append(effect)

    def all_say(self, outcome: Outcome, address: str = HOME) -> None:
        self.answers = {one.peer: {address: outcome} for one in PEERS}


def test_three_of_many_are_asked_and_two_decide() -> None:
    play = Play()
    play.all_say("reachable")
    end = play.round(witnesses(20))
    assert (end.before, end.after, end.addresses) == ("unknown", "public", (HOME,))
    assert len(play.asked) == WITNESSES == play.machine.asked == len(play.machine.words)
    assert play.machine.due == NOW + ROUND_INTERVAL


def test_private_when_nobody_gets_in() -> None:
    play = Play()
    play.all_say("silent")
    assert play.round(witnesses(5)).after == "private"


def test_one_witness_decides_nothing_and_another_round_comes_soon() -> None:
    play = Play()
    play.all_say("reachable")
    assert play.round(witnesses(1)).after == "unknown"
    assert play.machine.due == NOW + RETRY_INTERVAL
    assert play.round([]).after == "unknown"
    assert play.round(witnesses(3), ()).after == "unknown"


def test_a_crowd_in_one_subnet_is_one_witness() -> None:
    play = Play()
    play.all_say("reachable")
    assert play.round(witnesses(20, block=7)).after == "unknown"
    assert len(play.asked) == 1


def test_we_are_no_witness_of_ourselves() -> None:
    play = Play()
    play.round([Witness(ME.peer, "11.1.0.1")])
    assert play.asked == []


def test_a_liar_is_outvoted_noted_and_asked_last() -> None:
    play = Play()
    play.all_say("reachable")
    liar = PEERS[0].peer
    play.answers[liar] = {HOME: "silent"}
    for _ in range(DOUBTS_MAX):
        end = play.round(witnesses(3))
        assert end.after == "public"
        assert [(one.peer, one.outcome) for one in play.said] == [(liar, "silent")]
    assert play.machine.doubts == {liar: DOUBTS_MAX}
    for _ in range(20):
        play.round(witnesses(6))
        assert liar not in play.asked


def test_silent_peers_are_replaced_up_to_a_limit() -> None:
    play = Play()
    play.answers = {one.peer: {HOME: "reachable"} for one in PEERS[17:]}
    play.round(witnesses(20))
    assert len(play.asked) <= ASKS_MAX
    play.answers = {}
    play.round(witnesses(20))
    assert len(play.asked) == ASKS_MAX


def test_the_choice_is_by_dice() -> None:
    """A friend among twenty vouches in about three rounds of twenty, not in each."""
    play = Play()
    play.all_say("reachable")
    chosen = 0
    for _ in range(200):
        play.round(witnesses(20))
        chosen += PEERS[0].peer in play.asked
    assert 10 <= chosen <= 55


def test_missing_answers_change_nothing_until_the_evidence_is_old() -> None:
    play = Play()
    play.all_say("reachable")
    play.round(witnesses(5))
    play.answers = {}
    play.now += FRESH - 1
    assert play.round(witnesses(5)).after == "public"
    assert play.machine.due == play.now + RETRY_INTERVAL
    play.now += 1
    assert play.round(witnesses(5)).after == "unknown"
    assert play.machine.public == ()


def test_each_address_is_decided_by_itself() -> None:
    play = Play()
    play.answers = {one.peer: {HOME: "refused", OTHER: "reachable"} for one in PEERS}
    end = play.round(witnesses(3), (HOME, OTHER))
    assert (end.after, end.addresses) == ("public", (OTHER,))
    split: list[dict[str, Outcome]] = [{HOME: "silent", OTHER: "reachable"}, {HOME: "silent", OTHER: "silent"}]
    play = Play()
    play.answers = {one.peer: split[number] for number, one in enumerate(PEERS[:2])}
    assert play.round(witnesses(2), (HOME, OTHER)).after == "unknown"


def test_a_changed_address_is_asked_about_soon() -> None:
    play = Play()
    play.all_say("reachable")
    play.round(witnesses(3))
    play.machine.address_changed(Micros(play.now))
    assert play.machine.due < play.now + MINUTE


def test_twins_need_two_witnesses() -> None:
    play = Play()
    play.all_say("reachable")
    play.elsewhere = {PEERS[0].peer: ("/ip4/66.6.6.6/tcp/1", "/ip6/2001:db8::1/tcp/1")}
    play.round(witnesses(3))
    assert not play.machine.twins
    play.elsewhere = {one.peer: ("/ip4/66.6.6.6/tcp/1",) for one in PEERS[:2]}
    play.round(witnesses(3))
    assert play.machine.twins == ("66.6.6.6",)


def asked_one() -> tuple[Reachability, Ask]:
    machine = Reachability(ME.peer, "reef", random.Random(1))
    effects = machine.begin(b"n" * 16, (HOME,), witnesses(1), NOW)
    assert isinstance(effects[0], Ask)
    return machine, effects[0]


@pytest.mark.parametrize(
    ("signer", "subject", "address", "nonce", "network", "code"),
    [
        (1, ME.peer, HOME, b"n" * 16, "reef", "foreign_verdict"),
        (0, PEERS[5].peer, HOME, b"n" * 16, "reef", "foreign_verdict"),
        (0, ME.peer, OTHER, b"n" * 16, "reef", "foreign_verdict"),
        (0, ME.peer, HOME, b"o" * 16, "reef", "foreign_verdict"),
        (0, ME.peer, HOME, b"n" * 16, "other", "bad_signature"),
        (0, PEERS[0].peer, HOME, b"n" * 16, "reef", "self_verdict"),
        (0, ME.peer, "nowhere", b"n" * 16, "reef", "malformed"),
    ],
)
def test_words_that_are_no_answer(
    signer: int, subject: PeerId, address: str, nonce: bytes, network: str, code: str
) -> None:
    machine, ask = asked_one()
    statement = sign_verdict(PEERS[signer], network, Verdict(subject, address, "reachable", nonce, NOW))
    with pytest.raises(RemoteViolation) as caught:
        machine.answered(ask.peer, DialledBack((statement,), HOME), NOW)
    assert caught.value.code == code
    assert isinstance(machine.failed(ask.peer, NOW)[-1], Settled)


def test_who_was_not_asked_says_nothing() -> None:
    machine, ask = asked_one()
    assert machine.answered(PEERS[3].peer, reply(PEERS[3], ask.question, {HOME: "reachable"}), NOW) == []
    assert machine.is_asking


def test_others_can_judge_the_evidence() -> None:
    play = Play()
    play.all_say("reachable")
    play.answers[PEERS[0].peer] = {HOME: "silent"}
    play.round(witnesses(3))
    shown = [word.statement for word in play.machine.words]
    (tally,) = judge(ME.peer, [*shown, *shown], "reef", NOW, ME.peer)
    assert (tally.address, set(tally.said_yes), tally.said_no) == (
        HOME,
        {PEERS[1].peer, PEERS[2].peer},
        (PEERS[0].peer,),
    )
    assert judge(PEERS[9].peer, shown, "reef", NOW, ME.peer) == ()
    assert judge(ME.peer, shown, "reef", Micros(NOW + FRESH + 1), ME.peer) == ()
    forged = wire.Signed(shown[0].signer, shown[0].body, shown[1].signature)
    with pytest.raises(RemoteViolation):
        judge(ME.peer, [forged], "reef", NOW, ME.peer)
    assert open_verdict(shown[0], "reef", ME.peer).subject == ME.peer


@given(
    st.lists(st.lists(st.sampled_from(["reachable", "silent", "refused", None]), min_size=6, max_size=6), max_size=6),
    st.integers(0, 5),
)
def test_public_only_with_two_honest_looking_words(rounds: list[list[Outcome | None]], seed: int) -> None:
    play = Play(seed)
    for table in rounds:
        play.answers = {
            one.peer: {HOME: outcome} for one, outcome in zip(PEERS[:6], table, strict=True) if outcome is not None
        }
        end = play.round(witnesses(6))
        assert len(play.asked) == len(set(play.asked)) <= 6
        yes = [peer for peer in play.asked if play.answers.get(peer) == {HOME: "reachable"}]
        if end.before != "public" and end.after == "public":
            assert len(yes) >= AGREE_MIN
        if end.before == "public" and end.after == "private":
            assert len(yes) < AGREE_MIN
        play.now += MINUTE
