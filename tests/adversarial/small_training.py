"""A training job small enough for a test: a network of 200 numbers that NumPy alone trains, and its honest twin.

The twin adds up the records of a batch in the opposite order, which is what other threads and instructions do to sums:
in fp32 every number comes out a little different.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from node.guest.work import records, tensors
from node.guest.work.dice import Dice
from node.guest.work.plan import EPSILON, Plan
from node.guest.work.training import Floats, Named, TrainingWork
from protocol.proof import Tolerance
from verifier import score, training
from verifier.calibration import PROFILES, find
from verifier.tensors import Tensors

CLASSES: Final = ("x86-fp32", "x86-fp32")
INPUTS, HIDDEN, LABELS, RECORDS = 8, 16, 4, 256
RATES: Final = {"sgd": 0.05, "adamw": 0.003}

Unit = tuple[Tensors, Tensors]
"""State after it, and aux."""


class Small(TrainingWork):
    """Two layers. `shift` is added to every score, so its true gradient is zero, like that of a key's bias."""

    def gradients(self, parameters: Named, records: npt.NDArray[np.uint8]) -> tuple[float, Named]:
        kind = parameters["first"].dtype.type
        inputs = records[:, :INPUTS].astype(kind) / kind(256)
        labels = np.eye(LABELS, dtype=kind)[records[:, INPUTS] % LABELS]
        hidden = inputs @ parameters["first"].T + parameters["bias"]
        seen = np.maximum(hidden, kind(0))
        scores = seen @ parameters["second"].T + parameters["shift"]
        scores = scores - scores.max(axis=1, keepdims=True)
        chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        loss = -np.log((chances * labels).sum(axis=1)).mean()
        wrong = (chances - labels) / kind(len(records))
        back = (wrong @ parameters["second"]) * (hidden > 0)
        return float(loss), {
            "first": back.T @ inputs, "bias": back.sum(axis=0), "second": wrong.T @ seen,
            "shift": wrong.sum(keepdims=True)[0],
        }  # fmt: skip


class Twin(Small):
    """Another honest machine."""

    def gradients(self, parameters: Named, records: npt.NDArray[np.uint8]) -> tuple[float, Named]:
        return super().gradients(parameters, records[::-1].copy())


def plan(optimizer: str, numeric: str, root: bytes, rate: float | None = None) -> Plan:
    """Batches of 32, five steps a unit."""
    return Plan(
        optimizer, rate or RATES[optimizer], batch=32, steps=5, numeric=numeric, record_bytes=INPUTS + 1, root=root,
        epsilon=EPSILON[numeric],
    )  # fmt: skip


def rows(seed: bytes = b"data") -> npt.NDArray[np.uint8]:
    """The data set: the label follows from the inputs, so that there is something to learn."""
    inputs = Dice(seed, "inputs").integers(256, RECORDS * INPUTS).reshape(RECORDS, INPUTS)
    labels = inputs[:, :LABELS].argmax(axis=1)
    return np.concatenate([inputs, labels[:, None]], axis=1).astype(np.uint8)


def lay_out(folder: Path, seed: bytes = b"weights", data: npt.NDArray[np.uint8] | None = None) -> bytes:
    """Both files of the job below `folder`; the data set's root."""
    found = rows() if data is None else data
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "records.bin").write_bytes(found.tobytes())
    shapes = {"first": (HIDDEN, INPUTS), "bias": (HIDDEN,), "second": (LABELS, HIDDEN), "shift": (1,)}
    weights = {}
    for name, shape in shapes.items():
        drawn = Dice(seed, name).uniform(int(np.prod(shape))).reshape(shape) - 0.5
        weights[name] = drawn.astype(np.float32)
    (folder / "initial.safetensors").write_bytes(tensors.encode(weights))
    return records.root_of(found)


def work(
    folder: Path, optimizer: str = "sgd", numeric: str = "D3", kind: type[Small] = Small, rate: float | None = None
) -> Small:
    """The job's work on the files of `lay_out`, 8 units."""
    if not (folder / "records.bin").exists():
        lay_out(folder)
    data = np.frombuffer((folder / "records.bin").read_bytes(), np.uint8).reshape(-1, INPUTS + 1)
    made = kind(
        plan(optimizer, numeric, records.root_of(data), rate), folder / "records.bin", folder / "initial.safetensors"
    )
    made.units, made.seed = 8, b"s" * 32
    return made


def chain(job: Small, units: int) -> tuple[list[Mapping[str, Floats]], list[Tensors]]:
    """States 0 to `units`, and what every unit told."""
    states, told = [read(job.first())], list[Tensors]()
    for index in range(units):
        after, aux = job.step(dict(states[-1]), index)
        states.append(read(after))
        told.append(dict(aux))
    return states, told


def unit(job: Small, state: Tensors, index: int) -> Unit:
    """One unit from an opened state."""
    after, aux = job.step(dict(state), index)
    return read(after), dict(aux)


def read(state: tensors.State) -> Mapping[str, Floats]:
    """A state as everybody else sees it: from its bytes."""
    found = tensors.decode(tensors.encode(state))
    assert not isinstance(found, bytes)
    return found  # type: ignore[return-value]


def tolerance(optimizer: str) -> Tolerance:
    """The measured one."""
    return find(PROFILES, "training", optimizer, CLASSES).tolerance


def verdict(start: Tensors, claimed: Unit, replayed: Unit, optimizer: str) -> tuple[str, int]:
    """(code, ppm) of a claimed unit beside its replay."""
    allowed = tolerance(optimizer)
    found = training.compare(start, claimed[0], replayed[0], claimed[1], replayed[1], allowed)
    return found.code, score.score(found.err, allowed)


def update_cosine(start: Tensors, one: Tensors, other: Tensors) -> float:
    """Of two updates: the measure that must not be used."""
    a, b = (flat(state) - flat(start) for state in (one, other))
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def flat(state: Tensors) -> Floats:
    """All parameters in a row."""
    names = sorted(name for name in state if name.startswith(training.PARAMETERS))
    return np.concatenate([np.asarray(state[name], np.float64).ravel() for name in names])
