"""A renter that is its own provider, for the record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final

from protocol import wire
from protocol.completions import Completion
from protocol.effects import Effect, Publish, Run, Send
from protocol.errors import Refused
from protocol.jobspec import Chunk, JobSpec
from protocol.messages import Bid, JobNotice, Message, message_decoder
from protocol.units import MINUTE, Credits, JobId, Micros, PeerId
from simulations.adversaries.cheat import Cheat, consecutive_valid, lease_of
from simulations.adversaries.proof_forger import FORGE_NS
from simulations.proving import Result
from simulations.scenario import NS
from simulations.simpeer import SimPeer
from simulations.workload import RUNTIME

if TYPE_CHECKING:
    from simulations.world import World

TRIVIAL: Final = Micros(1_000)
"""What a washed chunk is said to take, µs: priced by it, it costs the least there is."""

TRIVIAL_NS: Final = 1_000_000
"""What it does take."""

AGAIN_NS: Final = 2 * NS
"""Between two tries to submit while offers are not known yet."""

WASH: Final = "wash-"


class WashRenter(Cheat):
    """A steward that sells computing too, and first of all to itself: `trades` chunks that do nothing.

    It tells nobody else of the job and hears no other bid; with several of them each rents from the next. `forge: 1`:
    when the record is as good as it gets, it forges what honest renters give it.
    Hopes for: the best reputation and the fewest audits, bought. What should stop it: commission on every trade, audits
    of a newcomer, reputation weighted by what was at stake. The first is a unit per trade, since a chunk may be said to
    take a millisecond; the second is the validators' work; and results count alike, whatever they were worth and
    whoever rented. Alone it gets nowhere: a lease needs two signers, and a key that signs twice is refused.
    Source: verification attacks 27 and 29; Cao et al., "Detecting Wash Trade in Financial Market Using Digraphs
    and Dynamic Programming", 2016.
    """

    role = "steward"
    options_known: ClassVar[Mapping[str, float]] = {"trades": 100, "forge": 0}

    def enter(self, world: World, peer: SimPeer) -> None:
        super().enter(world, peer)
        price = Credits(world.groups["provider"].price)
        peer.terms = replace(peer.terms, roles=("steward", "provider"), slots=1, slots_free=1, price_per_hour=price)
        world.queue.at(max(self.at, NS), self._rent, peer)

    def acts(self, peer: SimPeer, effects: list[Effect], now: int) -> list[Effect]:
        """The notice of the own job goes to the partner alone."""
        return [self._quietly(peer, effect) for effect in effects]

    def hears(self, peer: SimPeer, sender: PeerId, message: Message | Completion, now: int) -> bool:
        if not isinstance(message, Bid):
            return True
        job = peer.machines.steward.jobs.get(JobId(message.job))
        return job is None or not job.record.spec.name.startswith(WASH) or sender == self._partner(peer).id

    def result(self, peer: SimPeer, run: Run, honest: Result, now: int) -> Result:
        lease = lease_of(peer, run)
        if lease is None:
            return honest
        if run.spec.name.startswith(WASH):
            self.did("washed")
            return Result(honest.content, TRIVIAL_NS)
        if not self.option("forge") or consecutive_valid(peer) < self.option("trades"):
            return honest
        self.took(lease, "forged", honest.time)
        return Result(wire.encode(("forged", peer.name, run.task)), FORGE_NS)

    def _partner(self, peer: SimPeer) -> SimPeer:
        gang = self.accomplices()
        return gang[(gang.index(peer) + 1) % len(gang)]

    def _quietly(self, peer: SimPeer, effect: Effect) -> Effect:
        if not isinstance(effect, Publish) or effect.topic != "jobs":
            return effect
        notice = wire.decode(effect.statement.body, message_decoder, peer.id)
        if isinstance(notice, JobNotice) and notice.name.startswith(WASH):
            return Send(self._partner(peer).id, notice)
        return effect

    def _rent(self, peer: SimPeer) -> None:
        world, steward = self.world, peer.machines.steward
        spec = JobSpec(
            name=f"{WASH}{peer.index}",
            runtime=RUNTIME,
            commands=("true",),
            chunks=tuple(Chunk() for _ in range(int(self.option("trades")))),
            timeout=MINUTE,
            estimate=TRIVIAL,
            price_per_hour_max=Credits(1 << 40),
            spend_cap=Credits(1 << 40),
            audit_ppm=0,
        )
        try:
            record, _, effects = steward.submit(spec, peer.id, spec.name, peer.clock.read(world.queue.now))
            world.library.put(peer.index, wire.encode(spec))
            world.driver.command(peer, steward, lambda _: effects)
            world.driver.command(peer, steward, lambda now: steward.confirm(JobId(record.job), now))
        except Refused:
            world.queue.at(world.queue.now + AGAIN_NS, self._rent, peer)
