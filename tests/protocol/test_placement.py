"""Where a job may run: latency from the steward, regions as owners say, and what old bytes still mean."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import specs
from protocol import jobrules, wire
from protocol.errors import Refused
from protocol.jobcodec import spec_from_plain, spec_to_plain
from protocol.jobspec import JobSpec, Placement
from protocol.matching import exclusion, exclusions, nearest_first, place_of, plan
from protocol.messages import Offer, message_decoder
from protocol.offers import OfferMaker, Terms
from protocol.overlay.place import NOWHERE, Coordinate, Place
from protocol.units import Micros
from tests.protocol.overlay.crowd import START, identity_of
from tests.protocol.test_matching import CAPABILITY, NOW, OFFER, RENTER, SPEC, peer

JOB = specs.load("05-job")
HERE = Coordinate(0, 0, 1_000, 100_000)


def at(x: int, region: str = "", error: int = 100_000) -> Offer:
    return msgspec.structs.replace(OFFER, place=Place(region, Coordinate(x, 0, 1_000, error)))


def placed(**changes: object) -> JobSpec:
    return msgspec.structs.replace(SPEC, placement=msgspec.structs.replace(Placement(), **changes))


def test_too_far_is_said_with_both_figures() -> None:
    why = exclusion(at(178_000), placed(latency_ms_max=50), RENTER, NOW, HERE)
    assert why is not None
    assert (why.code, why.detail) == ("too_far", "180 ms estimated, 50 allowed")
    assert why.numbers == {"estimated_ms": 180, "allowed_ms": 50}
    assert not why.is_temporary
    assert exclusion(at(48_000), placed(latency_ms_max=50), RENTER, NOW, HERE) is None
    over = exclusion(at(48_001), placed(latency_ms_max=50), RENTER, NOW, HERE)
    assert over is not None
    assert over.numbers["estimated_ms"] == 51


def test_an_unknown_latency_is_left_out_only_where_the_job_is_strict() -> None:
    for offer in (OFFER, at(10, error=1_000_000)):
        assert exclusion(offer, placed(latency_ms_max=50), RENTER, NOW, HERE) is None
        why = exclusion(offer, placed(latency_ms_max=50, is_strict=True), RENTER, NOW, HERE)
        assert why is not None
        assert (why.code, why.detail) == ("latency_unknown", "its latency is unknown, 50 ms allowed")
    assert exclusion(at(10**6), placed(latency_ms_max=50), RENTER, NOW) is None  # A provider judges itself: no steward.


def test_a_region_is_what_its_owner_says() -> None:
    spec = placed(regions=("eu-west", "eu-north"))
    assert exclusion(at(0, "eu-north"), spec, RENTER, NOW, HERE) is None
    for region, said in (("us-east", "us-east said"), ("", "no region said")):
        why = exclusion(at(0, region), spec, RENTER, NOW, HERE)
        assert why is not None
        assert (why.code, why.detail) == ("region", f"{said}, eu-west, eu-north allowed")
    both = [why.code for why in exclusions(at(10**6), msgspec.structs.replace(
        placed(regions=("x",), latency_ms_max=1), price_per_hour_max=0), RENTER, NOW, HERE)]  # fmt: skip
    assert both == ["region", "too_far", "price"]


def test_the_plan_asks_the_nearest_of_equals_first_and_the_unknown_last() -> None:
    offers = {peer(1): OFFER, peer(2): at(90_000), peer(3): at(5_000, "eu-west"), peer(4): at(10**6)}
    found = plan(offers, placed(latency_ms_max=500), RENTER, {}, NOW, Random(1), HERE)
    assert [one.peer for one in found.candidates] == [peer(3), peer(2), peer(1)]
    assert [one.latency for one in found.candidates] == [7_000, 92_000, None]
    assert found.candidates[0].region == "eu-west"
    assert [(one.peer, one.code) for one in found.excluded] == [(peer(4), "too_far")]
    assert [one.latency for one in plan(offers, SPEC, RENTER, {}, NOW, Random(1)).candidates] == [None] * 4


@given(st.lists(st.tuples(st.integers(0, 2), st.none() | st.integers(0, 9)), max_size=8))
def test_nearness_never_outweighs_rank(facts: list[tuple[int, int | None]]) -> None:
    offers = {peer(number + 1): OFFER for number in range(len(facts))}
    found = plan(offers, SPEC, RENTER, {}, NOW, Random(1)).candidates
    candidates = [
        replace(one, reputation=rank, latency=None if near is None else Micros(near))
        for one, (rank, near) in zip(found, facts, strict=True)
    ]
    ordered = nearest_first(candidates)
    assert [one.reputation for one in ordered] == [one.reputation for one in candidates]
    assert sorted(one.peer for one in ordered) == sorted(one.peer for one in candidates)
    for rank in range(3):
        near = [one.latency for one in ordered if one.reputation == rank]
        assert near == sorted(near, key=lambda latency: (latency is None, latency or 0))


def test_bytes_without_a_place_mean_what_they_meant() -> None:
    data = wire.encode(OFFER)
    assert b"place" not in data
    assert wire.decode(data, message_decoder, RENTER) == OFFER
    assert place_of(OFFER) == NOWHERE
    assert b"placement" not in wire.encode(SPEC)
    both = at(5, "eu-west")
    assert wire.decode(wire.encode(both), message_decoder, RENTER) == both


def test_an_offer_says_where_its_host_is() -> None:
    maker = OfferMaker(identity_of(1), "reef")
    maker.change(Terms((), CAPABILITY, place=Place("eu-west", HERE)), START)
    offer = maker.offer(START)
    assert offer is not None
    assert place_of(offer) == Place("eu-west", HERE)
    maker.change(Terms((), CAPABILITY), START)
    offer = maker.offer(START)
    assert offer is not None
    assert offer.place is msgspec.UNSET


def test_placement_in_plain_values() -> None:
    spec = placed(latency_ms_max=50, regions=("eu-west",), is_strict=True)
    assert spec_from_plain(spec_to_plain(spec)) == spec
    assert "placement" not in spec_to_plain(SPEC)
    with pytest.raises(Refused, match="/placement/latency"):
        spec_from_plain({**spec_to_plain(SPEC), "placement": {"latency": 5}})


@pytest.mark.parametrize(
    ("placement", "pointer"),
    [
        (Placement(is_strict=True), "/placement/is_strict"),
        (Placement(regions=("eu-west", "")), "/placement/regions/1"),
        (Placement(regions=("eu-west", "eu-west")), "/placement/regions/1"),
    ],
)
def test_what_makes_no_sense_is_refused(placement: Placement, pointer: str) -> None:
    with pytest.raises(Refused) as caught:
        jobrules.check(msgspec.structs.replace(SPEC, placement=placement))
    assert caught.value.numbers["pointer"] == pointer


@given(
    allowed=st.integers(0, 100),
    regions=st.lists(st.sampled_from(["a", "b"]), unique=True),
    is_strict=st.booleans(),
    milliseconds=st.none() | st.integers(2, 150),
    region=st.sampled_from(["", "a", "b"]),
)
def test_the_spec_says_the_same(
    allowed: int, regions: list[str], is_strict: bool, milliseconds: int | None, region: str
) -> None:
    spec = placed(latency_ms_max=allowed, regions=tuple(regions), is_strict=is_strict)
    offer = at(0, region, 1_000_000) if milliseconds is None else at((milliseconds - 2) * 1_000, region)
    said = JOB.functions["is_placed"](allowed, regions, is_strict, milliseconds, region)
    assert (exclusion(offer, spec, RENTER, NOW, HERE) is None) == said
