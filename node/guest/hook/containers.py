"""Kinds of Python's own containers and small values: list, dict, set, deque, tuple, dates, paths, enums."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import pathlib
import types
import uuid
from collections.abc import Iterable

from .heap import MISSING, PLAIN, Asker, Heap, Kind, Kinds, Resolver
from .packing import Damaged


def as_list(field: object) -> list[object]:
    """A field that has to be a list. Raises Damaged."""
    if not isinstance(field, list):
        raise Damaged("a record without its list")
    return field


def slots_of(values: Iterable[object], heap: Heap) -> list[object]:
    """The slots of a sequence; quick where everything in it is plain."""
    items = list(values)
    if set(map(type, items)) <= PLAIN:
        return items
    return [heap.slot(item, str(index)) for index, item in enumerate(items)]


def present(slots: list[object], restorer: Resolver) -> list[object]:
    """The values of slots; None where one is missing."""
    values = [restorer.get(slot) for slot in slots]
    return [None if value is MISSING else value for value in values]


class ListKind(Kind):
    name = "list"

    def describe(self, value: object, heap: Heap) -> list[object]:
        assert isinstance(value, list)
        return [slots_of(value, heap)]

    def fits(self, fields: list[object], live: object) -> bool:
        return type(live) is list

    def pairs(self, fields: list[object], live: object) -> Iterable[tuple[object, object]]:
        assert isinstance(live, list)
        return zip(as_list(fields[0]), live)

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        return []

    def fill(self, fields: list[object], target: object, restorer: Resolver) -> None:
        assert isinstance(target, list)
        slots = as_list(fields[0])
        values = [restorer.get(slot) for slot in slots]
        for index, value in enumerate(values):
            if value is MISSING:
                values[index] = target[index] if index < len(target) else None
        target[:] = values


MAPPINGS: dict[str, type] = {
    "dict": dict, "OrderedDict": collections.OrderedDict, "defaultdict": collections.defaultdict,
    "Counter": collections.Counter,
}  # fmt: skip


class DictKind(Kind):
    name = "dict"

    def describe(self, value: object, heap: Heap) -> list[object]:
        assert isinstance(value, dict)
        factory = heap.slot(value.default_factory, "factory") if isinstance(value, collections.defaultdict) else None
        keys = slots_of(value.keys(), heap)
        items = list(value.values())
        if not set(map(type, items)) <= PLAIN:
            items = [heap.slot(item, str(key)[:40]) for key, item in value.items()]
        return [type(value).__name__, factory, keys, items]

    def fits(self, fields: list[object], live: object) -> bool:
        return type(live).__name__ == fields[0] and type(live) in MAPPINGS.values()

    def pairs(self, fields: list[object], live: object) -> Iterable[tuple[object, object]]:
        assert isinstance(live, dict)
        yield fields[1], getattr(live, "default_factory", None)
        for key, slot in zip(as_list(fields[2]), as_list(fields[3])):
            if type(key) in PLAIN and key in live:
                yield slot, live[key]

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        kind = MAPPINGS.get(str(fields[0]))
        if kind is None:
            raise Damaged("no mapping: " + str(fields[0])[:40])
        return kind()

    def fill(self, fields: list[object], target: object, restorer: Resolver) -> None:
        assert isinstance(target, dict)
        if isinstance(target, collections.defaultdict):
            factory = restorer.get(fields[1])
            if factory is None or callable(factory):
                target.default_factory = factory
        before = dict(target)
        target.clear()
        for key_slot, slot in zip(as_list(fields[2]), as_list(fields[3])):
            key, value = restorer.get(key_slot), restorer.get(slot)
            if value is MISSING:
                value = before.get(key, MISSING)
            if key is not MISSING and value is not MISSING:
                target[key] = value


class SetKind(Kind):
    name = "set"

    def describe(self, value: object, heap: Heap) -> list[object]:
        assert isinstance(value, set)
        return [slots_of(value, heap)]

    def fits(self, fields: list[object], live: object) -> bool:
        return type(live) is set

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        return set()

    def fill(self, fields: list[object], target: object, restorer: Resolver) -> None:
        assert isinstance(target, set)
        values = [value for value in map(restorer.get, as_list(fields[0])) if value is not MISSING]
        if list(target) != values:
            target.clear()
            target.update(values)


class DequeKind(Kind):
    name = "deque"

    def describe(self, value: object, heap: Heap) -> list[object]:
        assert isinstance(value, collections.deque)
        return [value.maxlen, slots_of(value, heap)]

    def fits(self, fields: list[object], live: object) -> bool:
        return type(live) is collections.deque and live.maxlen == fields[0]

    def pairs(self, fields: list[object], live: object) -> Iterable[tuple[object, object]]:
        assert isinstance(live, collections.deque)
        return zip(as_list(fields[1]), live)

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        size = fields[0]
        return collections.deque(maxlen=size if isinstance(size, int) else None)

    def fill(self, fields: list[object], target: object, restorer: Resolver) -> None:
        assert isinstance(target, collections.deque)
        values = present(as_list(fields[1]), restorer)
        target.clear()
        target.extend(values)


class BytearrayKind(Kind):
    name = "bytearray"

    def describe(self, value: object, heap: Heap) -> list[object]:
        assert isinstance(value, bytearray)
        return [bytes(value)]

    def fits(self, fields: list[object], live: object) -> bool:
        return type(live) is bytearray

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        return bytearray()

    def fill(self, fields: list[object], target: object, restorer: Resolver) -> None:
        assert isinstance(target, bytearray) and isinstance(fields[0], bytes)
        target[:] = fields[0]


class TupleKind(Kind):
    """tuple, frozenset and named tuples: made whole; the live one stays where all its parts are the very same."""

    name = "tuple"
    is_shell = False

    def describe(self, value: object, heap: Heap) -> list[object]:
        assert isinstance(value, (tuple, frozenset))
        kind = type(value)
        name: list[object] = [] if kind in (tuple, frozenset) else [kind.__module__, kind.__qualname__]
        return [kind is frozenset, name, slots_of(value, heap)]

    def fits(self, fields: list[object], live: object) -> bool:
        return isinstance(live, tuple) and fields[0] is False

    def pairs(self, fields: list[object], live: object) -> Iterable[tuple[object, object]]:
        assert isinstance(live, tuple)
        return zip(as_list(fields[2]), live)

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        slots = as_list(fields[2])
        values = [restorer.get(slot) for slot in slots]
        if isinstance(live, tuple) and len(live) == len(values):
            values = [old if new is MISSING else new for old, new in zip(live, values)]
            if all(old is new for old, new in zip(live, values)):
                return live
        values = [None if value is MISSING else value for value in values]
        if fields[0]:
            return frozenset(values)
        name = as_list(fields[1])
        if not name:
            return tuple(values)
        kind = restorer.type_at(*name) if len(name) == 2 else MISSING
        if not (isinstance(kind, type) and issubclass(kind, tuple)):
            return tuple(values)
        return tuple.__new__(kind, values)


class EnumKind(Kind):
    name = "enum"
    is_shell = False

    def describe(self, value: object, heap: Heap) -> list[object]:
        assert isinstance(value, enum.Enum)
        return [type(value).__module__, type(value).__qualname__, value.name]

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        kind = restorer.type_at(fields[0], fields[1])
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return kind.__members__.get(str(fields[2]), live)
        return live


MADE: dict[type, str] = {
    datetime.date: "date", datetime.datetime: "datetime", datetime.time: "time", datetime.timedelta: "timedelta",
    decimal.Decimal: "Decimal", fractions.Fraction: "Fraction", uuid.UUID: "UUID", range: "range", slice: "slice",
    pathlib.PosixPath: "PosixPath", pathlib.PurePosixPath: "PurePosixPath",
}  # fmt: skip
"""Immutable types of the standard library that are made from a few plain arguments."""


class MadeKind(Kind):
    name = "made"
    is_shell = False

    def describe(self, value: object, heap: Heap) -> list[object]:
        arguments: list[object]
        if isinstance(value, (range, slice)):
            arguments = [value.start, value.stop, value.step]
        elif isinstance(value, datetime.timedelta):
            arguments = [value.days, value.seconds, value.microseconds]
        elif isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
            arguments = [value.isoformat()]
        elif isinstance(value, fractions.Fraction):
            arguments = [value.numerator, value.denominator]
        else:
            arguments = [str(value)]
        return [MADE[type(value)], slots_of(arguments, heap)]

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        arguments = [restorer.get(slot) for slot in as_list(fields[1])]
        for kind, name in MADE.items():
            if name == fields[0]:
                if name in ("date", "datetime", "time"):
                    return kind.fromisoformat(*arguments)  # type: ignore[attr-defined]
                return kind(*arguments)
        raise Damaged("no such kind of value: " + str(fields[0])[:40])


class IsTuple(Asker):
    """Named tuples and torch's own tuples."""

    def accepts(self, value: object) -> bool:
        return isinstance(value, tuple)


class IsEnum(Asker):
    def accepts(self, value: object) -> bool:
        return isinstance(value, enum.Enum)


def register(kinds: Kinds) -> None:
    """Add these kinds."""
    kinds.add(ListKind(), list)
    kinds.add(DictKind(), *MAPPINGS.values())
    kinds.add(SetKind(), set)
    kinds.add(DequeKind(), collections.deque)
    kinds.add(BytearrayKind(), bytearray)
    kinds.add(TupleKind(), tuple, frozenset)
    kinds.add(MadeKind(), *MADE)
    kinds.ask(IsEnum(), EnumKind())
    kinds.ask(IsTuple(), kinds.by_name["tuple"])
    kinds.add(Namespace(), types.SimpleNamespace)


class Namespace(Kind):
    name = "namespace"

    def describe(self, value: object, heap: Heap) -> list[object]:
        return [{name: heap.slot(item, name) for name, item in vars(value).items()}]

    def fits(self, fields: list[object], live: object) -> bool:
        return type(live) is types.SimpleNamespace

    def pairs(self, fields: list[object], live: object) -> Iterable[tuple[object, object]]:
        saved = fields[0] if isinstance(fields[0], dict) else {}
        return [(slot, vars(live)[name]) for name, slot in saved.items() if name in vars(live)]

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        return types.SimpleNamespace()

    def fill(self, fields: list[object], target: object, restorer: Resolver) -> None:
        write_attributes(vars(target), fields[0], restorer)


def write_attributes(target: dict[str, object], saved: object, restorer: Resolver) -> None:
    """Make a dictionary of attributes hold what was saved; what could not be saved stays, what was not there goes."""
    if not isinstance(saved, dict):
        raise Damaged("attributes that are no map")
    for name in [name for name in target if name not in saved]:
        del target[name]
    for name, slot in saved.items():
        value = restorer.get(slot)
        if value is not MISSING:
            target[name] = value
    order = [name for name in saved if name in target]
    if list(target) != order:  # Attributes that came later in the first process than in this one.
        values = {name: target[name] for name in order}
        target.clear()
        target.update(values)
