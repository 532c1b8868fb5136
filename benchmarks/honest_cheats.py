"""The cheat battery: rows 2 to 10 of the list of attacks, as ways to compute one unit of training.

Loaded in the jobs' Python by `honest_worker`, where the guest's package is called `shoal_work`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from node.guest.work.training import Named, TrainingWork

Array = npt.NDArray[np.generic]
Tensors = Mapping[str, Array]
Unit = tuple[Tensors, Tensors]
"""State and aux."""
Cheat = Callable[[Tensors, int], Unit]
"""From the state before the unit, and the unit's index."""
Kind = Callable[..., "TrainingWork"]
"""Makes the honest work, of a subclass where one is given."""


def battery(make: Kind, elsewhere: Callable[[int], Tensors]) -> dict[str, Cheat]:
    """Every cheat by name, which begins with the number of the attack. `elsewhere` gives states of another run."""
    torch = importlib.import_module("torch")
    program = importlib.import_module("train")
    honest = make()

    def by(**methods: object) -> Cheat:
        return lambda state, index: make(type("Cheat", (program.Adder,), methods)).step(dict(state), index)  # type: ignore[return-value]

    def with_rate(factor: float) -> Cheat:
        cheat = make()
        cheat.plan = replace(cheat.plan, rate=cheat.plan.rate * factor)
        return lambda state, index: cheat.step(dict(state), index)  # type: ignore[return-value]

    def in_precision(coarse: Callable[[object], object]) -> Cheat:
        def loss(self: TrainingWork, parameters: Mapping[str, object], records: object) -> object:
            rough = {name: coarse(value) for name, value in parameters.items()}
            return program.Adder.loss(self, rough, records).double().to(next(iter(parameters.values())).dtype)  # type: ignore[attr-defined]

        return by(loss=loss)

    layer = tuple(name for name in honest.parameters() if name.startswith("layer1."))
    return {
        "02 nothing done": lambda state, index: _lazy(honest, state, index),
        "03 31 of 32 records": by(rows=_part(31, 32)),
        "03 28 of 32 records": by(rows=_part(28, 32)),
        "03 16 of 32 records": by(rows=_part(16, 32)),
        "05 batches of another unit": by(rows=_stale),
        "06 learning rate × 0.99": with_rate(0.99),
        "06 learning rate × 0.01": with_rate(0.01),
        "07 one record swapped": by(rows=_swapped),
        "08 a state of another run": lambda state, index: _joined(honest, state, index, elsewhere(index + 1)),
        "09 one frozen bias": by(_move=_frozen("norm.bias")),
        "09 one frozen layer": by(_move=_frozen(*layer)),
        "10 bfloat16": in_precision(lambda value: value.to(torch.bfloat16)),  # type: ignore[attr-defined]
        "10 int8 weights": in_precision(_quantised(8)),
        "10 int4 weights": in_precision(_quantised(4)),
    }


def _lazy(work: TrainingWork, state: Tensors, index: int) -> Unit:
    """The losses of somebody who looked, the weights of somebody who did nothing."""
    _, aux = work.step(dict(state), index)
    return {**state, "step": np.asarray(state["step"], np.int64) + work.plan.steps}, aux


def _joined(work: TrainingWork, state: Tensors, index: int, other: Tensors) -> Unit:
    _, aux = work.step(dict(state), index)
    return other, aux


def _part(some: int, whole: int) -> Callable[[TrainingWork, int], npt.NDArray[np.int64]]:
    def rows(self: TrainingWork, step: int) -> npt.NDArray[np.int64]:
        found = _scheduled(self, step)
        return found[: len(found) * some // whole]

    return rows


def _stale(self: TrainingWork, step: int) -> npt.NDArray[np.int64]:
    return _scheduled(self, step + 1_000)


def _swapped(self: TrainingWork, step: int) -> npt.NDArray[np.int64]:
    rows = _scheduled(self, step).copy()
    rows[0] = (rows[0] + 1) % self.records.count
    return rows


def _scheduled(work: TrainingWork, step: int) -> npt.NDArray[np.int64]:
    training = importlib.import_module("shoal_work.training")
    rows: npt.NDArray[np.int64] = training.TrainingWork.rows(work, step)
    return rows


def _frozen(*names: str) -> Callable[[TrainingWork, Named, Named, int], None]:
    def move(self: TrainingWork, values: Named, gradients: Named, step: int) -> None:
        kept = {"parameters/" + name: values["parameters/" + name].copy() for name in names}
        importlib.import_module("shoal_work.training").TrainingWork._move(self, values, gradients, step)
        values.update(kept)

    return move


def _quantised(bits: int) -> Callable[[object], object]:
    """Weights on as many levels as so many bits have; the gradient passes through."""

    def coarse(value: object) -> object:
        size = value.detach().abs().max() / (2 ** (bits - 1) - 1) + 1e-30  # type: ignore[attr-defined]
        return value + ((value / size).round() * size - value).detach()

    return coarse
