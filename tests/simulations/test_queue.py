"""The queue: order of time, then of insertion; time never goes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import LocalError
from simulations.queue import Queue


@given(st.lists(st.integers(0, 20), max_size=50))
def test_events_come_in_order_of_time_and_of_insertion(times: list[int]) -> None:
    queue, seen = Queue(), list[tuple[int, int]]()
    for number, time in enumerate(times):
        queue.at(time, seen.append, (time, number))
    queue.run(20)
    assert seen == sorted(seen)
    assert queue.executed == len(times) and len(queue) == 0


def test_what_lies_beyond_waits_and_time_stands_at_the_limit() -> None:
    queue, seen = Queue(), list[str]()
    queue.at(5, seen.append, "now")
    queue.at(11, seen.append, "later")
    queue.run(10)
    assert seen == ["now"] and queue.now == 10
    queue.run(11)
    assert seen == ["now", "later"]


def test_an_event_for_the_past_happens_at_once_behind_what_is_due() -> None:
    queue, seen = Queue(), list[tuple[str, int]]()

    def first(_: None) -> None:
        queue.at(0, lambda name: seen.append((name, queue.now)), "late")

    queue.at(7, first, None)
    queue.run(7)
    assert seen == [("late", 7)]


def test_stop_leaves_the_rest() -> None:
    queue, seen = Queue(), list[int]()
    queue.at(1, seen.append, 1)
    queue.at(2, lambda _: queue.stop(), None)
    queue.at(3, seen.append, 3)
    queue.run(10)
    assert seen == [1] and queue.now == 2 and len(queue) == 1


def test_an_event_that_raises_is_counted_and_the_error_seen() -> None:
    queue = Queue()
    queue.at(1, [].pop, 0)
    with pytest.raises(IndexError):
        queue.run(2)
    assert queue.executed == 1 and queue.now == 1


def test_time_does_not_go_back() -> None:
    queue = Queue()
    queue.run(5)
    with pytest.raises(LocalError, match="from 5 to 4"):
        queue.run(4)
