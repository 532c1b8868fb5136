"""Whose death would cost too much is asked last; who asks for little lost gets the faster line among equals."""

from __future__ import annotations

from random import Random
from typing import cast

import msgspec
from hypothesis import given
from hypothesis import strategies as st

import specs
from protocol import wire
from protocol.desk import Desk
from protocol.jobspec import Checkpoint, Chunk, JobSpec
from protocol.matching import LOSS_CEILING, Candidate, nearest_first, plan, safest_first, safety, uplink_of
from protocol.messages import Capability, Offer, Runtime
from protocol.reputation import Rank
from protocol.units import GIB, SECOND, Credits, Micros, PeerId

NOW, RENTER = Micros(1_000_000 * SECOND), PeerId(b"r" * 32)
CAPABILITY = Capability(8000, 16 * GIB, 100 * GIB, 1, 1)
OFFER = Offer(
    1,
    NOW,
    Micros(NOW + SECOND),
    ("provider",),
    (),
    CAPABILITY,
    ("bwrap",),
    (Runtime("python", bytes(32)),),
    1,
    1,
    5,
    (),
)
SPEC = JobSpec("job", "python", ("true",), (Chunk(),), checkpoint=Checkpoint())
EASY = msgspec.structs.replace(SPEC, checkpoint=Checkpoint(profile="max-efficiency"))


def peer(number: int) -> PeerId:
    return PeerId(bytes([number]) * 32)


def sending(uplink: int) -> Offer:
    return msgspec.structs.replace(OFFER, capability=msgspec.structs.replace(CAPABILITY, uplink=uplink))


def loss(spec: JobSpec, uplink: int) -> Micros:
    return Micros(10**15 // (uplink or 10**6))


def test_an_uplink_travels_in_the_offer_and_changes_no_older_one() -> None:
    assert (uplink_of(OFFER), uplink_of(sending(12_000_000))) == (0, 12_000_000)
    assert b"uplink" not in wire.encode(OFFER)
    assert msgspec.msgpack.decode(wire.encode(sending(7)), type=Offer) == sending(7)


def test_a_plan_names_who_may_cost_too_much_and_asks_them_last() -> None:
    offers = {peer(1): OFFER, peer(2): sending(100_000_000), peer(3): sending(20_000_000)}
    ranks = {peer(1): Rank(900_000, Credits(9), False)}
    made = plan(offers, SPEC, RENTER, ranks, NOW, Random(1), loss=loss)
    assert [one.peer for one in made.candidates] == [peer(2), peer(3), peer(1)]
    assert [one.is_exposed for one in made.candidates] == [False, False, True]
    assert made.worst_case_loss == made.candidates[-1].loss == 1_000 * SECOND


def test_without_snapshots_the_time_limit_is_what_is_lost() -> None:
    made = plan({peer(1): OFFER}, SPEC, RENTER, {}, NOW, Random(1))
    assert made.worst_case_loss == made.candidates[0].loss == SPEC.timeout


@given(
    st.lists(st.tuples(st.integers(0, 2 * LOSS_CEILING), st.integers(0, 2), st.none() | st.integers(0, 3)), max_size=8),
    st.booleans(),
)
def test_the_spec_says_the_same(facts: list[tuple[int, int, int | None]], is_minded: bool) -> None:
    place = specs.load("04-offers").functions["place"]
    found = [
        Candidate(peer(at), Credits(1), Credits(1), "bwrap", 1, 1, 5 - rank, Credits(0), False,
                  None if latency is None else Micros(latency), loss=Micros(lost))
        for at, (lost, rank, latency) in enumerate(sorted(facts, key=lambda fact: fact[1]))
    ]  # fmt: skip
    ordered = safest_first(nearest_first(found, is_minded))
    keys = [
        cast("tuple[int, ...]", place(one.loss, one.reputation, one.stake, one.latency, is_minded)) for one in ordered
    ]
    assert keys == sorted(keys)


def test_the_steward_ranks_bidders_by_the_same_rule() -> None:
    uplinks = {peer(1): 1_000_000, peer(2): 10_000_000, peer(3): 100_000_000}
    desk = ranking_desk(uplinks)
    assert sorted(uplinks, key=desk.ranks(SPEC, NOW), reverse=True) == [peer(3), peer(2), peer(1)]
    assert sorted(uplinks, key=desk.ranks(EASY, NOW), reverse=True) == [peer(2), peer(3), peer(1)], "the nearest"


def ranking_desk(uplinks: dict[PeerId, int]) -> Desk:
    desk = object.__new__(Desk)
    desk.rank = lambda one: (500_000, 7, -one[0])
    desk.safety = lambda spec, one, now: safety(spec, loss(spec, uplinks[one]))
    return desk
