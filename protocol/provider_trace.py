"""What a provider shows of its traces: leaves that a validator asks for, and those behind them once it opens its claim.

A trace is kept as a blob and opened leaf by leaf, behind an ordered claim, to validators only: each of them gets one
choice of units per claim, so that nobody collects the states that an auditor is to find by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct

from protocol import wire
from protocol.effects import Compute, Effect, Forget, LeaseKey, Store
from protocol.errors import Refused, RemoteViolation
from protocol.held import held_id
from protocol.ledger import Ledger
from protocol.messages import PrefixOpened, PrefixRequest, UnitsOpened, UnitsRequest
from protocol.operations import Inherited
from protocol.prefix import begins, first_units
from protocol.proof import Opening, Trace
from protocol.trace import TraceTree, decode_trace
from protocol.units import Digest, PeerId

PREFIXES_MAX: Final = 16
"""Units of earlier leases that one validator may see of a claim: one hearing and three appeals need four."""

Read = Callable[[Digest], bytes]
"""The content of a blob that is here."""


@dataclass(slots=True)
class LeaseTrace:
    """The trace of one lease."""

    digest: Digest
    root: Digest
    units: int
    inherited: tuple[Inherited, ...] = ()
    """Who answers for the units before the one at which the lease went on: all of them begin this trace."""
    asked: dict[PeerId, tuple[int, ...]] = field(default_factory=dict)
    """The units that each validator chose."""
    shown: dict[PeerId, set[tuple[int, int]]] = field(default_factory=dict)
    """What each validator was shown of the traces of earlier leases: epoch and unit."""
    early: dict[PeerId, UnitsRequest] = field(default_factory=dict)
    """Requests that came before the word that the claim is ordered."""

    def answer(self, asker: PeerId, request: UnitsRequest, read: Read) -> UnitsOpened:
        """The effects, and the leaves before the units that were asked for. Raises `RemoteViolation` (`equivocation`,
        `out_of_range`)."""
        indices = request.indices
        if indices and self.asked.get(asker, indices) != indices:
            raise RemoteViolation(asker, "another choice of units for the same claim", code="equivocation")
        if any(index >= self.units for index in indices) or list(indices) != sorted(set(indices)):
            raise RemoteViolation(asker, f"units {indices} of a claim with {self.units}", code="out_of_range")
        tree = self._tree(read)
        if indices:
            self.asked[asker] = indices
        opened = tuple(tree.open(index) for index in indices)
        where = (request.escrow, request.chunk, request.epoch)
        return UnitsOpened(*where, opened, tree.trace.effects, tree.effects_path)

    def behind(self, asker: PeerId, read: Read) -> tuple[Opening, ...]:
        """The leaves behind the units that a validator chose, and the last one: part of the claim's opening."""
        tree = self._tree(read)
        indices = {index + 1 for index in self.asked.get(asker, ())} | {self.units}
        return tuple(tree.open(index) for index in sorted(indices))

    def prefix(self, asker: PeerId, request: PrefixRequest, read: Read) -> PrefixOpened:
        """Two leaves of the trace that an earlier lease committed to. Raises `RemoteViolation` (`out_of_range` for a
        lease that the claim does not name and a unit that it did not do, `too_many`)."""
        item = next((one for one in self.inherited if one.epoch == request.inherited), None)
        if item is None or request.index >= item.units:
            raise RemoteViolation(asker, f"unit {request.index} of lease {request.inherited}", code="out_of_range")
        shown = self.shown.get(asker, set()) | {(item.epoch, request.index)}
        if len(shown) > PREFIXES_MAX:
            raise RemoteViolation(asker, f"more than {PREFIXES_MAX} units of earlier leases", code="too_many")
        tree = TraceTree(first_units(self._tree(read).trace, item.units))
        self.shown[asker] = shown
        where = (request.escrow, request.chunk, request.epoch, item.epoch)
        return PrefixOpened(*where, tree.open(request.index), tree.open(request.index + 1))

    def _tree(self, read: Read) -> TraceTree:
        return TraceTree(decode_trace(read(self.digest), PeerId(bytes(32))))


def committed(digest: Digest, units: int, me: PeerId, read: Read, inherited: tuple[Inherited, ...] = ()) -> LeaseTrace:
    """The trace that an own execution left behind. Raises `Refused` (`no_trace`) when it is not of so many units, or
    does not begin with what it inherited, and `RemoteViolation` when it is none."""
    if digest == bytes(32):
        raise Refused("the program left no trace of its units", code="no_trace", fix="Use shoal_work.run.")
    trace: Trace = decode_trace(read(digest), me)
    if trace.units != units:
        raise Refused(f"a trace of {trace.units} units instead of {units}", code="no_trace", fix="Use shoal_work.run.")
    if not begins(trace, inherited):
        raise Refused("the program changed units that others had done", code="no_trace", fix="Use shoal_work.run.")
    return LeaseTrace(digest, TraceTree(trace).root, units, inherited)


class KeptTrace(Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """The record of the trace of a claim that rests on others, under `trace/`."""

    escrow: bytes
    chunk: int
    epoch: int
    digest: bytes
    root: bytes
    units: int
    inherited: tuple[Inherited, ...]
    until: int


def _record(key: LeaseKey) -> str:
    return f"trace/{key[0].hex()}-{key[1]}-{key[2]}"


class Traces:
    """Traces of claims that are judged, until nobody can appeal any more."""

    def __init__(self) -> None:
        self.by_root: dict[bytes, Digest] = {}
        """Trace root -> digest of the blob: for whoever speaks for a claim in a dispute."""
        self._kept: dict[LeaseKey, LeaseTrace] = {}
        self._until: dict[LeaseKey, int] = {}
        """Of those from an earlier run: ledger time until which a judge may ask."""

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: LeaseKey) -> LeaseTrace | None:
        """The trace of a claim, as long as it is kept."""
        return self._kept.get(key)

    def keep(self, key: LeaseKey, trace: LeaseTrace, until: int = 0) -> list[Effect]:
        """A claim with this trace is on its way; it has to be judged until that ledger time, µs. Who went on with units
        of others can show whose they are after a restart, too: else it would answer for them itself."""
        self._kept[key] = trace
        self.by_root[trace.root] = trace.digest
        if not trace.inherited:
            return []
        record = KeptTrace(*key, trace.digest, trace.root, trace.units, trace.inherited, until)
        return [Store(_record(key), wire.encode(record))]

    def restore(self, kept: Iterable[KeptTrace]) -> None:
        """Traces of an earlier run of this node, whose leases are not known any more."""
        for one in kept:
            trace = LeaseTrace(Digest(one.digest), Digest(one.root), one.units, one.inherited)
            self.keep((one.escrow, one.chunk, one.epoch), trace)
            self._until[one.escrow, one.chunk, one.epoch] = one.until

    def release(self, running: Iterable[LeaseKey], ledger: Ledger) -> list[Effect]:
        """Forget every trace whose lease is over and whose verdict is final."""
        effects: list[Effect] = []
        for key in sorted(self._kept.keys() - set(running)):
            held = ledger.held.get(held_id(*key))
            if (held is not None and not held.end) or ledger.time <= self._until.get(key, -1):
                continue
            trace = self._kept.pop(key)
            self._until.pop(key, None)
            self.by_root.pop(trace.root, None)
            effects.append(Compute(Forget(trace.digest)))
            effects += [Store(_record(key), None)] if trace.inherited else []
        return effects
