"""Two hundred directories: everybody is found, through churn, liars and crowds; and one directory against rubbish."""

from __future__ import annotations

import math
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import wire
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.overlay.directory import ASK_BURST, LOOKUPS_MAX, PUBLISH_EVERY, Directory
from protocol.overlay.directory_effects import Ask, Done, Fault, Twin
from protocol.overlay.own_record import ANNOUNCE_GAP, Profile
from protocol.overlay.peer_record import RECORD_KIND, RECORD_LIFE, key_of, topic_key
from protocol.overlay.place import Coordinate, Place
from protocol.overlay.questions import KEPT_MAX, NAMED_MAX, Find, Found, Keep, Kept, Question, Reply
from protocol.units import MINUTE, SECOND, Digest, Micros, PeerId
from protocol.wire import Signed
from tests.protocol.overlay.crowd import NETWORK, START, Crowd, Member, identity_of

N = 200


@pytest.fixture(scope="module")
def town() -> Crowd:
    """Two hundred peers who joined through one bootstrap."""
    crowd = Crowd()
    boot = crowd.add(Member(crowd, 0))
    crowd.grow(range(1, N), [boot.peer])
    crowd.run(MINUTE)
    return crowd


def is_found(crowd: Crowd, asker: Member, peer: PeerId) -> tuple[bool, int]:
    done = crowd.look_up(asker, key_of(peer))
    return any(contact.peer == peer for contact in done.kept), done.hops


def test_everybody_finds_everybody_in_few_hops(town: Crowd) -> None:
    members, dice = list(town.members.values()), Random(5)
    results = [is_found(town, *(lambda pair: (pair[0], pair[1].peer))(dice.sample(members, 2))) for _ in range(200)]
    assert sum(found for found, _ in results) >= 198
    assert max(hops for _, hops in results) <= math.log2(N)
    assert town.faults == []


def test_members_find_each_other_under_the_network_s_key(town: Crowd) -> None:
    asker = list(town.members.values())[77]
    done = town.look_up(asker, topic_key(NETWORK, "members"))
    assert len(done.kept) >= KEPT_MAX
    assert len(town.look_up(asker, topic_key(NETWORK, "nobody")).kept) == 0


def test_it_survives_churn_and_the_loss_of_every_bootstrap() -> None:
    """A fifth of all peers goes at once, the bootstrap among them; others come; a while later all are found."""
    crowd = Crowd(2)
    boot = crowd.add(Member(crowd, 0))
    first = crowd.grow(range(1, 121), [boot.peer])
    boot.is_up = False
    for member in crowd.dice.sample(first, 24):
        member.is_up = False
    alive = [member for member in first if member.is_up]
    late = crowd.grow(range(121, 161), [alive[0].peer, boot.peer])
    crowd.run(2 * PUBLISH_EVERY)
    members, dice = alive + late, Random(6)
    found = [is_found(crowd, *(lambda pair: (pair[0], pair[1].peer))(dice.sample(members, 2)))[0] for _ in range(100)]
    assert sum(found) >= 99


class Sybil(Member):
    """Names its accomplices and nobody else."""

    gang: tuple[Signed, ...] = ()

    def answer(self, sender: PeerId, question: Question) -> Reply:
        if isinstance(question, Keep):
            return Kept(True)  # It says so.
        return Found(self.directory.own.signed, tuple(self.crowd.dice.sample(self.gang, NAMED_MAX)))


def test_a_fifth_of_sybils_in_few_networks_eclipses_nobody() -> None:
    crowd = Crowd(3)
    boot = crowd.add(Member(crowd, 0))
    honest = crowd.grow(range(1, 101), [boot.peer])
    sybils = [crowd.add(Sybil(crowd, 1_000 + i, f"/ip4/66.6.{i % 3}.{i}/tcp/{i + 1}")) for i in range(25)]
    Sybil.gang = tuple(sybil.directory.own.signed for sybil in sybils)
    for sybil in sybils:  # They knock at every door.
        for member in crowd.dice.sample(honest, 30):
            crowd.perform(member, member.directory.meet(sybil.directory.own.signed, crowd.now, sybil.peer))
    crowd.run(2 * MINUTE)
    dice = Random(7)
    found = [is_found(crowd, *(lambda pair: (pair[0], pair[1].peer))(dice.sample(honest, 2)))[0] for _ in range(100)]
    assert sum(found) >= 99
    bad = {sybil.peer for sybil in sybils}
    victim = honest[40].directory.table
    assert sum(entry.contact.peer in bad for entry in victim) <= len(victim) // 3


class Liar(Member):
    """A bootstrap that hands out forged and foreign records, and silence."""

    mood = 0

    def answer(self, sender: PeerId, question: Question) -> Reply:
        self.mood += 1
        own = self.directory.own.signed
        forged = msgspec.structs.replace(own, signer=identity_of(9).peer)
        replies: list[Reply] = [
            Found(own, (forged,)),
            Found(forged),
            Found(own, (), (own,)),
            Found(own),
        ]
        return replies[self.mood % len(replies)]


def test_a_lying_bootstrap_can_only_be_silent() -> None:
    crowd = Crowd(4)
    liar, boot = crowd.add(Liar(crowd, 500)), crowd.add(Member(crowd, 0))
    members = crowd.grow(range(1, 21), [liar.peer, boot.peer])
    crowd.run(MINUTE)
    assert {fault.code for fault in crowd.faults} <= {"bad_signature", "off_topic", "not_yours"}
    assert {fault.peer for fault in crowd.faults} == {liar.peer}
    assert all(is_found(crowd, members[0], other.peer)[0] for other in members[1:])
    for member in members:
        peers = {entry.contact.peer for entry in member.directory.table}
        assert peers <= set(crowd.members)


# ── one directory ────────────────────────────────────────────────────────────────────────────────────────────────────
def directory(number: int = 0) -> Directory:
    made = Directory(identity_of(number), NETWORK, Random(number))
    made.announce(Profile(("/ip4/11.0.0.1/tcp/1",)), START)
    return made


OTHER = directory(1)
LATER = Micros(START + ANNOUNCE_GAP)
FIND = Find(key_of(identity_of(0).peer), OTHER.own.signed)


def test_rubbish_is_refused_and_changes_nothing() -> None:
    one = directory()
    third = identity_of(3).peer
    for question, code in (
        (Find(bytes(32), OTHER.own.signed), "not_yours"),
        (Keep(key_of(third), OTHER.own.signed), "not_yours"),
    ):
        with pytest.raises(RemoteViolation) as caught:
            one.answer(third, question, START)
        assert (caught.value.code, caught.value.peer) == (code, third)
    with pytest.raises(RemoteViolation, match="none of its own"):
        one.answer(OTHER.own.peer, Keep(key_of(third), OTHER.own.signed), START)
    with pytest.raises(Refused, match="expired"):
        one.answer(OTHER.own.peer, FIND, Micros(START + RECORD_LIFE))
    assert len(one.held) == 0


def test_a_stale_record_replaces_nothing() -> None:
    one, other = directory(), directory(1)
    old = other.own.signed
    other.announce(Profile(("/ip4/11.0.0.2/tcp/2",)), LATER)
    for signed in (other.own.signed, old):
        one.answer(other.own.peer, Keep(key_of(other.own.peer), signed), START)
    reply, _ = one.answer(other.own.peer, Find(key_of(other.own.peer), other.own.signed), START)
    assert isinstance(reply, Found)
    assert reply.kept == (other.own.signed,)


def test_questions_are_counted_per_peer() -> None:
    one = directory()
    for _ in range(ASK_BURST):
        one.answer(OTHER.own.peer, FIND, START)
    with pytest.raises(Refused) as caught:
        one.answer(OTHER.own.peer, FIND, START)
    assert caught.value.code == "slow_down"
    third = directory(3).own
    one.answer(third.peer, Find(bytes(32), third.signed), START)
    one.answer(OTHER.own.peer, FIND, Micros(START + SECOND))


def test_who_asks_is_asked_back_once() -> None:
    one = directory()
    effects = [one.answer(OTHER.own.peer, FIND, START)[1] for _ in range(2)]
    assert [len([effect for effect in batch if isinstance(effect, Ask)]) for batch in effects] == [1, 0]


def test_a_twin_is_told_once_and_outdone() -> None:
    one, twin = directory(), directory()
    twin.announce(Profile(("/ip4/11.9.9.9/tcp/9",)), LATER)
    told = one.meet(twin.own.signed, LATER, OTHER.own.peer)
    assert [effect.contact for effect in told if isinstance(effect, Twin)] == [twin.own]
    assert one.meet(twin.own.signed, LATER, OTHER.own.peer) == []
    one.announce(Profile(("/ip4/11.0.0.3/tcp/3",)), LATER)
    assert one.own.record.sequence > twin.own.record.sequence


def test_it_is_used_in_order() -> None:
    fresh = Directory(identity_of(0), NETWORK, Random(0))
    assert fresh.tick(START) == []
    with pytest.raises(LocalError, match="before `announce`"):
        fresh.answer(OTHER.own.peer, FIND, START)
    one = directory()
    with pytest.raises(LocalError, match="nothing was asked"):
        one.failed(999, START)
    one.suggest([OTHER.own.peer])
    for number in range(LOOKUPS_MAX):
        one.look_up(Digest(number.to_bytes(32, "big")), START)
    with pytest.raises(Refused, match="under way"):
        one.look_up(Digest(b"x" * 32), START)


def test_what_flaps_waits_and_a_coordinate_is_no_news() -> None:
    one = directory()
    before = one.own
    moved = Place("", Coordinate(5, 5, 5, 5))
    assert one.announce(Profile(("/ip4/11.0.0.1/tcp/1",), place=moved), LATER) == []
    assert one.announce(Profile(("/ip4/11.0.0.2/tcp/1",), place=moved), Micros(LATER - 1)) == []
    assert one.own is before
    one.announce(Profile(("/ip4/11.0.0.2/tcp/1",), place=moved), LATER)
    assert (one.own.addresses, one.own.record.place) == (("/ip4/11.0.0.2/tcp/1",), moved)


def test_the_record_is_renewed_at_half_of_its_life() -> None:
    one = directory()
    before = one.own.record.sequence
    assert one.announce(Profile(("/ip4/11.0.0.1/tcp/1",)), Micros(START + SECOND)) == []
    one.tick(Micros(START + RECORD_LIFE // 2 - 1))
    assert one.own.record.sequence == before
    one.tick(Micros(START + RECORD_LIFE // 2))
    assert one.own.record.expires == START + RECORD_LIFE // 2 + RECORD_LIFE


def test_the_largest_answer_fits_a_frame() -> None:
    body = bytes(2_048)
    signed = Signed(bytes(32), body, bytes(64))
    found = Found(signed, (signed,) * NAMED_MAX, (signed,) * KEPT_MAX)
    assert len(wire.encode(found)) < wire.MESSAGE_BYTES_MAX


SIGNED = st.sampled_from(
    [
        OTHER.own.signed,
        directory(3).own.signed,
        directory(0).own.signed,
        wire.sign(identity_of(4), NETWORK, RECORD_KIND, 7),
        msgspec.structs.replace(OTHER.own.signed, signature=bytes(64)),
    ]
)
REPLIES = st.one_of(
    st.just(None), st.builds(Kept, st.booleans()), st.builds(Found, SIGNED, st.tuples(SIGNED), st.tuples(SIGNED))
)


@settings(max_examples=60)
@given(st.lists(REPLIES, max_size=40), st.integers(0, 2**32))
def test_whatever_comes_back_every_search_ends(replies: list[Reply | None], seed: int) -> None:
    one, dice = directory(), Random(seed)
    one.suggest([OTHER.own.peer, directory(3).own.peer, PeerId(bytes(32))])
    number, effects = one.look_up(Digest(dice.randbytes(32)), START)
    asks = [effect for effect in effects if isinstance(effect, Ask)]
    done = [effect for effect in effects if isinstance(effect, Done)]
    while asks:
        ask = asks.pop(dice.randrange(len(asks)))
        reply = replies.pop() if replies else None
        is_kept = isinstance(ask.question, Keep)
        if reply is None or isinstance(reply, Kept) != is_kept:
            effects = one.failed(ask.number, START)
        else:
            effects = one.receive(ask.number, reply, START)
        asks += [effect for effect in effects if isinstance(effect, Ask)]
        done += [effect for effect in effects if isinstance(effect, Done)]
        assert all(effect.violation.peer == ask.peer for effect in effects if isinstance(effect, Fault))
    assert [effect.number for effect in done] == [number]
