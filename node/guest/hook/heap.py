"""The heap of a snapshot: every object that a script's frames reach, as flat records that name each other by number.

Aliases and cycles survive, because an object has one record however often it is reached. A record is a list
`[kind, field…]`; a field that stands for a value is a *slot*: a plain value itself, or a `Ref` to a record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from .packing import Ref

PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})
"""Immutable and small: written where they stand."""

OBJECTS_MAX = 4_000_000
"""Records of one snapshot; more would stop the job for many seconds at each cut."""

LOSSES_MAX = 8
"""Names of lost objects that are kept for the text."""


class _Missing:
    """What stands where a value could not be had."""


MISSING = _Missing()


class Kind:
    """How values of some types are written, found again in the restored process, made and filled."""

    name = ""
    is_shell = True
    """True: it can exist before its content, so cycles may run through it."""
    is_once = False
    """True: what a loop was given on the way back stays as it is, being in use."""

    def describe(self, value: object, heap: Heap) -> list[object]:
        """The fields of the record behind the kind's name."""
        raise LookupError(self.name)

    def fits(self, fields: list[object], live: object) -> bool:
        """Whether the restored process's object at the same place is the one that the record describes."""
        return False

    def pairs(self, fields: list[object], live: object) -> Iterable[tuple[object, object]]:
        """(slot, live object) of the parts that stand at the same places."""
        return ()

    def build(self, fields: list[object], restorer: Resolver, live: object) -> object:
        """A shell; or, where `is_shell` is false, the whole value, `live` being what stands in its place or MISSING."""
        return MISSING

    def fill(self, fields: list[object], target: object, restorer: Resolver) -> None:
        """Give `target` the content of the record, in place."""


class Resolver:
    """What a kind sees of a restore."""

    def get(self, slot: object) -> object:
        """The value of a slot: itself, or the object of its record; MISSING where there is none."""
        raise LookupError

    def type_at(self, module: object, name: object) -> object:
        """A class or function of a module that is loaded already; MISSING where there is none."""
        raise LookupError


class Loss(Exception):
    """A value that no kind can write; the text says why."""


class Heap:
    """The records under construction. `find` gives the kind of a value."""

    def __init__(self, kinds: Kinds) -> None:
        self.records: list[list[object]] = []
        self.losses: list[str] = []
        self.blobs: list[object] = []
        self.kept: list[object] = []
        self.storages: dict[int, object] = {}
        self.moments: frozenset[int] = frozenset()
        self.gradients: set[int] = set()
        self.small: list[tuple[int, object]] = []
        self._kinds = kinds
        self._refs: dict[int, Ref] = {}
        self._origins: list[tuple[int, str]] = []
        self._queue: deque[tuple[int, object]] = deque()
        self._parent = -1

    def slot(self, value: object, label: str = "") -> object:
        """The slot of a value; its record is written later. `label` names it within what is being described."""
        if type(value) in PLAIN:
            return value
        known = self._refs.get(id(value))
        if known is not None:
            return known
        if len(self.records) >= OBJECTS_MAX:
            raise Loss("the script holds more than %d objects" % OBJECTS_MAX)
        reference = Ref(len(self.records))
        self.records.append([])
        self.kept.append(value)  # As long as it is here, no other object gets its id.
        self._refs[id(value)] = reference
        self._origins.append((self._parent, label))
        self._queue.append((reference, value))
        return reference

    def finish(self) -> None:
        """Describe everything that has been reached."""
        while self._queue:
            index, value = self._queue.popleft()
            self._parent = index
            kind = self._kinds.of(value)
            try:
                self.records[index] = [kind.name, *kind.describe(value, self)]
            except Loss as loss:
                self.lose(index, str(loss))
                self.records[index] = ["live", type(value).__name__]
        self._parent = -1

    def number_blobs(self, places: dict[str, int]) -> None:
        """Name the blobs in the order of the records: `places` says where a kind's records name theirs."""
        named = {blob.name: blob for blob in self.blobs}  # type: ignore[attr-defined]
        told: dict[str, str] = {}
        for record in self.records:
            at = places.get(str(record[0])) if record else None
            old = record[at] if at is not None and at < len(record) else None
            if isinstance(old, str) and old in named:
                new = told.setdefault(old, "%s/%d" % (old.partition("/")[0], len(told)))
                record[places[str(record[0])]] = new
        for old, new in told.items():
            named[old].name = new  # type: ignore[attr-defined]
        self.blobs = [named[old] for old in told]

    def lose(self, index: int, why: str) -> None:
        """Note that the object of a record will not be in the snapshot."""
        if len(self.losses) < LOSSES_MAX:
            self.losses.append("%s (%s)" % (self.path(index), why))

    def lose_here(self, why: str) -> None:
        """The same for the object that is being described."""
        self.lose(self._parent, why)

    def current(self) -> int:
        """The number of the record that is being written."""
        return self._parent

    def path(self, index: int) -> str:
        """Where an object was first reached: `train.py: model.encoder`."""
        labels: list[str] = []
        while index >= 0 and len(labels) < 12:
            index, label = self._origins[index]
            labels.append(label)
        return ".".join(label for label in reversed(labels) if label)

    def place(self, label: str) -> None:
        """Name what the next slots belong to: a module or a frame."""
        self._parent = len(self.records)
        self.records.append(["place", label])
        self.kept.append(label)
        self._origins.append((-1, label))


class Kinds:
    """The registry: exact types first, then questions in order."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self.by_name = {kind.name: kind for kind in kinds}
        self._by_type: dict[type, Kind] = {}
        self._askers: list[tuple[Asker, Kind]] = []

    def add(self, kind: Kind, *types: type) -> None:
        """Values of exactly these types have this kind."""
        self.by_name[kind.name] = kind
        for item in types:
            self._by_type[item] = kind

    def ask(self, asker: Asker, kind: Kind) -> None:
        """Values that `asker` accepts have this kind, unless one that was added earlier does."""
        self.by_name[kind.name] = kind
        self._askers.append((asker, kind))

    def of(self, value: object) -> Kind:
        """The kind of a value; the last resort is `live`."""
        kind = self._by_type.get(type(value))
        if kind is not None:
            return kind
        for asker, asked in self._askers:
            if asker.accepts(value):
                return asked
        return self.by_name["live"]


class Asker:
    """Whether a value is of some kind."""

    def accepts(self, value: object) -> bool:
        """Says so."""
        raise LookupError
