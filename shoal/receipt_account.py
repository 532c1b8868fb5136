"""The money of one job as its receipt proves it: leases, totals, and what every party gained or gave."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from protocol import penalties
from protocol.escrow_state import Escrow
from protocol.identity import peer_text
from protocol.job_books import JobBooks
from protocol.messages import Header
from protocol.operations import Claim, Verdict
from protocol.units import PeerId

_PURSES: Final = {"E": "escrow", "T": "slashed", "F": "commission", "R": "burnt"}
"""Accounts that are nobody's, by class. Slashed is what the treasury kept, commission what auditors did not get."""


@dataclass(slots=True)
class Lease:
    """One lease of a chunk, as the ledger saw it."""

    chunk: int
    epoch: int
    provider: bytes
    price: int
    collateral: int
    outcome: str = ""
    code: str = ""
    is_audited: bool = False
    auditor: bytes = b""
    agreed: tuple[bytes, ...] = ()
    """Auditors who share with it."""
    is_spared: bool = False
    """Whether the fault was found in the units of an earlier lease."""
    output: bytes = b""
    paid: int = 0
    commission: int = 0
    slashed: int = 0
    done_ppm: int = 0
    """Share of the whole chunk that was done when the lease was handed over."""
    evidence: int = 0
    """Set aside for whoever audits it."""
    audit_paid: int = 0
    """What of that its auditor got."""
    waits: int = 0
    """What it earned until then, commission included, while the chunk has no end."""


@dataclass(slots=True)
class Account:
    """The job's money, computed again. Smallest units."""

    cap: int = 0
    """What the renter put in: at the opening and by every extension."""
    refunded: int = 0
    is_closed: bool = False
    leases: dict[tuple[int, int], Lease] = field(default_factory=dict)
    done: dict[int, int] = field(default_factory=dict)
    """Chunk -> the share of it that was handed over, ppm."""
    operations: int = 0
    blocks: int = 0
    time: int = 0
    """Ledger time of its last block, or of the moment that was asked for, µs."""
    escrow_id: bytes = b""
    spec: bytes = b""
    """Digest of the job's specification."""
    claims: dict[tuple[int, int], tuple[Claim, Header]] = field(default_factory=dict)
    """By chunk and epoch: what the provider claimed, and the header of its block."""
    verdicts: dict[tuple[int, int], Verdict] = field(default_factory=dict)
    books: JobBooks | None = None
    """Where the network has a policy: verdicts are held there, and the amounts are the ledger's own."""

    @property
    def _escrow(self) -> Escrow | None:
        return self.books.escrow if self.books is not None else None

    @property
    def paid(self) -> int:
        """To providers, after commission."""
        return self._escrow.paid if self._escrow is not None else sum(lease.paid for lease in self.leases.values())

    @property
    def commission(self) -> int:
        escrow = self._escrow
        return escrow.commission if escrow is not None else sum(lease.commission for lease in self.leases.values())

    @property
    def slashed(self) -> int:
        """From providers' collateral; with a policy final slashes only, and at least so much (`unknown`)."""
        escrow = self._escrow
        return escrow.slashed if escrow is not None else sum(lease.slashed for lease in self.leases.values())

    @property
    def waiting(self) -> int:
        """Shares of leases that were handed over, of chunks that have no end yet."""
        return self.books.pending()[0] if self.books is not None else sum(one.waits for one in self.leases.values())

    @property
    def held(self) -> int:
        """Pay, and money for evidence, that waits until nobody can appeal."""
        return self.books.pending()[1] if self.books is not None else 0

    @property
    def held_until(self) -> int:
        """When the last of it can be final, µs."""
        return self.books.pending()[2] if self.books is not None else 0

    @property
    def audits(self) -> int:
        """To auditors, out of what leases had set aside for them."""
        escrow = self._escrow
        return escrow.evidence if escrow is not None else sum(lease.audit_paid for lease in self.leases.values())

    @property
    def unknown(self) -> list[str]:
        """What this job's own operations do not say, in words."""
        return self.books.unknown() if self.books is not None else []

    def carried(self, chunk: int) -> list[Lease]:
        """The leases of a chunk that were handed over and wait for its end."""
        return [lease for lease in self.leases.values() if lease.chunk == chunk and lease.waits]

    def outputs(self) -> dict[int, bytes]:
        """Chunk -> digest of the output manifest that was accepted and paid for."""
        return {lease.chunk: lease.output for lease in self.leases.values() if lease.outcome == "accept"}

    def movements(self) -> dict[str, int]:
        """What every party gained (+) or gave (-). The sum is zero to the unit once the escrow is closed."""
        moved: defaultdict[str, int] = defaultdict(int)
        if self._escrow is not None and self.books is not None:
            for (cls, key), amount in self.books.moved().items():
                is_renter = cls == "U" and key == self._escrow.owner
                moved["renter" if is_renter else _PURSES.get(cls) or wire_peer(key)] += amount
            return dict(moved)
        moved["renter"] = self.refunded - self.cap
        moved["commission"] = self.commission
        moved["slashed"] = self.slashed
        for lease in self.leases.values():
            moved[wire_peer(lease.provider)] += lease.paid - lease.slashed
            for auditor, part in penalties.divided(lease.audit_paid, (lease.auditor, *lease.agreed)):
                moved[wire_peer(auditor)] += part
        return dict(moved)


def wire_peer(peer: bytes) -> str:
    """A peer id as text."""
    return peer_text(PeerId(peer))
