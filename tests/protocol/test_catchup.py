"""Pull on gap: newcomers and those who were away know everything after one exchange, and nobody is made to pay."""

from __future__ import annotations

from collections import deque
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import wire
from protocol.catchup import (
    BUCKETS,
    EXCHANGE_GAP,
    GAP,
    GAPS_MIN,
    HEAD_KEY,
    HELD_MAX,
    INTERVAL,
    PARTNERS_MAX,
    Catchup,
    key_of,
)
from protocol.completions import Neighbour, Overheard
from protocol.effects import Effect, Hear, Send, Wake
from protocol.errors import LocalError, RemoteViolation
from protocol.exchange import Listing, Summary, Told, Wanted
from protocol.identity import Identity
from protocol.jobspec import Resources
from protocol.messages import (
    Beat,
    Capability,
    Head,
    Header,
    JobNotice,
    Offer,
)
from protocol.operations import Signature
from protocol.units import MINUTE, SECOND, Micros, PeerId

START = Micros(1_800_000_000 * SECOND)
NETWORK = "reef"
A, B, C = (PeerId(letter * 32) for letter in (b"a", b"b", b"c"))
SIGNERS = [Identity(bytes([number]) * 32) for number in range(1, 40)]


def offer(signer: Identity, at: int, addresses: tuple[str, ...] = ()) -> Overheard:
    body = Offer(
        sequence=at, issued=at, expires=at + 45 * SECOND, roles=(), addresses=addresses,
        capability=Capability(0, 0, 0, 0, 0), executors=(), runtimes=(), slots=0, slots_free=0, price_per_hour=0,
        serves=(),
    )  # fmt: skip
    return Overheard(wire.sign(signer, NETWORK, "offer", body), body)


def notice(signer: Identity, job: int, at: int) -> Overheard:
    body = JobNotice(
        at, at, at + MINUTE, bytes([job]) * 16, signer.peer, bytes(32), 1, bytes(32), "job", "torch",
        Resources(), 1, 1,
    )  # fmt: skip
    return Overheard(wire.sign(signer, NETWORK, "notice", body), body)


def head(signer: Identity, height: int) -> Overheard:
    header = Header("reef", height, 0, bytes(32), bytes(32), bytes(32), bytes(32), bytes(32), 0)
    body = Head(header, (Signature(signer.peer, bytes(64)),))
    return Overheard(wire.sign(signer, NETWORK, "head", body), body)


class Pair:
    """Two machines and the messages between them."""

    def __init__(self) -> None:
        self.now = START
        self.around: dict[PeerId, list[PeerId]] = {A: [B], B: [A]}
        self.machines = {
            peer: Catchup(peer, NETWORK, lambda peer=peer: self.around[peer], Random(7), MINUTE)  # type: ignore[misc]
            for peer in (A, B)
        }
        self.heard: dict[PeerId, list[Hear]] = {A: [], B: []}
        self.messages: list[object] = []

    def perform(self, who: PeerId, effects: list[Effect]) -> None:
        waiting = deque((who, effect) for effect in effects)
        while waiting:
            peer, effect = waiting.popleft()
            if isinstance(effect, Hear):
                self.heard[peer].append(effect)
            elif isinstance(effect, Send):
                assert len(wire.encode(effect.message)) <= wire.MESSAGE_BYTES_MAX
                self.messages.append(effect.message)
                answer = self.machines[effect.peer].receive(peer, effect.message, self.now)
                waiting.extend((effect.peer, each) for each in answer)

    def hear(self, peer: PeerId, *words: Overheard) -> None:
        for word in words:
            self.perform(peer, self.machines[peer].receive(peer, word, self.now))

    def meet(self, peer: PeerId, other: PeerId) -> None:
        self.perform(peer, self.machines[peer].receive(peer, Neighbour(other), self.now))


def test_a_newcomer_knows_everything_after_one_exchange() -> None:
    pair = Pair()
    words = [offer(signer, START) for signer in SIGNERS] + [notice(SIGNERS[0], job, START) for job in range(5)]
    words.append(head(SIGNERS[0], 77))
    pair.hear(B, *words)
    pair.meet(A, B)
    assert {hear.statement.signature for hear in pair.heard[A]} == {word.statement.signature for word in words}
    assert len(pair.machines[A]) == len(words)
    assert pair.heard[B] == []
    pair.now = Micros(pair.now + EXCHANGE_GAP)
    count = len(pair.messages)
    pair.meet(A, B)
    assert [type(message) for message in pair.messages[count:]] == [Summary], "who knows the same says no more"


def test_a_thousand_large_offers_come_in_messages_that_fit() -> None:
    pair = Pair()
    signers = [Identity(number.to_bytes(32, "big")) for number in range(1, 400)]
    pair.hear(B, *[offer(signer, START, ("/ip4/11.22.33.44/tcp/4001" * 8,) * 8) for signer in signers])
    pair.meet(A, B)
    assert len(pair.heard[A]) == len(signers)


def test_after_a_split_both_sides_know_both_sides() -> None:
    pair = Pair()
    pair.hear(A, *[offer(signer, START) for signer in SIGNERS[:20]])
    pair.hear(B, *[offer(signer, START) for signer in SIGNERS[20:]])
    pair.meet(A, B)
    pair.meet(B, A)
    assert len(pair.machines[A]) == len(pair.machines[B]) == len(SIGNERS)


def test_only_what_is_newer_is_taken() -> None:
    pair = Pair()
    old, new = offer(SIGNERS[0], START - 40 * SECOND), offer(SIGNERS[0], START)
    pair.hear(A, new)
    pair.hear(B, old)
    pair.meet(A, B)
    assert pair.heard[A] == []
    pair.meet(B, A)
    assert [hear.statement for hear in pair.heard[B]] == [new.statement]
    pair.hear(B, old)
    assert pair.machines[B]._held[key_of(old.statement, old.body)].sequence == START


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=25),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=25),
)
def test_two_peers_agree_whatever_each_heard(ours: list[tuple[int, int]], theirs: list[tuple[int, int]]) -> None:
    """After each has asked the other, both hold the newest of both, up to what gossip itself renews."""
    pair = Pair()
    for peer, heard in ((A, ours), (B, theirs)):
        pair.hear(peer, *[offer(SIGNERS[who], START - step * 20 * SECOND) for who, step in heard])
    pair.meet(A, B)
    pair.meet(B, A)
    epochs = [{key: held.epoch for key, held in pair.machines[peer]._held.items()} for peer in (A, B)]
    assert epochs[0] == epochs[1]
    newest: dict[int, int] = {}
    for who, step in ours + theirs:
        newest[who] = max(newest.get(who, 0), START - step * 20 * SECOND)
    alive = {SIGNERS[who].peer[:8]: at >> 24 for who, at in newest.items() if at + MINUTE > START}
    assert epochs[0] == alive


def test_a_pause_of_several_signers_is_our_absence() -> None:
    pair = Pair()
    machine = pair.machines[A]
    machine.tick(START)
    pair.hear(A, *[offer(signer, START) for signer in SIGNERS[:GAPS_MIN]])
    later = Micros(START + GAP + 5 * SECOND)
    effects: list[Effect] = []
    machine._next = Micros(later + 20 * SECOND)
    for signer in SIGNERS[:GAPS_MIN]:
        effects += machine.receive(A, offer(signer, later), later)
    assert effects == [Wake(Micros(later + SECOND))]
    assert any(isinstance(effect, Send) for effect in machine.tick(Micros(later + SECOND)))


def test_one_signer_that_was_away_is_not_our_absence() -> None:
    pair = Pair()
    machine = pair.machines[A]
    machine.tick(START)
    pair.hear(A, offer(SIGNERS[0], START))
    pair.hear(A, offer(SIGNERS[1], START))
    machine._heard_at = Micros(START + 2 * GAP - SECOND)
    assert machine.receive(A, offer(SIGNERS[0], START + 2 * GAP), Micros(START + 2 * GAP)) == []


def test_hearing_anybody_after_a_long_silence_is_our_absence() -> None:
    pair = Pair()
    machine = pair.machines[A]
    machine.tick(START)
    pair.hear(A, offer(SIGNERS[0], START))
    later = Micros(START + GAP + SECOND)
    machine._next = Micros(later + 20 * SECOND)
    assert machine.receive(A, offer(SIGNERS[1], later), later) == [Wake(Micros(later + SECOND))]


def test_every_half_minute_somebody_is_asked_and_alone_we_look_again_soon() -> None:
    pair = Pair()
    machine = pair.machines[A]
    now, asked = START, 0
    for _ in range(100):
        effects = machine.tick(now)
        asked += sum(isinstance(effect, Send) for effect in effects)
        (wake,) = [effect for effect in effects if isinstance(effect, Wake)]
        assert INTERVAL // 2 <= wake.at - now <= INTERVAL * 3 // 2
        now = wake.at
    assert asked == 100
    pair.around[A] = []
    assert machine.tick(now) == [Wake(Micros(now + SECOND))]


def test_a_peer_that_asks_all_the_time_is_answered_now_and_then() -> None:
    pair = Pair()
    pair.hear(B, *[offer(signer, START) for signer in SIGNERS])
    machine = pair.machines[B]
    ask = Summary(bytes(8 * BUCKETS))
    answers = [machine.receive(A, ask, Micros(START + number * SECOND // 10)) for number in range(100)]
    assert sum(map(bool, answers)) == 2, "ten seconds, one answer in five"
    for number in range(3 * PARTNERS_MAX):
        machine.receive(PeerId(number.to_bytes(32, "big")), ask, START)
    assert len(machine._partners) == PARTNERS_MAX


def test_nobody_gets_what_was_not_listed_for_it() -> None:
    pair = Pair()
    pair.hear(B, *[offer(signer, START) for signer in SIGNERS])
    machine = pair.machines[B]
    keys = Wanted(b"".join(signer.peer[:8] for signer in SIGNERS))
    assert machine.receive(C, keys, START) == []
    machine.receive(C, Summary(bytes(8 * BUCKETS)), START)
    got = machine.receive(C, Wanted(SIGNERS[0].peer[:8] * 2_000), START)
    assert [len(effect.message.statements) for effect in got if isinstance(effect, Send)] == [1]  # type: ignore[union-attr]
    assert machine.receive(C, keys, START) == [], "one answer per listing"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (Summary(b"short"), "bad_summary"),
        (Listing(bytes(17)), "bad_listing"),
        (Wanted(bytes(9)), "bad_keys"),
    ],
)
def test_malformed_messages_are_violations(message: Summary | Listing | Wanted, code: str) -> None:
    with pytest.raises(RemoteViolation) as caught:
        Pair().machines[A].receive(C, message, START)
    assert (caught.value.peer, caught.value.code) == (C, code)


def asked() -> tuple[Catchup, Overheard]:
    """A machine that has asked C for the offer of the first signer."""
    machine = Pair().machines[A]
    machine.receive(A, Neighbour(C), START)
    word = offer(SIGNERS[0], START)
    machine.receive(C, Listing(SIGNERS[0].peer[:8] + START.to_bytes(8, "big")), START)
    return machine, word


def test_forged_statements_are_the_teller_s_fault() -> None:
    machine, word = asked()
    forged = wire.Signed(word.statement.signer, word.statement.body, bytes(64))
    with pytest.raises(RemoteViolation, match="bad signature") as caught:
        machine.receive(C, Told((forged,)), START)
    assert caught.value.peer == C and len(machine) == 0
    machine, _ = asked()
    with pytest.raises(RemoteViolation, match="no statement"):
        machine.receive(C, Told((wire.sign(SIGNERS[0], NETWORK, "offer", Beat(bytes(32), 0, 1, 0, "running")),)), START)


def test_what_nobody_asked_for_is_not_taken() -> None:
    machine, word = asked()
    assert machine.receive(C, Told((offer(SIGNERS[1], START).statement,)), START) == []
    assert machine.receive(B, Told((word.statement,)), START) == []
    assert machine.receive(B, Listing(SIGNERS[1].peer[:8] + START.to_bytes(8, "big")), START) == []
    assert machine.receive(C, Told((word.statement,)), START) == [Hear(word.statement, word.body)]
    assert machine.receive(C, Told((word.statement,)), START) == []


def test_who_signs_very_much_pushes_out_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.catchup.HELD_MAX", 8)
    machine = Pair().machines[A]
    words = [offer(SIGNERS[0], START), notice(SIGNERS[1], 1, START)]
    for word in (*words, *(notice(SIGNERS[2], job, START) for job in range(20))):
        machine.receive(A, word, START)
    later = offer(SIGNERS[3], START)
    machine.receive(A, later, START)
    held = [entry.statement for entry in machine._held.values()]
    assert len(held) == 8
    assert [word.statement in held for word in (*words, later)] == [True] * 3
    assert [notice(SIGNERS[2], job, START).statement in held for job in range(14, 20)] == [False, *[True] * 5]


def test_what_is_held_is_bounded_and_forgotten() -> None:
    machine = Pair().machines[A]
    statement = offer(SIGNERS[0], START)
    signers = [number.to_bytes(32, "little") for number in range(HELD_MAX + 10)]
    for signer in signers:
        signed = wire.Signed(signer, statement.statement.body, bytes(64))
        machine.receive(A, Overheard(signed, statement.body), START)
    assert [held.statement.signer for held in machine._held.values()] == signers[:HELD_MAX], "the last are too many"
    machine.receive(A, head(SIGNERS[0], 5), START)
    machine.tick(Micros(START + 2 * MINUTE))
    assert len(machine) == 0
    machine.receive(A, head(SIGNERS[0], 5), START)
    machine.receive(A, head(SIGNERS[1], 4), START)
    machine.tick(Micros(START + 20 * MINUTE))
    assert machine._held[HEAD_KEY].sequence == 5, "the newest head never expires"


def test_what_does_not_belong_here_is_our_error() -> None:
    with pytest.raises(LocalError, match="Beat was routed"):
        Pair().machines[A].receive(A, Beat(bytes(32), 0, 1, 0, "running"), START)
