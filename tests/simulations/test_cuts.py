"""Partitions against the definition, edge by edge."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import LocalError
from simulations.cuts import Cuts

N = 6
PARTS = st.lists(
    st.tuples(st.sets(st.integers(0, N - 1)), st.integers(0, 20), st.integers(1, 20), st.booleans()), max_size=8
)


@given(PARTS, st.sets(st.integers(0, 7)), st.integers(0, 45))
def test_an_edge_is_cut_while_a_partition_lies_across_it(
    parts: list[tuple[set[int], int, int, bool]], healed: set[int], now: int
) -> None:
    cuts = Cuts(N)
    numbers = [cuts.add(peers, since, since + last, one_way).number for peers, since, last, one_way in parts]
    for index in sorted(healed):
        if index < len(numbers):
            cuts.heal(numbers[index])
    cuts.expire(now)
    force = [
        (peers, since, since + last, one_way)
        for index, (peers, since, last, one_way) in enumerate(parts)
        if index not in healed and since + last > now
    ]
    assert bool(cuts) == bool(force)
    assert cuts.next_end() == min((until for _, _, until, _ in force), default=None)
    for source in range(N):
        for target in range(N):
            across = [
                (since, until)
                for peers, since, until, one_way in force
                if (source in peers and target not in peers)
                or (not one_way and target in peers and source not in peers)
            ]
            bits = cuts.crossed(source, target)
            assert bool(bits) == bool(across)
            if across:
                assert cuts.span(bits) == (min(since for since, _ in across), max(until for _, until in across))


def test_bits_are_used_again() -> None:
    cuts = Cuts(3)
    for time in range(1_000):
        cuts.expire(time)
        assert cuts.add([time % 3], time, time + 2, False).bit <= 2
    cuts.expire(2_000)
    assert cuts.sides == [0, 0, 0]


def test_numbers_are_never_used_again() -> None:
    cuts = Cuts(2)
    first = cuts.add([0], 0, 5, False).number
    cuts.heal(first)
    second = cuts.add([0], 0, 5, False).number
    cuts.heal(first)
    assert second != first
    assert cuts.crossed(0, 1)


@pytest.mark.parametrize("peer", [-1, 3])
def test_strangers_are_refused(peer: int) -> None:
    with pytest.raises(LocalError):
        Cuts(3).add([0, peer], 0, 1, False)
