"""One execution on a simulated host: how far it is at any time, and what stands it still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from protocol.effects import Run
from simulations.scenario import NS
from simulations.units import Execution

if TYPE_CHECKING:
    from simulations.proving import Result
    from simulations.simpeer import SimPeer

STEP_NS: Final = NS
"""Length of one step of a chunk on the reference card, ns: an optimiser's step of the models that home cards train."""


@dataclass(eq=False, slots=True)
class Task:
    """An execution. Work is counted in ns of its own host."""

    peer: SimPeer
    boot: int
    run: Run
    result: Result
    steps: int
    """Of the whole chunk, the same on every host."""
    first: int
    """Step at which it began: 0, or that of the snapshot that it was restored from."""
    began: int
    """When its sandbox ran, ns."""
    done: int = 0
    """Work that was done at `since`."""
    since: int = 0
    is_held: bool = False
    """It stands still for good, after its last snapshot."""
    number: int = 0
    """Snapshots so far."""
    turn: int = 0
    """Which of the events that would end it is right: standing still makes another."""
    ended: int = -1
    """When it ended, ns; -1: it has not."""
    is_sealing: bool = False

    def work(self, now: int) -> int:
        """Work done by now, what was restored included, ns."""
        now = now if self.ended < 0 else min(now, self.ended)
        gone = 0 if self.is_held else max(0, now - self.since)
        return min(self.result.time, self.done + gone)

    def step(self, now: int) -> int:
        """Steps done by now."""
        return self.work(now) * self.steps // self.result.time

    def at_step(self, step: int) -> int:
        """Work at the end of so many steps, ns."""
        return -(-step * self.result.time // self.steps)

    def lost(self, step: int, now: int) -> int:
        """ns of this host's work behind a step."""
        return max(0, self.work(now) - self.at_step(step))

    @property
    def made(self) -> Execution | None:
        """Of a chunk with units: what comes of all of it."""
        made = self.result.made
        return made if isinstance(made, Execution) and made.whole is not None else None

    def is_running(self) -> bool:
        """Whether its host still executes it."""
        peer = self.peer
        return self.ended < 0 and peer.is_up and peer.boots == self.boot and self.run.task not in peer.stopped


def steps_of(work: int) -> int:
    """Steps of a chunk that takes so long on the reference card, ns."""
    return max(1, work // STEP_NS)
