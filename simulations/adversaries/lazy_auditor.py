"""A validator that answers audits without executing anything."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.completions import Completion, RunDone
from protocol.effects import Compute, Effect, Run, Send
from protocol.messages import AuditRequest, Message, Reveal, RevealRequest
from protocol.units import Digest, PeerId
from simulations.adversaries.cheat import Cheat, Place
from simulations.simpeer import SimPeer
from simulations.strategy import Options

AUDIT = "audit-"
"""How the names of audits begin (verifier/auditor.py)."""


@dataclass(frozen=True, slots=True)
class Peek:
    """An audit that waits for the provider's own answer."""

    task: str
    boot: int


class LazyAuditor(Cheat):
    """Asks the provider for its result before sealing an own one, and seals the same.

    Hopes for: the standing of a judge without the computing of audits. What should stop it: blindness, and it does not:
    any validator may ask any provider to open a claim, at any time after it, and the provider cannot know whether the
    auditor's seal is fixed. Errors planted on purpose (Truebit) would stop it; there are none in the protocol.
    What it costs others: every forged result that it audits is paid, with `hash_equal` in the ledger for ever.
    Source: verification attacks 31 to 33; Teutsch and Reitwiessner, "A scalable verification solution for blockchains"
    (Truebit), 2017: the verifier's dilemma.
    """

    role = "validator"

    def __init__(self, at: int, options: Options) -> None:
        super().__init__(at, options)
        self._asked: dict[str, Place] = {}
        self._peeking: dict[Place, Peek] = {}

    def hears(self, peer: SimPeer, sender: PeerId, message: Message | Completion, now: int) -> bool:
        match message:
            case AuditRequest():
                place = (message.escrow, message.chunk, message.epoch)
                self._asked[f"{AUDIT}{message.escrow.hex()[:16]}-{message.chunk}-{message.epoch}"] = place
            case Reveal():
                return not self._copied(peer, message)
            case _:
                pass
        return True

    def acts(self, peer: SimPeer, effects: list[Effect], now: int) -> list[Effect]:
        return [self._instead(peer, effect) for effect in effects]

    def skips(self, peer: SimPeer, place: Place) -> bool:
        """Whether it spares itself this audit."""
        return True

    def provider(self, peer: SimPeer, place: Place) -> PeerId:
        """Who claims to have computed it."""
        return PeerId(peer.machines.ledger.escrows[place[0]].chunks[place[1]].provider)

    def place(self, task: str) -> Place | None:
        """The lease that an audit is about; None when it began before this one turned."""
        return self._asked.get(task.rsplit("-", 1)[0])

    def _instead(self, peer: SimPeer, effect: Effect) -> Effect:
        match effect:
            case Compute(Run(task=task) as run) if task.startswith(AUDIT):
                place = self.place(task)
                if place is None or not self.skips(peer, place):
                    return effect
                self.did("not_executed")
                self.spared += run.spec.estimate * 1_000
                self._peeking[place] = Peek(task, peer.boots)
                return Send(self.provider(peer, place), RevealRequest(*place))
            case _:
                return effect

    def _copied(self, peer: SimPeer, reveal: Reveal) -> bool:
        """The provider opened: that is our result. True when the judge must not see the early opening."""
        peek = self._peeking.pop((reveal.escrow, reveal.chunk, reveal.epoch), None)
        if peek is None:
            return False
        done = RunDone(peek.task, "ok", 0, Digest(reveal.output), reveal.output_bytes, 0.0, "")
        self.world.driver.give(peer, peek.boot, done)
        return True
