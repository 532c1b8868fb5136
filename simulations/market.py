"""What owners of hosts do on the market: keep their offer true each second, and undercut when nobody comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from protocol import wire
from protocol.effects import Effect, Publish
from protocol.messages import message_decoder
from protocol.units import Credits, Micros
from protocol.wire import Signed
from simulations.scenario import NS
from simulations.simpeer import SimPeer

if TYPE_CHECKING:
    from simulations.world import World

LOOK_NS = NS
"""Between two looks at the own offer, ns: as in the live node."""

IDLE_NS = 60 * NS
"""Idle for so long, ns, a price warrior lowers its price."""

FIRST = 0x0FFE
"""The auditor's code of a first offer."""

FLOOR_SHARE = 10
"""Nobody goes below a tenth of the first price."""


class Market:
    """Offers of all hosts."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._looks: set[int] = set()
        """Peers with a look scheduled."""
        self._asked: dict[int, int] = {}
        """The first price of each price warrior."""
        self._first: list[tuple[SimPeer, Signed]] = []

    def open(self, peer: SimPeer) -> None:
        """A peer has started: its first offer.

        At time 0 it goes straight into every book: the world begins in its steady state, not in a storm of offers.
        """
        world = self._world
        if world.queue.now == 0:
            self._known(peer)
        else:
            self._offer(peer)
        if world.groups[peer.role].undercut and peer.terms.slots:
            self._asked.setdefault(peer.index, peer.terms.price_per_hour)
            world.queue.at(world.queue.now + IDLE_NS, self._undercut, (peer, peer.boots))

    def handled(self, peer: SimPeer) -> None:
        """Called after a provider's machines acted: when free slots changed, the offer follows within a second."""
        terms = peer.machines.maker.terms
        if terms is None or peer.machines.provider.slots_free == terms.slots_free or peer.index in self._looks:
            return
        self._looks.add(peer.index)
        self._world.queue.at(self._world.queue.now + LOOK_NS, self._look, peer)

    def _look(self, peer: SimPeer) -> None:
        self._looks.discard(peer.index)
        if peer.is_up:
            self._offer(peer)

    def _offer(self, peer: SimPeer) -> None:
        self._world.driver.command(peer, peer.machines.maker, lambda now: peer.machines.offer(peer.terms, now))

    def _known(self, peer: SimPeer) -> None:
        """The first offer, kept back until `distribute`."""

        def silently(now: Micros) -> list[Effect]:
            effects = peer.machines.offer(peer.terms, now)
            self._first += [(peer, effect.statement) for effect in effects if isinstance(effect, Publish)]
            return [effect for effect in effects if not isinstance(effect, Publish)]

        self._world.driver.command(peer, peer.machines.maker, silently)

    def distribute(self, keepers: Sequence[SimPeer]) -> None:
        """Every first offer goes into every book."""
        for owner, statement in self._first:
            body = wire.decode(statement.body, message_decoder, owner.id)
            for keeper in keepers:
                self._world.driver.hear(keeper, statement, body, FIRST)
        self._first = []

    def _undercut(self, who: tuple[SimPeer, int]) -> None:
        """Nobody took this host for a minute: it asks for less."""
        peer, boot = who
        world = self._world
        if not peer.is_up or peer.boots != boot:
            return
        terms = peer.machines.maker.terms
        if terms is not None and not peer.machines.provider.leases:
            floor = self._asked[peer.index] // FLOOR_SHARE
            price = Credits(max(floor, round(terms.price_per_hour * (1 - world.groups[peer.role].undercut))))
            changed = replace(terms, price_per_hour=price)
            world.driver.command(peer, peer.machines.maker, lambda now: peer.machines.maker.change(changed, now))
        world.queue.at(world.queue.now + IDLE_NS, self._undercut, who)
