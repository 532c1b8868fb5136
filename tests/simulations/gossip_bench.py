"""A small world for tests of gossip: a real queue, delays that depend on the pair alone, and what was delivered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from random import Random

from simulations.auditor import Auditor
from simulations.chance import stream
from simulations.gossip_params import SECOND, GossipParams
from simulations.gossipsub import Gossip
from simulations.queue import Queue


class Distances:
    """Delays by distance on a line, the same in both directions and at all times: 5 to 155 ms."""

    def __init__(self, count: int, seed: int) -> None:
        random = Random(seed)
        self._where = [int(random.random() * 150_000_000) for _ in range(2 * count)]

    def arrival(self, source: int, target: int, size: int, now: int) -> int:
        return now + 5_000_000 + abs(self._where[source] - self._where[target])

    def can_reach(self, source: int, target: int, now: int) -> bool:
        return True


class Uniform:
    """Every delay is 50 ms."""

    def arrival(self, source: int, target: int, size: int, now: int) -> int:
        return now + 50_000_000

    def can_reach(self, source: int, target: int, now: int) -> bool:
        return True


class Counts:
    """Counters and the plain values of every distribution."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.values: dict[str, list[int]] = {}

    def count(self, name: str, amount: int = 1) -> None:
        self.counts[name] += amount

    def observe(self, name: str, value: int) -> None:
        self.values.setdefault(name, []).append(value)


class Bench:
    """Gossip among `count` peers, and everything that was delivered as (time, peer, origin, payload)."""

    def __init__(
        self,
        count: int,
        params: GossipParams,
        *,
        seed: int = 1,
        network: Distances | Uniform | None = None,
        links: Sequence[Collection[int]] | None = None,
    ) -> None:
        self.queue = Queue()
        self.counts = Counts()
        self.auditor = Auditor()
        self.delivered: list[tuple[int, int, int, object]] = []
        self.gossip = Gossip(
            self.queue,
            network or Distances(count, seed),
            stream(seed, "gossip"),
            params,
            lambda peer, origin, payload: self.delivered.append((self.queue.now, peer, origin, payload)),
            self.auditor.note,
            self.counts,
        )
        self.gossip.start(count, 0, links)

    def run(self, until: float) -> None:
        self.queue.run(int(until * SECOND))

    def publish(self, peer: int, payload: object, topic: str = "jobs", *, is_valid: bool = True) -> None:
        self.gossip.publish(peer, topic, payload, 1000, self.queue.now, is_valid=is_valid)

    def who_heard(self, payload: object) -> set[int]:
        return {peer for _, peer, _, what in self.delivered if what == payload}

    def settle(self) -> Counter[str]:
        """Flush the counters."""
        self.gossip.statistics()
        return self.counts.counts


def regular_graph(count: int, degree: int, seed: int) -> list[list[int]]:
    """A random graph in which everybody has `degree` neighbours: random pairs, exchanged until none is double."""
    random = Random(seed)
    ends = [peer for peer in range(count) for _ in range(degree)]
    random.shuffle(ends)
    pairs = [(ends[place], ends[place + 1]) for place in range(0, len(ends), 2)]
    while True:
        seen: set[tuple[int, int]] = set()
        bad = []
        for place, (first, second) in enumerate(pairs):
            edge = (min(first, second), max(first, second))
            if first == second or edge in seen:
                bad.append(place)
            seen.add(edge)
        if not bad:
            break
        for place in bad:
            other = random.randrange(len(pairs))
            (first, second), (third, fourth) = pairs[place], pairs[other]
            pairs[place], pairs[other] = (first, fourth), (third, second)
    links: list[list[int]] = [[] for _ in range(count)]
    for first, second in pairs:
        links[first].append(second)
        links[second].append(first)
    return links
