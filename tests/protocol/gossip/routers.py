"""A small network of routers in memory: links with a delay, a clock, a judge that knows what is good."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from random import Random

from protocol.gossip import params
from protocol.gossip import rpc as rpcs
from protocol.gossip.effects import Deliver, GossipEffect, Judge, SendRpc, Verdict
from protocol.gossip.router import Router
from protocol.gossip.rpc import Envelope, Rpc
from protocol.gossip.scores import Weights
from protocol.units import Micros, PeerId

TOPIC = "/shoal/reef/offers"
DELAY = Micros(10_000)


def name(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


class Town:
    """Routers 0..n-1. `lossy(source, target)` says whether an RPC is lost; data that starts with `bad` is invalid."""

    def __init__(self, count: int, seed: int = 1, weights: Weights | None = None) -> None:
        self.random = Random(seed)
        self.now = Micros(1_000_000)
        self.routers = [Router((TOPIC,), Random(seed * 1000 + number), weights) for number in range(count)]
        self.links: dict[int, dict[int, None]] = {number: {} for number in range(count)}
        self.heard: list[Counter[bytes]] = [Counter() for _ in range(count)]
        self.sent: Counter[tuple[int, int]] = Counter()
        self.lossy: Callable[[int, int], bool] = lambda source, target: False
        self.silent: set[int] = set()
        """Routers that do not run: they are driven by hand."""
        self.mute: Callable[[int, Rpc], Rpc] = lambda source, rpc: rpc
        """What a router really sends."""
        self._queue: list[tuple[Micros, int, int, int, bytes]] = []
        self._order = 0
        self._beat = [Micros(self.now + self.random.randrange(params.HEARTBEAT)) for _ in range(count)]

    def link(self, a: int, b: int, address_a: str = "", address_b: str = "") -> None:
        """`a` dials `b`."""
        if b in self.links[a]:
            return
        self.links[a][b] = self.links[b][a] = None
        for one, other, is_out, address in ((a, b, True, address_b), (b, a, False, address_a)):
            if one not in self.silent:
                self.routers[one].connected(name(other), is_out, address)
                self.perform(one, self.routers[one].opened(name(other)))

    def unlink(self, a: int, b: int) -> None:
        """The connection is gone."""
        del self.links[a][b], self.links[b][a]
        for one, other in ((a, b), (b, a)):
            if one not in self.silent:
                self.routers[one].disconnected(name(other), self.now)

    def mix(self, dials: int, among: Iterable[int] | None = None) -> None:
        """A ring and random chords."""
        members = list(among if among is not None else range(len(self.routers)))
        for place, one in enumerate(members):
            self.link(one, members[(place + 1) % len(members)])
            for other in self.random.sample(members, min(dials, len(members))):
                if other != one:
                    self.link(one, other)

    def perform(self, one: int, effects: list[GossipEffect]) -> None:
        """Send, judge, note what is delivered."""
        for effect in effects:
            if isinstance(effect, SendRpc):
                for peer in effect.peers:
                    self.send(one, int.from_bytes(peer, "big"), self.mute(one, effect.rpc))
            elif isinstance(effect, Judge):
                verdict = Verdict.REJECT if effect.data.startswith(b"bad") else Verdict.ACCEPT
                self.perform(one, self.routers[one].decide(effect.name, verdict, self.now))
            elif isinstance(effect, Deliver):
                self.heard[one][effect.data] += 1

    def send(self, source: int, target: int, rpc: Rpc) -> None:
        """Over the link, as bytes."""
        self.sent[source, target] += 1
        if target in self.links[source] and not self.lossy(source, target):
            self._order += 1
            heapq.heappush(self._queue, (Micros(self.now + DELAY), self._order, source, target, rpcs.encode(rpc)))

    def say(self, one: int, data: bytes) -> None:
        """Publish."""
        self.perform(one, self.routers[one].publish(TOPIC, data, self.now))

    def inject(self, source: int, target: int, data: bytes) -> None:
        """A copy that no router asked to send."""
        self.send(source, target, Rpc(messages=(Envelope(TOPIC, data),)))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = Micros(self.now + int(seconds * 1_000_000))
        while self.now < end:
            beat = min(self._beat)
            if self._queue and self._queue[0][0] <= min(beat, end):
                at, _, source, target, data = heapq.heappop(self._queue)
                self.now = max(self.now, at)
                if target not in self.silent and source in self.links[target]:
                    self.perform(target, self.routers[target].receive(name(source), rpcs.decode(data), self.now))
            elif beat <= end:
                one = self._beat.index(beat)
                self.now, self._beat[one] = beat, Micros(beat + params.HEARTBEAT)
                if one not in self.silent:
                    self.perform(one, self.routers[one].tick(self.now))
            else:
                self.now = end

    def mesh(self, one: int) -> list[int]:
        """Members by number."""
        return [int.from_bytes(peer, "big") for peer in self.routers[one].mesh(TOPIC)]

    def score(self, one: int, other: int) -> float:
        """What one thinks of another."""
        return self.routers[one].scores.value(name(other), self.now)

    def missing(self, data: Iterable[bytes], among: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """Who did not get what exactly once."""
        wanted = list(data)
        return ((one, each) for one in among for each in wanted if self.heard[one][each] != 1)
