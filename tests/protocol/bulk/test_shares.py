"""Fair shares: caps held, weights kept, nobody starved, nothing lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.bulk.shares import BURST_US, FairShares, TokenBucket
from protocol.errors import LocalError
from protocol.units import KIB, MIB, SECOND, Micros

SIZE = 256 * KIB


def moved(shares: FairShares, jobs: dict[bytes, int], seconds: int, size: int = SIZE) -> dict[bytes, int]:
    """Bytes per job when each always has as many pieces queued as `jobs` says."""
    bytes_of = dict.fromkeys(jobs, 0)
    owner: dict[int, bytes] = {}
    for job, pieces in jobs.items():
        for _ in range(pieces):
            owner[shares.submit(job, size)] = job
    now = Micros(0)
    while now < seconds * SECOND:
        for number in shares.tick(now):
            job = owner.pop(number)
            bytes_of[job] += size
            owner[shares.submit(job, size)] = job
        wake = shares.wake(now)
        assert wake is not None
        now = Micros(max(wake, now + 1))
    return bytes_of


@given(st.integers(1, 200), st.sampled_from([64 * KIB, SIZE, MIB]))
def test_the_cap_of_the_node_is_held(mib_per_s: int, size: int) -> None:
    rate = mib_per_s * MIB
    total = sum(moved(FairShares(rate, Micros(0)), {b"a": 2, b"b": 1}, 4, size).values())
    assert rate * 4 * 0.98 - size <= total <= rate * (4 + BURST_US / SECOND) + 2 * size


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(1, 3))
def test_jobs_share_by_weight_whatever_they_queue(one: int, two: int, queued: int, other: int) -> None:
    shares = FairShares(50 * MIB, Micros(0))
    shares.set_job(b"a", one, None, Micros(0))
    shares.set_job(b"b", two, None, Micros(0))
    found = moved(shares, {b"a": queued, b"b": other}, 10)
    assert found[b"a"] / found[b"b"] == pytest.approx(one / two, rel=0.1)


def test_a_job_s_own_cap_leaves_the_rest_to_others() -> None:
    shares = FairShares(40 * MIB, Micros(0))
    shares.set_job(b"a", 1, 4 * MIB, Micros(0))
    found = moved(shares, {b"a": 2, b"b": 2}, 10)
    assert found[b"a"] == pytest.approx(40 * MIB, rel=0.05)
    assert found[b"b"] == pytest.approx(360 * MIB, rel=0.05)


def test_without_caps_everything_goes_at_once_in_turn() -> None:
    shares = FairShares(None, Micros(0))
    numbers = [shares.submit(b"a", MIB) for _ in range(3)] + [shares.submit(b"b", MIB)]
    gone = shares.tick(Micros(0))
    assert sorted(gone) == numbers
    assert gone.index(numbers[3]) < 2
    assert shares.wake(Micros(0)) is None


def test_what_is_withdrawn_takes_nothing() -> None:
    shares = FairShares(MIB, Micros(0))
    first, second = shares.submit(b"a", MIB), shares.submit(b"a", MIB)
    shares.withdraw(first)
    assert shares.numbers() == [second]
    assert shares.tick(Micros(0)) == [second]
    shares.forget_job(b"a")


def test_settings_that_make_no_sense_are_our_error() -> None:
    with pytest.raises(LocalError, match="positive"):
        TokenBucket(0, Micros(0))
    with pytest.raises(LocalError, match="weight"):
        FairShares(None, Micros(0)).set_job(b"a", 0, None, Micros(0))


@given(st.lists(st.tuples(st.integers(1, MIB), st.integers(0, SECOND)), max_size=40), st.integers(1, 100))
def test_a_bucket_never_gives_more_than_its_rate_and_opens_when_it_says(steps: list[tuple[int, int]], kib: int) -> None:
    rate = kib * KIB
    bucket, now, taken = TokenBucket(rate, Micros(0)), 0, 0
    for size, later in steps:
        now += later
        opens = bucket.opens(Micros(now))
        assert bucket.is_open(Micros(now)) == (opens == now)
        assert bucket.is_open(opens)
        now = opens
        bucket.take(size, Micros(now))
        taken += size
        assert taken <= rate * (now + BURST_US) / SECOND + size
