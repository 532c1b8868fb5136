"""specs/23-discovery.md against protocol.overlay and node.discovery."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import specs
from node import peer_cache, upkeep
from node.discovery import pings
from protocol import wire
from protocol.errors import Refused, RemoteViolation
from protocol.overlay import (
    clock_skew,
    directory,
    held_records,
    lookup,
    own_record,
    partition,
    peer_record,
    place,
    questions,
    subnets,
    vivaldi,
)
from protocol.overlay import routing_table as table
from protocol.overlay.clock_skew import ClockSkew
from protocol.overlay.peer_record import PeerRecord, key_of, open_record
from protocol.overlay.place import Coordinate
from protocol.units import Digest, Micros, PeerId
from tests.protocol.overlay.crowd import START, identity_of
from tests.protocol.overlay.test_routing_table import contact

SPEC = specs.load("23-discovery")
MODULES = (
    clock_skew,
    directory,
    held_records,
    lookup,
    own_record,
    partition,
    peer_cache,
    peer_record,
    pings,
    place,
    questions,
    subnets,
    table,
    upkeep,
    vivaldi,
)
ME = identity_of(1)


def test_constants_are_the_code_s() -> None:
    for name, value in SPEC.constants.items():
        owners = [module for module in MODULES if name in vars(module)]
        assert owners, f"{name} is not in the code"
        assert any(vars(module)[name] == value for module in owners), name


def test_questions_are_the_code_s() -> None:
    for row in SPEC.table("questions"):
        for cell in (row["question"], row["answer"]):
            kind, _, fields = cell.partition(": ")
            assert getattr(questions, kind).__struct_fields__ == tuple(fields.split(", "))
    named = SPEC.path.read_text().partition("kind `peer`: ")[2].partition(".")[0].split(", ")
    assert tuple(named) == PeerRecord.__struct_fields__


SPAN = st.integers(-2 * peer_record.RECORD_LIFE_MAX, 2 * peer_record.RECORD_LIFE_MAX)


@given(ahead=SPAN, life=SPAN, is_good=st.booleans())
def test_what_becomes_of_a_record(ahead: int, life: int, is_good: bool) -> None:
    issued = START + ahead
    if issued + life < 0:
        return
    signed = wire.sign(ME, "reef", "peer", PeerRecord(1, issued, issued + life, ()))
    if not is_good:
        signed = msgspec.structs.replace(signed, signature=bytes(64))
    said = SPEC.functions["verdict"](len(signed.body), is_good, life, issued, issued + life, START)
    try:
        open_record(signed, "reef", START, ME.peer)
    except RemoteViolation:
        assert said == "violation"
    except Refused:
        assert said == "refused"
    else:
        assert said == "good"


@given(st.lists(st.sampled_from(["/ip4/10.0.0.1/tcp/1", "/ip4/11.1.1.1/tcp/1", "/dns4/a.org/tcp/1"]), max_size=5))
def test_usable_addresses(addresses: list[str]) -> None:
    said = SPEC.functions["usable"](addresses, lambda address: not address.startswith("/ip4/10."))
    assert subnets.usable(tuple(addresses)) == tuple(said if isinstance(said, list) else ())


@given(st.integers(0, 3), st.lists(st.integers(1, 3), max_size=4, unique=True))
def test_whose_key_it_is(number: int, topics: list[int]) -> None:
    keys = [Digest(bytes([topic]) * 32) for topic in topics]
    key = key_of(ME.peer) if number == 0 else Digest(bytes([number]) * 32)
    known = open_record(
        wire.sign(ME, "reef", "peer", PeerRecord(1, START, START + 1, (), topics=tuple(keys))), "reef", START, ME.peer
    )
    assert directory._belongs(known, key) == SPEC.functions["belongs"](key, key_of(ME.peer), keys)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("failed", [False, True])
@pytest.mark.parametrize("same", [0, 1, 2, 3])
def test_room_in_a_bucket(full: bool, failed: bool, same: int) -> None:
    me = identity_of(0)
    mine = contact(0).position
    half = [n for n in range(1, 200) if (contact(n).position ^ mine).bit_length() == 256]
    size = table.BUCKET_MAX if full else 6
    known = table.RoutingTable(me.peer)
    crowd = "/ip4/66.6.6.6/tcp/1"
    for index, number in enumerate(half[:size]):
        known.put(contact(number, crowd if index < min(same, 2) else ""), START, is_checked=True)
    if failed:
        known.failed(contact(half[size - 1]).peer)
    newcomer = contact(half[30], crowd)
    assert known.put(newcomer, START, True) == SPEC.functions["has_room"](size, full, failed, min(same, 2))


@given(is_known=st.booleans(), strangers=st.integers(0, 5), friends=st.integers(0, 5))
def test_halves(is_known: bool, strangers: int, friends: int) -> None:
    me, witness = identity_of(0).peer, identity_of(99).peer
    check = partition.CrossCheck(me, START, Random(1))
    due = Micros(START + partition.CHECK_FIRST)
    check.tick((), [witness], (), due)
    ours = [contact(number) for number in range(1, 1 + friends)]
    theirs = [contact(number) for number in range(10, 10 + strangers)]
    kept = [contact(0)] if is_known else []
    merges = check.answered(witness, ours + theirs, kept, {one.peer for one in ours}, due)
    assert bool(merges) == SPEC.functions["is_split"](is_known, strangers, len(ours + theirs))


axis = st.integers(-place.SPAN_MAX, place.SPAN_MAX)
spots = st.tuples(axis, axis, st.integers(0, place.SPAN_MAX))


@given(spots, spots)
def test_distance(a: tuple[int, int, int], b: tuple[int, int, int]) -> None:
    assert place.distance(Coordinate(*a), Coordinate(*b)) == SPEC.functions["distance"](a, b)


@given(st.lists(st.integers(0, 10**9), min_size=4, max_size=4))
def test_offsets(times: list[int]) -> None:
    skew = ClockSkew()
    sent, heard, said, back = (Micros(time) for time in times)
    for number in range(clock_skew.PEERS_MIN):
        skew.sample(PeerId(bytes([number]) * 32), sent, heard, said, back)
    assert skew.skew() == SPEC.functions["offset"](*times)
