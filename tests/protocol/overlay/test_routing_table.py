"""The table keeps old friends, few of one network, and forgets who does not answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol import wire
from protocol.overlay.peer_record import RECORD_KIND, RECORD_LIFE, Contact, PeerRecord, open_record
from protocol.overlay.routing_table import BUCKET_MAX, RoutingTable
from protocol.overlay.subnets import SUBNET_PEERS_MAX
from protocol.units import SECOND, Micros
from tests.protocol.overlay.crowd import START, address_of, identity_of

ME = identity_of(0)


def contact(number: int, address: str = "", sequence: int = 1) -> Contact:
    identity = identity_of(number)
    record = PeerRecord(sequence, START, START + RECORD_LIFE, (address or address_of(number),))
    return open_record(wire.sign(identity, "reef", RECORD_KIND, record), "reef", START, identity.peer)


def filled(count: int, is_checked: bool = True) -> RoutingTable:
    table = RoutingTable(ME.peer)
    for number in range(1, count + 1):
        table.put(contact(number), Micros(START + number), is_checked)
    return table


def test_buckets_are_bounded_and_the_old_stay() -> None:
    table = filled(400)
    assert len(table) < 400
    half = [entry for entry in table if (entry.contact.position ^ contact(0).position).bit_length() == 256]
    assert len(half) == BUCKET_MAX
    assert max(entry.since for entry in half) < START + 60  # Half of all peers belong there; the first 16 have it.


def test_a_peer_that_failed_makes_way_at_the_second_time_or_for_a_newcomer() -> None:
    table = filled(400)
    victim = next(entry for entry in table if (entry.contact.position ^ contact(0).position).bit_length() == 256)
    table.failed(victim.contact.peer)
    assert table.get(victim.contact.peer) is not None
    newcomer = next(
        contact(number)
        for number in range(401, 500)
        if (contact(number).position ^ contact(0).position).bit_length() == 256
    )
    assert table.put(newcomer, START, is_checked=False)
    assert table.get(victim.contact.peer) is None
    table.failed(newcomer.peer)
    table.failed(newcomer.peer)
    assert table.get(newcomer.peer) is None


def test_unchecked_peers_make_way_for_checked_ones_and_are_not_named() -> None:
    table = filled(400, is_checked=False)
    assert table.closest(0, 10, is_checked=True) == []
    newcomers = [contact(number) for number in range(401, 440)]
    assert all(table.put(one, START, is_checked=True) for one in newcomers[:5])
    assert {one.peer for one in table.closest(0, 500, is_checked=True)} >= {one.peer for one in newcomers[:5]}


def test_sybils_of_one_network_get_two_places_per_bucket() -> None:
    table = RoutingTable(ME.peer)
    for number in range(1, 300):
        table.put(contact(number, f"/ip4/11.22.33.{number % 250}/tcp/{number}"), START, is_checked=True)
    per_bucket: dict[int, int] = {}
    for entry in table:
        bucket = (entry.contact.position ^ contact(0).position).bit_length()
        per_bucket[bucket] = per_bucket.get(bucket, 0) + 1
    assert set(per_bucket.values()) == {SUBNET_PEERS_MAX} | {count for count in per_bucket.values() if count == 1}


def test_loopback_is_no_network() -> None:
    table = RoutingTable(ME.peer)
    for number in range(1, 9):
        table.put(contact(number, f"/ip4/127.0.0.1/tcp/{number}"), START, is_checked=True)
    assert len(table) == 8


def test_a_newer_record_replaces_an_older_one_unless_it_moves_into_a_crowd() -> None:
    table = filled(1)
    assert table.put(contact(1, sequence=2), START, is_checked=False)
    assert next(iter(table)).contact.record.sequence == 2
    assert table.put(contact(1, sequence=1), START, is_checked=True)
    assert next(iter(table)).contact.record.sequence == 2
    assert not table.put(contact(0), START, is_checked=True)


def test_the_longest_unheard_come_first() -> None:
    table = filled(5)
    found = [one.peer for one in table.oldest(Micros(START + 4), 2)]
    assert found == [contact(1).peer, contact(2).peer]
    table.put(contact(1), Micros(START + SECOND), is_checked=True)
    assert [one.peer for one in table.oldest(Micros(START + 4), 2)] == [contact(2).peer, contact(3).peer]


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(0, 2**256 - 1), st.integers(1, 20))
def test_closest_is_sorted_by_distance(numbers: list[int], target: int, count: int) -> None:
    table = RoutingTable(ME.peer)
    for number in numbers:
        table.put(contact(number), START, is_checked=True)
    found = table.closest(target, count)
    assert found == sorted((entry.contact for entry in table), key=lambda one: one.position ^ target)[:count]
