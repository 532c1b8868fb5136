"""Verdicts on their way to a quorum: judges sign equal bytes one by one, and the ledger takes them together.

Only the leader gathers; a judge hands its verdict in again until it is ordered, so nothing here outlives a restart.
Spec: specs/11-verification.md.
"""

from __future__ import annotations

from typing import Final

from protocol.ledger import Checked
from protocol.operations import Absence, Ruling, Signature, SignedOp, Verdict
from protocol.units import Digest
from protocol.validators import ValidatorSet

WAITING_MAX: Final = 8_192
"""Verdicts short of a quorum, half a KB each. Beyond, whoever has signed most of them loses its own oldest: a judge
that has signed no more than its share, WAITING_MAX / validators, loses none, whatever others sign."""


class Verdicts:
    """Signatures over equal verdicts."""

    def __init__(self, validators: ValidatorSet) -> None:
        self._validators = validators
        self._waiting: dict[Digest, dict[bytes, Signature]] = {}
        self._signed: dict[bytes, dict[Digest, None]] = {key: {} for key in validators.peers}
        """Of what waits, by who has signed it, oldest first."""

    def __len__(self) -> int:
        return len(self._waiting)

    def gather(self, checked: Checked) -> Checked | None:
        """The operation with every signature that has come for it; None for a word of judges that still lacks some.

        What is none of these (verdict, ruling, absence), or is signed by somebody who judges nothing, passes as it is:
        the ledger answers it."""
        is_judges = isinstance(checked.operation, Verdict | Ruling | Absence)
        if not is_judges or any(key not in self._validators for key in checked.signers):
            return checked
        if self._validators.is_quorum(checked.signers):
            return checked
        known = self._waiting.setdefault(checked.op_id, {})
        for item in checked.signed.signatures:
            known[item.signer] = item
            self._signed[item.signer][checked.op_id] = None
        if not self._validators.is_quorum(known):
            while len(self._waiting) > WAITING_MAX:
                self._let_go()
            return None
        del self._waiting[checked.op_id]
        for signer in known:
            del self._signed[signer][checked.op_id]
        signed = SignedOp(checked.signed.body, tuple(known[key] for key in sorted(known)))
        return Checked(checked.operation, signed, checked.op_id, frozenset(known))

    def _let_go(self) -> None:
        """Whoever has signed most of what waits takes back what it signed first."""
        signer = max(self._signed, key=lambda key: len(self._signed[key]))
        oldest = next(iter(self._signed[signer]))
        del self._signed[signer][oldest], self._waiting[oldest][signer]
        if not self._waiting[oldest]:
            del self._waiting[oldest]
