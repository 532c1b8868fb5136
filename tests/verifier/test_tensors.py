"""Canonical tensors: two codecs that agree on every byte, and a parser that takes no other bytes."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from node.guest.work import tensors as guest
from protocol.errors import Refused
from verifier import tensors as strict
from verifier.tensors import Array, check_alike, check_finite

NAMES = st.from_regex(strict.NAME, fullmatch=True).filter(lambda name: name != "bytes")
DTYPES = st.sampled_from(sorted(strict.DTYPES.values()))


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    """Any bit patterns of any type, in any memory order and byte order."""
    dtype = np.dtype(draw(DTYPES))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    count = int(np.prod(shape, dtype=int))
    data = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    if dtype == np.bool_:
        data = bytes(byte & 1 for byte in data)
    array = np.frombuffer(data, dtype).reshape(shape)
    if draw(st.booleans()):
        array = array.astype(dtype.newbyteorder(">"))
    return np.asfortranarray(array) if draw(st.booleans()) else array


STATES = st.dictionaries(NAMES, arrays(), max_size=5)


def same(one: Array, other: Array) -> bool:
    kind = one.dtype.newbyteorder("=")
    return one.shape == other.shape and np.array_equal(one.astype(kind), other.astype(kind), equal_nan=kind.kind == "f")


@given(STATES)
def test_both_codecs_write_the_same_bytes_and_read_them_back(state: dict[str, Array]) -> None:
    data = strict.encode(state)
    assert guest.encode(state) == data
    assert len(data) % 8 == sum(array.nbytes for array in state.values()) % 8
    found, seen = strict.decode(data), guest.decode(data)
    assert isinstance(seen, dict)
    assert list(found) == list(seen) == sorted(state)
    assert all(same(found[name], state[name]) and same(seen[name], state[name]) for name in state)
    assert strict.encode(found) == data


@given(st.binary(max_size=200))
def test_plain_bytes_are_one_tensor(content: bytes) -> None:
    data = guest.encode(content)
    assert guest.decode(data) == content
    assert strict.decode(data)["bytes"].tobytes() == content


def test_values_have_one_form() -> None:
    odd = np.array([np.nan, -0.0, 1.0], "<f4")
    odd.view("<u4")[0] = 0xFFC0_1234
    data = strict.encode({"x": odd})
    assert data == strict.encode({"x": np.array([np.nan, 0.0, 1.0], ">f4")})
    raw = bytearray(data)
    raw[-8:-4] = b"\0\0\0\x80"
    with pytest.raises(Refused, match="negative zero"):
        strict.decode(bytes(raw))
    raw[-12:-8] = b"\1\0\xc0\x7f"
    raw[-8:-4] = bytes(4)
    with pytest.raises(Refused, match="NaN"):
        strict.decode(bytes(raw))


@given(STATES, st.data())
def test_a_changed_byte_is_refused_or_says_something_else(state: dict[str, Array], data: st.DataObject) -> None:
    good = strict.encode(state)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    try:
        found = strict.decode(bad)
    except Refused as error:
        assert error.code == "malformed_proof"
    else:
        assert strict.encode(found) == bad


@given(st.binary(max_size=300))
@example(b"")
@example(b"\xff" * 8)
@example((2).to_bytes(8, "little") + b"[]")
@example((2).to_bytes(8, "little") + b"{}")
@example((8).to_bytes(8, "little") + b"{}      ")
@example((16).to_bytes(8, "little") + b"[[[[[[[[[[[[[[[[")
@example(pickle.dumps({"x": 1}))
def test_any_bytes_are_refused_or_canonical(data: bytes) -> None:
    try:
        found = strict.decode(data)
    except Refused as error:
        assert error.code == "malformed_proof"
    else:
        assert strict.encode(found) == data


def file_of(header: object, body: bytes = b"") -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def entry(dtype: object = "U8", shape: object = (2,), offsets: object = (0, 2)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_the_form_of_the_cases_below_is_right() -> None:
    assert strict.decode(file_of({"x": entry()}, b"ab"))["x"].tobytes() == b"ab"


@pytest.mark.parametrize(
    "data",
    [
        file_of({"x": entry()}, b"a"),
        file_of({"x": entry()}, b"abc"),
        file_of({"__metadata__": {"a": "b"}, "x": entry()}, b"ab"),
        file_of({"x": entry(), "a": entry(offsets=(2, 4))}, b"abcd"),
        file_of({"x": {**entry(), "more": 1}}, b"ab"),
        file_of({"x": entry(dtype="BF16", shape=[1])}, b"ab"),
        file_of({"x": entry(dtype=["U8"])}, b"ab"),
        file_of({"x": entry(shape=[-2])}, b"ab"),
        file_of({"x": entry(shape=[2.0])}, b"ab"),
        file_of({"x": entry(shape=[True, 2])}, b"ab"),
        file_of({"x": entry(shape=[2**62, 4])}, b"ab"),
        file_of({"x": entry(shape=[1] * 9 + [2])}, b"ab"),
        file_of({"x": entry(offsets=(1, 3))}, b"ab"),
        file_of({"x": entry(offsets=(0, 2.0))}, b"ab"),
        file_of({"x": entry(dtype="BOOL")}, b"\1\2"),
        file_of({"x\\y": entry()}, b"ab"),
        file_of({"y" * 193: entry()}, b"ab"),
        file_of({"bytes": entry(), "x": entry(offsets=(2, 4))}, b"abcd"),
        file_of({"bytes": entry(dtype="U16", shape=[1])}, b"ab"),
        file_of({f"n{index:05}": entry(shape=[0], offsets=(0, 0)) for index in range(strict.TENSORS_MAX + 1)}),
        (2**63).to_bytes(8, "little") + b"{}",
        (strict.HEADER_BYTES_MAX + 8).to_bytes(8, "little") + b" " * (strict.HEADER_BYTES_MAX + 16),
        file_of({"x": entry()}, b"ab").replace(b'"U8"', b' "U8"').replace(b"  ", b" ", 1),
    ],
)
def test_what_is_not_canonical_is_refused(data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        strict.decode(data)
    assert caught.value.code == "malformed_proof"


@pytest.mark.parametrize(
    "state",
    [
        {"x": np.array([1j])},
        {"x": np.array(["a"])},
        {"x": np.array([None])},
        {"x y": np.zeros(1)},
        {"": np.zeros(1)},
        {"x": np.zeros((1,) * 9)},
        {f"n{index}": np.zeros(0) for index in range(strict.TENSORS_MAX + 1)},
    ],
)
def test_what_has_no_form_is_not_written(state: dict[str, Array]) -> None:
    with pytest.raises(Refused):
        strict.encode(state)
    with pytest.raises(guest.Malformed):
        guest.encode(state)


def test_numbers_that_are_not_finite_are_found_before_anything_is_compared() -> None:
    check_finite({"x": np.array([1.0, -1e300]), "n": np.array([7])}, "claimed")
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(Refused, match="claimed: x has numbers that are not finite"):
            check_finite({"x": np.array([1.0, bad])}, "claimed")


def test_tensors_are_compared_with_their_like_only() -> None:
    one: dict[str, Array] = {"x": np.zeros(2)}
    check_alike(one, {"x": np.ones(2)}, "claimed")
    for other in ({}, {"y": np.zeros(2)}, {"x": np.zeros(3)}, {"x": np.zeros(2, np.float32)}):
        with pytest.raises(Refused) as caught:
            check_alike(one, other, "claimed")
        assert caught.value.code == "malformed_proof"
