"""Providers that invent the first units of their chunks, sign a snapshot of them, and are gone before they claim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import msgspec

from protocol.effects import Effect, Emit, Run, Send
from protocol.messages import Submit
from protocol.operations import Claim, SignedOp
from protocol.prefix import sign_prefix
from simulations import chance
from simulations.adversaries.cheat import Cheat, Place, lease_of, place_of, signed_by, submitted
from simulations.scenario import NS, Injection
from simulations.units import Conduct

if TYPE_CHECKING:
    from simulations.simpeer import SimPeer


class PrefixForger(Cheat):
    """Invents `share` of the units of each chunk, in the time that they would take. Once a snapshot of such a chunk is
    durable, its host is lost for `away` seconds; in every second case its owner takes it back with notice, so that the
    chunk is handed over for a share of its price. `frames`: 1: beside its own claims it hands in one that names an
    earlier lease, unsigned by it.

    Hopes for: another provider goes on from its snapshot, claims all units, and is slashed in its place.
    What should stop it: the claim carries the forger's own signature over the states of its units, and the judge lays
    to it what lies before; nothing is inherited that its maker did not sign.
    Source: specs/11-verification.md, inherited units.
    """

    role = "provider"
    options_known: ClassVar[Mapping[str, float]] = {"share": 0.5, "away": 60, "frames": 0}

    def __init__(self, at: int, options: Mapping[str, float | int | str]) -> None:
        super().__init__(at, options)
        self._framed: set[Place] = set()
        self._is_going = False

    def units(self, peer: SimPeer, run: Run, honest: Conduct, now: int) -> Conduct:
        lease = lease_of(peer, run)
        if lease is None:
            return honest
        count, share = run.spec.units, self.option("share")
        dice = chance.stream(self.world.seed, "forge", peer.name, run.task)
        forged = frozenset(index for index in range(count) if dice.random() < share)
        if forged:
            self.took(lease, "forged", run.spec.estimate * 1_000 * len(forged) // count)
        return Conduct(skips=lambda index: index in forged or honest.skips(index), err=honest.err, waits=True)

    def acts(self, peer: SimPeer, effects: list[Effect], now: int) -> list[Effect]:
        for effect in effects:
            if isinstance(effect, Emit) and effect.name == "snapshot_durable" and not self._is_going:
                self._is_going = True
                self.world.queue.at(now + NS, self._go, (peer, peer.boots))
        return [*self._frames(peer, effects), *effects] if self.option("frames") else effects

    def _go(self, going: tuple[SimPeer, int]) -> None:
        """Its own doing, so nothing of it happens once the faults of the world are over."""
        peer, boots = going
        self._is_going = False
        world, now = self.world, self.world.queue.now
        if not peer.is_up or peer.boots != boots or now >= world.scenario.simulation.duration:
            return
        self.did("lost")
        until = now + round(self.option("away") * NS)
        if self.deeds["lost"] % 2:
            world.lifecycle.stop(peer.index, until, torn=False)
        else:
            world.injector.reclaim(
                peer.index, Injection(number=0, at=now, until=until, kind="reclaim", peers=(peer.index,), amount=10.0)
            )

    def _frames(self, peer: SimPeer, effects: list[Effect]) -> list[Effect]:
        """The same claims with a word that nobody gave, on their way first."""
        return [
            Send(effect.peer, Submit((self._framed_claim(peer, operation),)))
            for effect in effects
            if isinstance(effect, Send)
            for operation, _ in submitted(effect)
            if isinstance(operation, Claim) and self._is_mine(peer, operation) and (operation.units or 0) > 1
        ]

    def _is_mine(self, peer: SimPeer, claim: Claim) -> bool:
        return any(
            place_of(lease) == (claim.escrow, claim.chunk, claim.epoch)
            for lease in peer.machines.provider.leases.values()
        )

    def _framed_claim(self, peer: SimPeer, claim: Claim) -> SignedOp:
        """An earlier lease of somebody else where there is one, else one that never was; the signature is its own."""
        self.did("framed")
        escrow = peer.machines.ledger.escrows.get(claim.escrow)
        known = escrow.chunks.get(claim.chunk) if escrow is not None else None
        former = known.former if known is not None else {}
        epoch = max((epoch for epoch in former if epoch < claim.epoch), default=max(1, claim.epoch - 1))
        chain = self.world.genesis.chain
        word = sign_prefix(peer.identity, chain, claim.escrow, claim.chunk, epoch, 1, bytes(32))
        return signed_by(self.world, msgspec.structs.replace(claim, inherited=(word,)), peer)
