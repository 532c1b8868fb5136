"""The auditor: any difference in any event changes the hash; how events are gathered does not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from simulations.auditor import BATCH, Auditor

Event = tuple[int, int, int]
events = st.lists(st.tuples(st.integers(0, 2**62), st.integers(-1, 10_000), st.integers(0, 2**64)), max_size=30)


def hashed(found: list[Event], *, peek: bool = False) -> str:
    auditor = Auditor()
    for event in found:
        auditor.note(*event)
        if peek:
            auditor.hexdigest()
    return auditor.hexdigest()


@given(events, events)
def test_equal_hashes_mean_equal_events(left: list[Event], right: list[Event]) -> None:
    same = [(a, b, c % 2**63) for a, b, c in left] == [(a, b, c % 2**63) for a, b, c in right]
    assert (hashed(left) == hashed(right)) is same


@given(events)
def test_looking_at_the_hash_changes_nothing(found: list[Event]) -> None:
    assert hashed(found) == hashed(found, peek=True)


def test_batches_do_not_show() -> None:
    many = [(number, number % 7, number * 31) for number in range(BATCH)]
    assert hashed(many) == hashed(many, peek=True)
    assert Auditor().hexdigest() != hashed([(0, 0, 0)])
