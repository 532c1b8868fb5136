"""Whole statements between simulated peers: copies are sent, arrive, are judged, delivered and passed on.

A copy that certainly changes nothing is counted without becoming an event: its receiver has the statement, or gets it
sooner from a neighbour that it has no reason to refuse. Where deliveries are scored, every copy is an event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias, TypeVar

from simulations.conduct import HONEST
from simulations.gossip_params import GossipParams
from simulations.mesh import WORD, Mesh, scrambled
from simulations.overlay import Overlay
from simulations.scores import Scores
from simulations.spread import Spread

HOPS_MAX: Final = 255
"""Hops are kept in a byte."""

ASKED: Final = -1
"""Stands for the peer that a statement came from where nobody is left out."""

Copy: TypeAlias = tuple[Spread, int, int, int]
"""Statement, receiver, sender, and since when the receiver was up as the copy was sent (ns)."""

T = TypeVar("T")


class Agenda(Protocol):
    """What gossip wants of simulations/queue.py."""

    now: int

    def at(self, time: int, act: Callable[[T], None], argument: T) -> None:
        """Call `act(argument)` at this time."""


class Recorder(Protocol):
    """What gossip wants of simulations/recorder.py."""

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter."""

    def observe(self, name: str, value: int) -> None:
        """One value of a distribution."""


class Arrivals(Protocol):
    """What gossip wants of simulations/network.py."""

    def arrival(self, source: int, target: int, size: int, now: int) -> int:
        """When a message arrives, ns; -1 when it is lost."""
        ...

    def can_reach(self, source: int, target: int, now: int) -> bool:
        """Whether a connection is possible."""
        ...


class Tally:
    """Counters that the hot paths add to; `flush` hands them to the recorder."""

    __slots__ = (
        "answers",
        "bytes",
        "copies",
        "delivered",
        "duplicates",
        "graft",
        "ihave",
        "invalid",
        "iwant",
        "lost",
        "prune",
        "published",
        "refused",
    )

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """All to zero."""
        self.answers = self.bytes = self.copies = self.delivered = self.duplicates = self.graft = self.ihave = 0
        self.invalid = self.iwant = self.lost = self.prune = self.published = self.refused = 0

    def flush(self, recorder: Recorder, totals: dict[str, int]) -> None:
        """Hand over what was counted since the last time, and add it to the totals."""
        for name in self.__slots__:
            amount: int = getattr(self, name)
            if amount:
                recorder.count(f"gossip/{name}", amount)
                totals[name] = totals.get(name, 0) + amount
        self.clear()


class Traffic:
    """All copies of all statements under way."""

    def __init__(
        self,
        queue: Agenda,
        network: Arrivals,
        params: GossipParams,
        overlay: Overlay,
        scores: Scores,
        meshes: list[list[Mesh]],
        tell: tuple[Callable[[int, int, object], None], Callable[[int, int, int], None], Recorder],
    ) -> None:
        self._queue = queue
        self._arrival = network.arrival
        self._params = params
        self._overlay = overlay
        self._scores = scores
        self._meshes = meshes
        self._deliver, self._note, self._recorder = tell
        self._is_spec = params.upkeep == "spec"
        self._elides = not (params.is_reference or params.weights.watches_deliveries)
        self.tally = Tally()

    def publish(self, spread: Spread, now: int) -> None:
        """The origin has it, delivers it to itself and sends it to its mesh, or to everybody it trusts."""
        peer, topic = spread.origin, spread.topic
        spread.has[peer] = 1
        spread.at[peer] = now
        spread.missing -= 1
        self.tally.published += 1
        self.tally.delivered += 1
        self._deliver(peer, peer, spread.payload)
        targets: Sequence[int] = self._meshes[topic][peer].members
        if self._params.floods:
            bound = self._params.weights.publish_threshold
            targets = [other for other in self._overlay.links[peer] if self._scores.value(peer, other, now) >= bound]
        self._note(now, peer, self.send(spread, peer, targets, peer, now) ^ spread.number)

    def send(self, spread: Spread, peer: int, targets: Sequence[int], sender: int, now: int) -> int:
        """A copy to each target but the one it came from and the origin. Returns a checksum of all arrivals.

        With `ASKED` as the sender, the targets get it whoever they are: they asked, or are new.
        """
        arrival, at, receive, best, born = self._arrival, self._queue.at, self.receive, spread.at, self._overlay.born
        spacing, origin = self._params.spacing, spread.origin if sender != ASKED else ASKED
        size = spread.size + self._params.overhead
        elides = self._elides and spread.is_valid
        is_sure = elides and self._overlay.conducts[peer] is HONEST
        table = None if self._is_spec or sender == ASKED else self._scores.tables[peer]
        tables = self._scores.tables
        copies = duplicates = checksum = 0
        behind = self._params.processing
        for target in targets:
            if target in (sender, origin) or (table and self._shuns(peer, target, spread.topic, now)):
                continue
            copies += 1
            comes = arrival(peer, target, size, now)
            checksum = (checksum * 31 + comes) & WORD
            if comes < 0:
                self.tally.lost += 1
                continue
            comes += behind
            behind += spacing
            if elides:
                known = best[target]
                if known and known <= comes:
                    duplicates += 1
                    continue
                if is_sure and not tables[target]:
                    best[target] = comes
            at(comes, receive, (spread, target, peer, born[target]))
        tally = self.tally
        tally.copies += copies
        tally.bytes += copies * size
        tally.duplicates += duplicates
        return checksum

    def receive(self, copy: Copy) -> None:
        """A copy is with its receiver, decoded."""
        spread, peer, sender, born = copy
        overlay = self._overlay
        if overlay.born[peer] != born or not overlay.is_up[peer]:
            self.tally.lost += 1
            return
        now = self._queue.now
        if spread.has[peer]:
            self.tally.duplicates += 1
            if now - spread.at[peer] <= self._params.weights.deficit_window:
                self._scores.delivered(peer, sender, spread.topic, now, False)
            return
        if self._scores.tables[peer] and self._is_refused(peer, sender, spread.topic, now):
            self.tally.refused += 1
            return
        if not spread.is_valid:
            self.tally.invalid += 1
            self._scores.brought_invalid(peer, sender, spread.topic, now)
            return
        spread.has[peer] = 1
        spread.at[peer] = spread.last = now
        spread.missing -= 1
        hops = spread.hops[peer] = min(HOPS_MAX, spread.hops[sender] + 1)
        self._scores.delivered(peer, sender, spread.topic, now, True)
        self.tally.delivered += 1
        self._recorder.observe("gossip/latency", now - spread.born)
        self._recorder.observe("gossip/hops", hops)
        self._deliver(peer, spread.origin, spread.payload)
        checksum = 0
        if overlay.is_up[peer] and (overlay.conducts[peer] is HONEST or self._passes_on(peer, spread, now)):
            checksum = self.send(spread, peer, self._meshes[spread.topic][peer].members, sender, now)
        self._note(now, peer, (checksum ^ (spread.number << 24)) + sender)

    def _shuns(self, peer: int, target: int, topic: int, now: int) -> bool:
        """libp2p 0.8.1 sends nothing to whom it would not gossip with."""
        weights, scores = self._params.weights, self._scores
        value = scores.topic_value(peer, target, topic, now)
        bound = max(weights.gossip_threshold, weights.publish_threshold)
        return value < bound or scores.value(peer, target, now) < weights.graylist_threshold

    def _is_refused(self, peer: int, sender: int, topic: int, now: int) -> bool:
        """By the graylist (specification), or the threshold for publishing (libp2p 0.8.1)."""
        weights = self._params.weights
        if self._is_spec:
            return self._scores.value(peer, sender, now) < weights.graylist_threshold
        return self._scores.topic_value(peer, sender, topic, now) < weights.publish_threshold

    def _passes_on(self, peer: int, spread: Spread, now: int) -> bool:
        """What an adversary does with another's statement."""
        conduct = self._overlay.conducts[peer]
        if not conduct.has_turned(now):
            return True
        if spread.origin in conduct.censors:
            return False
        return scrambled(spread.number << 32 | peer) < conduct.forwards * WORD
