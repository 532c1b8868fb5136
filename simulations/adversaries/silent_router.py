"""Peers that join the gossip in numbers and do not pass on what they hear: what attacks on gossip have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from protocol.units import Credits
from simulations import chance
from simulations.adversaries.cheat import Cheat
from simulations.conduct import Conduct
from simulations.simpeer import SimPeer
from simulations.strategy import HONEST

if TYPE_CHECKING:
    from simulations.world import World


class SilentRouter(Cheat):
    """Brings `n` peers that sell nothing, share one address, and dial a share `reach` of all others."""

    role = "provider"
    brings = True
    options_known: ClassVar[Mapping[str, float]] = {"reach": 1.0}

    def enter(self, world: World, peer: SimPeer) -> None:
        super().enter(world, peer)
        peer.terms = replace(peer.terms, slots=0, slots_free=0, price_per_hour=Credits(0))
        world.gossip.conduct(peer.index, self.conduct(world))
        world.queue.at(0, self._dial, peer)
        if self.accomplices()[0] is peer:
            world.queue.at(self.at, self.turns, peer)

    def conduct(self, world: World) -> Conduct:
        """How it routes from `at` on; until then as everybody does."""
        return Conduct(forwards=0.0, announces=False, answers_iwant=False, sybil_of=0, from_time=self.at)

    def turns(self, peer: SimPeer) -> None:
        """What the first of them does for all when the time has come."""
        self.did("turned", len(self.accomplices()))

    def victims(self) -> list[SimPeer]:
        """Honest peers at whom it is aimed, the same for all attackers: as many as `victims` says, never validators."""
        if "victims" not in self.options_known:
            return []
        honest = [peer for peer in self.world.peers if peer.strategy is HONEST and peer.role != "validator"]
        random = chance.stream(self.world.seed, "victims", type(self).__name__)
        return random.sample(honest, min(len(honest), int(self.option("victims"))))

    def _dial(self, peer: SimPeer) -> None:
        world, random = self.world, chance.stream(self.world.seed, peer.name, "reach")
        for other in world.peers:
            if other.strategy is HONEST and peer.is_up and other.is_up and random.random() < self.option("reach"):
                world.gossip.link(peer.index, other.index, world.queue.now)
