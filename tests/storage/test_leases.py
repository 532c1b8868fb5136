"""storage/leases.py: sums that always agree with what is on the shelves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import wire
from protocol.errors import Refused
from protocol.snapshots import Purpose
from protocol.units import HOUR, Digest, Micros, PeerId
from storage.leases import GRACE, OWNERS_MAX, Lease, LeaseBook, record_decoder

OWNERS = [PeerId(bytes([n]) * 32) for n in range(40)]
actions = st.lists(
    st.tuples(
        st.sampled_from(["put", "end"]),
        st.integers(0, 5),
        st.integers(0, 2),
        st.integers(1, 50),
        st.sampled_from(["rolling", "anchor", "volume"]),
    ),
    max_size=60,
)


def shard(number: int) -> Digest:
    return Digest(bytes([number]) * 32)


@given(actions)
def test_sums_agree(done: list[tuple[str, int, int, int, Purpose]]) -> None:
    book = LeaseBook(10_000)
    model: dict[tuple[int, int], int] = {}
    for action, number, owner, until, purpose in done:
        if action == "put":
            lease = book.put(shard(number), 100 + number, OWNERS[owner], Lease(Micros(until), purpose))
            model[number, owner] = max(model.get((number, owner), 0), until)
            assert lease.until == model[number, owner]
        else:
            is_last = (number, owner) in model and sum(key[0] == number for key in model) == 1
            assert book.end(shard(number), OWNERS[owner]) == is_last
            model.pop((number, owner), None)
    held = {number for number, _ in model}
    assert set(book.shards()) == {shard(number) for number in held}
    assert book.used == sum(100 + number for number in held)
    for owner in range(3):
        assert book.charged(OWNERS[owner]) == sum(100 + number for number, who in model if who == owner)
    for number in held:
        stored = book.record(shard(number), is_foreign=False)
        assert stored is not None
        record = wire.decode(stored, record_decoder, OWNERS[0])
        found = {(number, OWNERS.index(PeerId(one.owner))): one.until for one in record.leases}
        assert found == {key: until for key, until in model.items() if key[0] == number}


@given(st.sampled_from(["rolling", "anchor", "volume"]), st.integers(1, 100))
def test_grace(purpose: Purpose, until: int) -> None:
    book = LeaseBook(1_000)
    book.put(shard(1), 10, OWNERS[0], Lease(Micros(until), purpose))
    end = until + GRACE[purpose]
    assert book.next_end == end
    assert book.overdue(Micros(end - 1)) == []
    assert book.overdue(Micros(end)) == [(shard(1), OWNERS[0])]


def test_one_shard_has_room_for_some_owners() -> None:
    book = LeaseBook(10**6)
    for owner in OWNERS[:OWNERS_MAX]:
        book.check_room(owner, shard(1), 10, 0, 0)
        book.put(shard(1), 10, owner, Lease(Micros(HOUR), "rolling"))
    with pytest.raises(Refused) as refused:
        book.check_room(OWNERS[OWNERS_MAX], shard(1), 10, 0, 0)
    assert refused.value.code == "owners_full"
    assert book.used == 10
