"""A provider that wants to be paid twice, for a lease that it has lost, or for one that it never had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from protocol.completions import Completion
from protocol.effects import Effect, Send
from protocol.messages import Beat, Head, Message
from protocol.operations import Claim, Fence, SignedOp, Verdict
from protocol.units import PeerId
from simulations.adversaries.cheat import Cheat, Place, decided, signed_by, submitted
from simulations.simpeer import SimPeer
from simulations.strategy import Options


class DoubleClaimer(Cheat):
    """Sends every claim again, for the next epoch, and by an accomplice; falls silent on `silent` of its leases.

    Hopes for: two payments for one chunk; pay for a chunk that was given to somebody else, since it goes on computing
    behind the fence and claims late. `others: 1`: it claims every lease of everybody else too, as soon as it sees it.
    What should stop it: the ledger takes one claim per escrow, chunk and epoch, of the lease's own provider, in state
    `assigned`; operations are known by their id. Every try is refused and costs it nothing but the signature. So nobody
    is paid twice. But the receipt of a refused claim goes to the lease's provider, who takes any refused claim for its
    own and drops the lease: claims for others destroy their work, and so does the accomplice's for its friend.
    Source: escrow rules of specs/07-escrow.md; Kleppmann, "How to do distributed locking", 2016 (fencing tokens).
    """

    role = "provider"
    options_known: ClassVar[Mapping[str, float]] = {"silent": 0.5, "others": 0}

    def __init__(self, at: int, options: Options) -> None:
        super().__init__(at, options)
        self._claims: dict[Place, SignedOp] = {}
        self._silent: dict[Place, bool] = {}
        self._stolen: dict[Place, bool] = {}

    def acts(self, peer: SimPeer, effects: list[Effect], now: int) -> list[Effect]:
        done: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, Beat) and self._is_silent(effect.message):
                continue
            done.append(effect)
            for operation, signed in submitted(effect):
                if isinstance(operation, Claim) and _place(operation) not in self._claims:
                    self._claims[_place(operation)] = signed
                    done += self._doubles(peer, operation)
        return done

    def hears(self, peer: SimPeer, sender: PeerId, message: Message | Completion, now: int) -> bool:
        if isinstance(message, Head) and self.option("others"):
            self._claim_others(peer)
        for operation, signed, outcome in decided(message):
            if outcome is None:
                continue
            if isinstance(operation, Claim) and outcome.status == "refused":
                self.did(f"refused:{outcome.code}")
            elif isinstance(operation, Verdict) and operation.outcome == "accept" and _place(operation) in self._claims:
                self._again(peer, self._claims[_place(operation)], "replayed")
            elif isinstance(operation, Fence) and outcome.status == "applied" and _place(operation) in self._silent:
                late = Claim(*_place(operation), sealed=signed.op_id)
                self._again(peer, signed_by(self.world, late, peer), "claimed_late")
        return True

    def _doubles(self, peer: SimPeer, claim: Claim) -> list[Effect]:
        """The same chunk one epoch on, and the same lease for another identity of the same owner."""
        ahead = Claim(claim.escrow, claim.chunk, claim.epoch + 1, claim.sealed)
        self.did("claimed_ahead")
        effects = self.submissions(signed_by(self.world, ahead, peer))
        other = next((friend for friend in self.accomplices() if friend is not peer), None)
        if other is not None:
            self.did("claimed_by_other")
            stolen = Claim(claim.escrow, claim.chunk, claim.epoch, claim.sealed[::-1])
            effects += self.submissions(signed_by(self.world, stolen, other))
        return effects

    def _claim_others(self, peer: SimPeer) -> None:
        """Every lease of strangers that the own copy of the ledger shows, once each."""
        friends = {friend.id for friend in self.accomplices()}
        for escrow in peer.machines.ledger.escrows.values():
            for chunk, lease in escrow.chunks.items() if not escrow.is_closed else ():
                place = (escrow.id, chunk, lease.epoch)
                if lease.state == "assigned" and lease.provider not in friends and place not in self._stolen:
                    self._stolen[place] = True
                    self._again(peer, signed_by(self.world, Claim(*place, sealed=lease.assign), peer), "claimed_others")

    def _again(self, peer: SimPeer, signed: SignedOp, deed: str) -> None:
        self.did(deed)
        self.world.driver.perform(peer, self.submissions(signed))

    def _is_silent(self, beat: Beat) -> bool:
        """Decided once per lease: the first of every 1 / `silent`."""
        place = (beat.escrow, beat.chunk, beat.epoch)
        if place not in self._silent:
            share = self.option("silent")
            before, after = int(len(self._silent) * share), int((len(self._silent) + 1) * share)
            self._silent[place] = after > before
        return self._silent[place]


def _place(operation: Claim | Fence | Verdict) -> Place:
    return operation.escrow, operation.chunk, operation.epoch
