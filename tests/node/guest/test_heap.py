"""The heap of a snapshot, there and back: equal values with the same aliases, put into what stands there already."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import fractions
import pathlib
import random
import types
import uuid
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from node.guest.hook import packing, world
from node.guest.hook.heap import Heap
from node.guest.hook.objects import Users
from node.guest.hook.restore import Restorer, check


class Node:
    """An ordinary object of a script."""

    left: object = None
    day: dt.date
    shared: list[object]

    def __init__(self, **attributes: object) -> None:
        vars(self).update(attributes)

    def method(self) -> object:
        return self.left


class Slotted:
    """One with slots, of which not all are set."""

    __slots__ = ("__hidden", "value")

    def __init__(self, value: object) -> None:
        self.value = value
        self.__hidden = value


class Names(dict[object, object]):
    """A mapping with attributes."""


class Point(NamedTuple):
    """A named tuple."""

    x: object
    y: object


USERS: Final = Users()
USERS.modules[__name__] = __file__
USERS.files.add(__file__)

PLAIN: Final[SearchStrategy[object]] = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.text(max_size=5),
    st.binary(max_size=5), st.complex_numbers(allow_nan=False),
)  # fmt: skip
MADE: Final[SearchStrategy[object]] = st.one_of(
    st.dates(), st.datetimes(), st.timedeltas(), st.decimals(allow_nan=False), st.fractions(), st.uuids(),
    st.builds(range, st.integers(0, 9), st.integers(0, 9)), st.just(pathlib.PurePosixPath("a/b")),
    st.builds(np.float32, st.floats(width=32, allow_nan=False)), st.sets(st.integers(0, 7)),
    st.frozensets(st.integers(0, 7)), st.builds(bytearray, st.binary(max_size=4)),
    st.builds(random.Random, st.integers(0, 9)), st.builds(np.random.default_rng, st.integers(0, 9)),
    st.builds(np.arange, st.integers(0, 5)),
)  # fmt: skip
MAKERS: Final[tuple[Callable[[list[object]], object], ...]] = (
    list, tuple, collections.deque, lambda parts: dict(enumerate(parts)),
    lambda parts: collections.OrderedDict((str(i), part) for i, part in enumerate(parts)),
    lambda parts: collections.defaultdict(list, enumerate(parts)), lambda parts: Names(enumerate(parts)),
    lambda parts: Node(**{f"a{i}": part for i, part in enumerate(parts)}), lambda parts: Slotted(parts),
    lambda parts: types.SimpleNamespace(parts=parts), lambda parts: Point(parts[:1], parts[1:]),
    lambda parts: Node(left=parts).method, lambda parts: iter(parts), lambda parts: enumerate(iter(parts), 3),
)  # fmt: skip


@st.composite
def worlds(draw: DrawFn) -> list[object]:
    """A list of objects that hold each other in any way: shared, nested, in circles."""
    made: list[object] = []
    for _ in range(draw(st.integers(1, 12))):
        known = st.sampled_from(made) if made else PLAIN
        parts = draw(st.lists(st.one_of(PLAIN, MADE, known), max_size=4))
        made.append(draw(st.sampled_from(MAKERS))(parts))
    for holder in made:
        if isinstance(holder, Node) and draw(st.booleans()):
            holder.left = draw(st.sampled_from(made))
        elif type(holder) is list and draw(st.booleans()):
            holder.append(draw(st.sampled_from(made)))
    return made


def written(root: object) -> tuple[object, Heap]:
    heap = Heap(world.kinds_for(USERS))
    slot = heap.slot(root)
    heap.finish()
    return slot, heap


def entries(heap: Heap) -> dict[str, object]:
    for blob in heap.blobs:
        blob.take(True)  # type: ignore[attr-defined]
    return {blob.name: blob.entry() for blob in heap.blobs}  # type: ignore[attr-defined]


def restored(root: object, live: object) -> tuple[object, list[list[object]]]:
    """What `live` becomes when `root` is written, packed, read and put into its place; and what was written."""
    slot, heap = written(root)
    blobs = entries(heap)
    records = check(packing.unpack(packing.pack(heap.records)))
    restorer = Restorer(records, world.kinds_for(USERS, blobs), {})  # type: ignore[arg-type]
    restorer.match([(slot, live)])
    found = restorer.get(slot)
    restorer.finish()
    return found, heap.records


def contents(root: object) -> tuple[list[list[object]], list[tuple[object, bytes]]]:
    """All records and the bytes of all blobs: two worlds are equal, aliases and all, if these are."""
    _, heap = written(root)
    blobs = [(blob.shape, bytes(blob.entry().data)) for blob in heap.blobs if not blob.take(True)]  # type: ignore[attr-defined]
    return heap.records, blobs


@settings(max_examples=150, deadline=None)
@given(worlds(), worlds())
def test_a_world_comes_back_into_another(root: list[object], live: list[object]) -> None:
    expected = contents(root)
    found, _ = restored(root, live)
    assert found is live, "what stands there is filled, not replaced"
    assert contents(found) == expected


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_a_world_comes_back_into_itself_without_a_new_object(root: list[object]) -> None:
    before = [id(item) for item in root if isinstance(item, (Node, dict, list, collections.deque))]
    expected = contents(root)
    found, _ = restored(root, root)
    assert contents(found) == expected
    assert [id(item) for item in root if isinstance(item, (Node, dict, list, collections.deque))] == before


def test_a_circle_and_an_alias_come_back() -> None:
    shared: list[object] = [1, 2**80, decimal.Decimal("0.1"), fractions.Fraction(1, 3), uuid.UUID(int=5)]
    node = Node(shared=shared, day=dt.date(2024, 2, 29))
    node.left = (node, shared)
    found, _ = restored([node, shared], [Node(), []])
    assert isinstance(found, list)  # What stood there.
    again, other = found
    assert isinstance(again, Node) and isinstance(again.left, tuple)
    assert again.left[0] is again and again.left[1] is again.shared is other
    assert (other, again.day) == (shared, node.day)
