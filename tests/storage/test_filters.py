"""storage/filters.py: the byte shuffle and its inverse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import LocalError
from storage.filters import ITEMSIZES, element, shuffle, unshuffle


def test_first_bytes_come_first_and_a_rest_stays_behind() -> None:
    assert bytes(shuffle(memoryview(b"abcdefgh!"), 4)) == b"aebfcgdh!"
    assert bytes(shuffle(memoryview(b"abcdef"), 2)) == b"acebdf"


@given(st.binary(max_size=300), st.sampled_from(ITEMSIZES))
def test_it_comes_back(content: bytes, itemsize: int) -> None:
    turned = shuffle(memoryview(content), itemsize)
    assert sorted(turned) == sorted(content)
    assert bytes(unshuffle(turned, itemsize)) == content


@pytest.mark.parametrize("size", [0, 3, 5, 32, -1])
def test_other_elements_are_our_own_mistake(size: int) -> None:
    with pytest.raises(LocalError):
        element(size)
