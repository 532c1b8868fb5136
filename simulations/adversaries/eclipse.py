"""Attackers that stand between a peer and everybody else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from simulations.adversaries.silent_router import SilentRouter
from simulations.scenario import NS
from simulations.simpeer import SimPeer

HOLD_NS: Final = NS
"""Between two looks whether somebody else has got through to a victim, ns."""


class Eclipse(SilentRouter):
    """From `at` on `victims` honest peers have links to the attackers only, who pass on nothing in either direction.

    Whoever else dials a victim is cut off within a second: the attackers hold all places at it.
    Hopes for: a provider without work and a renter without offers; a ledger that a peer cannot follow.
    What should stop it: everything that moves money goes directly to the validators, whose addresses a peer has from
    the genesis, so that a block is late, never wrong. Offers and notices have no second way: a victim sells and finds
    nothing while it lasts, and its own offer dies after 45 s. Scores do not help it: no attacker is ever seen to do
    wrong.
    Source: Vyzovitis et al., "GossipSub: Attack-Resilient Message Propagation", 2020, section on the eclipse attack;
    Heilman et al., "Eclipse Attacks on Bitcoin's Peer-to-Peer Network", 2015.
    """

    options_known: ClassVar[Mapping[str, float]] = {"reach": 1.0, "victims": 1}

    def turns(self, peer: SimPeer) -> None:
        attackers = [member.index for member in self.accomplices() if member.is_up]
        for victim in self.victims():
            self._surround(victim, attackers)
        self.world.queue.at(self.world.queue.now + HOLD_NS, self.turns, peer)

    def _surround(self, victim: SimPeer, attackers: list[int]) -> None:
        """All links of the victim become ours, and later every new one is closed."""
        gossip, target = self.world.gossip, victim.index
        if not victim.is_up:
            return
        if not gossip.overlay.is_fixed[target]:
            self.did("surrounded")
            gossip.surround(target, attackers, self.world.queue.now)
        for other in [other for other in gossip.overlay.links[target] if other not in attackers]:
            self.did("cut_off")
            gossip.unlink(target, other)
