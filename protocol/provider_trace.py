"""What a provider shows of its traces: leaves that a validator asks for, and those behind them once it opens its claim.

A trace is kept as a blob and opened leaf by leaf, behind an ordered claim, to validators only: each of them gets one
choice of units per claim, so that nobody collects the states that an auditor is to find by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from protocol.effects import Compute, Effect, Forget, LeaseKey
from protocol.errors import Refused, RemoteViolation
from protocol.held import held_id
from protocol.ledger import Ledger
from protocol.messages import UnitsOpened, UnitsRequest
from protocol.proof import Opening, Trace
from protocol.trace import TraceTree, decode_trace
from protocol.units import Digest, PeerId

Read = Callable[[Digest], bytes]
"""The content of a blob that is here."""


@dataclass(slots=True)
class LeaseTrace:
    """The trace of one lease."""

    digest: Digest
    root: Digest
    units: int
    asked: dict[PeerId, tuple[int, ...]] = field(default_factory=dict)
    """The units that each validator chose."""
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

    def _tree(self, read: Read) -> TraceTree:
        return TraceTree(decode_trace(read(self.digest), PeerId(bytes(32))))


def committed(digest: Digest, units: int, me: PeerId, read: Read) -> LeaseTrace:
    """The trace that an own execution left behind. Raises `Refused` (`no_trace`) when it is not of so many units, and
    `RemoteViolation` when it is none."""
    if digest == bytes(32):
        raise Refused("the program left no trace of its units", code="no_trace", fix="Use shoal_work.run.")
    trace: Trace = decode_trace(read(digest), me)
    if trace.units != units:
        raise Refused(f"a trace of {trace.units} units instead of {units}", code="no_trace", fix="Use shoal_work.run.")
    return LeaseTrace(digest, TraceTree(trace).root, units)


class Traces:
    """Traces of claims that are judged, until nobody can appeal any more."""

    def __init__(self) -> None:
        self.by_root: dict[bytes, Digest] = {}
        """Trace root -> digest of the blob: for whoever speaks for a claim in a dispute."""
        self._kept: dict[LeaseKey, LeaseTrace] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, key: LeaseKey, trace: LeaseTrace) -> None:
        """A claim with this trace is on its way."""
        self._kept[key] = trace
        self.by_root[trace.root] = trace.digest

    def release(self, running: Iterable[LeaseKey], ledger: Ledger) -> list[Effect]:
        """Forget every trace whose lease is over and whose verdict is final."""
        effects: list[Effect] = []
        for key in sorted(self._kept.keys() - set(running)):
            held = ledger.held.get(held_id(*key))
            if held is not None and not held.end:
                continue
            trace = self._kept.pop(key)
            self.by_root.pop(trace.root, None)
            effects.append(Compute(Forget(trace.digest)))
        return effects
