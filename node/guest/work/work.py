"""The work of a job, cut into units: what a program subclasses.

Unit i takes state i to state i + 1, and its input from the specification and the seed alone. Whoever holds state i
can compute state i + 1 again and see whether it is what was claimed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import numpy as np

from .tensors import Array, State

Aux = Mapping[str, Array]
"""What a unit tells besides its state: losses, norms, a fingerprint. Part of what is committed."""


class Work:
    """`units`, `chunk` and `seed` are set before any method is called.

    Every method is a function of its arguments and these alone: no clock, no chance but `Dice(self.seed, …)`, nothing
    kept in the object that changes a result. A unit is replayed in a process that has not computed those before it."""

    units: int = 1
    """How many units the chunk has, from the specification."""
    chunk: int = 0
    """Which chunk of the job this is."""
    seed: bytes = bytes(32)
    """32 bytes of the job and the chunk, the same for everybody who computes it."""

    def first(self) -> State:
        """State 0."""
        raise TypeError(f"{type(self).__name__} has no method first()")

    def input(self, index: int) -> bytes:
        """What unit `index` reads besides its state, e.g. the batch's row numbers: the order of data is the protocol's,
        not the worker's."""
        return b""

    def step(self, state: State, index: int) -> tuple[State, Aux]:
        """(state index + 1, what the unit tells). `state` may be changed in place."""
        raise TypeError(f"{type(self).__name__} has no method step()")

    def replay(self, state: State, index: int, seed: bytes) -> tuple[Optional[State], Aux]:
        """The same as an auditor computes it; may compute a part that `seed` chooses and return None for the state."""
        return self.step(state, index)

    def effect(self, before: State, after: State, aux: Aux) -> float:
        """Size of the change that the unit claims, not negative: units with the largest are always looked at."""
        if isinstance(before, bytes) or isinstance(after, bytes):
            return float(before != after)
        total = 0.0
        for name, value in after.items():
            old = before.get(name)
            if old is None or old.shape != value.shape:
                return float(np.finfo(np.float32).max)
            with np.errstate(all="ignore"):
                total += float(np.sum(np.square(value.astype(np.float64) - old.astype(np.float64))))
        return math.sqrt(total)

    def finish(self, state: State, out: Path) -> None:
        """Write the job's output files from the last state. `state.shoal`, that state itself, is written anyway."""
