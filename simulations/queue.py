"""What happens when: a heap of (time, sequence, act, argument). Nothing else moves time in the simulator."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import TypeVar

from protocol.errors import LocalError

T = TypeVar("T")


class Queue:
    """Events in order of time, and of insertion where times are equal. Times are whole nanoseconds since the start."""

    __slots__ = ("_heap", "_sequence", "executed", "is_stopped", "now")

    def __init__(self) -> None:
        self.now = 0
        self.executed = 0
        """Events done so far."""
        self.is_stopped = False
        self._heap: list[tuple[int, int, Callable[..., None], object]] = []
        self._sequence = 0

    def at(self, time: int, act: Callable[[T], None], argument: T) -> None:
        """Call `act(argument)` at this time; at once (but behind what is due already) when the time has passed."""
        self._sequence = sequence = self._sequence + 1
        heappush(self._heap, (time, sequence, act, argument))

    def run(self, until: int) -> None:
        """Everything up to and including `until`. Ends early when an event calls `stop`."""
        if until < self.now:
            raise LocalError(f"time cannot go back from {self.now} to {until} ns", code="bad_time")
        heap, pop, done, now = self._heap, heappop, 0, self.now
        try:
            while heap and not self.is_stopped:
                time = heap[0][0]
                if time > until:
                    break
                _, _, act, argument = pop(heap)
                if time > now:
                    self.now = now = time
                done += 1
                act(argument)
        finally:
            self.executed += done
        if not self.is_stopped:
            self.now = until

    def stop(self) -> None:
        """Let `run` return after the present event."""
        self.is_stopped = True

    def __len__(self) -> int:
        return len(self._heap)
