"""Training in units of a few optimizer steps, which anybody can replay from the state before them.

    from shoal_work import run, training

    class Adder(training.TorchTraining):
        def loss(self, parameters, records):
            ...                                     # a torch scalar

    run(Adder(training.Plan.from_environment(), "records.bin", "initial.safetensors"))

What decides the result comes from the specification: the plan from its environment, the first weights from a file
(nothing is drawn by torch, whose normal numbers differ between processors), the rows of each batch from the job's seed.
The optimizers are written out in NumPy, element by element, where every operation has one right result.
"""

from __future__ import annotations

import hashlib
import importlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Union, cast

import numpy as np
import numpy.typing as npt

from .dice import Dice
from .plan import Plan
from .records import Records
from .tensors import Array, State, canonical, decode, encode
from .work import Aux, Work

Floats = npt.NDArray[np.float64]
"""fp64 in class D1, fp32 in D3: the arithmetic is written once."""

Named = dict[str, Floats]

PARAMETERS, MOMENTUM, VARIANCE, STEP = "parameters/", "momentum/", "variance/", "step"

GRID_BITS = 24
"""D1 rounds to multiples of 2^-24: far above fp64's noise, far below what a step changes."""

ADAM_BITS = 28
"""D1 under AdamW, which divides by small numbers."""

VARIANCE_BITS = 48
"""D1, the mean of squared gradients."""

GRADIENT_MAX = 1 << 20
"""Elements of a first gradient that are told as they are. A longer one is told as its sketch."""

SKETCH = 1 << 16
"""Numbers of a sketch: every element is added to one of them, with a sign. It keeps the relative size of differences
up to a part in 200, and costs an addition per element, where a matrix of random numbers costs SKETCH of them."""


class TrainingWork(Work):
    """A job gives `gradients`; everything else is the same for all. `units` × `plan.steps` optimizer steps."""

    def __init__(self, plan: Plan, records: Union[str, Path], initial: Union[str, Path]) -> None:
        self.plan = plan
        self.initial = Path(initial)
        self.records = Records(Path(records), plan.record_bytes, plan.root)

    def parameters(self) -> Mapping[str, Array]:
        """The weights before the first step, by name: those of the file `initial`."""
        return tensors_of(self.initial)

    def gradients(self, parameters: Named, records: npt.NDArray[np.uint8]) -> tuple[float, Named]:
        """(loss, gradient of every parameter) on `records` of shape (batch, bytes of a record), in the parameters' own
        precision: fp32, or fp64 in class D1. A function of these two alone."""
        raise TypeError(f"{type(self).__name__} has no method gradients()")

    def first(self) -> State:
        kind = np.float64 if self.plan.is_exact else np.float32
        state: dict[str, Array] = {STEP: np.array(0, np.int64)}
        for name, value in self.parameters().items():
            state[PARAMETERS + name] = self._rounded(_floats(value.astype(kind)))
            for other in self.plan.moments:
                state[other + name] = np.zeros(value.shape, kind)
        return state

    def input(self, index: int) -> bytes:
        """The rows of every batch of the unit, the data set's root, and the digest of the plan."""
        steps = range(index * self.plan.steps, (index + 1) * self.plan.steps)
        return encode(
            {
                "rows": np.stack([self.rows(step) for step in steps]),
                "root": np.frombuffer(self.plan.root, np.uint8),
                "plan": np.frombuffer(self.plan.digest, np.uint8),
                STEP: np.array(steps.start, np.int64),
            }
        )

    def rows(self, step: int) -> npt.NDArray[np.int64]:
        """Which records step `step` learns from: no record twice in a batch, unless there are too few."""
        return schedule(self.seed, step, self.records.count, self.plan.batch)

    def step(self, state: State, index: int) -> tuple[State, Aux]:
        values = {name: _floats(value) for name, value in _arrays(state).items() if name != STEP}
        begin = int(_arrays(state)[STEP])
        if begin != index * self.plan.steps:
            raise ValueError(f"unit {index} begins at step {index * self.plan.steps}, this state is of step {begin}")
        losses, norm, first = list[float](), 0.0, np.zeros(0)
        for step in range(begin, begin + self.plan.steps):
            weights = {name[len(PARAMETERS) :]: value for name, value in values.items() if name.startswith(PARAMETERS)}
            loss, gradients = self.gradients(weights, self.records.rows(self.rows(step)))
            gradients = {name: self._rounded(gradients[name]) for name in sorted(weights)}
            if step == begin and not self.plan.is_exact:
                first = told(gradients, self.seed)
            losses.append(loss)
            if step == begin + self.plan.steps - 1:  # Of one step alone: it takes as long as a part of the step.
                norm = math.sqrt(sum(tree_sum(np.square(one, dtype=np.float64)) for one in gradients.values()))
            self._move(values, gradients, step)
            if not math.isfinite(loss) or not math.isfinite(norm):
                raise FloatingPointError(f"step {step} has the loss {loss} and a gradient of {norm}")
        aux: dict[str, Array] = {"losses": self._noted(losses), "norms": self._noted([norm])}
        if first.size:
            aux["gradient"] = first.astype(np.float32)
        return {**values, STEP: np.array(begin + self.plan.steps, np.int64)}, aux

    def effect(self, before: State, after: State, aux: Aux) -> float:
        """||W' - W||: the jump of somebody who joins two trajectories is among the largest."""
        old, total = _arrays(before), 0.0
        for name, value in _arrays(after).items():
            if name.startswith(PARAMETERS):
                total += tree_sum(np.square(value.astype(np.float64) - old[name].astype(np.float64)))
        return math.sqrt(total)

    def finish(self, state: State, out: Path) -> None:
        """`model.safetensors`: the parameters under their own names, fp32."""
        names = [name for name in _arrays(state) if name.startswith(PARAMETERS)]
        model = {name[len(PARAMETERS) :]: _arrays(state)[name].astype(np.float32) for name in names}
        (out / "model.safetensors").write_bytes(encode(model))

    def _move(self, values: Named, gradients: Named, step: int) -> None:
        """One step of the optimizer for every parameter, in place."""
        for name, gradient in gradients.items():
            weight = values[PARAMETERS + name]
            moments = [values[kind + name] for kind in self.plan.moments]
            if self.plan.optimizer == "sgd":
                after = sgd(self.plan, weight, gradient, moments)
            else:
                after = adamw(self.plan, weight, gradient, moments, step + 1)
            for kind, value in zip((PARAMETERS, *self.plan.moments), after):  # noqa: B905  Python 3.9
                values[kind + name] = np.asarray(self._rounded(value, VARIANCE_BITS if kind == VARIANCE else 0))

    def _rounded(self, value: Floats, bits: int = 0) -> Floats:
        """In class D1 the nearest multiple of 2^-bits, ties to even: exact operations all three."""
        if not self.plan.is_exact:
            return value
        return on_grid(value, bits or (GRID_BITS if self.plan.optimizer == "sgd" else ADAM_BITS))

    def _noted(self, numbers: list[float]) -> Array:
        return self._rounded(np.array(numbers, np.float64), GRID_BITS)


class TorchTraining(TrainingWork):
    """The gradient by torch's autograd. A job gives `loss(parameters, records)`, which returns a torch scalar.

    `parameters` are leaf tensors by name; with a module, `torch.func.functional_call(module, parameters, …)`. No
    dropout: torch's random numbers are not part of the state."""

    def loss(self, parameters: Mapping[str, object], records: npt.NDArray[np.uint8]) -> object:
        """The loss on `records` of shape (batch, bytes of a record)."""
        raise TypeError(f"{type(self).__name__} has no method loss()")

    def gradients(self, parameters: Named, records: npt.NDArray[np.uint8]) -> tuple[float, Named]:
        torch = importlib.import_module("torch")
        leaves = {name: torch.from_numpy(value).requires_grad_() for name, value in parameters.items()}
        loss = self.loss(leaves, records)
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        gradients = {
            name: np.zeros_like(parameters[name]) if one is None else one.detach().contiguous().numpy()
            for name, one in zip(leaves, found)  # noqa: B905  Python 3.9
        }
        return float(torch.as_tensor(loss).detach().item()), gradients


def schedule(seed: bytes, step: int, count: int, batch: int) -> npt.NDArray[np.int64]:
    """The records of step `step` among `count`: `batch` different ones while there are so many."""
    dice = Dice(seed, "batch", step)
    if batch > count:
        return dice.integers(count, batch)
    rows: dict[int, None] = {}
    while len(rows) < batch:
        rows.update(dict.fromkeys(dice.integers(count, batch).tolist()))
    return np.array(list(rows)[:batch], np.int64)


def sgd(plan: Plan, weight: Floats, gradient: Floats, moments: list[Floats]) -> tuple[Floats, ...]:
    """(weight, momentum) after a step of v = μ v + g + λ w; w = w - η v."""
    kind = weight.dtype.type
    if plan.decay:
        gradient = gradient + kind(plan.decay) * weight
    if not moments:
        return (weight - kind(plan.rate) * gradient,)
    momentum = kind(plan.momentum) * moments[0] + gradient
    return weight - kind(plan.rate) * momentum, momentum


def adamw(plan: Plan, weight: Floats, gradient: Floats, moments: list[Floats], turn: int) -> tuple[Floats, ...]:
    """(weight, momentum, variance) after step number `turn`, counted from 1."""
    kind = weight.dtype.type
    momentum = kind(plan.momentum) * moments[0] + kind(1 - plan.momentum) * gradient
    variance = kind(plan.second) * moments[1] + kind(1 - plan.second) * (gradient * gradient)
    up = kind(plan.rate / (1 - power(plan.momentum, turn))) * momentum
    down = np.sqrt(variance / kind(1 - power(plan.second, turn))) + kind(plan.epsilon)
    return weight * kind(1 - plan.rate * plan.decay) - up / down, momentum, variance


def power(value: float, times: int) -> float:
    """value^times by multiplications alone: `pow` of two C libraries differs in the last bit.

    >>> power(0.5, 10) == 2**-10
    True
    """
    result = 1.0
    while times:
        if times & 1:
            result *= value
        value *= value
        times >>= 1
    return result


def on_grid(value: Floats, bits: int) -> Floats:
    """The nearest multiples of 2^-bits, ties to even."""
    size = math.ldexp(1.0, bits)
    rounded: Floats = np.rint(value * size) / size
    return rounded


def told(gradients: Mapping[str, Floats], seed: bytes) -> Floats:
    """What a unit tells of its first gradient: all of it in the order of names, or a sketch when that is too long."""
    flat = np.concatenate([gradients[name].ravel() for name in sorted(gradients)])
    if flat.size <= GRADIENT_MAX:
        return flat
    sketch = np.zeros(SKETCH)
    for start in range(0, flat.size, GRADIENT_MAX):
        block = flat[start : start + GRADIENT_MAX].astype(np.float64)
        words = Dice(seed, "sketch", start).words(block.size)
        signs = np.where(words >> np.uint64(63), 1.0, -1.0)
        places = (words % np.uint64(SKETCH)).astype(np.int64)
        sketch += np.bincount(places, weights=signs * block, minlength=SKETCH)
    return sketch


def tree_sum(values: Array) -> float:
    """The sum with the same rounding on every machine: halves are added element by element."""
    flat: Floats = values.astype(np.float64).ravel()
    while flat.size > 1:
        half = flat.size // 2
        rest = flat[2 * half :]
        flat = flat[:half] + flat[half : 2 * half]
        if rest.size:
            flat[0] += rest[0]
    return float(flat[0]) if flat.size else 0.0


def tensors_of(path: Path, sha256: str = "") -> Mapping[str, Array]:
    """The arrays of a safetensors file of ours; with `sha256` (hex), of that file only, e.g. a base model."""
    data = path.read_bytes()
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{path.name} is not the file that the specification names")
    return {name: canonical(value) for name, value in _arrays(decode(data)).items()}


def _floats(value: Array) -> Floats:
    """The same array, as what it is known to be."""
    return cast("Floats", value)


def _arrays(state: State) -> Mapping[str, Array]:
    if isinstance(state, bytes):
        raise TypeError("this state is no set of tensors")
    return state
