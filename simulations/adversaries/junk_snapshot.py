"""Providers that compute nothing, sign for units all the same, and hand over a snapshot that opens for nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from protocol.completions import Completion
from protocol.effects import Effect, Emit, Run
from protocol.handover import HandoverAnswer
from protocol.messages import Message
from protocol.units import PeerId
from simulations.adversaries.cheat import Cheat, lease_of
from simulations.scenario import NS, Injection
from simulations.units import Conduct

if TYPE_CHECKING:
    from simulations.simpeer import SimPeer


class JunkSnapshot(Cheat):
    """Invents all units of each chunk in the time that they would take. Once a snapshot of them is durable, its owner
    takes the host back with notice, so that the chunk is handed over. `junk`: 1: nobody can open the snapshot; 0: it
    is what was signed.

    Hopes for: the share of the units that it signed for. The chunk begins again at unit 0 elsewhere, and the result
    that its share is paid with names nobody who could be blamed.
    What should stop it: the steward opens the snapshot before it signs, and keeps what it has opened for whoever goes
    on; then the units are claimed with the cheat's own signature over them.
    Source: specs/07-escrow.md, rationale.
    """

    role = "provider"
    options_known: ClassVar[Mapping[str, float]] = {"junk": 1, "away": 60}

    def __init__(self, at: int, options: Mapping[str, float | int | str]) -> None:
        super().__init__(at, options)
        self._is_going = False

    def units(self, peer: SimPeer, run: Run, honest: Conduct, now: int) -> Conduct:
        lease = lease_of(peer, run)
        if lease is None:
            return honest
        self.took(lease, "forged", run.spec.estimate * 1_000)
        return Conduct(skips=lambda index: True, err=honest.err, waits=True)

    def saves(self, peer: SimPeer, run: Run, now: int) -> bool:
        return not self.option("junk")

    def hears(self, peer: SimPeer, sender: PeerId, message: Message | Completion, now: int) -> bool:
        if isinstance(message, HandoverAnswer):
            self.did(message.code or "signed")
        return True

    def acts(self, peer: SimPeer, effects: list[Effect], now: int) -> list[Effect]:
        for effect in effects:
            if isinstance(effect, Emit) and effect.name == "snapshot_durable" and not self._is_going:
                self._is_going = True
                self.world.queue.at(now + NS, self._go, (peer, peer.boots))
        return effects

    def _go(self, going: tuple[SimPeer, int]) -> None:
        """Its own doing, so nothing of it happens once the faults of the world are over."""
        peer, boots = going
        self._is_going = False
        world, now = self.world, self.world.queue.now
        if not peer.is_up or peer.boots != boots or now >= world.scenario.simulation.duration:
            return
        self.did("left")
        until = now + round(self.option("away") * NS)
        world.injector.reclaim(
            peer.index, Injection(number=0, at=now, until=until, kind="reclaim", peers=(peer.index,), amount=10.0)
        )
