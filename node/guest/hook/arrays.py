"""Kinds of NumPy: arrays and their views, scalars, types, generators. NumPy is looked up, never imported."""

from __future__ import annotations

import sys

from .containers import as_list, slots_of
from .heap import MISSING, Asker, Heap, Kind, Kinds, Loss, Resolver
from .packing import Damaged
from .tensorfile import Entry
from .tensors import DTYPES

WHOLE_BASE_FACTOR = 4
"""The array that a view looks into is written too if at most so many times larger, or else the view alone."""


class ArrayBlob:
    """An array whose bytes go into `tensors.safetensors`."""

    def __init__(self, name: str, dtype: str, shape: list[int], source: object) -> None:
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.source = source

    @property
    def size(self) -> int:
        """Bytes."""
        return int(self.source.nbytes)  # type: ignore[attr-defined]

    def take(self, is_lasting: bool) -> None:
        """Copy the bytes; `is_lasting` false = look at them in place."""
        numpy = sys.modules["numpy"]
        self.source = (
            numpy.array(self.source, order="C", copy=True) if is_lasting else numpy.ascontiguousarray(self.source)
        )

    def entry(self) -> Entry:
        """The bytes, after `take`."""
        flat = self.source.reshape(-1).view("u1") if self.size else b""  # type: ignore[attr-defined]
        return Entry(self.dtype, self.shape, memoryview(flat).cast("B"))


class ArrayKind(Kind):
    name = "array"

    def __init__(self, blobs: dict[str, Entry] | None = None) -> None:
        self.blobs = blobs or {}

    def describe(self, value: object, heap: Heap) -> list[object]:
        numpy = sys.modules["numpy"]
        assert isinstance(value, numpy.ndarray)
        if type(value) is not numpy.ndarray:
            raise Loss("an array of type " + type(value).__name__)
        shape, strides = list(value.shape), list(value.strides)
        place = [shape, strides, bool(value.flags.owndata), bool(value.flags.writeable)]
        if value.dtype.hasobject:
            return ["objects", "O", place, slots_of(value.reshape(-1).tolist(), heap), None]
        kind = dtype_text(value.dtype)
        base = value.base
        while base is not None and isinstance(base.base, numpy.ndarray):
            base = base.base
        if type(base) is numpy.ndarray and base.flags.c_contiguous and base.nbytes <= WHOLE_BASE_FACTOR * value.nbytes:
            offset = value.__array_interface__["data"][0] - base.__array_interface__["data"][0]
            return ["view", kind, place, heap.slot(base, "base"), offset]
        name = "array/%d" % len(heap.blobs)
        known = DTYPES.get(value.dtype.name) if value.dtype.isnative else None
        size = [] if known else [value.dtype.itemsize]
        heap.blobs.append(ArrayBlob(name, known or "U8", [*shape, *size], value))
        place = [shape, dense(value), True, bool(value.flags.writeable)]  # What the restored one will look like.
        return ["own", kind, place, name, None]

    def fits(self, fields: list[object], live: object) -> bool:
        numpy = sys.modules.get("numpy")
        if numpy is None or type(live) is not numpy.ndarray or fields[0] == "view":
            return False
        return self._is_like(fields, live)

    def _is_like(self, fields: list[object], array: object) -> bool:
        live = sys.modules["numpy"].asarray(array)
        shape, strides, owns, _writeable = as_list(fields[2])
        is_alike = list(live.shape) == shape and list(live.strides) == strides and bool(live.flags.owndata) == owns
        kind = "O" if live.dtype.hasobject else dtype_text(live.dtype)
        return bool(is_alike and owns and kind == fields[1] and live.flags.writeable)

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        numpy = sys.modules.get("numpy")
        if numpy is None:
            return MISSING
        shape, strides, _owns, _writeable = as_list(fields[2])
        if fields[0] == "objects":
            return numpy.empty(shape, dtype=object)
        kind = dtype_of(fields[1])
        if fields[0] == "view":
            base = restorer.get(fields[3])
            if isinstance(base, numpy.ndarray):
                return numpy.ndarray(shape, kind, base, fields[4], strides)
            raise Damaged("a view of nothing")
        assert isinstance(strides, list)
        order = "F" if len(strides) > 1 and strides[0] < strides[-1] else "C"
        return numpy.empty(shape, kind, order=order)

    def fill(self, fields: list[object], target: object, restorer: Resolver) -> None:
        numpy = sys.modules["numpy"]
        assert isinstance(target, numpy.ndarray)
        shape, _, _, writeable = as_list(fields[2])
        if fields[0] == "view":
            return
        target.flags.writeable = True
        if fields[0] == "objects":
            values = [restorer.get(slot) for slot in as_list(fields[3])]
            flat = numpy.empty(len(values), dtype=object)
            for index, value in enumerate(values):
                flat[index] = None if value is MISSING else value
            target[...] = flat.reshape(target.shape)
        else:
            entry = self.blobs.get(str(fields[3]))
            if entry is None:
                raise Damaged("an array without its bytes: " + str(fields[3])[:80])
            if entry.data.nbytes:
                target[...] = numpy.frombuffer(entry.data, dtype=dtype_of(fields[1])).reshape(shape)
        target.flags.writeable = bool(writeable)


def dense(array: object) -> list[int]:
    """The strides in bytes of an array of the same shape with memory of its own, in the same order."""
    at = int(array.dtype.itemsize)  # type: ignore[attr-defined]
    is_fortran = bool(array.flags.f_contiguous) and not array.flags.c_contiguous  # type: ignore[attr-defined]
    lengths = list(array.shape)  # type: ignore[attr-defined]
    strides: list[int] = []
    for length in lengths if is_fortran else reversed(lengths):
        strides.append(at)
        at *= max(1, length)
    return strides if is_fortran else strides[::-1]


def dtype_text(dtype: object) -> object:
    """`<f4`, or the fields of a structured type."""
    numpy = sys.modules["numpy"]
    assert isinstance(dtype, numpy.dtype)
    if dtype.names is None:
        return dtype.str
    return _listed(dtype.descr)


def _listed(value: object) -> list[object]:
    assert isinstance(value, (list, tuple))
    return [_listed(item) if isinstance(item, (list, tuple)) else item for item in value]


def dtype_of(text: object) -> object:
    """The inverse. Raises Damaged."""
    numpy = sys.modules["numpy"]
    try:
        fields = [tuple(as_list(field)) for field in text] if isinstance(text, list) else str(text)
        dtype = numpy.dtype(fields)
    except (TypeError, ValueError):
        raise Damaged("no type of NumPy: " + str(text)[:40]) from None
    if dtype.hasobject:
        raise Damaged("a type of NumPy that holds objects")
    return dtype


class ScalarKind(Kind):
    """NumPy's scalars and types."""

    name = "scalar"
    is_shell = False

    def describe(self, value: object, heap: Heap) -> list[object]:
        numpy = sys.modules["numpy"]
        if isinstance(value, numpy.dtype):
            return [dtype_text(value), None]
        assert isinstance(value, numpy.generic)
        if value.dtype.hasobject:
            raise Loss("a scalar that holds objects")
        return [dtype_text(value.dtype), value.tobytes()]

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        numpy = sys.modules.get("numpy")
        if numpy is None:
            return MISSING
        dtype = dtype_of(fields[0])
        return dtype if fields[1] is None else numpy.frombuffer(fields[1], dtype=dtype)[0]


class NumpyRandomKind(Kind):
    """numpy.random.Generator and RandomState, by the state of their bit generator."""

    name = "numpy_random"

    def describe(self, value: object, heap: Heap) -> list[object]:
        if type(value).__name__ == "RandomState":
            state = value.get_state(legacy=False)  # type: ignore[attr-defined]
        else:
            state = value.bit_generator.state  # type: ignore[attr-defined]
        return [type(value).__name__, heap.slot(state, "state")]

    def fits(self, fields: list[object], live: object) -> bool:
        return type(live).__name__ == fields[0] and type(live).__module__.startswith("numpy.random")

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        random = sys.modules["numpy"].random
        state = restorer.plain(fields[1])  # type: ignore[attr-defined]
        name = state.get("bit_generator") if isinstance(state, dict) else None
        if name not in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"):
            raise Damaged("no bit generator: " + str(name)[:40])
        maker = random.RandomState if fields[0] == "RandomState" else random.Generator
        return maker(getattr(random, name)())

    def fill(self, fields: list[object], target: object, restorer: Resolver) -> None:
        state = restorer.plain(fields[1])  # type: ignore[attr-defined]
        if fields[0] == "RandomState":
            target.set_state(state)  # type: ignore[attr-defined]
        else:
            target.bit_generator.state = state  # type: ignore[attr-defined]


class IsArray(Asker):
    def accepts(self, value: object) -> bool:
        numpy = sys.modules.get("numpy")
        return numpy is not None and hasattr(numpy, "ndarray") and isinstance(value, numpy.ndarray)


class IsScalar(Asker):
    def accepts(self, value: object) -> bool:
        numpy = sys.modules.get("numpy")
        return numpy is not None and hasattr(numpy, "generic") and isinstance(value, (numpy.generic, numpy.dtype))


class IsNumpyRandom(Asker):
    def accepts(self, value: object) -> bool:
        kind = type(value)
        return kind.__module__.startswith("numpy.random") and kind.__name__ in ("Generator", "RandomState")


def register(kinds: Kinds, blobs: dict[str, Entry] | None = None) -> None:
    """Add these kinds."""
    kinds.ask(IsArray(), ArrayKind(blobs))
    kinds.ask(IsScalar(), ScalarKind())
    kinds.ask(IsNumpyRandom(), NumpyRandomKind())
