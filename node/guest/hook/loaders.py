"""torch's DataLoader: its iterators know their position and the random streams that they began with.

The order of draws decides whether a resumed epoch has the same batches: the loader draws its base seed when it is
made; the sampler draws its own at the first batch, or at once where workers fetch ahead. So two states are kept, and
batches that were used are skipped by their *indices*, with workers before the first of them starts.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Iterator

from . import streams
from .heap import MISSING, Heap, Kind, Kinds, Resolver
from .packing import Damaged
from .tensors import raw

MakeIterator = Callable[[object], Iterator[object]]

original: list[MakeIterator] = []
"""DataLoader.__iter__ as torch has it, once `install` has replaced it."""


class Rounds:
    """One pass over a DataLoader. `inner` is made at the first use where `is_lazy`."""

    def __init__(self, loader: object, *, is_lazy: bool = False) -> None:
        self.loader = loader
        self.count = 0
        self.created: object = None
        self.begun: object = None
        self.inner: Iterator[object] | None = None
        if not is_lazy:
            self._make()

    def _make(self) -> Iterator[object]:
        self.created = told(self.loader)
        self.inner = original[0](self.loader)
        return self.inner

    def __iter__(self) -> Rounds:
        return self

    def __next__(self) -> object:
        inner = self._make() if self.inner is None else self.inner
        if self.begun is None:
            self.begun = told(self.loader)
        value = next(inner)
        self.count += 1
        return value

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> object:
        return getattr(self._make() if self.inner is None else self.inner, name)


def told(loader: object) -> list[object]:
    """The random streams, and what the loader and its samplers hold of their own."""
    return [streams.capture(), [_own(part) for part in _parts(loader)]]


def put_back(loader: object, saved: object) -> None:
    """Set the streams that `told` has told."""
    if not isinstance(saved, list) or len(saved) != 2 or not isinstance(saved[1], list):
        raise Damaged("a loader without its random streams")
    streams.put_back(saved[0])
    for part, own in zip(_parts(loader), saved[1]):
        for name, form, value in own:
            _set(part, name, form, value)


def _parts(loader: object) -> list[object]:
    """The loader and the samplers that decide on its order."""
    batches = getattr(loader, "batch_sampler", None)
    return [loader, batches, getattr(batches, "sampler", None), getattr(loader, "sampler", None)]


def _own(part: object) -> list[list[object]]:
    """[name, form, state] of the generators, and of a sampler of the script also the counters, that a part holds."""
    found: list[list[object]] = []
    is_library = type(part).__module__.startswith("torch.")
    for name, value in getattr(part, "__dict__", {}).items():
        kind = type(value)
        if kind.__name__ == "Generator" and kind.__module__.startswith("torch"):
            found.append([name, "torch", raw(value.get_state())])
        elif kind.__name__ == "Generator" and kind.__module__.startswith("numpy"):
            state = value.bit_generator.state
            if state.get("bit_generator") in ("PCG64", "PCG64DXSM"):
                found.append([name, "numpy", state])
        elif kind is random.Random:
            version, state, gauss = value.getstate()
            found.append([name, "python", [version, list(state), gauss]])
        elif kind in (bool, int, float, str) and not is_library:
            found.append([name, "plain", value])
    return found


def _set(part: object, name: str, form: str, value: object) -> None:
    held = getattr(part, "__dict__", {})
    target: object = held.get(name)
    if form == "plain":
        held[name] = value
    elif form == "torch" and target is not None and hasattr(target, "set_state") and isinstance(value, bytes):
        torch = sys.modules["torch"]
        target.set_state(torch.frombuffer(bytearray(value), dtype=torch.uint8))
    elif form == "numpy" and target is not None and hasattr(target, "bit_generator"):
        target.bit_generator.state = value
    elif form == "python" and isinstance(target, random.Random) and isinstance(value, list):
        target.setstate((value[0], tuple(value[1]), value[2]))


def may_be_random(dataset: object) -> bool:
    """Whether samples seem to be drawn anew each time they are asked for: then none may be skipped in a worker."""
    for kind in type(dataset).__mro__:
        for function in vars(kind).values():
            code = getattr(function, "__code__", None)
            if code is not None and any(word in name.lower() for name in code.co_names for word in RANDOM_WORDS):
                return True
    return False


class Skipping:
    """A batch sampler whose next pass begins `count` batches later; passes after it are whole."""

    def __init__(self, sampler: Iterable[object], count: int) -> None:
        self._sampler = sampler
        self._count = count

    def __iter__(self) -> Iterator[object]:
        count, self._count = self._count, 0  # Nothing is drawn before the first `next`: the base seed comes first.
        inner = iter(self._sampler)
        for _ in range(count):
            next(inner, None)
        yield from inner

    def __len__(self) -> int:
        return len(self._sampler)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> object:
        return getattr(self._sampler, name)


RANDOM_WORDS = (
    "rand", "noise", "augment", "transform", "choice", "shuffle", "normal", "uniform", "jitter", "permut", "rng",
)  # fmt: skip
"""Names that a dataset's code uses where it draws."""


def begin_at(loader: object, position: int, created: object, begun: object) -> tuple[Iterator[object], object]:
    """A pass over `loader` that stands behind `position` batches, and the last of these."""
    put_back(loader, created)
    if getattr(loader, "_iterator", None) is not None:  # Persistent workers of the prefix.
        object.__setattr__(loader, "_iterator", None)
    skipped = max(0, position - 1)
    workers = loader.num_workers  # type: ignore[attr-defined]
    is_stream = getattr(loader, "_dataset_kind", 0) == 1 or (workers and may_be_random(loader.dataset))  # type: ignore[attr-defined]
    name = "batch_sampler" if getattr(loader, "batch_sampler", None) is not None else "sampler"
    if is_stream or not workers:
        inner = original[0](loader)
        if begun is not None and not workers:
            put_back(loader, begun)
        for _ in range(skipped):
            next(inner if is_stream else inner._sampler_iter, None)  # type: ignore[attr-defined]
    else:
        sampler = getattr(loader, name)
        object.__setattr__(loader, name, Skipping(sampler, skipped))
        try:
            inner = original[0](loader)
        finally:
            object.__setattr__(loader, name, sampler)
    if not is_stream and hasattr(inner, "_num_yielded"):
        inner._num_yielded += skipped
    return inner, next(inner) if position else MISSING


class RoundsKind(Kind):
    name = "rounds"

    def describe(self, value: object, heap: Heap) -> list[object]:
        assert isinstance(value, Rounds)
        loader = value.loader
        if getattr(loader, "persistent_workers", False) and may_be_random(getattr(loader, "dataset", None)):
            heap.lose_here("random numbers of persistent workers")
        return [heap.slot(value.loader, "loader"), value.count, value.created, value.begun]

    def fits(self, fields: list[object], live: object) -> bool:
        return type(live) is Rounds

    def pairs(self, fields: list[object], live: object) -> Iterable[tuple[object, object]]:
        assert isinstance(live, Rounds)
        return [(fields[0], live.loader)]

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        loader = restorer.get(fields[0])
        if loader is MISSING:
            raise Damaged("a pass over a loader that is not there")
        return Rounds(loader, is_lazy=True)

    def fill(self, fields: list[object], target: object, restorer: Resolver) -> None:
        assert isinstance(target, Rounds) and isinstance(fields[1], int)
        if target.inner is not None and target.count == fields[1] and target.created == fields[2]:
            return  # Entered already.
        target.loader = restorer.get(fields[0])
        target.count = fields[1]
        target.created, target.begun = fields[2], fields[3]
        target.inner = None
        if fields[2] is not None:
            target.inner, item = begin_at(target.loader, fields[1], fields[2], fields[3])
            restorer.items[id(fields)] = item  # type: ignore[attr-defined]


def install(is_lazy: Callable[[], bool], is_here: Callable[[], bool]) -> None:
    """Replace DataLoader.__iter__. `is_lazy`: a restore is under way; `is_here`: this is the hooked process."""
    kind = sys.modules["torch.utils.data.dataloader"].DataLoader
    original.append(kind.__iter__)

    def begin(self: object) -> object:
        return Rounds(self, is_lazy=is_lazy()) if is_here() else original[0](self)

    kind.__iter__ = begin


def register(kinds: Kinds) -> None:
    """Add this kind."""
    kinds.add(RoundsKind(), Rounds)
