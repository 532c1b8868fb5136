"""Kinds of objects with attributes: instances of classes, classes, functions, bound methods, and what is left alive.

An object is written attribute by attribute. The classes are the script's own and those of libraries that keep their
state in plain attributes (modules, optimizers, schedulers, estimators); what belongs to the machine, such as a logger
or a lock, is left as the re-executed script made it.
"""

from __future__ import annotations

import functools
import random
import types
from collections import deque
from collections.abc import Callable, Iterable

from .containers import as_list, slots_of, write_attributes
from .heap import MISSING, Asker, Heap, Kind, Kinds, Loss, Resolver
from .packing import Damaged
from .shield import guarded

OF_THE_MACHINE = frozenset({
    "_io", "asyncio", "concurrent", "contextlib", "ctypes", "importlib", "io", "logging", "matplotlib",
    "multiprocessing", "queue", "rich", "selectors", "shoal_hook", "signal", "socket", "ssl", "subprocess",
    "tensorboard", "tensorboardX", "threading", "tqdm", "unittest", "wandb", "warnings", "weakref", "_thread",
    "_weakref", "_csv", "csv", "types", "typing", "abc", "re", "_abc", "_ctypes", "inspect", "dataclasses",
})  # fmt: skip
"""Libraries whose objects stand for something outside of the script: they are rebuilt by re-execution."""

HARMLESS = (
    types.ModuleType, types.BuiltinFunctionType, types.MethodWrapperType, types.WrapperDescriptorType, types.CodeType,
    types.MappingProxyType, types.GetSetDescriptorType, types.MemberDescriptorType, types.MethodDescriptorType,
    types.ClassMethodDescriptorType, property, staticmethod, classmethod, functools.cached_property, type(Ellipsis),
    type(NotImplemented), types.TracebackType, types.FrameType, BaseException, super,
)  # fmt: skip
"""Values without a state of their own, or none that a script goes on with."""

HOOKS = ("_hooks", "_hooks_with_kwargs", "_hooks_always_called")
"""Endings of a torch module's attributes that hold functions: rebuilt by re-execution."""


class Users:
    """Which code is the script's own. `files` are the source files, `modules` the names of their modules."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.modules: dict[str, str] = {}

    def owns(self, kind: type) -> bool:
        """Whether a class is the script's own."""
        return kind.__module__ in self.modules or kind.__module__ == "__main__"


def slot_names(kind: type) -> list[str]:
    """The names of `__slots__` along the inheritance, as attributes."""
    names: list[str] = []
    for item in kind.__mro__:
        own = item.__dict__.get("__slots__", ())
        for name in (own,) if isinstance(own, str) else tuple(own):
            prefix = "_" + item.__name__.lstrip("_") if _is_mangled(name) else ""
            names += [prefix + name] if name not in ("__dict__", "__weakref__") else []
    return names


def _is_mangled(name: str) -> bool:
    return name.startswith("__") and not name.endswith("__")


class ObjectKind(Kind):
    name = "object"

    def describe(self, value: object, heap: Heap) -> list[object]:
        kind = type(value)
        attributes: dict[object, object] = {}
        for name, item in list(getattr(value, "__dict__", {}).items()):
            if type(item).__name__.endswith("DataLoaderIter") or (isinstance(name, str) and name.endswith(HOOKS)):
                attributes[name] = heap.slot(LEFT_ALIVE, name)
            else:
                attributes[name] = heap.slot(item, str(name))
        slots = {name: heap.slot(getattr(value, name), name) for name in slot_names(kind) if hasattr(value, name)}
        content: list[object] = []
        if isinstance(value, dict):
            content = [slots_of(dict.keys(value), heap), slots_of(dict.values(value), heap)]
        elif isinstance(value, list):
            content = [slots_of(list.__iter__(value), heap)]
        return [kind.__module__, kind.__qualname__, attributes, slots, content]

    def fits(self, fields: list[object], live: object) -> bool:
        return type(live).__module__ == fields[0] and type(live).__qualname__ == fields[1]

    def pairs(self, fields: list[object], live: object) -> Iterable[tuple[object, object]]:
        own = getattr(live, "__dict__", {})
        for name, slot in _map(fields[2]).items():
            if name in own:
                yield slot, own[name]
        for name, slot in _map(fields[3]).items():
            if hasattr(live, str(name)):
                yield slot, getattr(live, str(name))
        content = as_list(fields[4])
        if len(content) == 1 and isinstance(live, list):
            yield from zip(as_list(content[0]), list.__iter__(live))
        elif len(content) == 2 and isinstance(live, dict):
            for key, slot in zip(as_list(content[0]), as_list(content[1])):
                if isinstance(key, (str, int)) and dict.__contains__(live, key):
                    yield slot, dict.__getitem__(live, key)

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        kind = restorer.type_at(fields[0], fields[1])
        if not isinstance(kind, type) or issubclass(kind, type):
            return MISSING
        maker = dict if issubclass(kind, dict) else list if issubclass(kind, list) else object
        try:
            return maker.__new__(kind)
        except TypeError:
            return MISSING

    def fill(self, fields: list[object], target: object, restorer: Resolver) -> None:
        if hasattr(target, "__dict__"):
            write_attributes(target.__dict__, fields[2], restorer)
        for name, slot in _map(fields[3]).items():
            value = restorer.get(slot)
            if value is not MISSING:
                object.__setattr__(target, str(name), value)
        content = as_list(fields[4])
        if len(content) == 1 and isinstance(target, list):
            values = [restorer.get(slot) for slot in as_list(content[0])]
            list.__setitem__(target, slice(None), [None if value is MISSING else value for value in values])
        elif len(content) == 2 and isinstance(target, dict):
            dict.clear(target)
            for key, slot in zip(as_list(content[0]), as_list(content[1])):
                dict.__setitem__(target, restorer.get(key), restorer.get(slot))


def _map(field: object) -> dict[object, object]:
    if not isinstance(field, dict):
        raise Damaged("a record without its map")
    return field


class ClassKind(Kind):
    """A class or a function that a module names; of the script's own classes also the data they carry."""

    name = "class"
    is_shell = False

    def __init__(self, users: Users) -> None:
        self._users = users

    def describe(self, value: object, heap: Heap) -> list[object]:
        assert isinstance(value, type)
        data: dict[object, object] = {}
        if self._users.owns(value):
            for name, item in list(vars(value).items()):
                if not name.startswith("__") and _is_data(item) and not name.startswith("_abc_"):
                    data[name] = heap.slot(item, name)
        return [value.__module__, value.__qualname__, data]

    def fits(self, fields: list[object], live: object) -> bool:
        return isinstance(live, type) and live.__qualname__ == fields[1]

    def pairs(self, fields: list[object], live: object) -> Iterable[tuple[object, object]]:
        assert isinstance(live, type)
        return [(slot, vars(live)[str(name)]) for name, slot in _map(fields[2]).items() if name in vars(live)]

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        kind = live if isinstance(live, type) else restorer.type_at(fields[0], fields[1])
        if isinstance(kind, type):
            for name, slot in _map(fields[2]).items():
                value = restorer.get(slot)
                if value is not MISSING and self._users.owns(kind):
                    setattr(kind, str(name), value)
        return kind


def _is_data(value: object) -> bool:
    return not callable(value) and not hasattr(type(value), "__get__")


class FunctionKind(Kind):
    """A function written in Python; of the script's own ones also what their cells and attributes hold."""

    name = "function"

    def __init__(self, users: Users) -> None:
        self._users = users

    def describe(self, value: object, heap: Heap) -> list[object]:
        assert isinstance(value, types.FunctionType)
        cells: list[object] = []
        defaults: list[object] = []
        attributes: dict[object, object] = {}
        if value.__code__.co_filename in self._users.files:
            for name, cell in zip(value.__code__.co_freevars, value.__closure__ or ()):
                try:
                    cells.append([heap.slot(cell.cell_contents, name)])
                except ValueError:  # An empty cell.
                    cells.append([])
            defaults = slots_of(value.__defaults__ or (), heap)
            attributes = {name: heap.slot(item, name) for name, item in vars(value).items()}
        return [value.__module__ or "", value.__qualname__, cells, defaults, attributes]

    def fits(self, fields: list[object], live: object) -> bool:
        return isinstance(live, types.FunctionType) and live.__qualname__ == fields[1]

    def pairs(self, fields: list[object], live: object) -> Iterable[tuple[object, object]]:
        assert isinstance(live, types.FunctionType)
        for saved, cell in zip(as_list(fields[2]), live.__closure__ or ()):
            try:
                if as_list(saved):
                    yield as_list(saved)[0], cell.cell_contents
            except ValueError:
                continue
        yield from zip(as_list(fields[3]), live.__defaults__ or ())
        for name, slot in _map(fields[4]).items():
            if name in vars(live):
                yield slot, vars(live)[str(name)]

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        return restorer.type_at(fields[0], fields[1])

    def fill(self, fields: list[object], target: object, restorer: Resolver) -> None:
        if not isinstance(target, types.FunctionType) or target.__code__.co_filename not in self._users.files:
            return
        for saved, cell in zip(as_list(fields[2]), target.__closure__ or ()):
            value = restorer.get(as_list(saved)[0]) if as_list(saved) else MISSING
            if value is not MISSING:
                cell.cell_contents = value
        if target.__defaults__ and len(as_list(fields[3])) == len(target.__defaults__):
            values = [restorer.get(slot) for slot in as_list(fields[3])]
            target.__defaults__ = tuple(old if new is MISSING else new for old, new in zip(target.__defaults__, values))
        write_attributes(vars(target), fields[4], restorer)


class MethodKind(Kind):
    name = "method"
    is_shell = False

    def describe(self, value: object, heap: Heap) -> list[object]:
        assert isinstance(value, (types.MethodType, types.BuiltinMethodType))
        return [heap.slot(value.__self__, "__self__"), value.__name__]

    def fits(self, fields: list[object], live: object) -> bool:
        return isinstance(live, types.MethodType) and live.__name__ == fields[1]

    def pairs(self, fields: list[object], live: object) -> Iterable[tuple[object, object]]:
        assert isinstance(live, types.MethodType)
        return [(fields[0], live.__self__)]

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        owner = restorer.get(fields[0])
        if live is not MISSING and getattr(live, "__self__", None) is owner:
            return live
        return live if owner is MISSING else getattr(owner, str(fields[1]), live)


class RandomKind(Kind):
    """random.Random."""

    name = "random"

    def describe(self, value: object, heap: Heap) -> list[object]:
        assert isinstance(value, random.Random)
        if isinstance(value, random.SystemRandom):
            raise Loss("randomness of the machine")
        version, state, gauss = value.getstate()
        return [version, list(state), gauss]

    def fits(self, fields: list[object], live: object) -> bool:
        return type(live) is random.Random

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        return random.Random()

    def fill(self, fields: list[object], target: object, restorer: Resolver) -> None:
        assert isinstance(target, random.Random)
        target.setstate((fields[0], tuple(as_list(fields[1])), fields[2]))


class LiveKind(Kind):
    """What is left as the re-executed script made it."""

    name = "live"

    def __init__(self, users: Users) -> None:
        self._users = users

    def describe(self, value: object, heap: Heap) -> list[object]:
        kind = type(value)
        root = kind.__module__.partition(".")[0]
        is_harmless = value is LEFT_ALIVE or isinstance(value, HARMLESS)
        if not is_harmless and root not in OF_THE_MACHINE:
            heap.lose_here("%s.%s" % (kind.__module__, kind.__qualname__))
        return [kind.__name__]

    def fits(self, fields: list[object], live: object) -> bool:
        return type(live).__name__ == fields[0]


class StatelessKind(Kind):
    """Objects of C libraries that hold nothing."""

    name = "stateless"
    is_shell = False

    def describe(self, value: object, heap: Heap) -> list[object]:
        return [type(value).__module__, type(value).__qualname__]

    def fits(self, fields: list[object], live: object) -> bool:
        return type(live).__qualname__ == fields[1]

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        if type(live).__module__ == fields[0] and type(live).__qualname__ == fields[1]:
            return live
        kind = restorer.type_at(fields[0], fields[1])
        if not isinstance(kind, type) or not _tells(kind):
            return MISSING
        maker: Callable[[type], object] = getattr(kind, "__new__")  # noqa: B009 - typed as type's own
        return maker(kind)


class IsStateless(Asker):
    def accepts(self, value: object) -> bool:
        return not isinstance(value, HARMLESS) and _is_stateless(value)


def _tells(kind: type) -> bool:
    """Whether it is a class of a C library with a `__reduce__` of its own."""
    return not kind.__flags__ & HEAP_TYPE and any("__reduce__" in vars(item) for item in kind.__mro__[:-1])


def _is_stateless(value: object) -> bool:
    """Whether an object of a C library says that it is made anew by calling its class with nothing."""
    kind = type(value)
    if not _tells(kind):
        return False
    told: list[object] = []
    guarded(lambda: told.append(value.__reduce__()), _IGNORED.append)
    return told == [(kind, ())]


_IGNORED: deque[str] = deque(maxlen=1)
"""What went wrong when a foreign object was asked."""


class _LeftAlive:
    """Stands for an attribute that is not looked into."""


LEFT_ALIVE = _LeftAlive()


class IsObject(Asker):
    """Instances whose state is in attributes that may be looked at."""

    def __init__(self, users: Users) -> None:
        self._users = users

    def accepts(self, value: object) -> bool:
        kind = type(value)
        if isinstance(value, HARMLESS) or kind is _LeftAlive:
            return False
        if self._users.owns(kind):
            return True
        has_state = hasattr(value, "__dict__") or isinstance(value, (dict, list)) or bool(slot_names(kind))
        return (
            has_state and bool(kind.__flags__ & HEAP_TYPE) and kind.__module__.partition(".")[0] not in OF_THE_MACHINE
        )


HEAP_TYPE = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: a class that was made at run time, not in C."""


class IsType(Asker):
    def accepts(self, value: object) -> bool:
        return isinstance(value, type)


def register(kinds: Kinds, users: Users) -> None:
    """Add these kinds; the last to be asked."""
    kinds.add(FunctionKind(users), types.FunctionType)
    kinds.add(MethodKind(), types.MethodType)
    kinds.add(RandomKind(), random.Random)
    kinds.ask(IsType(), ClassKind(users))
    kinds.ask(IsObject(users), ObjectKind())
    kinds.ask(IsStateless(), StatelessKind())
    kinds.by_name["live"] = LiveKind(users)
