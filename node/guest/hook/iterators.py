"""Kinds of iterators: an iterator is a value like any other, so a loop's position is captured with it.

Python's own say by `__reduce__` what they stand on; others are counted by `Counted` and made anew by the re-executed
script, with the random streams that were there when they were made. A loop that is entered again gets the item of its
unfinished round a second time (`again`), then goes on.
"""

from __future__ import annotations

import itertools
import types
import warnings
from collections.abc import Iterable, Iterator

from . import streams
from .containers import as_list
from .heap import MISSING, Asker, Heap, Kind, Kinds, Loss, Resolver
from .packing import Damaged

SEQUENCE_ITERATORS: tuple[type, ...] = (
    type(iter([])), type(iter(())), type(iter("")), type(iter("é")), type(iter(b"")), type(iter(bytearray())),
    type(iter(range(0))), type(iter(range(1 << 70))), type(reversed([])),
)  # fmt: skip
"""Their `__reduce__` names a sequence and an index."""

COMPOUND_ITERATORS = (enumerate, zip, map, filter)
"""Their `__reduce__` names the iterators below them."""

STATELESS_GENERATORS = frozenset({
    "parameters", "named_parameters", "buffers", "named_buffers", "modules", "named_modules", "children",
    "named_children", "_named_members",
})  # fmt: skip
"""Generators of torch that draw no randomness: their streams need not be kept."""


def take_apart(iterator: object) -> tuple[object, ...]:
    """What `__reduce__` of an iterator of Python says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = iterator.__reduce__()
    assert isinstance(told, tuple)
    return told


def is_known(iterator: object) -> bool:
    """Whether an iterator can be captured as it is."""
    kind = type(iterator)
    if kind in SEQUENCE_ITERATORS or kind is Counted or kind.__name__ == "Rounds":
        return True
    if kind in COMPOUND_ITERATORS:
        parts = take_apart(iterator)[1]
        assert isinstance(parts, tuple)
        inner = parts[:1] if kind is enumerate else parts if kind is zip else parts[1:]
        return all(is_known(item) for item in inner)
    return kind.__name__ == "iterator" and kind.__module__ == "builtins"


class Counted:
    """An iterator that no kind can write: it counts its items, and knows the random streams of its beginning."""

    __slots__ = ("count", "inner", "streams")

    def __init__(self, inner: Iterator[object], told: object) -> None:
        self.inner = inner
        self.count = 0
        self.streams = told

    def __iter__(self) -> Counted:
        return self

    def __next__(self) -> object:
        value = next(self.inner)
        self.count += 1
        return value


def counted(iterator: Iterator[object]) -> Counted:
    """Count a fresh iterator."""
    code = getattr(iterator, "gi_code", None)
    is_quiet = code is not None and code.co_name in STATELESS_GENERATORS
    return Counted(iterator, None if is_quiet else streams.capture())


class SequenceKind(Kind):
    """list_iterator and its like: a sequence and an index."""

    name = "sequence_iterator"
    is_shell = False
    is_once = True

    def describe(self, value: object, heap: Heap) -> list[object]:
        told = take_apart(value)
        parts = told[1]
        assert isinstance(parts, tuple)
        if len(parts) != 1:
            raise Loss("an iterator over a function")
        index = told[2] if len(told) > 2 and told[2] is not None else 0
        if isinstance(parts[0], range):
            assert isinstance(index, int)
            left = parts[0][index:]
            return ["range", [left.start, left.stop, left.step], None]
        return ["reversed" if told[0] is reversed else "iter", heap.slot(parts[0], "sequence"), index]

    def pairs(self, fields: list[object], live: object) -> Iterable[tuple[object, object]]:
        if type(live) in SEQUENCE_ITERATORS or type(live).__name__ == "iterator":
            parts = take_apart(live)[1]
            if isinstance(parts, tuple) and len(parts) == 1:
                return [(fields[1], parts[0])]
        return ()

    def fits(self, fields: list[object], live: object) -> bool:
        return hasattr(live, "__reduce__") and fields[0] != "range"

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        if fields[0] == "range":
            return iter(range(*as_list(fields[1])))  # type: ignore[call-overload]
        sequence = restorer.filled(fields[1])  # type: ignore[attr-defined]
        index = fields[2]
        if sequence is MISSING or not isinstance(index, int):
            raise Damaged("an iterator over nothing")
        if fields[0] == "reversed":
            backward = reversed(sequence)
            backward.__setstate__(index)
            return backward
        made = iter(sequence)
        if index:
            made.__setstate__(index)
        return made


class CompoundKind(Kind):
    """enumerate, zip, map, filter over known iterators."""

    name = "compound_iterator"
    is_shell = False
    is_once = True

    def describe(self, value: object, heap: Heap) -> list[object]:
        if not is_known(value):
            raise Loss("an iterator over something that cannot be captured")
        told = take_apart(value)
        parts = told[1]
        assert isinstance(parts, tuple)
        return [type(value).__name__, [heap.slot(part, str(index)) for index, part in enumerate(parts)]]

    def fits(self, fields: list[object], live: object) -> bool:
        return type(live).__name__ == fields[0] and type(live) in COMPOUND_ITERATORS

    def pairs(self, fields: list[object], live: object) -> Iterable[tuple[object, object]]:
        parts = take_apart(live)[1]
        assert isinstance(parts, tuple)
        return zip(as_list(fields[1]), parts)

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        parts = [restorer.get(slot) for slot in as_list(fields[1])]
        if any(part is MISSING for part in parts):
            raise Damaged("an iterator without its parts")
        for kind in COMPOUND_ITERATORS:
            if kind.__name__ == fields[0]:
                return kind(*parts)  # type: ignore[arg-type, call-overload]
        raise Damaged("no such iterator: " + str(fields[0])[:40])


class CountedKind(Kind):
    """Counted: made anew from the live iterable; `restorer.fresh` is the one that the loop has just evaluated."""

    name = "counted"
    is_shell = False
    is_once = True

    def describe(self, value: object, heap: Heap) -> list[object]:
        assert isinstance(value, Counted)
        return [value.count, value.streams]

    def fits(self, fields: list[object], live: object) -> bool:
        return True

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        count, told = fields
        if type(live) is Counted:
            live = live.inner
        if live is MISSING or not isinstance(count, int):
            raise Damaged("an iterator that is not there again")
        if told is not None:
            streams.put_back(told)
        made = iter(live)  # type: ignore[call-overload]
        last: object = MISSING
        for _ in range(count):
            last = next(made, MISSING)
        restorer.items[id(fields)] = last  # type: ignore[attr-defined]
        remade = Counted(made, told)
        remade.count = count
        return remade


class CountKind(Kind):
    """itertools.count, from its text: in Python 3.14 it says nothing else."""

    name = "count"
    is_shell = False
    is_once = True

    def describe(self, value: object, heap: Heap) -> list[object]:
        numbers = repr(value)[len("count(") : -1].split(", ")
        try:
            return [[int(number) for number in numbers]]
        except ValueError:
            raise Loss("a count that is not of integers") from None

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        return itertools.count(*as_list(fields[0]))


class IsSequenceIterator(Asker):
    def accepts(self, value: object) -> bool:
        kind = type(value)
        return kind.__name__ == "iterator" and kind.__module__ == "builtins"


def again(fields: list[object], restorer: Resolver, made: object) -> object:
    """The item that a captured iterator gave last, for the round in which the cut was; MISSING if unknown."""
    kind = fields[0]
    if kind == "sequence_iterator":
        if fields[1] == "range":
            start, _, step = as_list(fields[2])
            assert isinstance(start, int) and isinstance(step, int)
            return start - step
        sequence = restorer.get(fields[2])
        index = fields[3]
        assert isinstance(index, int)
        return sequence[index + 1 if fields[1] == "reversed" else index - 1]  # type: ignore[index]
    if kind == "compound_iterator":
        slots = as_list(fields[2])
        if fields[1] == "enumerate":
            number = slots[1]
            assert isinstance(number, int)
            return number - 1, restorer.again(slots[0])  # type: ignore[attr-defined]
        if fields[1] == "zip":
            return tuple(restorer.again(slot) for slot in slots)  # type: ignore[attr-defined]
        items = [restorer.again(slot) for slot in slots[1:]]  # type: ignore[attr-defined]
        return restorer.get(slots[0])(*items) if fields[1] == "map" else items[0]  # type: ignore[operator]
    return MISSING


def register(kinds: Kinds) -> None:
    """Add these kinds."""
    kinds.add(SequenceKind(), *SEQUENCE_ITERATORS)
    kinds.add(CompoundKind(), *COMPOUND_ITERATORS)
    kinds.add(CountedKind(), Counted)
    kinds.add(CountKind(), itertools.count)
    kinds.ask(IsSequenceIterator(), kinds.by_name["sequence_iterator"])


def is_user_generator(value: object, files: set[str]) -> bool:
    """Whether it is a generator of the script's own code."""
    return type(value) is types.GeneratorType and value.gi_code.co_filename in files
