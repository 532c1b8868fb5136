"""What is kept for others: bounded, expiring, newest first, and no crowd of one network takes a topic over."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.overlay import held_records
from protocol.overlay.allowance import PEERS_MAX, Allowances
from protocol.overlay.held_records import TOPIC_CROWD, TOPIC_MAX, HeldRecords
from protocol.overlay.peer_record import RECORD_LIFE, position
from protocol.units import SECOND, Digest, Micros, PeerId
from tests.protocol.overlay.crowd import START, identity_of
from tests.protocol.overlay.test_routing_table import contact

ME = identity_of(0).peer
KEY = Digest(b"k" * 32)


def test_newer_replaces_older_and_what_is_over_goes() -> None:
    held = HeldRecords(ME)
    assert held.put(KEY, contact(1, sequence=2))
    assert not held.put(KEY, contact(1, sequence=1))
    assert held.put(KEY, contact(1, sequence=2))  # The same again is kept already.
    assert held.put(KEY, contact(1, sequence=3))
    assert [one.record.sequence for one in held.sample(KEY, 9, START, Random(1))] == [3]
    assert held.sample(KEY, 9, Micros(START + RECORD_LIFE), Random(1)) == []
    held.expire(Micros(START + RECORD_LIFE))
    assert len(held) == 0


def test_a_topic_is_bounded_and_not_for_one_network() -> None:
    held = HeldRecords(ME)
    kept = [held.put(KEY, contact(number, f"/ip4/66.6.6.6/tcp/{number}")) for number in range(1, 400)]
    assert sum(kept) == TOPIC_CROWD
    assert all(held.put(KEY, contact(number)) for number in range(400, 400 + TOPIC_MAX - TOPIC_CROWD))
    assert not held.put(KEY, contact(900))
    assert len(held.sample(KEY, 16, START, Random(1))) == 16


def test_a_full_store_drops_what_is_farthest_from_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_records, "HELD_MAX", 3)
    held = HeldRecords(ME)

    def at(distance: int) -> Digest:
        return Digest((position(ME) ^ distance).to_bytes(32, "big"))

    for distance in (1, 2, 1 << 200):
        assert held.put(at(distance), contact(distance % 97))
    assert not held.put(at(1 << 250), contact(7))
    assert held.put(at(3), contact(8))
    assert held.sample(at(1 << 200), 9, START, Random(1)) == []
    assert len(held) == 3


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 3), st.integers(0, 5)), max_size=80))
def test_the_count_is_right(steps: list[tuple[int, int, int]]) -> None:
    held = HeldRecords(ME)
    for number, key, sequence in steps:
        held.put(Digest(bytes([key]) * 32), contact(number, sequence=sequence))
    assert len(held) == len({(number, key) for number, key, _ in steps})


def test_an_allowance_fills_again_and_memory_is_bounded() -> None:
    one = Allowances(burst=3, per_second=2)
    peer = PeerId(bytes(32))
    assert [one.take(peer, START) for _ in range(4)] == [True, True, True, False]
    assert [one.take(peer, Micros(START + SECOND)) for _ in range(3)] == [True, True, False]
    assert one.take(peer, Micros(START - 9 * SECOND)) is False  # A clock that goes back gives nothing.
    for number in range(2 * PEERS_MAX):
        one.take(PeerId(number.to_bytes(32, "big")), START)
    assert len(one._buckets) == PEERS_MAX
    assert [one.take(peer, Micros(START + 100 * SECOND)) for _ in range(4)] == [True, True, True, False]
