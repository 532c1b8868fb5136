"""What happened on this node, as people and pages follow it: a bounded list with sequence numbers."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

import trio

from protocol.units import Micros

EVENTS_KEPT: Final = 20_000
"""Events in memory; an older position is answered from the oldest kept."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    sequence: int
    time: Micros
    name: str
    fields: dict[str, str | int]


class EventLog:
    """Appended by the driver, followed by any number of readers at their own pace."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._next = 0
        self._more = trio.Event()

    def emit(self, name: str, fields: dict[str, str | int], now: Micros) -> None:
        """Append one event and wake the followers."""
        self._events.append(Event(self._next, now, name, fields))
        self._next += 1
        self._more.set()
        self._more = trio.Event()

    @property
    def next_sequence(self) -> int:
        """The number that the next event will get."""
        return self._next

    def since(self, sequence: int) -> list[Event]:
        """Events with this number or a later one."""
        if not self._events:
            return []
        first = self._events[0].sequence
        start = max(0, sequence - first)
        return [self._events[index] for index in range(start, len(self._events))]

    async def follow(self, sequence: int) -> AsyncGenerator[Event, None]:
        """All events from `sequence` on, for ever."""
        while True:
            more = self._more
            for event in self.since(sequence):
                sequence = event.sequence + 1
                yield event
            await more.wait()
