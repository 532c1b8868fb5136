"""The book of offers and the maker of one's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol import wire
from protocol.effects import Emit, Publish, Wake
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.greetings import Goodbye
from protocol.identity import Identity
from protocol.messages import Capability, Offer
from protocol.offers import (
    OFFER_INTERVAL,
    OFFER_LIFE,
    OFFER_LIFE_MAX,
    OFFER_SKEW_MAX,
    OfferBook,
    OfferMaker,
    Role,
    Terms,
)
from protocol.units import SECOND, Credits, Micros, PeerId

NOW = Micros(1_000_000 * SECOND)
CAPABILITY = Capability(cpus_milli=4000, memory_bytes=1 << 33, disk_bytes=1 << 35, cpu_gflops=1, hash_mbps=1)
TERMS = Terms(("provider",), CAPABILITY, executors=("bwrap",), slots=2, slots_free=2, price_per_hour=Credits(5))


def peer(number: int) -> PeerId:
    return PeerId(bytes([number]) * 32)


def offer(sequence: int, issued: int = NOW, life: int = OFFER_LIFE, slots: int = 2, free: int = 1) -> Offer:
    roles: tuple[Role, ...] = ("provider",) if slots else ("validator",)
    return Offer(sequence, issued, issued + life, roles, (), CAPABILITY, ("bwrap",), (), slots, free, 7, ())


def test_the_newest_sequence_wins() -> None:
    book = OfferBook()
    first = book.receive(peer(1), offer(5), NOW)
    assert [type(effect) for effect in first] == [Wake, Emit]
    assert book.receive(peer(1), offer(4, free=2), NOW) == []
    assert book.offers(NOW)[peer(1)] == offer(5)
    book.receive(peer(1), offer(6, free=0), NOW)
    assert book.get(peer(1), NOW) == offer(6, free=0)
    assert book.seen(peer(1)) == NOW
    assert book.seen(peer(2)) is None


def test_the_same_offer_twice_is_no_news_and_another_under_its_sequence_is_a_lie() -> None:
    book = OfferBook()
    book.receive(peer(1), offer(5), NOW)
    assert book.receive(peer(1), offer(5), Micros(NOW + SECOND)) == []
    with pytest.raises(RemoteViolation, match="two offers") as caught:
        book.receive(peer(1), offer(5, free=2), NOW)
    assert (caught.value.code, caught.value.peer) == ("equivocation", peer(1))
    assert book.get(peer(1), NOW) == offer(5)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (offer(1, issued=NOW + OFFER_SKEW_MAX + 1), "clock_skew"),
        (offer(1, life=OFFER_LIFE_MAX + 1), "bad_life"),
        (offer(1, life=-1), "bad_life"),
        (offer(1, slots=2, free=3), "bad_slots"),
        (Offer(1, NOW, NOW + SECOND, ("validator",), (), CAPABILITY, (), (), 1, 1, 0, ()), "bad_slots"),
    ],
)
def test_impossible_offers_are_the_signers_fault_and_change_nothing(bad: Offer, code: str) -> None:
    book = OfferBook()
    with pytest.raises(RemoteViolation) as caught:
        book.receive(peer(1), bad, NOW)
    assert caught.value.code == code
    assert len(book) == 0


def test_a_full_book_makes_room_only_by_expiry() -> None:
    book = OfferBook(offers_max=2)
    book.receive(peer(1), offer(1, life=SECOND), NOW)
    book.receive(peer(2), offer(1), NOW)
    with pytest.raises(Refused) as caught:
        book.receive(peer(3), offer(1), NOW)
    assert caught.value.code == "book_full"
    assert caught.value.numbers == {"offers": 2, "offers_max": 2}
    later = Micros(NOW + 2 * SECOND)
    book.receive(peer(3), offer(1, issued=later), later)
    assert set(book.offers(later)) == {peer(2), peer(3)}


def test_a_withdrawn_offer_stays_withdrawn_when_gossip_repeats_an_older_one() -> None:
    book, maker = OfferBook(), OfferMaker(Identity(bytes(32)), "test")
    opened = []
    for effects in (maker.change(TERMS, NOW), maker.withdraw(Micros(NOW + SECOND))):
        assert isinstance(effects[0], Publish)
        opened.append(wire.open_signed(effects[0].statement, "test", "offer", wire.decoder(Offer), peer(9)))
    old, last = opened
    me = Identity(bytes(32)).peer
    book.receive(me, old, NOW)
    gone = book.receive(me, last, Micros(NOW + SECOND))
    assert Emit("offer_gone", {"peer": "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"}) in gone
    assert book.receive(me, old, Micros(NOW + 2 * SECOND)) == []
    assert book.offers(Micros(NOW + 2 * SECOND)) == {}
    assert maker.offer(NOW) is None


def test_the_maker_speaks_at_once_when_terms_change_and_every_interval_otherwise() -> None:
    maker = OfferMaker(Identity(bytes(32)), "test")
    assert maker.tick(NOW) == []
    assert isinstance(maker.change(TERMS, NOW)[0], Publish)
    assert maker.change(TERMS, NOW) == []
    assert maker.tick(Micros(NOW + SECOND)) == [Wake(Micros(NOW + OFFER_INTERVAL))]
    again = maker.tick(Micros(NOW + OFFER_INTERVAL))
    assert isinstance(again[0], Publish)
    assert again[0].topic == "offers"
    with pytest.raises(LocalError):
        maker.receive(peer(1), Goodbye("x"), NOW)
    with pytest.raises(LocalError):
        OfferBook().receive(peer(1), Goodbye("x"), NOW)


@given(times=st.lists(st.integers(0, 10**15), min_size=2, max_size=8))
def test_sequences_rise_even_when_the_clock_does_not(times: list[int]) -> None:
    maker = OfferMaker(Identity(bytes(32)), "test")
    sequences = []
    for count, time in enumerate(times):
        terms = Terms(("provider",), CAPABILITY, slots=1 + count)
        effects = maker.change(terms, Micros(time))
        assert isinstance(effects[0], Publish)
        opened = wire.open_signed(effects[0].statement, "test", "offer", wire.decoder(Offer), peer(9))
        sequences.append(opened.sequence)
    assert sequences == sorted(set(sequences))


class BookMachine(RuleBasedStateMachine):
    """Against a dictionary of the newest valid offer by peer."""

    def __init__(self) -> None:
        super().__init__()
        self.book = OfferBook()
        self.now = NOW
        self.newest: dict[PeerId, Offer] = {}

    @rule(number=st.integers(1, 4), sequence=st.integers(0, 20), life=st.integers(0, OFFER_LIFE_MAX))
    def receive(self, number: int, sequence: int, life: int) -> None:
        made = offer(sequence, self.now, life)
        known = self.newest.get(peer(number))
        try:
            self.book.receive(peer(number), made, self.now)
        except RemoteViolation as error:
            assert error.code == "equivocation"
            assert known is not None
            assert known.sequence == sequence
            return
        if known is None or known.sequence < sequence:
            self.newest[peer(number)] = made

    @rule(span=st.integers(0, 2 * OFFER_LIFE_MAX))
    def wait(self, span: int) -> None:
        self.now = Micros(self.now + span)
        self.book.tick(self.now)
        for known in list(self.newest):
            if self.newest[known].issued + OFFER_LIFE_MAX <= self.now:
                del self.newest[known]

    @invariant()
    def live_offers_are_the_newest(self) -> None:
        live = {known: made for known, made in self.newest.items() if made.expires > self.now}
        assert self.book.offers(self.now) == live


TestBookMachine = BookMachine.TestCase
