"""One gossip model, written twice: on the simulator's queue and on SimPy. Same graph, same delays, same events.

A statement starts at a random peer; who hears it for the first time passes it on to all its neighbours. Peers remember
what they have heard. Nothing else: this measures the engines, not the model.
"""

from __future__ import annotations

from collections.abc import Generator
from random import Random
from typing import Final

import simpy

from simulations.queue import Queue

DEGREE: Final = 8
"""Neighbours of each peer."""

DELAY_NS: Final = 50_000_000
"""Mean delay of a hop; each draws between half and one and a half of it."""

GAP_NS: Final = 100_000_000
"""Between two statements."""

Graph = list[list[int]]


def graph(peers: int, seed: int) -> Graph:
    """Neighbours by peer."""
    random = Random(seed)
    return [[random.randrange(peers) for _ in range(DEGREE)] for _ in range(peers)]


class OnQueue:
    """The model on our queue. `run` returns the events."""

    def __init__(self, links: Graph, statements: int) -> None:
        self._links = links
        self._random = Random(1)
        self._queue = Queue()
        self._heard: list[set[int]] = [set() for _ in links]
        for number in range(statements):
            self._queue.at(number * GAP_NS, self._hear, (self._random.randrange(len(links)), number))

    def run(self) -> int:
        """Everything until nothing is left to happen."""
        self._queue.run(1 << 62)
        return self._queue.executed

    def _hear(self, message: tuple[int, int]) -> None:
        peer, statement = message
        heard = self._heard[peer]
        if statement in heard:
            return
        heard.add(statement)
        queue, draw = self._queue, self._random.random
        now = queue.now
        for other in self._links[peer]:
            queue.at(now + int(DELAY_NS * (0.5 + draw())), self._hear, (other, statement))


class OnSimPy:
    """The model on SimPy, as its users write it: a process for each message on its way."""

    def __init__(self, links: Graph, statements: int) -> None:
        self._links = links
        self._random = Random(1)
        self._world = simpy.Environment()
        self._heard: list[set[int]] = [set() for _ in links]
        self._events = 0
        for number in range(statements):
            self._world.process(self._travel(self._random.randrange(len(links)), number, number * GAP_NS))

    def run(self) -> int:
        """Everything until nothing is left to happen. Counts messages, as the other does."""
        self._world.run()
        return self._events

    def _travel(self, peer: int, statement: int, delay: int) -> Generator[simpy.Event, None, None]:
        yield self._world.timeout(delay)
        self._events += 1
        heard = self._heard[peer]
        if statement in heard:
            return
        heard.add(statement)
        for other in self._links[peer]:
            self._world.process(self._travel(other, statement, int(DELAY_NS * (0.5 + self._random.random()))))
