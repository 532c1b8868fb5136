"""The network between peers: when does a message arrive? Reliable ordered streams over regions and last miles.

What is modelled: regional delay with jitter, FIFO at the sender's uplink and the receiver's downlink, lost packets as
time (TCP sends them again), detours over relays, partitions, clogged peers; transfers by simulations/bulk.py. What is
not: slow start, the share that transfers take from messages (messages are small, and routers let small flows pass),
what relaying costs the relay (its transfers count), the dials before a first message. What is under way already when a
partition begins arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from random import Random
from typing import Final

from protocol.errors import LocalError
from simulations.bulk import Bulk
from simulations.cuts import Cuts
from simulations.nat import Meetings
from simulations.packets import BITS, POINT, RTO_MIN, SURVIVES, Losses, jitter, taken
from simulations.places import Place, delays, regions
from simulations.queue import Queue
from simulations.scenario import NS, Topology

SWEEP: Final = NS // 4
"""How often streams with nothing under way are forgotten, ns: longer than most delays, so that it pays."""

NO_LINK: Final[list[int]] = []
"""Stands for the bookings of unlimited links, of which there are none: ten thousand empty lists would be half a MiB."""


def per_byte(rate: int) -> int:
    """ns that a byte occupies a link of so many bits per second, in 1/2**POINT; 0: no time."""
    return (8 * NS << POINT) // rate if rate else 0


class Network:
    """The network among peers 0..n-1, at these places. Times are ns; `now` is the queue's present or a little later."""

    __slots__ = (
        "_bits",
        "_bulk",
        "_clogs",
        "_cuts",
        "_down",
        "_down_busy",
        "_extra",
        "_is_hidden",
        "_is_narrow",
        "_is_plain",
        "_jitter",
        "_last",
        "_losses",
        "_meetings",
        "_n",
        "_queue",
        "_region",
        "_rows",
        "_sweep",
        "_topology",
        "_up",
        "_up_free",
        "_worse",
        "bytes_sent",
        "regions",
    )

    def __init__(self, places: Sequence[Place], topology: Topology, random: Random, queue: Queue) -> None:
        n = len(places)
        self.regions = regions(topology)
        self.bytes_sent = [0] * n
        """By source: messages when they are sent, transfers when they end."""
        self._n, self._topology, self._queue = n, topology, queue
        self._bits, self._jitter = random.getrandbits, jitter(topology.jitter)
        self._losses = Losses(topology.loss, random)
        table = delays(topology)
        self._region = [spot.region for spot in places]
        self._rows = [table[spot.region] for spot in places]
        self._up = [per_byte(spot.up) for spot in places]
        self._down = [per_byte(spot.down) for spot in places]
        self._up_free = [0] * n
        self._down_busy: list[list[int]] = [[] if rate else NO_LINK for rate in self._down]
        self._meetings = Meetings([spot.nat for spot in places], self._region, topology.relay)
        self._cuts = Cuts(n)
        self._extra = [0] * n
        self._clogs: list[tuple[int, int, tuple[int, ...]]] = []
        self._worse: list[tuple[int, float]] = []
        self._last: dict[int, int] = {}
        """source * n + target -> when its latest message arrives, as long as that lies ahead."""
        self._sweep = SWEEP
        self._is_hidden = not self._meetings.is_open
        self._is_narrow = any(self._up) or any(self._down)
        self._is_plain = False
        capacity = [rate for spot in places for rate in (spot.up, spot.down)]
        self._bulk = Bulk(queue, capacity, self._limit, SURVIVES, self._moved)
        self._reckon()

    # ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def arrival(self, source: int, target: int, size: int, now: int) -> int:
        """When a message of `size` bytes that is sent at `now` arrives, ns; -1: never.

        Never: the two cannot meet, a partition lasts longer than their connection survives, or too many packets in
        a row are lost. In order per (source, target). A message to oneself arrives at once.
        """
        if source == target:
            return now
        self.bytes_sent[source] += size
        if self._is_plain:
            arrives = now + (self._rows[source][self._region[target]] * self._jitter[self._bits(BITS)] >> POINT)
        else:
            arrives = self._crossing(source, target, size, now)
            if arrives < 0:
                return -1
        if now >= self._sweep:
            self._forget(now)
        last, stream = self._last, source * self._n + target
        earliest = last.get(stream, 0)
        if arrives < earliest:
            return earliest
        last[stream] = arrives
        return arrives

    def _crossing(self, source: int, target: int, size: int, now: int) -> int:
        """The arrival where anything at all is to be heeded."""
        rows, region = self._rows, self._region
        relay = self._meetings.relay(source, target) if self._is_hidden else -1
        if relay < 0:
            mean = rows[source][region[target]]
        elif relay == source:
            return -1
        else:
            mean = rows[source][region[relay]] + rows[relay][region[target]]
        delay = (mean * self._jitter[self._bits(BITS)] >> POINT) + self._extra[source] + self._extra[target]
        if self._cuts:
            wait = self._held_up(source, relay, target, now, mean)
            if wait < 0:
                return -1
            delay += wait
        if self._losses.share:
            wait = self._losses.delay(size, 2 * mean)
            if wait < 0:
                return -1
            delay += wait
        cost = self._up[source]
        present = self._queue.now
        if cost:
            free = self._up_free[source]
            if now > present:  # Whoever looks ahead books nothing that would hold up what is sent before.
                now += size * cost >> POINT
            elif free > now:
                now = self._up_free[source] = free + (size * cost >> POINT)
            else:
                now = self._up_free[source] = now + (size * cost >> POINT)
        now += delay
        cost = self._down[target]
        return taken(self._down_busy[target], now, size * cost >> POINT, present) if cost else now

    def _held_up(self, source: int, relay: int, target: int, now: int, mean: int) -> int:
        """ns that partitions add to a message; -1: its connection is gone.

        A partition ends a connection that it silences for longer than SURVIVES, so nothing crosses a long one, however
        late in it. After a short one the sender's timer, doubling since the message was sent, brings it through. One
        way means one way: what comes back passes, although a real TCP sender would stall without its acknowledgements
        in the long run. That is the harsher fault for a protocol: one side hears, the other does not.
        """
        cuts = self._cuts
        crossed = (
            cuts.crossed(source, target) if relay < 0 else cuts.crossed(source, relay) | cuts.crossed(relay, target)
        )
        if not crossed:
            return 0
        since, until = cuts.span(crossed)
        if until <= now:
            return 0
        if until - since > SURVIVES:
            return -1
        timeout = waited = max(RTO_MIN, 4 * mean)
        while waited < until - now:
            timeout *= 2
            waited += timeout
        return min(waited, SURVIVES)

    def _forget(self, now: int) -> None:
        """Drop the streams with nothing under way. By the queue's time: callers may look a little ahead."""
        present = self._queue.now
        self._last = {stream: arrives for stream, arrives in self._last.items() if arrives > present}
        self._sweep = max(now, present) + SWEEP

    def can_reach(self, source: int, target: int, now: int) -> bool:
        """Whether a message sent now would get through at once; a connection needs both directions."""
        if source == target or self._is_plain:
            return True
        way = self._meetings.way(source, target)
        return bool(way) and self._limit(way) > 0

    # ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def cut(self, first: Collection[int], until: int, one_way: bool, now: int) -> int:
        """Part these peers from all others until then; `one_way`: only what they send is lost. Returns its number."""
        number = self._cuts.add(first, now, until, one_way).number
        self._change(until, now)
        return number

    def heal(self, number: int, now: int) -> None:
        """End a partition before its time."""
        self._cuts.heal(number)
        self._change(now, now)

    def clog(self, peers: Collection[int], extra_ns: int, until: int, now: int) -> None:
        """Everything to and from these peers takes so much longer until then; clogs add up."""
        if extra_ns < 0:
            raise LocalError(f"a clog of {extra_ns} ns would speed up messages", code="bad_clog")
        hit = tuple(sorted(dict.fromkeys(peers)))
        for peer in hit:
            self._extra[peer] += extra_ns
        self._clogs.append((until, extra_ns, hit))
        self._change(until, now)

    def worsen(self, loss: float, until: int, now: int) -> None:
        """So many more packets are lost until then, independently of what is lost already."""
        if not 0.0 <= loss <= 1.0:
            raise LocalError(f"a loss of {loss:g} is no share", code="bad_loss")
        self._worse.append((until, loss))
        self._change(until, now)

    def _change(self, until: int, now: int) -> None:
        """Something is different from now on, and again from `until` on."""
        self._renew(now)
        if until > now:
            self._queue.at(until, self._renew, until)

    def _renew(self, now: int) -> None:
        """End what is over, and tell the transfers."""
        self._cuts.expire(now)
        for clog in [clog for clog in self._clogs if clog[0] <= now]:
            self._clogs.remove(clog)
            for peer in clog[2]:
                self._extra[peer] -= clog[1]
        self._worse = [worse for worse in self._worse if worse[0] > now]
        self._reckon()
        self._bulk.review(now)

    def _reckon(self) -> None:
        """What follows from the faults in force."""
        passes = 1.0 - self._topology.loss
        for _, loss in self._worse:
            passes *= 1.0 - loss
        self._losses.become(1.0 - passes if self._worse else self._topology.loss)
        self._is_plain = not (self._is_hidden or self._is_narrow or self._losses.share or self._cuts or self._clogs)

    # ── transfers ────────────────────────────────────────────────────────────────────────────────────────────────────
    def bulk(self, source: int, target: int, size: int, now: int, done: Callable[[int], None]) -> None:
        """Send `size` bytes at a max–min fair rate. `done` gets the time of arrival, -1 if it fails; never at once."""
        way = self._meetings.way(source, target)
        if not way:
            self._queue.at(now, done, -1)
        elif source == target:
            self._queue.at(now, done, now)
        else:
            self._bulk.start(way, size, self._lag(way), now, done)

    def drop(self, peer: int, now: int) -> None:
        """A peer died: its transfers fail, also those that it relayed."""
        self._bulk.drop(peer, now)

    def _lag(self, way: tuple[int, ...]) -> int:
        """Mean one-way delay of a way, ns."""
        ends = self._extra[way[0]] + self._extra[way[-1]]
        return ends + sum(self._rows[first][self._region[second]] for first, second in pairwise(way))

    def _limit(self, way: tuple[int, ...]) -> int:
        """Bits per second that one transfer gets out of a way over these peers; 0: it is cut."""
        if self._cuts and any(self._cuts.crossed(first, second) for first, second in pairwise(way)):
            return 0
        return self._losses.pace(2 * self._lag(way))

    def _moved(self, source: int, size: int) -> None:
        self.bytes_sent[source] += size
