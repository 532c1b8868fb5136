"""A LoRA delta: two thin matrices beside each weight of a base model that stays as it is, W + (α / r) B A.

What a provider hands in is checked on its own, whoever trained it and however: the names, the shapes and the rank that
the specification says, finite numbers, a bounded change, and the loss on a hidden shard.
Spec: specs/33-training-proof.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Final

import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

from protocol.errors import Refused
from protocol.proof import Hash32
from protocol.units import PPM
from verifier.tensors import Array, Tensors

A: Final = ".lora_A"
"""Behind the weight's name: shape (rank, inputs)."""

B: Final = ".lora_B"
"""Behind the weight's name: shape (outputs, rank)."""

RANK_MAX: Final = 1024
"""Above, a delta is no small thing any more."""

CHANGE_MAX: Final = 1_000_000
"""ppm: ||α/r B A|| in ||W|| unless a specification says less. Fine-tuning moves weights by percents."""

LOSS_RISE_MAX: Final = 0
"""ppm by which the hidden loss may rise unless a specification says more."""


class LoraSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """What the job says about its delta."""

    base: Hash32
    """Digest of the base model's file."""
    rank: Annotated[int, Meta(ge=1, le=RANK_MAX)]
    alpha: Annotated[int, Meta(ge=1, le=1 << 20)]
    """Scale of the delta is alpha / rank."""
    targets: Mapping[str, tuple[int, int]]
    """Weights with a delta: name -> (outputs, inputs)."""
    change_max: Annotated[int, Meta(ge=1, le=1000 * PPM)] = CHANGE_MAX
    loss_rise_max: Annotated[int, Meta(ge=0, le=1000 * PPM)] = LOSS_RISE_MAX


def check_delta(delta: Tensors, spec: LoraSpec, base: Tensors, base_digest: bytes) -> None:
    """Raises Refused: `base_differs`, `names_differ`, `shape_differs`, `rank_differs`, `not_finite`,
    `change_too_large`."""
    if base_digest != spec.base:
        raise Refused("the delta is for another base model", code="base_differs", fix="Train on the base of the job.")
    wanted = {name + end for name in spec.targets for end in (A, B)}
    if set(delta) != wanted:
        odd = min(set(delta) ^ wanted)
        raise Refused(f"{odd} is missing or does not belong here", code="names_differ")
    for name, (outputs, inputs) in spec.targets.items():
        _check_shape(delta[name + A], (spec.rank, inputs), spec.rank, axis=0)
        _check_shape(delta[name + B], (outputs, spec.rank), spec.rank, axis=1)
    for name, array in delta.items():
        if not np.isfinite(array).all():
            raise Refused(f"{name} holds nan or an infinity", code="not_finite")
    for name in spec.targets:
        change = change_of(delta[name + A], delta[name + B], spec.alpha / spec.rank, base[name])
        if not change * PPM <= spec.change_max:
            raise Refused(
                f"the delta moves {name} by {change:.3g} of its norm",
                code="change_too_large",
                fix="Lower the learning rate, or raise the bound of the job.",
                numbers={"change_max": spec.change_max},
            )


def check_loss(loss: Callable[[Tensors], float], delta: Tensors, spec: LoraSpec, base: Tensors) -> tuple[float, float]:
    """(hidden loss of the base, and with the delta). Raises Refused `not_finite`, `loss_too_high`."""
    before, after = loss(base), loss(merged(base, delta, spec))
    if not (math.isfinite(before) and math.isfinite(after)):
        raise Refused(f"the hidden loss is {after} after {before}", code="not_finite")
    if not after <= before * (1 + spec.loss_rise_max / PPM):
        raise Refused(f"the hidden loss rises from {before:.4g} to {after:.4g}", code="loss_too_high")
    return before, after


def change_of(down: Array, up: Array, scale: float, weight: Array) -> float:
    """||scale · B A|| / ||W||, from two matrices of rank × rank: B A itself is as large as W."""
    a, b = _wide(down), _wide(up)
    with np.errstate(all="ignore"):
        square = float(((a @ a.T) * (b.T @ b)).sum())
        whole = math.sqrt(float(np.square(_wide(weight)).sum()))
    change = abs(scale) * math.sqrt(max(0.0, square)) if math.isfinite(square) else math.inf
    return change / whole if whole else (math.inf if change else 0.0)


def merged(base: Tensors, delta: Tensors, spec: LoraSpec) -> dict[str, Array]:
    """The base model with the delta added, in the base's own precision."""
    found = dict(base)
    for name in spec.targets:
        moved = _wide(base[name]) + spec.alpha / spec.rank * (_wide(delta[name + B]) @ _wide(delta[name + A]))
        found[name] = moved.astype(base[name].dtype)
    return found


def _check_shape(array: Array, shape: tuple[int, int], rank: int, axis: int) -> None:
    if array.dtype.kind != "f" or array.ndim != len(shape):
        raise Refused(f"a matrix of {array.dtype}{list(array.shape)} is no part of a delta", code="shape_differs")
    if array.shape[axis] != rank:
        raise Refused(
            f"the delta has rank {array.shape[axis]}, the job says {rank}",
            code="rank_differs",
            numbers={"rank": int(array.shape[axis]), "wanted": rank},
        )
    if array.shape != shape:
        raise Refused(f"a matrix is {list(array.shape)}, the job says {list(shape)}", code="shape_differs")


def _wide(array: Array) -> npt.NDArray[np.float64]:
    return np.asarray(array, dtype=np.float64)
