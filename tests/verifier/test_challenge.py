"""Which units are replayed: unpredictable before the beacon, fair, and the same for every judge after it."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.challenge import FIXED, fixed, goes_on, indices, may_touch, seed

PLACE = (b"e" * 32, 3, 1)


def drawn_from(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


@given(
    number=st.integers(0, 10**6),
    units=st.integers(1, 300),
    samples=st.integers(1, 32),
    touch=st.booleans(),
    data=st.data(),
)
def test_what_is_chosen(number: int, units: int, samples: int, touch: bool, data: st.DataObject) -> None:
    effects = data.draw(st.lists(st.integers(0, 65_535), min_size=units, max_size=units))
    chosen = indices(drawn_from(number), units, samples, effects, touch)
    assert list(chosen) == sorted(set(chosen)) and 0 < len(chosen) <= samples
    assert all(0 <= index < units for index in chosen)
    if touch:
        assert len(chosen) == min(samples, units)
        if samples > FIXED and units > 2:
            inner = max(range(1, units - 1), key=lambda index: effects[index])
            assert {0, units - 1} <= set(chosen)
            assert max(effects[index] for index in chosen if 0 < index < units - 1) == effects[inner]
    else:
        assert not {index + 1 for index in chosen} & set(chosen)
    assert chosen == indices(drawn_from(number), units, samples, effects, touch)


def test_where_nothing_may_touch_no_unit_is_ever_safe() -> None:
    """A cheat that hides beside the fixed units is drawn all the same, in a part of the audits."""
    hits: Counter[int] = Counter()
    for number in range(3_000):
        hits.update(indices(drawn_from(number), 12, 4, [1] * 5 + [9] + [1] * 6, touch=False))
    assert all(hits[index] >= 100 for index in range(12)), hits
    assert hits[0] > 2_000 and hits[11] > 2_000 and hits[5] > 2_000


def test_the_rest_is_uniform() -> None:
    hits: Counter[int] = Counter()
    for number in range(4_000):
        hits.update(set(indices(drawn_from(number), 23, 8, [0] * 23, touch=True)) - {0, 22})
    mean = 4_000 * 6 / 21
    assert all(abs(hits[index] - mean) < 5 * mean**0.5 for index in range(1, 22))


def test_one_sample_is_chance_and_nothing_else() -> None:
    hits = Counter(indices(drawn_from(number), 5, 1, [9, 0, 0, 0, 0], touch=True) for number in range(1_000))
    assert len(hits) == 5 and max(hits.values()) < 280
    assert [fixed(samples) for samples in range(1, 6)] == [0, 1, 2, 3, 3]


def test_all_of_the_claim_and_the_beacon_are_in_the_seed() -> None:
    sealed, trace, beacon, other = (bytes([letter]) * 32 for letter in b"stbx")
    claims = [
        (PLACE, sealed, trace, beacon),
        ((b"f" * 32, 3, 1), sealed, trace, beacon),
        ((b"e" * 32, 4, 1), sealed, trace, beacon),
        ((b"e" * 32, 3, 2), sealed, trace, beacon),
        (PLACE, other, trace, beacon),
        (PLACE, sealed, other, beacon),
        (PLACE, sealed, trace, other),
    ]
    assert len({seed(*claim) for claim in claims}) == len(claims)


def test_who_may_touch() -> None:
    assert may_touch("training", "D1") and goes_on("training", "D1")
    assert not may_touch("training", "D3") and not goes_on("training", "D3")
    assert not may_touch("rendering", "D1"), "a part of a tile is no state to go on from"
    assert may_touch("inference", "D3") and not goes_on("inference", "D3"), "requests do not follow from each other"


@pytest.mark.parametrize(("units", "samples", "effects"), [(0, 1, 0), (3, 0, 3), (3, 1, 2)])
def test_nonsense_is_refused(units: int, samples: int, effects: int) -> None:
    with pytest.raises(ValueError, match="samples of"):
        indices(drawn_from(1), units, samples, [0] * effects, touch=True)
