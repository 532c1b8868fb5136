"""What a judge keeps of the claims that it has decided, so that anybody can check them later: one record each.

A record is written when the verdict is ordered, and goes when it is old or when there are too many bytes of them. Whose
job it is may ask for it (`node.dossier_desk`). Pure. Spec: specs/11-verification.md.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from protocol import wire
from protocol.beacon import value_of
from protocol.block import header_hash
from protocol.dossier import DOSSIER_BYTES_MAX, PARTS_MAX, Dossier
from protocol.effects import Effect, Store
from protocol.messages import OPS_MAX, Receipts
from protocol.operations import BeaconCommit, BeaconReveal, Operation, SignedOp
from protocol.units import DAY, MIB, Micros
from verifier.case import Case, Place

KEY: Final = "opened/"
"""Under `opened/<escrow>-<chunk>-<epoch>`: an encoded `protocol.dossier.Dossier`."""

KEPT_FOR: Final = Micros(14 * DAY)
"""Microseconds: as long as auditors keep what they replayed, which is longer than three rounds of appeals."""

KEPT_BYTES: Final = 256 * MIB
"""Of all records; the oldest goes first. A claim without units is half a KB, one of 64 audited units 130 KB."""

BEACONS_MAX: Final = 8
"""Beacons whose parts are remembered: claims are decided within a few of them."""


def key_of(place: Place) -> str:
    """The record of one claim."""
    escrow, chunk, epoch = place
    return f"{KEY}{escrow.hex()}-{chunk}-{epoch}"


@dataclass(slots=True)
class _Parts:
    """The operations of one beacon, as their blocks came by."""

    opened_in: bytes
    """Hash of the header of the first part's block."""
    secrets: dict[bytes, bytes] = field(default_factory=dict)
    receipts: list[Receipts] = field(default_factory=list)

    def value(self, number: int) -> bytes:
        return value_of(number, self.opened_in, self.secrets)

    def add(self, receipts: Receipts, index: int) -> None:
        """One operation of a block with its proof, beside those of the same block."""
        operations: tuple[SignedOp, ...] = (
            SignedOp(receipts.operations[index].body, ()),
        )  # The block vouches for who signed it.
        proofs = receipts.receipts[index : index + 1]
        last = self.receipts[-1] if self.receipts else None
        if last is not None and last.header == receipts.header and len(last.operations) < OPS_MAX:
            operations, proofs = (*last.operations, *operations), (*last.receipts, *proofs)
            self.receipts.pop()
        self.receipts.append(replace(receipts, operations=operations, receipts=proofs))


class Dossiers:
    """All records of one judge."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[Micros, int]] = OrderedDict()
        """By key: when it was kept, and its bytes. Oldest first."""
        self._bytes = 0
        self._beacons: OrderedDict[int, _Parts] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def restore(self, records: Iterable[tuple[str, int]], now: Micros) -> None:
        """What an earlier run has kept: (key, bytes). Their time begins again."""
        for key, size in records:
            self._note(key, size, now)

    def ordered(self, receipts: Receipts, operations: Sequence[Operation]) -> None:
        """A block came by: remember what it has of beacons. `operations`: those of `receipts`, decoded."""
        for index, operation in enumerate(operations):
            is_applied = receipts.receipts[index].outcome.status == "applied"
            if not isinstance(operation, BeaconCommit | BeaconReveal) or not is_applied:
                continue
            if isinstance(operation, BeaconCommit) and operation.number not in self._beacons:
                self._beacons[operation.number] = _Parts(header_hash(receipts.header))
                while len(self._beacons) > BEACONS_MAX:
                    self._beacons.popitem(last=False)
            parts = self._beacons.get(operation.number)
            if parts is None:  # This validator was started again in its midst.
                continue
            if isinstance(operation, BeaconReveal):
                parts.secrets[operation.validator] = operation.secret
            parts.add(receipts, index)

    def keep(self, case: Case, now: Micros) -> list[Effect]:
        """The claim is decided: a record of what was opened. Nothing where nothing was."""
        if case.reveal is None and case.unfolded is None:
            return []
        data = wire.encode(self.dossier_of(case))
        if len(data) > DOSSIER_BYTES_MAX:
            return []
        key = key_of(case.place)
        self._note(key, len(data), now)
        return [Store(key, data), *self.forget(now)]

    def dossier_of(self, case: Case) -> Dossier:
        """Everything that was opened to this judge about one claim."""
        dossier = Dossier(*case.place, heard=tuple(case.heard_of))
        if case.reveal is not None:
            dossier = replace(dossier, reveal=case.reveal)
        if case.unfolded is not None:
            parts = self._parts_of(case.beacon) if case.unfolded.indices else ()  # Else it drew nothing.
            dossier = replace(dossier, units=case.unfolded.opened, beacon=parts)
        return dossier

    def forget(self, now: Micros) -> list[Effect]:
        """Records that are old, or the oldest of too many."""
        effects: list[Effect] = []
        while self._kept:
            key, (since, size) = next(iter(self._kept.items()))
            if now < since + KEPT_FOR and self._bytes <= KEPT_BYTES:
                break
            del self._kept[key]
            self._bytes -= size
            effects.append(Store(key, None))
        return effects

    def _note(self, key: str, size: int, now: Micros) -> None:
        _, before = self._kept.pop(key, (now, 0))
        self._kept[key] = (now, size)
        self._bytes += size - before

    def _parts_of(self, beacon: bytes) -> tuple[Receipts, ...]:
        """The operations of the beacon with this value; none where it is a block, or they are not remembered."""
        found = (parts for number, parts in self._beacons.items() if parts.value(number) == beacon)
        parts = next(found, None)
        return tuple(parts.receipts) if parts is not None and len(parts.receipts) <= PARTS_MAX else ()
