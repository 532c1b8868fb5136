"""A validator that takes sides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from protocol import wire
from protocol.effects import Run
from simulations.adversaries.cheat import Place
from simulations.adversaries.lazy_auditor import AUDIT, LazyAuditor
from simulations.proving import Result
from simulations.simpeer import SimPeer
from simulations.strategy import HONEST


class ColludingAuditor(LazyAuditor):
    """Confirms whatever the cheating providers of the scenario claim; audits all others as it should.

    `frame: 1`: contradicts honest providers besides, always with the same invented output.
    Hopes for: pay for results that nobody computed; with `frame`, that honest competitors are slashed and barred.
    What should stop it: the draw by the beacon, so that it seldom judges its friends, and a second auditor who must
    agree before anybody is condemned. With one validator there is neither: judge, first and second auditor are the same
    peer, and it has total power over who is paid and who is slashed.
    Source: verification attacks 28 and 30.
    """

    options_known: ClassVar[Mapping[str, float]] = {"frame": 0}

    def skips(self, peer: SimPeer, place: Place) -> bool:
        claimed = self.provider(peer, place)
        return any(friend.id == claimed and friend.strategy is not HONEST for friend in self.world.peers)

    def result(self, peer: SimPeer, run: Run, honest: Result, now: int) -> Result:
        place = self.place(run.task)
        if not run.task.startswith(AUDIT) or place is None or not self.option("frame"):
            return honest
        self.did("framed")
        return Result(wire.encode(("framed", *place)), honest.time)
