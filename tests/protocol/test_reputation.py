"""Formula L3 and the order of assignment."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from protocol.escrow_state import Standing
from protocol.reputation import BONUS_MAX, NOBODY, STAKE_RECOMMENDED, Rank, Record, order, points, rank, record, score
from protocol.units import MINUTE, PPM, SECOND, Credits, Micros, PeerId

counts = st.integers(0, 10_000)
records = st.builds(
    Record,
    accepted=counts,
    missing=counts,
    wrong=counts,
    fraud=counts,
    consecutive_valid=counts,
    response=st.integers(0, 10**12).map(Micros),
    observed=st.integers(0, 10**12).map(Micros),
    present=st.integers(0, 10**12).map(Micros),
    stake=st.integers(0, 10**12).map(Credits),
)


def peer(number: int) -> PeerId:
    return PeerId(bytes([number]) * 32)


def test_the_four_parts_of_the_formula() -> None:
    perfect = Record(accepted=1000, consecutive_valid=1000, stake=STAKE_RECOMMENDED)
    assert score(perfect) == PPM
    half = Record(accepted=1, missing=1, response=Micros(MINUTE), observed=Micros(100), present=Micros(50))
    weighted = (500_000 + 200_000 + 200_000) // 2
    assert score(half) == weighted + points(half) == 450_000 - 49_000
    assert score(Record(stake=STAKE_RECOMMENDED)) - score(Record()) == 100_000
    assert score(Record(stake=Credits(7)), recommended=Credits(0)) == score(Record(stake=STAKE_RECOMMENDED))


def test_rewards_and_penalties() -> None:
    assert points(Record(accepted=1)) == 1_000
    assert points(Record(accepted=5_000)) == BONUS_MAX
    assert [points(Record(missing=1)), points(Record(wrong=1)), points(Record(fraud=1))] == [
        -50_000,
        -150_000,
        -300_000,
    ]


def test_a_long_record_cannot_prepay_for_a_fault() -> None:
    assert points(Record(accepted=100_000, wrong=1)) == BONUS_MAX - 150_000
    assert points(Record(accepted=100_000, fraud=1)) == BONUS_MAX - 300_000
    assert points(Record(accepted=100_050, missing=1, consecutive_valid=50)) == BONUS_MAX


def test_the_ledgers_sums_become_a_record() -> None:
    standing = Standing(
        accepted=4, wrong=1, missing=2, fenced=3, expired=5, consecutive_valid=2, response_time_sum=8 * SECOND
    )
    made = record(standing, Credits(9))
    assert made == Record(
        accepted=4, missing=10, wrong=1, consecutive_valid=2, response=Micros(2 * SECOND), stake=Credits(9)
    )
    assert record(None, Credits(9)) == Record(stake=Credits(9))
    assert record(Standing(), Credits(0)) == Record()


@given(known=records)
def test_scores_are_shares(known: Record) -> None:
    assert 0 <= score(known) <= PPM
    assert -PPM <= points(known) <= BONUS_MAX


@given(known=records)
def test_faults_never_help_and_stake_never_hurts(known: Record) -> None:
    for worse in (
        replace(known, wrong=known.wrong + 1),
        replace(known, missing=known.missing + 1),
        replace(known, fraud=known.fraud + 1),
    ):
        if known.results:
            assert score(worse) <= score(known)
    assert score(replace(known, stake=Credits(known.stake + 1))) >= score(known)
    assert score(replace(known, response=Micros(known.response + SECOND))) <= score(known)


@given(ranks=st.dictionaries(st.integers(1, 200), st.tuples(st.integers(0, PPM), st.integers(0, 100)), max_size=12))
def test_without_exploration_reputation_then_stake_decide(ranks: dict[int, tuple[int, int]]) -> None:
    known = {peer(n): Rank(reputation, Credits(stake), False) for n, (reputation, stake) in ranks.items()}
    ordered = order(known, known, 0, Random(0))
    assert ordered == sorted(known, key=lambda p: (-known[p].reputation, -known[p].stake, p))


def test_newcomers_get_their_share_of_first_places() -> None:
    known = {peer(n): Rank(990_000, Credits(5), False) for n in range(1, 5)}
    peers = [*known, peer(9)]
    dice = Random(7)
    firsts = sum(order(peers, known, 100_000, dice)[0] == peer(9) for _ in range(2_000))
    assert 150 <= firsts <= 250
    assert NOBODY.is_newcomer
    assert not rank(Record(accepted=10)).is_newcomer


@given(numbers=st.sets(st.integers(1, 30)), seed=st.integers(0, 1000))
def test_exploration_loses_nobody(numbers: set[int], seed: int) -> None:
    known = {peer(n): Rank(n, Credits(0), n % 3 == 0) for n in numbers}
    assert sorted(order(known, known, 500_000, Random(seed))) == sorted(known)
