"""storage/repairs.py: lazy, the most endangered first, within a budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.snapshots import required
from protocol.units import SECOND, Digest, Micros
from storage.erasure import ANCHOR, ANCHOR_WIDE, COPIES, ROLLING
from storage.repairs import BURST, Budget, Health, in_order, trigger


def health(number: int, alive: int, is_new: bool = False) -> Health:
    return Health(Digest(bytes([number]) * 32), ANCHOR, alive, 100, is_new)


def test_the_most_endangered_first() -> None:
    found = in_order([health(1, 11), health(2, 13), health(3, 8), health(4, 12), health(5, 0, True)])
    assert [one.pack[0] for one in found] == [5, 3, 1, 4]
    assert [one.is_critical for one in found] == [True, True, False, False]
    assert [one.missing for one in found] == [20, 12, 9, 8]


def test_repair_begins_between_what_is_enough_and_what_was_durable() -> None:
    for code in (ANCHOR, ANCHOR_WIDE, ROLLING):
        assert code.k < trigger(code) < required(code.k, code.n)
    assert trigger(COPIES) == 2


@given(st.lists(st.tuples(st.integers(0, 10 * SECOND), st.integers(1, 20_000_000)), max_size=60))
def test_no_more_than_a_fifth_of_the_uplink_and_one_burst(wants: list[tuple[int, int]]) -> None:
    budget, now, spent = Budget(10_000_000, Micros(0)), 0, 0
    for span, size in wants:
        now += span
        if budget.take(size, Micros(now)):
            spent += size
    allowed = 2_000_000 * (now + BURST) // SECOND
    assert spent <= allowed + 20_000_000


def test_a_forced_repair_delays_the_next() -> None:
    budget = Budget(10_000_000, Micros(0))
    budget.force(10**9)
    assert not budget.take(1, Micros(60 * SECOND))
    assert budget.take(1, Micros(500 * SECOND))
