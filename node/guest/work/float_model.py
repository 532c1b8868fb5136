"""The transformer of `int8.py` in floats, with NumPy alone: for small models, and to see what a precision changes.

Answers of floats depend on the processor in their last bits. They are checked within a tolerance, by margins and
fingerprints; a job that wants more takes the integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .fingerprint import bfloat16
from .model import Pass
from .tensors import Array, decode

Floats = npt.NDArray[np.floating]

PRECISIONS = ("fp64", "fp32", "bf16", "int8", "int4")
"""Of all arithmetic for the first three, of the matrices alone for the others, which compute in fp32."""


class FloatModel:
    """Weights as in `int8.quantised`'s argument; keys and values of the tokens so far are remembered."""

    def __init__(self, weights: Mapping[str, Array], precision: str = "fp32") -> None:
        """Raises ValueError for a precision that there is not."""
        if precision not in PRECISIONS:
            raise ValueError(f"{precision} is none of {', '.join(PRECISIONS)}")
        self._type = np.float64 if precision == "fp64" else np.float32
        self._is_half = precision == "bf16"
        self._heads = int(weights["heads"].astype(np.int64)[0])
        self._weights: dict[str, Floats] = {
            name: self._weight(name, value, precision) for name, value in weights.items() if name != "heads"
        }
        self._layers = sum(name.endswith(".qkv") for name in weights)
        self.reset()

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return len(self._weights["embed"])

    @property
    def context(self) -> int:
        """Most tokens in a row."""
        return len(self._weights["place"])

    def reset(self) -> None:
        """Forget what was fed."""
        size = self._weights["embed"].shape[1] // self._heads
        self._seen: list[Floats] = [np.zeros((2, 0, self._heads, size), self._type) for _ in range(self._layers)]

    def extend(self, tokens: npt.NDArray[np.int64]) -> Pass:
        """Feed more tokens. Raises IndexError for tokens that do not exist, or too many."""
        first = self._seen[0].shape[1]
        if first + len(tokens) > self.context:
            raise IndexError(f"{first + len(tokens)} tokens in a row, {self.context} are possible")
        flow = self._cut(self._weights["embed"][tokens] + self._weights["place"][first : first + len(tokens)])
        for layer in range(self._layers):
            flow = self._cut(flow + self._attention(f"layer{layer}", self._norm(flow), layer, first))
            wide = self._linear(f"layer{layer}.up", self._norm(flow))
            wide = self._cut(wide / (1 + np.exp(-wide)))
            flow = self._cut(flow + self._linear(f"layer{layer}.down", wide))
        hidden = self._norm(flow)
        return Pass(self._linear("head", hidden), hidden, np.zeros((0, 32), np.uint8))

    def _attention(self, name: str, flow: Floats, layer: int, first: int) -> Floats:
        parts = self._linear(f"{name}.qkv", flow).reshape(len(flow), 3, self._heads, -1)
        kept = self._seen[layer] = np.concatenate([self._seen[layer], parts[:, 1:].swapaxes(0, 1)], axis=1)
        scores: Floats = parts[:, 0].swapaxes(0, 1) @ kept[0].transpose(1, 2, 0)
        scores = scores / self._type(np.sqrt(kept.shape[-1]))
        hidden = np.arange(kept.shape[1])[None, :] > np.arange(first, first + len(flow))[:, None]
        scores = np.where(hidden[None], self._type(-np.inf), scores)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights = self._cut(weights / weights.sum(axis=-1, keepdims=True))
        mixed: Floats = (weights @ kept[1].swapaxes(0, 1)).swapaxes(0, 1).reshape(len(flow), -1)
        return self._linear(f"{name}.out", self._cut(mixed))

    def _norm(self, flow: Floats) -> Floats:
        mean = np.mean(np.square(flow), axis=-1, keepdims=True)
        return self._cut(flow / np.sqrt(mean + self._type(1e-6)))

    def _linear(self, name: str, flow: Floats) -> Floats:
        return self._cut(flow @ self._weights[name].T)

    def _cut(self, values: Floats) -> Floats:
        """Rounded to bfloat16 where that is the precision."""
        return _half(values) if self._is_half else values

    def _weight(self, name: str, value: Array, precision: str) -> Floats:
        exact: Floats = value.astype(self._type)
        if precision in ("int8", "int4") and name not in ("embed", "place"):
            most = 127 if precision == "int8" else 7
            step = np.maximum(np.abs(exact).max(axis=1, keepdims=True) / most, 1e-9)
            exact = np.rint(exact / step) * step
        return self._cut(exact.astype(self._type))


def load(path: Path, precision: str = "fp32") -> FloatModel:
    """A model from a file of canonical tensors. Raises ValueError where it holds something else."""
    weights = decode(path.read_bytes())
    if isinstance(weights, bytes):
        raise ValueError(f"{path.name} holds no weights")
    return FloatModel(weights, precision)


def _half(values: Floats) -> Floats:
    """Rounded to bfloat16, as fp32."""
    return (bfloat16(values.astype(np.float32)).astype(np.uint32) << np.uint32(16)).view(np.float32)
