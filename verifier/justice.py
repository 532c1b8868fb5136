"""What a peer has for disputes: everybody speaks for what he has computed, validators hold court and keep beacons.

Spec: specs/37-verification-game.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from protocol.effects import Effect, Machine
from protocol.errors import Unavailable
from protocol.ledger import Ledger
from protocol.proof import Trace
from protocol.trace import decode_trace
from protocol.units import Digest, Micros, PeerId
from verifier.advocate import Advocate
from verifier.beacon import BeaconKeeper
from verifier.court import Court
from verifier.witness import Witness


@dataclass(slots=True)
class Justice:
    """The machines of one peer; a peer that is no validator has no court and no beacon."""

    advocate: Advocate
    witness: Witness
    court: Court | None = None
    beacon: BeaconKeeper | None = None

    @property
    def listed(self) -> list[Machine]:
        """Those that there are."""
        return [item for item in (self.advocate, self.witness, self.court, self.beacon) if item is not None]

    def restored(self, records: list[tuple[str, bytes]]) -> list[tuple[Machine, Callable[[Micros], list[Effect]]]]:
        """What to do first after a restart."""
        first: list[tuple[Machine, Callable[[Micros], list[Effect]]]] = []
        court, beacon, witness = self.court, self.beacon, self.witness
        first.append((witness, lambda now: witness.restore(records, now)))
        if court is not None:
            first.append((court, lambda now: court.restore(records, now)))
        if beacon is not None:
            first.append((beacon, lambda now: beacon.restore(records, now)))
        return first


def advocate(
    me: PeerId,
    validators: tuple[PeerId, ...],
    ledger: Callable[[], Ledger],
    by_root: Mapping[bytes, Digest],
    read: Callable[[Digest], bytes],
) -> Advocate:
    """Opens traces of this peer's claims, and of what it computed to contest others', to validators, while an appeal
    about them is open."""

    def find(root: Digest) -> Trace | None:
        digest = by_root.get(root)
        try:
            return None if digest is None else decode_trace(read(digest), me)
        except Unavailable:
            return None

    def is_at_issue(root: Digest) -> bool:
        return any(root in (held.trace, held.rival) for held in ledger().appealed)

    return Advocate(lambda: validators, find, is_at_issue)
