"""specs/04-offers.md against protocol.offers and protocol.matching."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

import specs
from protocol import granting, matching, offers
from protocol.errors import RemoteViolation
from protocol.jobspec import Chunk, GpuNeed, JobSpec, Resources
from protocol.messages import Capability, Offer
from protocol.units import SECOND, Micros, PeerId

SPEC = specs.load("04-offers")
NOW = Micros(1_000_000 * SECOND)
PEER, RENTER = PeerId(b"p" * 32), PeerId(b"r" * 32)
BASE = Offer(1, NOW, NOW + SECOND, ("provider",), (), Capability(1, 1, 1, 1, 1), (), (), 1, 1, 0, ())
JOB = JobSpec(name="job", runtime="python", commands=("true",), chunks=(Chunk(),))


def test_constants_are_those_of_the_code() -> None:
    found = {}
    for module in (offers, matching, granting):
        found.update({name: getattr(module, name) for name in SPEC.constants if hasattr(module, name)})
    assert found == SPEC.constants


@given(first=st.integers(0, 5), second=st.integers(0, 5), price=st.integers(0, 1))
def test_the_newest_sequence_wins(first: int, second: int, price: int) -> None:
    book = offers.OfferBook()
    one = msgspec.structs.replace(BASE, sequence=first)
    two = msgspec.structs.replace(BASE, sequence=second, price_per_hour=price)
    book.receive(PEER, one, NOW)
    said = SPEC.functions["takes"](first, second, one == two)
    try:
        book.receive(PEER, two, NOW)
    except RemoteViolation:
        assert said == "violation"
    else:
        assert said == ("new" if book.get(PEER, NOW) == two and one != two else "ignored")


span = st.integers(0, offers.OFFER_LIFE_MAX * 2)


@given(ahead=span, life=span, slots=st.integers(0, 2), free=st.integers(0, 2), is_provider=st.booleans())
def test_impossible_offers(ahead: int, life: int, slots: int, free: int, is_provider: bool) -> None:
    roles = ("provider",) if is_provider else ()
    offer = msgspec.structs.replace(
        BASE, issued=NOW + ahead, expires=NOW + ahead + life, slots=slots, slots_free=free, roles=roles
    )
    possible = SPEC.functions["is_possible"](offer.issued, offer.expires, slots, free, is_provider, NOW)
    try:
        offers.OfferBook().receive(PEER, offer, NOW)
    except RemoteViolation:
        assert not possible
    else:
        assert possible


@given(issued=span, life=st.integers(0, offers.OFFER_LIFE_MAX))
def test_forgetting(issued: int, life: int) -> None:
    book = offers.OfferBook()
    book.receive(PEER, msgspec.structs.replace(BASE, issued=issued, expires=issued + life), Micros(issued))
    end = SPEC.functions["forgotten"](issued, issued + life)
    assert isinstance(end, int)
    book.tick(Micros(end - 1))
    assert len(book) == 1
    book.tick(Micros(end))
    assert len(book) == 0


@given(
    executors=st.sets(st.sampled_from(("docker", "runc", "bwrap", "wasm", "child"))),
    runtime=st.sampled_from(("python", "torch", "wasm", "image:x")),
    is_served=st.booleans(),
)
def test_the_tier(executors: set[str], runtime: str, is_served: bool) -> None:
    offer = msgspec.structs.replace(BASE, executors=tuple(sorted(executors)), serves=(RENTER,) if is_served else ())
    spec = msgspec.structs.replace(JOB, runtime=runtime)
    assert matching.executor(offer, spec, RENTER) == SPEC.functions["executor"](runtime, executors, is_served)


def test_size_classes_and_codes() -> None:
    for count in range(20):
        spec = msgspec.structs.replace(JOB, resources=Resources(gpu=GpuNeed(count=count)))
        assert matching.size_class(spec) == SPEC.functions["size_class"](count)
    rows = SPEC.table("exclusions")
    assert {row["code"] for row in rows if row["temporary"] == "yes"} == matching.TEMPORARY
    bad = msgspec.structs.replace(BASE, is_draining=True, slots_free=0, expires=0, price_per_hour=10**12)
    codes = [reason.code for reason in matching.exclusions(bad, JOB, RENTER, NOW)]
    listed = [row["code"] for row in rows]
    assert codes == sorted(codes, key=listed.index)
    assert len(codes) >= 9
