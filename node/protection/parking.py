"""Tasks that wait at their first loop head for the day that another machine dies: at most one per slot, and never in
the way of a real one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from node.executors.interface import Executor, Task
from node.protection.hosting import Live, host
from protocol import wire
from protocol.effects import Run
from protocol.units import Digest

PARK_SECONDS: Final = 300.0
"""A program that has not come to a loop by then is not one that parking helps: what it computes may be the job."""

Key = tuple[Digest, int]


@dataclass(slots=True)
class Parked:
    """One of them. `key` = what a run must be about to take it over: the digest of its specification, and its chunk."""

    name: str
    key: Key
    live: Live
    task: Task
    executor: Executor
    is_adopted: bool = False

    async def host(self) -> None:
        """Run the sandbox until it ends; given up when its hook cannot make it wait."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            await host(self.live, self.executor, self.task, _nobody)
            nursery.cancel_scope.cancel()

    async def _watch(self) -> None:
        """Only a job that waits may stay: one that runs would do the work twice, and show its output to nobody."""
        await self.live.linked.wait()
        assert self.live.link is not None
        words = await self.live.link.wait_state(("parked", "running", "restored", "disabled", "ended"), PARK_SECONDS)
        if not self.is_adopted and (words is None or words.state != "parked"):
            self.live.end("stopped", "it does not wait at a loop")


class Parking:
    """All of them. `evicted` is told the name of one that had to give way."""

    def __init__(self, slots: int, evicted: Callable[[str], None]) -> None:
        self._slots = slots
        self._evicted = evicted
        self._parked: list[Parked] = []

    def has_room(self, work: Run, running: int) -> bool:
        """Whether one more may be parked beside so many running tasks; each chunk is parked once."""
        taken = any(parked.name == work.task or parked.key == _key(work) for parked in self._parked)
        return not taken and running + len(self._parked) < self._slots

    def add(self, work: Run, live: Live, task: Task, executor: Executor) -> Parked:
        """Remember one that is being brought to its first loop."""
        parked = Parked(work.task, _key(work), live, task, executor)
        self._parked.append(parked)
        return parked

    def adopt(self, work: Run) -> Parked | None:
        """The parked task of the chunk that is to run now; it is the run's from here on. None where there is none, or
        where it would be of no use: what a program saved itself is read before its first loop."""
        found = next((parked for parked in self._parked if parked.key == _key(work)), None)
        if found is None:
            return None
        if work.resume is not None and work.resume.manifest.tier != "framework":
            self.give_up(found.name)
            return None
        if found.live.ended_by or found.live.over.is_set():
            return None
        self._parked.remove(found)
        found.is_adopted = True
        return found

    def make_room(self, running: int) -> None:
        """So many real tasks run now: the oldest parked ones give way."""
        while self._parked and running + len(self._parked) > self._slots:
            name = self._parked[0].name
            self.give_up(name)
            self._evicted(name)

    def give_up(self, name: str) -> None:
        """End one by name; unknown ones are none of ours."""
        for parked in [parked for parked in self._parked if parked.name == name]:
            self._parked.remove(parked)
            parked.live.end("stopped", "parked no longer")

    def forget(self, parked: Parked) -> None:
        """It has ended by itself."""
        if parked in self._parked:
            self._parked.remove(parked)


def _key(work: Run) -> Key:
    return wire.digest(wire.encode(work.spec)), work.chunk


def _nobody(tier: str) -> None:
    """Nobody waits for a parked task to start."""
