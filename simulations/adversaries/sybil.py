"""One owner, many identities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final

from protocol.completions import Completion
from protocol.effects import Effect, Run, Send
from protocol.messages import Attestation, Message, Watch
from protocol.operations import Assign, Fence, Unbond
from protocol.units import Micros, PeerId
from simulations.adversaries.cheat import Cheat, decided, lease_of, operation_of, signed_by
from simulations.proving import Result
from simulations.scenario import NS
from simulations.simpeer import SimPeer

if TYPE_CHECKING:
    from simulations.world import World

WATCHERS_NEEDED: Final = 2
"""Watchers of one owner that fence a lease (protocol/leasing.py FENCE_VOTES)."""


class Sybil(Cheat):
    """Brings `n` providers that are one computer, and fences honest ones with two of a lease's three watchers.

    Watchers are drawn from everybody with a live offer, and the standby is the first bidder that is idle: identities
    that never work are always idle, and cost nothing. When two of them watch a lease they swear that its provider is
    dead. The first `staked` of them keep their stake: a lost chunk goes to the standby, so that it may bring them the
    pay too. The others unbond all of theirs when they turn; they can watch and bid, but hold no lease.
    Hopes for: work that others had, and reputation that others lose. What should stop it: more stake per identity, a
    price on a false fence, or a draw of watchers by stake; today nothing does, and a false fence is never found out.
    Source: Douceur, "The Sybil Attack", 2002; verification attack 25.
    """

    role = "provider"
    brings = True
    options_known: ClassVar[Mapping[str, float]] = {"staked": 0, "fence": 1}

    def enter(self, world: World, peer: SimPeer) -> None:
        super().enter(world, peer)
        gang = self.accomplices()
        first = gang[0].strategy
        assert isinstance(first, Sybil)
        self._ids = frozenset(member.id for member in gang)
        self._fenced: dict[tuple[bytes, int], int] = {} if first is self else first._fenced
        if gang.index(peer) >= self.option("staked"):
            world.queue.at(max(self.at, NS), self._unbond, peer)

    def hears(self, peer: SimPeer, sender: PeerId, message: Message | Completion, now: int) -> bool:
        if isinstance(message, Watch) and self.option("fence"):
            self._swear(peer, sender, message)
        for operation, _, outcome in decided(message):
            if isinstance(operation, Fence) and outcome is not None and outcome.status == "applied":
                chunk = (operation.escrow, operation.chunk)
                if self._fenced.get(chunk, 0) < operation.epoch:
                    self._fenced[chunk] = operation.epoch
                    self.did("fenced")
        return True

    def result(self, peer: SimPeer, run: Run, honest: Result, now: int) -> Result:
        """All identities share one computer."""
        lease = lease_of(peer, run)
        if lease is not None and (lease.assign.escrow, lease.assign.chunk) in self._fenced:
            self.took(lease, "taken_over", 0)
        running = sum(member.machines.provider.running for member in self.accomplices() if member.is_up)
        return Result(honest.content, honest.time * max(1, running))

    def _swear(self, peer: SimPeer, steward: PeerId, watch: Watch) -> None:
        """Our word that an honest provider is dead, if a second one of us can give it too."""
        assign = operation_of(watch.assign)
        if not isinstance(assign, Assign) or assign.provider in self._ids:
            return
        if sum(watcher in self._ids for watcher in assign.watchers) < WATCHERS_NEEDED:
            return
        self.did("sworn_falsely")
        fence = Fence(assign.escrow, assign.chunk, assign.epoch)
        word = Attestation(signed_by(self.world, fence, peer))
        self.world.driver.perform(peer, [Send(steward, word)])

    def _unbond(self, peer: SimPeer) -> None:
        ledger = peer.machines.ledger
        stake = ledger.available("S", peer.id)
        if not stake or not peer.is_up:
            return
        unbond = signed_by(self.world, Unbond(peer.id, 0, ledger.next_sequence(peer.id), stake), peer)

        def submit(now: Micros) -> list[Effect]:
            return peer.machines.client.submit(unbond, now)

        self.world.driver.command(peer, peer.machines.client, submit)
