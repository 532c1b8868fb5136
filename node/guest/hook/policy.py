"""Where a cut is taken: at the head of the innermost loop that has just made an optimizer's step.

There no gradient graph is under way, and every variable is between two rounds. A job without an optimizer is cut at
the outermost loop that comes round soon: the longer an order waits, the deeper a head may be.
"""

from __future__ import annotations

import sys
import time

DEPTH_WAIT_S = 0.01
"""An order that has waited so long may be answered two loops deep, twice as long three deep, and so on."""

STEPLESS_S = 10.0
"""After so long without a step a job with an optimizer (it may be evaluating) is treated like one without."""

PARKING_S = 20.0
"""A job that imports torch is parked at its first loop after so long, though no optimizer exists."""


class Policy:
    """Remembers when a snapshot became due and where the last step happened."""

    def __init__(self) -> None:
        self.has_optimizer = False
        self._since = 0.0
        self._stepped: tuple[int, int] | None = None
        self._born = time.monotonic()

    def due_since(self, now: float) -> None:
        """A snapshot is wanted from `now` (seconds of a steady clock) on."""
        self._since = now
        self._stepped = None

    def stepped_at(self, place: tuple[int, int] | None) -> None:
        """An optimizer's step in (frame, loop)."""
        self._stepped = place

    def is_cut(self, place: tuple[int, int], depth: int, steps: int, now: float) -> bool:
        """Whether to cut at the head of a loop, `depth` loops deep."""
        if self._stepped is not None:
            return self._stepped == place
        waited = now - self._since
        if self.has_optimizer or steps:
            waited -= STEPLESS_S
        return waited >= (0.0 if depth <= 1 else DEPTH_WAIT_S * 2 ** (depth - 2))

    def was_cut(self, now: float) -> None:
        """A cut has been taken."""
        self._stepped = None
        self._since = now

    def is_parking_place(self, iterable: object) -> bool:
        """Whether a parked job waits at the beginning of this loop: everything heavy is behind it."""
        if "torch" not in sys.modules or self.has_optimizer:
            return True
        return type(iterable).__name__.endswith("DataLoader") or time.monotonic() - self._born > PARKING_S
