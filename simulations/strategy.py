"""How a peer may depart from the protocol. The base class departs in nothing: it is what honest peers have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from protocol.completions import Completion
from protocol.effects import Effect, Machine, Run
from protocol.messages import Message
from protocol.units import Digest, PeerId
from simulations.scenario import Role

if TYPE_CHECKING:
    from simulations.proving import Result
    from simulations.simpeer import SimPeer
    from simulations.units import Conduct
    from simulations.world import World

Options = Mapping[str, float | int | str]


class Strategy:
    """One peer's way to behave. An attacker overrides what it does differently from `at` (ns) on."""

    name = "honest"
    role: Role = "provider"
    """Whom it turns, or as what its own peers come."""
    brings = False
    """True: it comes with peers of its own; False: it turns peers of the population."""

    def __init__(self, at: int, options: Options) -> None:
        self.at = at
        self.options = options

    def enter(self, world: World, peer: SimPeer) -> None:
        """Once, when the world is built: set the gossip conduct, schedule what will happen."""

    def machines(self, peer: SimPeer, machines: list[Machine]) -> list[Machine]:
        """The machines that this peer runs, from those that an honest one would. Called at every start of the peer."""
        return machines

    def hears(self, peer: SimPeer, sender: PeerId, message: Message | Completion, now: int) -> bool:
        """Whether the peer takes a message at all."""
        return True

    def acts(self, peer: SimPeer, effects: list[Effect], now: int) -> list[Effect]:
        """What the peer does of that which its machines ask for."""
        return effects

    def result(self, peer: SimPeer, run: Run, honest: Result, now: int) -> Result:
        """What its host answers for a chunk, and after how long."""
        return honest

    def units(self, peer: SimPeer, run: Run, honest: Conduct, now: int) -> Conduct:
        """How its host computes units, of its own leases and of audits."""
        return honest

    def saves(self, peer: SimPeer, run: Run, now: int) -> bool:
        """Whether a snapshot of its units holds them: else it opens for nobody."""
        return True

    def serves(self, peer: SimPeer, digest: Digest, asker: int, now: int) -> bool:
        """Whether it hands out a blob that it has."""
        return True


HONEST = Strategy(0, {})
"""Shared by all honest peers: it keeps no state."""
