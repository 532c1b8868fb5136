"""Attackers that pass on everything but the words of some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from simulations.adversaries.silent_router import SilentRouter
from simulations.conduct import Conduct

if TYPE_CHECKING:
    from simulations.world import World


class Censor(SilentRouter):
    """Forwards all statements but those whose origin is one of `victims` honest peers.

    Hopes for: competitors whose offers nobody sees, while a good score keeps the censor in every mesh.
    What should stop it: any honest path is enough. A mesh has several members, IHAVE goes to peers outside of it, and a
    peer's own statements can go to all its neighbours (flood publishing, which the live node does not do).
    Source: Vyzovitis et al., "GossipSub: Attack-Resilient Message Propagation", 2020, section on the censorship attack.
    """

    options_known: ClassVar[Mapping[str, float]] = {"reach": 1.0, "victims": 1}

    def conduct(self, world: World) -> Conduct:
        censored = frozenset(victim.index for victim in self.victims())
        return Conduct(censors=censored, sybil_of=0, from_time=self.at)
