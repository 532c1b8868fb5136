"""Where worker threads wait for their fair share of the link."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from node.clock import Clock
from protocol.bulk.shares import FairShares
from protocol.errors import Unavailable
from protocol.units import SECOND

LOOK_S: Final = 0.25
"""How often a thread that waits looks whether it is still wanted, seconds."""


class Gate:
    """One direction of the node's link. Safe to use from several threads."""

    def __init__(self, clock: Clock, rate: int | None) -> None:
        self._clock = clock
        self._turn = threading.Condition()
        self._has_caps = rate is not None
        self._shares = FairShares(rate, clock.now())
        self._gone: set[int] = set()

    def set_rate(self, rate: int | None) -> None:
        """Cap the node in bytes per second; None: no cap. Weights and caps of jobs are set anew afterwards."""
        with self._turn:
            self._has_caps = rate is not None
            waiting = self._shares
            self._shares = FairShares(rate, self._clock.now())
            self._gone.update(waiting.numbers())
            self._turn.notify_all()

    def set_job(self, job: bytes, weight: int = 1, rate: int | None = None) -> None:
        """A job's weight beside others, and its own cap in bytes per second."""
        with self._turn:
            self._has_caps = self._has_caps or rate is not None
            self._shares.set_job(job, weight, rate, self._clock.now())

    def forget_job(self, job: bytes) -> None:
        """A job is over."""
        with self._turn:
            self._shares.forget_job(job)

    def wait(self, job: bytes, size: int, is_wanted: Callable[[], bool]) -> None:
        """Return when `size` bytes of a job may move; Unavailable when they are not wanted any more."""
        if not self._has_caps:
            return
        with self._turn:
            number = self._shares.submit(job, size)
            while True:
                now = self._clock.now()
                gone = self._shares.tick(now)
                if gone:
                    self._gone.update(gone)
                    self._turn.notify_all()
                if number in self._gone:
                    self._gone.discard(number)
                    return
                if not is_wanted():
                    self._shares.withdraw(number)
                    raise Unavailable("the transfer was stopped", code="aborted")
                due = self._shares.wake(now)
                self._turn.wait(LOOK_S if due is None else min(LOOK_S, max(0.0005, (due - now) / SECOND)))
