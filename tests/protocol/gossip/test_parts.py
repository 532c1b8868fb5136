"""Buckets, caches, promises and the announcement of bodies."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import wire
from protocol.errors import RemoteViolation
from protocol.gossip import params
from protocol.gossip.announcement import INLINE_BYTES_MAX, Announcement, content, envelope
from protocol.gossip.buckets import Buckets
from protocol.gossip.caches import History, Seen
from protocol.gossip.neighbours import Promises, parcels
from protocol.gossip.rpc import RPC_BYTES_MAX, Envelope, Rpc, encode
from protocol.gossip.scores import group_of
from protocol.units import SECOND, Micros, PeerId

A, B = PeerId(b"a" * 32), PeerId(b"b" * 32)


@given(st.lists(st.integers(0, 3 * SECOND), max_size=60), st.integers(1, 20), st.integers(1, 30))
def test_a_bucket_never_gives_more_than_its_rate(steps: list[int], rate: int, burst: int) -> None:
    buckets, now, taken = Buckets(rate, burst, 10), 0, 0
    for step in steps:
        now += step
        could = buckets.has("x", Micros(now))
        assert could == (buckets.wait("x", Micros(now)) == 0)
        assert buckets.take("x", Micros(now)) == could
        taken += could
        assert taken <= burst + now * rate / SECOND
    wait = buckets.wait("x", Micros(now))
    assert buckets.has("x", Micros(now + wait))
    assert not wait or not buckets.has("x", Micros(now + wait - 1))


def test_buckets_are_per_author_and_bounded() -> None:
    buckets = Buckets(1, 2, 3)
    assert [buckets.take("a", Micros(0)) for _ in range(3)] == [True, True, False]
    assert buckets.take("b", Micros(0))
    for number in range(10):
        buckets.take(str(number), Micros(0))
    assert len(buckets) == 3


def test_seen_forgets_by_age_and_number() -> None:
    seen = Seen(Micros(10), 3)
    assert seen.add(b"a", Micros(0)) and not seen.add(b"a", Micros(5))
    assert seen.age(b"a", Micros(4)) == 4
    seen.expire(Micros(9))
    assert b"a" in seen
    seen.expire(Micros(10))
    assert b"a" not in seen
    for number in range(5):
        seen.add(bytes([number]), Micros(20))
    assert len(seen) == 3 and bytes([4]) in seen
    seen.forget(bytes([4]))
    assert bytes([4]) not in seen


def test_history_keeps_five_beats_and_so_many_bytes() -> None:
    history = History(3, 100)
    history.put(b"1", Envelope("t", b"x" * 40))
    history.put(b"1", Envelope("t", b"x" * 40))
    history.shift()
    history.put(b"2", Envelope("t", b"y" * 40))
    assert history.window("t", 1) == [b"2"] and history.window("t", 2) == [b"2", b"1"] and history.window("u", 3) == []
    history.put(b"3", Envelope("t", b"z" * 40))
    assert history.get(b"1") is None and len(history) == 2, "100 bytes hold two of them"
    assert [history.ask(b"2", A, 1) is None for _ in range(2)] == [False, True]
    assert history.ask(b"2", B, 1) is not None
    for _ in range(3):
        history.shift()
    assert len(history) == 0


def test_a_promise_is_kept_by_whoever_brings_the_statement() -> None:
    promises = Promises(Random(1))
    promises.add(A, [b"x"], Micros(0))
    promises.add(B, [b"y"], Micros(0))
    assert promises.asked[b"x"] == 1
    promises.keep(b"x")
    assert promises.broken(Micros(params.FOLLOW_UP - 1)) == []
    assert promises.broken(params.FOLLOW_UP) == [B] and len(promises) == 0
    promises.add(A, [b"z"], Micros(0))
    promises.forget(A)
    assert promises.broken(params.FOLLOW_UP) == []


@given(st.lists(st.integers(0, 60_000), max_size=12))
def test_parcels_fit_an_rpc_and_lose_nothing(sizes: list[int]) -> None:
    envelopes = [Envelope("topic", bytes(size)) for size in sizes]
    batches = parcels(envelopes)
    assert [each for batch in batches for each in batch] == envelopes
    assert all(batch and len(encode(Rpc(messages=batch))) <= RPC_BYTES_MAX for batch in batches)


def test_what_is_large_is_announced_and_only_that() -> None:
    small = wire.Signed(A, bytes(100), bytes(64))
    large = wire.Signed(A, bytes(INLINE_BYTES_MAX), bytes(64))
    data, body = envelope(small)
    assert body is None and content(data, B) == small
    data, body = envelope(large)
    assert body == wire.encode(large)
    assert content(data, B) == Announcement(A, wire.digest(body), len(body))
    with pytest.raises(RemoteViolation, match="at most 2048"):
        content(body, B)
    with pytest.raises(RemoteViolation, match="malformed"):
        content(wire.encode(Announcement(A, bytes(32), 100)), B)


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("11.22.33.44", "0b16212c"),
        ("::ffff:11.22.33.44", "0b16212c"),
        ("2600:1:2:3:4::5", "2600000100020003"),
        ("127.0.0.1", ""),
        ("192.168.3.4", ""),
        ("10.0.0.1", ""),
        ("169.254.1.1", ""),
        ("fe80::1", ""),
        ("::1", ""),
        ("", ""),
        ("no address", ""),
    ],
)
def test_address_groups(address: str, group: str) -> None:
    assert group_of(address) == group
