"""What the nodes of a devnet tell, gathered from all of them: every event with its node, in one list.

Node and watcher read the same clock of one machine, so the times of different nodes may be subtracted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from node.clock import Clock
from protocol.errors import ShoalError
from protocol.units import SECOND
from shoal.devnet import Devnet

RETRY_S: Final = 0.05
"""Seconds until a node that does not answer is asked again: it is down, or just starting."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event of one node. `time` in microseconds."""

    node: str
    time: int
    name: str
    fields: dict[str, object]

    def says(self, **wanted: object) -> bool:
        """Whether it has these fields."""
        return all(self.fields.get(key) == value for key, value in wanted.items())


class Watch:
    """Follows nodes, through their restarts, until closed."""

    def __init__(self, devnet: Devnet, nodes: list[str]) -> None:
        self._devnet = devnet
        self._told: list[Told] = []
        self._more = threading.Condition()
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._follow, args=(node,), daemon=True) for node in nodes]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop. The threads end with their connections, at the latest when the network goes down."""
        self._is_over.set()

    def find(self, name: str, accepts: Callable[[Told], bool] = lambda told: True) -> list[Told]:
        """All events of this name that are accepted, so far."""
        with self._more:
            return [one for one in self._told if one.name == name and accepts(one)]

    def wait(self, name: str, accepts: Callable[[Told], bool], seconds: float) -> Told | None:
        """The first such event, which may have been told before; None when it does not come in time."""
        clock = Clock()
        ends = clock.now() + int(seconds * SECOND)
        seen = 0
        with self._more:
            while True:
                for one in self._told[seen:]:
                    if one.name == name and accepts(one):
                        return one
                seen = len(self._told)
                left = (ends - clock.now()) / SECOND
                if left <= 0:
                    return None
                self._more.wait(left)

    def _follow(self, node: str) -> None:
        while not self._is_over.is_set():
            with suppress(ShoalError), self._devnet.control(node) as control:
                for item in control.iter_stream("node.events", {"since": 0}):
                    self._add(node, item)
                    if self._is_over.is_set():
                        return
            self._is_over.wait(RETRY_S)

    def _add(self, node: str, item: dict[str, object]) -> None:
        fields, time = item["fields"], item["time"]
        assert isinstance(fields, dict) and isinstance(time, int)
        with self._more:
            self._told.append(Told(node, time, str(item["name"]), fields))
            self._more.notify_all()
