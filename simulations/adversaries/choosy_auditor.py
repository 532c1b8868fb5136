"""A validator that answers only some of the judges who have it execute something."""

from __future__ import annotations

from collections.abc import Collection

from protocol.effects import Effect, Send
from protocol.messages import AuditCommit
from protocol.units import PeerId
from simulations.adversaries.cheat import Cheat
from simulations.simpeer import SimPeer


class ChoosyAuditor(Cheat):
    """Seals for every other validator, in the order of their keys, and never for the rest.

    Hopes for: claims without a verdict. Who was answered names it as the auditor, who was not hears another: their
    words differ, no bytes have a quorum, and the provider's work is unpaid when the lease ends.
    What should stop it: a judge whose verdict finds no company signs that of others where it differs only in who was
    heard, and more than a third have signed it (verifier/concurrence.py).
    Source: specs/11-verification.md; a sender that tells some and not others is that of Bracha, "Asynchronous Byzantine
    agreement protocols", 1987.
    """

    role = "validator"

    def acts(self, peer: SimPeer, effects: list[Effect], now: int) -> list[Effect]:
        deaf = sorted(peer.machines.ledger.validators.peers)[1::2]
        kept = [effect for effect in effects if not _is_seal_for(effect, deaf)]
        for _ in range(len(effects) - len(kept)):
            self.did("kept_from")
        return kept


def _is_seal_for(effect: Effect, peers: Collection[PeerId]) -> bool:
    return isinstance(effect, Send) and isinstance(effect.message, AuditCommit) and effect.peer in peers
