"""The choice among bids, prices and lease deadlines."""

from __future__ import annotations

from random import Random

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from protocol.granting import (
    CLAIM_MARGIN,
    PRICE_STEP,
    VERDICT_WINDOW,
    Bidder,
    choose,
    chunk_price,
    lease,
    watchers,
    with_evidence,
)
from protocol.jobspec import Chunk, JobSpec
from protocol.messages import Bid
from protocol.operations import commission
from protocol.units import HOUR, SECOND, Micros, PeerId

NOW = Micros(1_000_000 * SECOND)
SPEC = JobSpec(name="job", runtime="python", commands=("true",), chunks=(Chunk(),))


def peer(number: int) -> PeerId:
    return PeerId(bytes([number]) * 32)


def bidder(number: int, slots: int = 1, leased: int = 0) -> Bidder:
    bid = Bid(bytes(16), slots, 1_000_000, "bwrap", bytes(32), NOW + HOUR)
    return Bidder(peer(number), bid, leased)


def rank(_: PeerId) -> tuple[int, int]:
    return (0, 0)


class NoExploration(Random):
    """Dice that never choose to explore."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return (start if stop is None else stop) - 1


@given(price=st.integers(0, 10**12), estimate=st.integers(1, 86_400_000_000))
def test_a_chunk_never_costs_less_than_its_time(price: int, estimate: int) -> None:
    cost = chunk_price(price, Micros(estimate))
    assert cost * HOUR >= price * estimate
    assert (cost - PRICE_STEP) * HOUR < price * estimate
    assert commission(cost) * 10 == cost


def test_the_standby_comes_first() -> None:
    found = choose([bidder(1), bidder(2)], 0, NOW, rank, Random(0), preferred=peer(2))
    assert found is not None and found.provider == peer(2)


def test_the_idle_come_before_the_renowned() -> None:
    busy, idle = bidder(1, slots=2, leased=1), bidder(2, slots=2)
    found = choose([busy, idle], 0, NOW, lambda who: (9, 9) if who == peer(1) else (1, 1), NoExploration(0))
    assert found is idle


def test_reputation_then_stake_decide_among_the_idle() -> None:
    ranks = {peer(1): (5, 1), peer(2): (5, 2), peer(3): (4, 9)}
    found = choose([bidder(1), bidder(2), bidder(3)], 0, NOW, ranks.__getitem__, NoExploration(0))
    assert found is not None and found.provider == peer(2)


def test_newcomers_get_a_share() -> None:
    ranks = {peer(1): (1_000_000, 10), peer(2): (0, 0)}
    dice, chosen = Random(1), []
    for _ in range(1000):
        found = choose([bidder(1), bidder(2)], 0, NOW, ranks.__getitem__, dice)
        assert found is not None
        chosen.append(found.provider)
    assert 20 <= chosen.count(peer(2)) <= 90


def test_who_failed_a_chunk_gets_it_only_when_nobody_else_can() -> None:
    failed = bidder(1)
    failed.failed.add(7)
    found = choose([failed, bidder(2)], 7, NOW, rank, NoExploration(0))
    assert found is not None and found.provider == peer(2)
    assert choose([failed], 7, NOW, rank, NoExploration(0)) is failed
    assert choose([failed, bidder(2, leased=1)], 7, NOW, rank, Random(0)) is None, "the other one will be free again"


def test_full_resting_and_expired_bidders_are_left_out() -> None:
    resting = bidder(2)
    resting.rests_until = Micros(NOW + 1)
    late = bidder(3)
    late.bid = Bid(bytes(16), 1, 1, "bwrap", bytes(32), NOW)
    assert choose([bidder(1, leased=1), resting, late], 0, NOW, rank, Random(0)) is None


def test_a_lease_leaves_room_for_the_queue_before_it() -> None:
    assign = lease(bytes(32), 3, 2, bidder(1, slots=4, leased=2), SPEC, (peer(9),), NOW)
    assert assign.claim_by == NOW + 3 * SPEC.timeout + CLAIM_MARGIN
    assert assign.verdict_by == assign.claim_by + VERDICT_WINDOW
    assert assign.collateral == assign.price == chunk_price(1_000_000, SPEC.estimate)


@given(others=st.sets(st.integers(3, 60), max_size=20), seed=st.integers())
def test_watchers_are_distinct_and_never_the_watched(others: set[int], seed: int) -> None:
    found = watchers(peer(1), peer(2), [peer(number) for number in others], None, Random(seed))
    assert found[0] == peer(1) and peer(2) not in found
    assert len(set(found)) == len(found) == min(3, 1 + len(others))


def test_evidence_takes_what_is_spare_and_no_more() -> None:
    full = lease(bytes(32), 0, 1, bidder(1), msgspec.structs.replace(SPEC, trust="certain"), (peer(9),), Micros(0))
    assert full.evidence and full.evidence > 0
    assert with_evidence(full, full.evidence) is full
    assert with_evidence(full, 7).evidence == 7
    assert with_evidence(full, 0).evidence is UNSET
