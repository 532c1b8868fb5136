"""The guest's MessagePack against the `msgpack` package, and against hostile bytes."""

from __future__ import annotations

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.guest.hook import packing
from node.guest.hook.packing import Damaged, Ref

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()
)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(values)
def test_what_it_writes_the_package_reads(value: object) -> None:
    assert msgpack.unpackb(packing.pack(value), strict_map_key=False) == value


@given(values)
def test_what_the_package_writes_it_reads(value: object) -> None:
    assert packing.unpack(msgpack.packb(value)) == value


@given(st.integers() | st.complex_numbers(allow_nan=False) | st.integers(0, 2**32 - 1).map(Ref))
def test_its_own_extensions_come_back(value: object) -> None:
    found = packing.unpack(packing.pack([value]))
    assert found == [value]
    assert isinstance(found, list)
    assert type(found[0]) is type(value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_damaged(data: bytes) -> None:
    with contextlib.suppress(Damaged):
        packing.unpack(data)


@given(values, st.data())
def test_a_cut_is_noticed(value: object, data: st.DataObject) -> None:
    whole = packing.pack(value)
    size = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(Damaged):
        packing.unpack(whole[:size])


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\xc1",
        b"\xd4\x09a",
    ],
    ids=["list", "map", "bytes", "nested", "reserved", "extension"],
)
def test_lengths_that_lie_take_no_memory(data: bytes) -> None:
    with pytest.raises(Damaged):
        packing.unpack(data)


def test_a_value_that_is_none_of_these_is_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        packing.pack([object()])
