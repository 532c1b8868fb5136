"""The recorder: exact where it says so, within a bucket where it does not, and the same for the same calls."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import LocalError
from simulations.recorder import BATCH, Recorder, bounds

values = st.lists(st.integers(0, 2**50), min_size=1, max_size=300)


@given(values)
def test_histogram_is_exact_in_count_sum_and_ends(seen: list[int]) -> None:
    recorder = Recorder()
    for value in seen:
        recorder.observe("x", value)
    histogram = recorder.histograms()["x"]
    assert (histogram.count, histogram.sum) == (len(seen), sum(seen))
    assert (histogram.minimum, histogram.maximum) == (min(seen), max(seen))
    assert sum(count for _, _, count in histogram.buckets()) == len(seen)


@given(values, st.floats(0, 1))
def test_quantiles_are_within_one_percent(seen: list[int], q: float) -> None:
    recorder = Recorder()
    for value in seen:
        recorder.observe("x", value)
    wanted = sorted(seen)[max(1, -int(-q * len(seen) // 1)) - 1]
    assert abs(recorder.histograms()["x"].quantile(q) - wanted) <= wanted / 100


@given(st.lists(st.integers(0, 2**60), min_size=2))
def test_buckets_follow_each_other_and_hold_their_values(seen: list[int]) -> None:
    recorder = Recorder()
    for value in seen:
        recorder.observe("x", value)
    buckets = recorder.histograms()["x"].buckets()
    for low, high, _ in buckets:
        assert high - low <= low / 128
        assert any(low <= value <= high for value in seen)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(buckets))


def test_small_values_have_a_bucket_each() -> None:
    assert [bounds(key) for key in (0, 1, 255)] == [(0, 0), (1, 1), (255, 255)]


def test_batches_change_nothing() -> None:
    recorder = Recorder()
    for value in range(BATCH + 7):
        recorder.observe("x", value)
    histogram = recorder.histograms()["x"]
    assert histogram.count == BATCH + 7
    assert histogram.sum == sum(range(BATCH + 7))


def test_negative_values_are_our_own_fault() -> None:
    recorder = Recorder()
    recorder.observe("x", -1)
    with pytest.raises(LocalError):
        recorder.histograms()["x"].settle()


def test_samples_keep_order_and_peers() -> None:
    recorder = Recorder()
    recorder.sample("job/makespan", 1.5, 10, 3)
    recorder.sample("peers/up", 7, 11)
    recorder.sample("job/makespan", 2.5, 12, 4)
    assert list(recorder.rows()) == [
        ("job/makespan", 10, 3, 1.5),
        ("peers/up", 11, -1, 7.0),
        ("job/makespan", 12, 4, 2.5),
    ]
    assert recorder.values("job/makespan") == [1.5, 2.5]
    assert recorder.values("unheard") == []
    assert len(recorder) == 3


def test_totals() -> None:
    recorder = Recorder()
    recorder.count("messages/sent")
    recorder.count("bytes/offer", 500)
    recorder.count("messages/sent")
    assert recorder.counts == {"messages/sent": 2, "bytes/offer": 500}
