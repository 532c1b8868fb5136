"""A provider's answers to validators who ask for evidence: one quote per claim, made once and shown to all who ask.

Whatever the hardware does happens outside (`Attest`). Spec: specs/40-attestation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from protocol.completions import Attested, Completion
from protocol.effects import Attest, Compute, Effect, LeaseKey, Send, Wake
from protocol.errors import LocalError, RemoteViolation
from protocol.messages import Message
from protocol.proof import Proof
from protocol.provider_lease import Lease
from protocol.quote_messages import EVIDENCE_BYTES_MAX, Quote, QuoteRequest, binding
from protocol.units import SECOND, Micros, PeerId
from verifier.views import LedgerView

LOOK: Final = Micros(1 * SECOND)
"""Microseconds between two looks for a beacon that a judge has already and this peer's ledger has not."""

WORDS_CHARS_MAX: Final = 128
"""Characters of a reason: what the message carries."""


class Attestant:
    """Speaks for this machine's hardware, about the claims of its own leases and nothing else."""

    accepts: tuple[type, ...] = (QuoteRequest, Attested)

    def __init__(
        self,
        me: PeerId,
        validators: Callable[[], Collection[PeerId]],
        leases: Mapping[LeaseKey, Lease],
        ledger: Callable[[], LedgerView],
    ) -> None:
        self._me = me
        self._validators = validators
        self._leases = leases
        self._ledger = ledger
        self._asked: dict[LeaseKey, dict[PeerId, None]] = {}
        """Who waits for which claim's evidence."""
        self._busy: set[LeaseKey] = set()
        self._made: dict[LeaseKey, Quote] = {}

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        match message:
            case QuoteRequest():
                return self._requested(sender, message, now)
            case Attested():
                return self._attested(message)
            case _:
                raise LocalError(f"{type(message).__name__} is not for the attestant", code="not_accepted")

    def tick(self, now: Micros) -> list[Effect]:
        """Begin what waited for a beacon; forget leases that are over."""
        for gone in [key for key in (*self._asked, *self._made) if key not in self._leases]:
            self._asked.pop(gone, None)
            self._made.pop(gone, None)
        return [effect for key in list(self._asked) for effect in self._begin(key, now)]

    def _requested(self, sender: PeerId, request: QuoteRequest, now: Micros) -> list[Effect]:
        if sender not in self._validators():
            raise RemoteViolation(sender, "only a validator may ask for evidence", code="not_a_validator")
        key = (request.escrow, request.chunk, request.epoch)
        if key not in self._leases:
            return []
        if (made := self._made.get(key)) is not None:
            return [Send(sender, made)]
        self._asked.setdefault(key, {})[sender] = None
        return self._begin(key, now)

    def _begin(self, key: LeaseKey, now: Micros) -> list[Effect]:
        """Have the hardware sign, as soon as the claim has its beacon here too."""
        if key in self._busy:
            return []
        proof = self._leases[key].spec.proof
        if not isinstance(proof, Proof) or not isinstance(proof.hardware, tuple):
            return self._attested(Attested(key, None, "the job takes no evidence"))
        escrow = self._ledger().escrows.get(key[0])
        lease = escrow.chunks.get(key[1]) if escrow is not None else None
        if lease is None or lease.epoch != key[2] or lease.state != "claimed" or not lease.beacon:
            return [Wake(Micros(now + LOOK))]
        self._busy.add(key)
        bound = binding(self._me, *key, lease.sealed, lease.beacon)
        return [Compute(Attest(key, bound, tuple(one.kind for one in proof.hardware)))]

    def _attested(self, done: Attested) -> list[Effect]:
        self._busy.discard(done.lease)
        if done.evidence is None:
            made = Quote(*done.lease, why=done.why[:WORDS_CHARS_MAX])
        elif done.evidence.size > EVIDENCE_BYTES_MAX:
            made = Quote(*done.lease, why=f"{done.evidence.size} bytes, {EVIDENCE_BYTES_MAX} fit a message")
        else:
            made = Quote(*done.lease, done.evidence)
        asked = self._asked.pop(done.lease, {})
        if done.lease in self._leases:
            self._made[done.lease] = made
        return [Send(peer, made) for peer in asked]
