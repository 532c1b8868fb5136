"""storage/receipts.py: receipts are verified, and shards are counted by failure domain."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import RemoteViolation
from protocol.identity import Identity
from protocol.snapshots import Pack, receipt
from protocol.units import Micros, PeerId
from storage.receipts import Custody, custody, happiness, matched

HOLDERS = [Identity(bytes([n]) * 32) for n in range(1, 17)]
NOW = Micros(1_000)
RS = Pack(150, 100, "rs", 2, 5, tuple(bytes([n]) * 32 for n in range(5)))
COPY = Pack(100, 100, "copy", 1, 3, (bytes(32),))


def own(peer: PeerId) -> str:
    return peer.hex()


def give(known: Custody, holder: Identity, index: int, until: int = 5_000) -> int:
    kept = receipt(holder, "test", known.shard(index), known.pack.shard_size, until)
    return known.add("test", holder.peer, kept, NOW)


def test_a_copy_gives_every_holder_an_index_of_its_own() -> None:
    known = Custody(COPY)
    assert [give(known, holder, 0) for holder in HOLDERS[:3]] == [0, 1, 2]
    assert give(known, HOLDERS[1], 0, 9_000) == 1
    assert known.receipts[1][HOLDERS[1].peer].until == 9_000
    assert known.missing == []
    assert known.spread(own) == 3


def test_ten_shards_on_one_server_are_one_shard() -> None:
    known = Custody(RS)
    for index in range(5):
        give(known, HOLDERS[0], index)
    assert known.spread(own) == 1
    assert not known.is_durable(own)
    for index, holder in enumerate(HOLDERS[1:4]):
        give(known, holder, index)
    assert known.spread(own) == 4
    assert known.is_durable(own)
    assert known.spread(own, {HOLDERS[1].peer}) == 3
    assert known.spread(lambda _peer: "one rack") == 1


def test_what_is_no_receipt_changes_nothing() -> None:
    known = Custody(RS)
    good = receipt(HOLDERS[0], "test", known.shard(0), 100, 5_000)
    others = receipt(HOLDERS[0], "test", bytes([9]) * 32, 100, 5_000)
    for sender, kept, code in (
        (HOLDERS[1], good, "bad_receipt"),
        (HOLDERS[0], others, "bad_receipt"),
        (HOLDERS[0], receipt(HOLDERS[0], "test", known.shard(0), 99, 5_000), "bad_receipt"),
        (HOLDERS[0], receipt(HOLDERS[0], "elsewhere", known.shard(0), 100, 5_000), "bad_receipt"),
        (HOLDERS[0], receipt(HOLDERS[0], "test", known.shard(0), 100, 999), "stale_receipt"),
    ):
        with pytest.raises(RemoteViolation) as violation:
            known.add("test", sender.peer, kept, NOW)
        assert violation.value.code == code
    assert not known.receipts


def test_promises_lapse_and_notices_carry_one_receipt_of_each_shard_first() -> None:
    known = Custody(RS)
    for index, holder in enumerate(HOLDERS[:5]):
        give(known, holder, index, 2_000 + index)
    give(known, HOLDERS[6], 0, 9_000)
    told = known.told(5)
    assert [index for index, _ in told.receipts] == [0, 1, 2, 3, 4]
    assert told.receipts[0][1].signature.signer == HOLDERS[6].peer
    assert custody(RS, known.told(99)).receipts == known.receipts
    known.lapse(Micros(2_002))
    assert sorted(index for index, peers in known.receipts.items() if peers) == [0, 3, 4]


@given(st.lists(st.sets(st.integers(0, 4), max_size=4), max_size=5), st.sets(st.integers(0, 4), max_size=2))
def test_the_matching_is_a_largest_one(edges: list[set[int]], without: set[int]) -> None:
    """Against trying every assignment."""
    peers = [PeerId(bytes([n])) for n in range(5)]
    receipts = {index: {peers[n] for n in found} for index, found in enumerate(edges)}
    left = [sorted({own(peers[n]) for n in found - without}) or [""] for found in edges]
    best = max((len(set(choice) - {""}) for choice in itertools.product(*left)), default=0)
    gone = {peers[n] for n in without}
    assert happiness(receipts, own, gone) == best
    found_ = matched(receipts, own, gone)
    assert len(set(found_.values())) == len(found_)
