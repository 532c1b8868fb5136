"""The peer that waits behind a running lease: inputs fetched, the script run as far as its first loop. Sans-IO.

A standby costs memory and nothing else; it has no secret of the job until the epoch moves to it.
Spec: specs/28-recovery.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from protocol.completions import Completion, Guest, RunDone
from protocol.effects import Compute, Effect, Emit, Park, Run, Unpark, Wake
from protocol.jobspec import JobSpec
from protocol.messages import JobNotice, Message
from protocol.snapshots import StandBy, StandDown
from protocol.units import MINUTE, SECOND, Digest, Micros, PeerId

STAND_MAX: Final = Micros(2 * MINUTE)
"""Microseconds without a word of the steward after which nobody waits any more: it repeats itself every 15 s."""

LOOK: Final = Micros(1 * SECOND)
"""Microseconds between two looks at whether there is still room."""

Known = Callable[[bytes], tuple[JobNotice, PeerId, JobSpec] | None]


@dataclass(slots=True)
class Waiting:
    """One chunk for which this peer stands by."""

    order: StandBy
    steward: PeerId
    task: str
    heard: Micros
    is_parked: bool = True
    """False once the parked process has ended, by itself or because its room was needed."""


class Standby:
    """What this peer is ready to take over."""

    accepts: tuple[type, ...] = (StandBy, StandDown, Guest, RunDone)

    def __init__(self, known: Known, room: Callable[[], int], phase: Callable[[bytes, int], str]) -> None:
        """`known`: a job as its notice told it. `room`: slots without work. `phase`: how far this peer's own lease of a
        job's chunk is, empty when it has none."""
        self._known = known
        self._room = room
        self._phase = phase
        self.waiting: dict[tuple[bytes, int], Waiting] = {}
        """By job and chunk."""

    @property
    def jobs(self) -> set[bytes]:
        """Jobs that must not be forgotten."""
        return {job for job, _ in self.waiting}

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        match message:
            case StandBy():
                return self._ordered(sender, message, now)
            case StandDown(job=job, chunk=chunk):
                waiting = self.waiting.get((job, chunk))
                return self._leave((job, chunk)) if waiting is not None and waiting.steward == sender else []
            case Guest(task=task, state="parked"):
                return self._ready(task)
            case Guest(task=task, state="disabled" | "ended") | RunDone(task=task):
                return self._ended(task)
            case _:
                return []

    def _ordered(self, steward: PeerId, order: StandBy, now: Micros) -> list[Effect]:
        key = (order.job, order.chunk)
        known = self._known(order.job)
        if known is None or known[1] != steward or known[0].escrow != order.escrow or not known[2].is_protected:
            return []  # Nothing that this peer bid for.
        waiting = self.waiting.get(key)
        if waiting is not None and waiting.order.epoch == order.epoch:
            waiting.heard = now
            return []
        if waiting is None and sum(1 for one in self.waiting.values() if one.is_parked) >= self._room():
            return []
        if waiting is not None and waiting.is_parked:
            waiting.order, waiting.heard = order, now  # Where it waits, every epoch begins.
            return []
        run = _run(order, known[2], PeerId(known[0].renter))
        self.waiting[key] = Waiting(order, steward, run.task, now)
        fields: dict[str, str | int] = {"job": order.job.hex(), "chunk": order.chunk, "epoch": order.epoch}
        return [Compute(Park(run)), Emit("standing_by", fields), Wake(Micros(now + LOOK))]

    def _ready(self, task: str) -> list[Effect]:
        """It stands at its first loop head: from now on a takeover costs no start."""
        return [
            Emit("parked", {"job": job.hex(), "chunk": chunk, "epoch": waiting.order.epoch})
            for (job, chunk), waiting in self.waiting.items()
            if waiting.task == task
        ]

    def _ended(self, task: str) -> list[Effect]:
        for waiting in self.waiting.values():
            if waiting.task == task:
                waiting.is_parked = False
        return []

    def _leave(self, key: tuple[bytes, int]) -> list[Effect]:
        waiting = self.waiting.pop(key)
        return [Compute(Unpark(waiting.task))] if waiting.is_parked else []

    def tick(self, now: Micros) -> list[Effect]:
        """Make room for real work, and forget what nobody speaks of any more."""
        effects: list[Effect] = []
        for key, waiting in list(self.waiting.items()):
            phase = self._phase(*key)
            if phase not in ("", "countersigned", "waiting"):
                del self.waiting[key]  # It runs here now: the parked process is the job's.
            elif not phase and now >= waiting.heard + STAND_MAX:
                effects += self._leave(key)
        idle = [waiting for key, waiting in self.waiting.items() if waiting.is_parked and not self._phase(*key)]
        for waiting in idle[max(0, self._room()) :]:
            waiting.is_parked = False
            effects.append(Compute(Unpark(waiting.task)))
        return [*effects, Wake(Micros(now + LOOK))] if self.waiting else effects


def _run(order: StandBy, spec: JobSpec, renter: PeerId) -> Run:
    task = f"park-{order.escrow.hex()[:16]}-{order.chunk}"
    outputs = tuple(Digest(output) for output in order.outputs)
    return Run(task, spec, order.chunk, outputs, tuple(PeerId(source) for source in order.sources), renter)
