"""What a judge remembers of small errors, and who of the providers pushes at every unit as far as nobody minds.

An alarm, and a reason for this judge to look at everything for a while: two judges have not heard the same auditors,
so their findings are no verdict and no slash. Kept in memory alone: a restart forgets it.
Spec: specs/33-training-proof.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from protocol.completions import UnitError
from protocol.proof import Tolerance
from protocol.units import PeerId
from verifier.drift import UNITS_MAX, Drift, SignedError, decoded, drift

ACCOUNTS_MAX: Final = 64
"""Providers and profiles remembered, half a megabyte each; who has not been audited for longest is forgotten."""

LOOKED_AT: Final = 50
"""Claims of a provider and profile that this judge has audited after the last look that showed a direction: as many as
the ledger's probation after a mismatch."""

Account = tuple[PeerId, str]
"""A provider, and the calibration (`Tolerance.profile`) of what it was audited in."""


@dataclass(slots=True)
class DriftWatch:
    """All accounts of one judge."""

    secret: bytes
    """Nobody else's: who knew it could push where it does not look."""
    flagged: dict[Account, Drift] = field(default_factory=dict)
    """Those whose newest units have a direction."""
    left: dict[Account, int] = field(default_factory=dict)
    """Claims of those that are still audited whatever the beacon says; no more accounts than ACCOUNTS_MAX."""
    _errors: dict[Account, list[SignedError]] = field(default_factory=dict)

    def note(self, provider: PeerId, tolerance: Tolerance, errors: Sequence[UnitError]) -> Drift | None:
        """Units that were found to be within the tolerance. Returns what they show when that is news."""
        if not errors:
            return None
        account = (provider, tolerance.profile)
        known = self._errors.pop(account, [])
        while len(self._errors) >= ACCOUNTS_MAX:
            oldest = next(iter(self._errors))
            del self._errors[oldest]
            self.flagged.pop(oldest, None)
            self.left.pop(oldest, None)
        kept = self._errors[account] = [*known, *map(decoded, errors)][-UNITS_MAX:]
        found = drift(kept, tolerance)
        was_flagged = self.flagged.pop(account, None) is not None
        if found.is_flagged:
            self.flagged[account] = found
            self.left[account] = LOOKED_AT
        return found if found.is_flagged and not was_flagged else None

    def take(self, provider: PeerId, profile: str) -> bool:
        """Whether the next claim of an account is to be audited in any case; it counts as one of those."""
        account = (provider, profile)
        left = self.left.pop(account, 0)
        if left > 1:
            self.left[account] = left - 1
        return left > 0
