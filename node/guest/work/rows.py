"""Units that do not need one another: unit i adds row i to what is there.

The last state is the whole result, so its units may be computed again one by one, and none can be swapped afterwards:
an auditor holds the states before several units, the last one among them, and each must be the beginning of the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

import numpy as np

from .tensors import Array, State
from .work import Aux, Work

ROWS = "rows"
"""The tensor that grows: row i is what unit i found."""

TORN = "torn"
"""In an auditor's aux: the states that it was given do not continue one another."""


class Rows(Work):
    """A subclass says what one row is, and what its unit tells besides."""

    part = False
    """Whether an auditor computes only the part of a unit that the challenge chooses: for jobs of class D3, where
    `compare` reads the parts. Where bytes are compared, the whole unit is computed."""

    def __init__(self) -> None:
        self._opened: list[Array] = []

    def empty(self) -> Array:
        """No rows yet: an array of shape (0, …) with the type and the shape of a row."""
        raise TypeError(f"{type(self).__name__} has no method empty()")

    def row(self, index: int) -> tuple[Array, Aux]:
        """Row `index` and what its unit tells: a function of `seed`, `chunk` and `index` alone."""
        raise TypeError(f"{type(self).__name__} has no method row()")

    def partial(self, index: int, seed: bytes) -> Aux:
        """The part of a unit that `seed` chooses, as an auditor computes it."""
        raise TypeError(f"{type(self).__name__} has no method partial()")

    def first(self) -> State:
        return {ROWS: self.empty()}

    def step(self, state: State, index: int) -> tuple[State, Aux]:
        row, aux = self.row(index)
        return {ROWS: np.concatenate([rows_of(state), row[None]])}, aux

    def replay(self, state: State, index: int, seed: bytes) -> tuple[Optional[State], Aux]:
        is_torn = self._is_torn(state, index)
        if self.part:
            aux = dict(self.partial(index, seed))
            return None, {**aux, TORN: np.array([is_torn], np.uint8)}
        if is_torn:
            return {ROWS: self.empty()}, {}
        return self.step(state, index)

    def effect(self, before: State, after: State, aux: Aux) -> float:
        """How many rows are not what they were: one, or the state has been exchanged."""
        old, new = rows_of(before), rows_of(after)
        same = min(len(old), len(new))
        changed = sum(old[i].tobytes() != new[i].tobytes() for i in range(same))
        return float(changed + abs(len(new) - same))

    def _is_torn(self, state: State, index: int) -> bool:
        """Whether a state is none of this work's after `index` units, or its rows and those of a state seen before are
        not the same as far as both go."""
        rows, none = (None if isinstance(state, bytes) else state.get(ROWS)), self.empty()
        if rows is None or rows.shape != (index, *none.shape[1:]) or rows.dtype != none.dtype:
            return True
        self._opened.append(rows)
        shared = [(min(len(rows), len(other)), other) for other in self._opened[:-1]]
        return any(rows[:count].tobytes() != other[:count].tobytes() for count, other in shared)


def rows_of(state: State) -> Array:
    """The rows of a state. Raises TypeError for one without."""
    if not isinstance(state, Mapping) or ROWS not in state:
        raise TypeError(f"a state without the tensor {ROWS!r}")
    return state[ROWS]
