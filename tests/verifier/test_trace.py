"""Openings of traces: the right leaf at its own place, and nothing else, whatever is bent."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import wire
from protocol.errors import Refused, RemoteViolation
from protocol.proof import PATH_MAX, STATE_BYTES_MAX, UNITS_MAX, Leaf, Opening, Trace
from protocol.trace import TRACE_BYTES_MAX, TraceTree, decode_trace, encode_effect, leaf_bytes
from protocol.units import PeerId
from verifier.trace import check_effects, check_opening, check_openings, root

ME = PeerId(bytes(32))
ZERO = bytes(32)


def digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def trace(units: int, salt: int = 0) -> Trace:
    leaves = [Leaf(i, digest("s", i, salt), i, digest("i", i), digest("a", i, salt), 2 * i) for i in range(units)]
    last = Leaf(units, digest("s", units, salt), units, ZERO, ZERO, 0)
    return Trace((*leaves, last), b"".join(encode_effect(float(i)) for i in range(units)))


@given(units=st.integers(1, 70), data=st.data())
def test_every_leaf_opens_at_its_own_place_only(units: int, data: st.DataObject) -> None:
    made = trace(units)
    tree = TraceTree(made)
    index = data.draw(st.integers(0, units))
    opening = tree.open(index)
    assert check_opening(tree.root, units, opening) == made.leaves[index]
    other = data.draw(st.integers(0, units + 1).filter(lambda number: number != index))
    for bent in (
        msgspec.structs.replace(opening, leaf=msgspec.structs.replace(opening.leaf, index=other)),
        msgspec.structs.replace(opening, leaf=msgspec.structs.replace(opening.leaf, state=digest("x"))),
        msgspec.structs.replace(opening, leaf=msgspec.structs.replace(opening.leaf, input=digest("x"))),
        msgspec.structs.replace(opening, leaf=msgspec.structs.replace(opening.leaf, aux=digest("x"))),
        msgspec.structs.replace(opening, leaf=msgspec.structs.replace(opening.leaf, aux_bytes=2 * index + 1)),
        msgspec.structs.replace(opening, path=(*opening.path, ZERO)),
        msgspec.structs.replace(opening, path=opening.path[:-1]),
    ):
        with pytest.raises(Refused) as caught:
            check_opening(tree.root, units, bent)
        assert caught.value.code == "bad_path"
    with pytest.raises(Refused):
        check_opening(tree.root, units + 1, opening)
    with pytest.raises(Refused):
        check_opening(root(trace(units, salt=1)), units, opening)


@given(units=st.integers(1, 70), data=st.data())
def test_effects_are_bound_to_the_same_root(units: int, data: st.DataObject) -> None:
    made = trace(units)
    tree = TraceTree(made)
    check_effects(tree.root, units, made.effects, tree.effects_path)
    at = data.draw(st.integers(0, 2 * units - 1))
    bent = made.effects[:at] + bytes([made.effects[at] ^ 1]) + made.effects[at + 1 :]
    for effects, path in ((bent, tree.effects_path), (made.effects[2:], tree.effects_path), (made.effects, ())):
        with pytest.raises(Refused) as caught:
            check_effects(tree.root, units, effects, path)
        assert caught.value.code == "bad_path"


def test_the_effects_open_as_no_leaf_and_no_leaf_as_effects() -> None:
    made = trace(7)
    tree = TraceTree(made)
    with pytest.raises(Refused):
        check_opening(tree.root, 7, Opening(Leaf(8, ZERO, 0, ZERO, ZERO, 0), tree.effects_path))
    with pytest.raises(Refused):
        check_effects(tree.root, 7, leaf_bytes(made.leaves[7])[:14], tree.open(7).path)


def test_all_leaves_that_were_asked_for_each_once() -> None:
    tree = TraceTree(trace(9))
    two = (tree.open(2), tree.open(5))
    assert set(check_openings(tree.root, 9, two, {2, 5})) == {2, 5}
    for openings, wanted in ((two, {2}), (two[:1], {2, 5}), ((two[0], two[0]), {2}), ((), {0})):
        with pytest.raises(Refused) as caught:
            check_openings(tree.root, 9, openings, wanted)
        assert caught.value.code == "bad_path"


def test_the_longest_trace_fits_its_bounds() -> None:
    zero = Leaf(0, ZERO, STATE_BYTES_MAX, ZERO, ZERO, STATE_BYTES_MAX)
    leaves = [msgspec.structs.replace(zero, index=i) for i in range(UNITS_MAX)]
    made = Trace((*leaves, Leaf(UNITS_MAX, ZERO, STATE_BYTES_MAX, ZERO, ZERO, 0)), bytes(2 * UNITS_MAX))
    assert len(wire.encode(made)) <= TRACE_BYTES_MAX
    tree = TraceTree(decode_trace(wire.encode(made), ME))
    assert max(len(tree.open(index).path) for index in (0, UNITS_MAX)) <= PATH_MAX
    assert len(tree.effects_path) <= PATH_MAX
    with pytest.raises(IndexError):
        tree.open(UNITS_MAX + 1)


@pytest.mark.parametrize(
    "bent",
    [
        msgspec.structs.replace(trace(3), effects=b""),
        msgspec.structs.replace(trace(3), leaves=trace(3).leaves[::-1]),
        msgspec.structs.replace(trace(3), leaves=trace(3).leaves[:-1], effects=bytes(4)),
        msgspec.structs.replace(trace(3), leaves=trace(4).leaves[1:]),
    ],
)
def test_traces_out_of_shape_are_refused(bent: Trace) -> None:
    with pytest.raises(RemoteViolation) as caught:
        decode_trace(wire.encode(bent), ME)
    assert caught.value.code == "bad_trace"


@given(data=st.binary(max_size=300))
def test_other_bytes_are_no_trace(data: bytes) -> None:
    with pytest.raises(RemoteViolation):
        decode_trace(data, ME)


@given(pair=st.tuples(st.floats(min_value=0), st.floats(min_value=0)))
def test_effects_keep_their_order(pair: tuple[float, float]) -> None:
    small, large = sorted(pair)
    assert encode_effect(small) <= encode_effect(large)
