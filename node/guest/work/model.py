"""What a unit program of inference needs of a model: feed it tokens, get a row of logits for each.

`Int8Model` is exact, `FloatModel` and `TorchModel` are as exact as their processor.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt

from .tensors import Array


class Pass(NamedTuple):
    """What a model makes of some tokens: one row each."""

    logits: Array
    """(n, vocabulary): floats, or integers in 2^-16 of a model that is exact."""
    hidden: Array
    """(n, width): what the final norm puts out."""
    leaves: npt.NDArray[np.uint8]
    """(n, 32): hashes that bind every integer of an exact model; (0, 32) for others."""


class Model(Protocol):
    """A model that is fed tokens and remembers them."""

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        ...

    @property
    def context(self) -> int:
        """Most tokens in a row."""
        ...

    def reset(self) -> None:
        """Forget what was fed."""
        ...

    def extend(self, tokens: npt.NDArray[np.int64]) -> Pass:
        """Feed more tokens."""
        ...


class Tensor(Protocol):
    """What is used of a torch tensor."""

    def float(self) -> Tensor:
        """In fp32."""
        ...

    def cpu(self) -> Tensor:
        """In memory that NumPy sees."""
        ...

    def numpy(self) -> Array:
        """As an array."""
        ...


class _Torch(Protocol):
    def from_numpy(self, array: Array) -> Tensor: ...

    def inference_mode(self, mode: bool) -> _Mode: ...


class _Mode(Protocol):
    def __enter__(self) -> object: ...

    def __exit__(self, *reason: object) -> object: ...


Forward = Callable[[Tensor, object], "tuple[Tensor, Tensor, object]"]
"""(tokens int64 (n,), what it returned last, None at first) -> (logits (n, vocabulary), final norms (n, width), keys
and values to be given next time)."""


class TorchModel:
    """A model of torch behind the same face; torch is imported when the first tokens are fed."""

    def __init__(self, forward: Forward, vocabulary: int, context: int) -> None:
        self.vocabulary = vocabulary
        self.context = context
        self._forward = forward
        self._kept: object = None

    def reset(self) -> None:
        """Forget what was fed."""
        self._kept = None

    def extend(self, tokens: npt.NDArray[np.int64]) -> Pass:
        """Feed more tokens."""
        torch = cast("_Torch", importlib.import_module("torch"))
        with torch.inference_mode(True):
            logits, hidden, self._kept = self._forward(torch.from_numpy(tokens), self._kept)
        return Pass(logits.float().cpu().numpy(), hidden.float().cpu().numpy(), np.zeros((0, 32), np.uint8))
