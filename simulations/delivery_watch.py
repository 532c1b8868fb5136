"""How well gossip reaches honest peers before an attack and under it: an observer of statements, not of routers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocol import wire
from protocol.effects import Effect, Publish
from protocol.messages import Head, JobNotice, Offer, message_decoder
from protocol.units import PeerId
from simulations.recorder import BATCH, Histogram
from simulations.scenario import NS
from simulations.simpeer import SimPeer
from simulations.strategy import HONEST
from simulations.world import World

TAIL_NS: Final = 10 * NS
"""Statements of the last ten seconds of a run are left out: they may still be under way."""

KEPT_NS: Final = 60 * NS
"""A statement that comes later than a minute counts as lost: no cache holds it any more, and offers have expired."""

Name = tuple[int, int, bytes]
"""What tells statements apart: two numbers and a kind or job."""

Statement = Offer | JobNotice | Head


class Window:
    """Deliveries of one span of time: how many there should have been, how many there were, and how late."""

    __slots__ = ("_waiting", "delivered", "expected", "latency")

    def __init__(self) -> None:
        self.expected = 0
        self.delivered = 0
        self.latency = Histogram()
        """ns, also of statements too young to be counted above."""
        self._waiting = self.latency.waiting()

    @property
    def ratio(self) -> float:
        """Share of the deliveries that happened; 1 when none was expected."""
        return self.delivered / self.expected if self.expected else 1.0

    def quantile_ms(self, q: float) -> float:
        """Latency in ms; 0 without deliveries."""
        return self.latency.quantile(q) / 1e6 if self.latency.count else 0.0

    def late_by(self, latency: int) -> None:
        """One delivery, ns after its statement was published."""
        self._waiting.append(latency)
        if len(self._waiting) >= BATCH:
            self.latency.settle()


@dataclass(slots=True)
class Spoken:
    """A statement of an honest peer, and what became of it so far."""

    origin: int
    at: int
    expected: int
    """Other honest peers that were up."""
    expected_hit: int
    """Those deliveries that concern a victim, as origin or receiver."""
    delivered: int = 0
    delivered_hit: int = 0


class DeliveryWatch:
    """Offers, notices and heads of honest peers. `victims` are counted apart: what they say, and what they hear."""

    def __init__(self, world: World, turned: int, victims: frozenset[int]) -> None:
        """`turned`: when the attack begins, ns."""
        self._world = world
        self._turned = turned
        self._victims = victims
        self._honest = frozenset(peer.index for peer in world.peers if peer.strategy is HONEST)
        self._spoken: dict[Name, Spoken] = {}
        """In order of publication."""
        self.before, self.under = Window(), Window()
        self.victims_before, self.victims_under = Window(), Window()

    def handled(self, peer: SimPeer, cause: object, effects: list[Effect], now: int) -> None:
        """As `Observer.handled`."""
        if peer.index not in self._honest:
            return
        if isinstance(cause, Offer | JobNotice | Head):
            self._heard(peer.index, cause, now)
        for effect in effects:
            if isinstance(effect, Publish):
                body = wire.decode(effect.statement.body, message_decoder, PeerId(effect.statement.signer))
                if isinstance(body, Offer | JobNotice | Head):
                    self._retire(now - KEPT_NS)
                    self._said(peer.index, body, now)

    def finish(self, now: int) -> None:
        """Count the rest. Called once, at the end."""
        self._retire(now - TAIL_NS)
        self._spoken.clear()

    def _windows(self, at: int) -> tuple[Window, Window]:
        """(all, victims) of a time."""
        is_before = at < self._turned
        return (self.before, self.victims_before) if is_before else (self.under, self.victims_under)

    def _retire(self, until: int) -> None:
        spoken = self._spoken
        while spoken:
            name = next(iter(spoken))
            one = spoken[name]
            if one.at > until:
                return
            del spoken[name]
            everybody, victims = self._windows(one.at)
            everybody.expected += one.expected
            everybody.delivered += one.delivered
            victims.expected += one.expected_hit
            victims.delivered += one.delivered_hit

    def _said(self, origin: int, body: Statement, now: int) -> None:
        others = [
            peer.index
            for peer in self._world.peers
            if peer.is_up and peer.index in self._honest and peer.index != origin
        ]
        hit = len(others) if origin in self._victims else sum(index in self._victims for index in others)
        self._spoken.setdefault(_name(body), Spoken(origin, now, len(others), hit))

    def _heard(self, peer: int, body: Statement, now: int) -> None:
        spoken = self._spoken.get(_name(body))
        if spoken is None or spoken.origin == peer:
            return
        everybody, victims = self._windows(spoken.at)
        spoken.delivered += 1
        everybody.late_by(now - spoken.at)
        if peer in self._victims or spoken.origin in self._victims:
            spoken.delivered_hit += 1
            victims.late_by(now - spoken.at)


def _name(body: Statement) -> Name:
    match body:
        case Head(header=header):
            return header.height, header.time, b"head"
        case JobNotice():
            return body.sequence, body.issued, body.job
        case Offer():
            return body.sequence, body.issued, b"offer"
