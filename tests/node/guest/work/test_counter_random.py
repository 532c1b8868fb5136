"""Philox against its published vectors, and what is built on it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.guest.work.counter_random import circle, key_of, philox, uniform

ONES = 2**32 - 1
VECTORS = [
    ((0, 0), (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES, ONES), (ONES, ONES, ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0xA4093822, 0x299F31D0),
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
"""philox4x32 with ten rounds: the known answers that Random123 ships."""


@pytest.mark.parametrize(("key", "counter", "expected"), VECTORS)
def test_published_vectors(key: tuple[int, int], counter: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert tuple(int(word) for word in philox(key, *counter)) == expected


@given(counter=st.integers(0, ONES), others=st.lists(st.integers(0, ONES), max_size=20), at=st.integers(0, 20))
def test_a_number_depends_on_its_place_alone(counter: int, others: list[int], at: int) -> None:
    at = min(at, len(others))
    crowd = philox((1, 2), np.array([*others[:at], counter, *others[at:]]), 7)
    assert [int(words[at]) for words in crowd] == [int(word) for word in philox((1, 2), counter, 7)]


def test_keys_differ_by_seed_and_by_purpose() -> None:
    assert len({key_of(bytes(32)), key_of(b"\1" * 32), key_of(bytes(32), "a"), key_of(bytes(32), "a", "b")}) == 4
    assert key_of(b"", "ab", "c") != key_of(b"", "a", "bc")


def test_uniform_numbers_have_the_moments_of_uniform_numbers() -> None:
    found = uniform(np.concatenate(philox((3, 4), np.arange(25_000))))
    assert 0 < found.min() < found.max() < 1
    assert abs(found.mean() - 0.5) < 5 * (1 / 12 / len(found)) ** 0.5
    assert abs(found.var() - 1 / 12) < 1e-3


def test_the_circle_is_round_to_a_billionth() -> None:
    share = np.arange(0, 1, 1 / 4096)
    cosine, sine = circle(share)
    assert np.abs(cosine - np.cos(2 * np.pi * share)).max() < 1e-9
    assert np.abs(sine - np.sin(2 * np.pi * share)).max() < 1e-9
