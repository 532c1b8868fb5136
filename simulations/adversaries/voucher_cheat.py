"""A provider that is paid by voucher for work that nobody has seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from protocol.completions import Completion
from protocol.effects import Compute, Effect, Run
from protocol.messages import Message
from protocol.operations import Settle
from protocol.provider_lease import Lease
from protocol.units import PeerId
from simulations.adversaries.cheat import Cheat, Place, countersigned, decided, lease_of, signed_by
from simulations.simpeer import SimPeer
from simulations.strategy import Options

BEYOND: Final = 10
"""Smallest units above the price that it tries first."""


class VoucherCheat(Cheat):
    """Hands in `Settle` for every lease it gets, before any work: alone, over the price, and a second one when paid.

    `stewards: k`: the first k stewards are its friends and sign its vouchers. No machine of the node writes vouchers
    yet; the ledger takes them.
    Hopes for: the price without work, verdict or audit. What should stop it: a voucher needs the signature of the
    renter or its steward, pays the price at most, and once. A friendly steward is not stopped by anything: its
    signature alone moves the renter's escrow, chunk by chunk, to the provider, although the escrow names it only for
    leases and closing.
    Source: escrow rules of specs/07-escrow.md; Rivest and Shamir, "PayWord and MicroMint", 1996 (overspent vouchers).
    """

    role = "provider"
    options_known: ClassVar[Mapping[str, float]] = {"stewards": 0}

    def __init__(self, at: int, options: Options) -> None:
        super().__init__(at, options)
        self._tried: dict[Place, Lease] = {}

    def acts(self, peer: SimPeer, effects: list[Effect], now: int) -> list[Effect]:
        done: list[Effect] = []
        for effect in effects:
            lease = (
                lease_of(peer, effect.work) if isinstance(effect, Compute) and isinstance(effect.work, Run) else None
            )
            if lease is None:
                done.append(effect)
                continue
            friend = self._friend(PeerId(lease.steward))
            if friend is None:
                done.append(effect)
            done += self._cheats(peer, friend, lease)
        return done

    def hears(self, peer: SimPeer, sender: PeerId, message: Message | Completion, now: int) -> bool:
        for operation, _, outcome in decided(message):
            if not isinstance(operation, Settle) or outcome is None:
                continue
            place = (operation.escrow, operation.chunk, operation.epoch)
            lease = self._tried.get(place)
            if outcome.status == "refused":
                self.did(f"refused:{outcome.code}")
            elif lease is not None and place not in self.spoils:
                self.took(lease, "settled", lease.spec.estimate * 1_000)
                peer.machines.provider.leases.pop(place, None)  # Its own program: the machine does not know vouchers.
                again = Settle(*place, cumulative=operation.cumulative - 1)
                self.world.driver.perform(peer, self.submissions(signed_by(self.world, again, peer)))
        return True

    def _friend(self, steward: PeerId) -> SimPeer | None:
        stewards = [other for other in self.world.peers if other.role == "steward" and other.is_carrying]
        return next((other for other in stewards[: int(self.option("stewards"))] if other.id == steward), None)

    def _cheats(self, peer: SimPeer, friend: SimPeer | None, lease: Lease) -> list[Effect]:
        assign = lease.assign
        place = (assign.escrow, assign.chunk, assign.epoch)
        if place in self._tried:
            return []
        self._tried[place] = lease
        alone = signed_by(self.world, Settle(*place, cumulative=assign.price), peer)
        self.did("tried_alone")
        effects = self.submissions(alone)
        if friend is not None:
            over = Settle(*place, cumulative=assign.price + BEYOND)
            effects += self.submissions(signed_by(self.world, over, peer, friend))
            effects += self.submissions(countersigned(self.world, alone, friend))
        return effects
