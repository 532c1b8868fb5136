"""Puts a snapshot's heap back into a process that has re-executed the script up to the same loop.

First every record is matched with the object that stands at the same place (`match`), then objects that are not there
are made, then all are filled in place. So the model that the optimizer, the trainer and two lists name stays one.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable

from .heap import MISSING, PLAIN, Kind, Kinds, Resolver
from .iterators import again
from .packing import Damaged, Ref

TUPLE_DEPTH_MAX = 400
"""Tuples within tuples; more is no script's."""


class Restorer(Resolver):
    """One pass over the records. `anchors` are objects that earlier passes have given to the script already."""

    def __init__(self, records: list[list[object]], kinds: Kinds, anchors: dict[int, object]) -> None:
        self.records = records
        self.items: dict[int, object] = {}
        self.shared: dict[object, object] = {}
        self._kinds = kinds
        self.done = {index: live for index, live in anchors.items() if self.kind(index).is_once}
        self._live: dict[int, object] = dict(anchors)
        self._claimed: dict[int, int] = {id(live): index for index, live in anchors.items()}
        self._kept: list[object] = []
        self._pending: deque[int] = deque()
        self._filled: set[int] = set()
        self._depth = 0
        self._fields = [record[1:] for record in records]

    def match(self, pairs: Iterable[tuple[object, object]]) -> None:
        """Learn which live objects the records stand for, breadth first from these places."""
        queue = deque(pairs)
        while queue:
            slot, live = queue.popleft()
            if type(slot) is not Ref or slot in self._live:
                continue
            kind = self.kind(slot)
            fields = self._fields[slot]
            if self._claimed.get(id(live), slot) != slot or not kind.fits(fields, live):
                if not kind.is_shell and type(live) not in PLAIN:
                    self._live[slot] = live
                continue
            self._live[slot] = live
            self._kept.append(live)
            if kind.is_shell and kind.name != "live":
                self._claimed[id(live)] = slot
            queue.extend(kind.pairs(fields, live))

    def adopt(self, slot: object, live: object) -> None:
        """Let a record stand for an object, whatever it is."""
        if type(slot) is Ref:
            self._live[slot] = live
            self._kept.append(live)

    def matched(self, kind: str) -> list[tuple[list[object], object]]:
        """(fields, live object) of all records of a kind that stand for an object of this process."""
        return [(self._fields[index], live) for index, live in self._live.items() if self.records[index][0] == kind]

    def kind(self, index: int) -> Kind:
        """The kind of a record. Raises Damaged."""
        kind = self._kinds.by_name.get(str(self.records[index][0]))
        if kind is None:
            raise Damaged("no such kind of record: " + str(self.records[index][0])[:40])
        return kind

    def get(self, slot: object) -> object:
        """See Resolver."""
        if type(slot) is not Ref:
            return slot
        if slot in self.done:
            return self.done[slot]
        kind = self.kind(slot)
        live = self._live.get(slot, MISSING)
        if kind.name == "live":
            return live
        if self._depth > TUPLE_DEPTH_MAX:
            raise Damaged("values nested too deeply")
        self._depth += 1
        try:
            made = live
            if not kind.is_shell:
                made = kind.build(self._fields[slot], self, live)
            elif live is MISSING:
                made = kind.build(self._fields[slot], self, MISSING)
        finally:
            self._depth -= 1
        if made is not MISSING:
            self.done[slot] = made
            if kind.is_shell:
                self._pending.append(slot)
        return made

    def filled(self, slot: object) -> object:
        """The value of a slot with its content, now."""
        value = self.get(slot)
        if type(slot) is Ref and slot in self.done:
            self._fill(slot)
        return value

    def plain(self, slot: object) -> object:
        """A value of lists, maps and plain values that no one else names, made whole."""
        if type(slot) is not Ref:
            return slot
        kind, fields = self.records[slot][0], self._fields[slot]
        if kind == "dict" and isinstance(fields[2], list) and isinstance(fields[3], list):
            return {key: self.plain(item) for key, item in zip(fields[2], fields[3])}
        return self.filled(slot)

    def again(self, slot: object) -> object:
        """The last item of a captured iterator, once more."""
        if type(slot) is not Ref:
            return MISSING
        self.filled(slot)
        fields = self._fields[slot]
        if id(fields) in self.items:
            return self.items[id(fields)]
        return again(self.records[slot], self, self.done.get(slot))

    def type_at(self, module: object, name: object) -> object:
        """See Resolver."""
        found: object = sys.modules.get(str(module), MISSING)
        for part in str(name).split("."):
            found = MISSING if found is MISSING else getattr(found, part, MISSING)
        return found if isinstance(found, type) or callable(found) else MISSING

    def finish(self) -> None:
        """Fill everything that has been reached."""
        while self._pending:
            self._fill(self._pending.popleft())

    def _fill(self, index: int) -> None:
        kind = self.kind(index)
        if index not in self._filled and kind.is_shell:
            self._filled.add(index)
            kind.fill(self._fields[index], self.done[index], self)


def check(records: object) -> list[list[object]]:
    """The records of hostile bytes, their references within range. Raises Damaged."""
    if not isinstance(records, list):
        raise Damaged("a state without records")
    for record in records:
        if not isinstance(record, list) or not record or not isinstance(record[0], str):
            raise Damaged("a record that is no list")
        _check_references(record, len(records))
    return records


def _check_references(value: object, count: int) -> None:
    if type(value) is Ref:
        if value >= count:
            raise Damaged("a reference to record %d of %d" % (value, count))
    elif isinstance(value, list):
        for item in value:
            _check_references(item, count)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_references(key, count)
            _check_references(item, count)
