"""Searches end, ask nobody twice, and keep their paths apart."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from protocol.overlay.lookup import ASKS_MAX, CLOSEST, PATHS, Lookup
from protocol.units import PeerId
from tests.protocol.overlay.crowd import identity_of
from tests.protocol.overlay.test_routing_table import contact

PEERS = [contact(number) for number in range(1, 121)]
ME = identity_of(0).peer


@given(st.integers(0, 2**32), st.floats(0.0, 0.6), st.integers(1, 24))
def test_a_search_ends_and_asks_nobody_twice(seed: int, deaf: float, seeds: int) -> None:
    dice = Random(seed)
    target = dice.getrandbits(256)
    lookup = Lookup(target, ME, dice.sample(PEERS, seeds))
    asked: list[PeerId] = []
    waiting: list[PeerId] = []
    by_peer = {one.peer: one for one in PEERS}
    while not lookup.is_over:
        batch = [one.peer for one in lookup.next()]
        waiting += batch
        asked += batch
        assert len(waiting) <= PATHS
        peer = waiting.pop(dice.randrange(len(waiting)))
        if dice.random() < deaf:
            lookup.failed(peer)
        else:
            lookup.answered(peer, by_peer[peer], dice.sample(PEERS, 10))
    assert len(asked) == len(set(asked)) == lookup.asks <= ASKS_MAX
    closest = lookup.closest()
    assert len(closest) <= CLOSEST
    assert closest == sorted(closest, key=lambda one: one.position ^ target)
    assert {one.peer for one in closest} <= set(asked)


def test_everybody_is_found_where_everybody_answers_truly() -> None:
    target = PEERS[70].position
    nearest = sorted(PEERS, key=lambda one: one.position ^ target)
    lookup = Lookup(target, ME, PEERS[:6])
    while not lookup.is_over:
        for one in lookup.next():
            dice = Random(one.peer)
            known = dice.sample(PEERS, 30)
            itself = next(other for other in PEERS if other.peer == one.peer)
            lookup.answered(one.peer, itself, sorted(known, key=lambda other: other.position ^ target)[:10])
    assert lookup.closest()[0] == nearest[0]
    assert len({one.peer for one in lookup.closest()} & {one.peer for one in nearest[:8]}) >= 6


def test_a_liar_blinds_one_path() -> None:
    """Everybody whom the liar names is its own; the others still reach the nearest honest peer."""
    target = PEERS[70].position
    fakes = [contact(number, f"/ip4/66.6.6.{number % 200}/tcp/{number}") for number in range(1_000, 1_060)]
    honest = {one.peer: one for one in PEERS}
    lookup = Lookup(target, ME, PEERS[:3])
    liar = PEERS[0].peer
    while not lookup.is_over:
        for one in lookup.next():
            if one.peer == liar or one.peer not in honest:
                itself = honest.get(one.peer) or next(fake for fake in fakes if fake.peer == one.peer)
                lookup.answered(one.peer, itself, Random(1).sample(fakes, 10))
            else:
                near = sorted(Random(one.peer).sample(PEERS, 30), key=lambda other: other.position ^ target)
                lookup.answered(one.peer, honest[one.peer], near[:10])
    found = [one.peer for one in lookup.closest()]
    assert PEERS[70].peer in found
    assert len([peer for peer in found if peer not in honest]) <= 2


def test_strangers_without_a_record_are_asked() -> None:
    lookup = Lookup(5, ME, [], [PEERS[0].peer, PEERS[1].peer])
    assert {one.peer for one in lookup.next()} == {PEERS[0].peer, PEERS[1].peer}
    lookup.answered(PEERS[0].peer, PEERS[0], [])
    lookup.failed(PEERS[1].peer)
    assert lookup.is_over
    assert lookup.closest() == [PEERS[0]]
