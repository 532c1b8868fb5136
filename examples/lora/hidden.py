"""The loss on sums that no provider sees: the transformer of adder.py once more, forward only and without torch.

Runs on the renter's machine. The records are drawn there by chance, among the sums that are not in records.bin; they
are in no job file, and their digest can be.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

SIGNS: Final = "0123456789+=."
LENGTH: Final = 12
"""Characters of a record, as in adder.py."""
HEADS: Final = 4
EPSILON: Final = 1e-5
"""Of the norms, torch's default."""
COUNT: Final = 512
"""Hidden records: the mean of so many losses is good to a twentieth of their spread."""

Floats = npt.NDArray[np.float64]
Weights = Mapping[str, npt.NDArray[np.generic]]
_erf: Final = np.vectorize(math.erf, otypes=[np.float64])


def drawn(known: bytes) -> bytes:
    """COUNT different two-digit sums that are not among the known records."""
    seen = {known[at : at + LENGTH] for at in range(0, len(known), LENGTH)}
    fresh = sorted(one for a in range(100) for b in range(100) if (one := record(a, b)) not in seen)
    return b"".join(secrets.SystemRandom().sample(fresh, COUNT))


def record(a: int, b: int) -> bytes:
    """One sum, as in adder.py.

    >>> "".join(SIGNS[number] for number in record(37, 48))
    '37+48=85....'
    """
    return bytes(SIGNS.index(sign) for sign in f"{a}+{b}={a + b}".ljust(LENGTH, "."))


def read(path: Path) -> npt.NDArray[np.int64]:
    """(records, LENGTH) numbers of characters. Raises ValueError for a file of another form."""
    signs = np.frombuffer(path.read_bytes(), np.uint8).astype(np.int64)
    if not signs.size or signs.size % LENGTH or signs.max() >= len(SIGNS):
        raise ValueError(f"{path} holds no records of {LENGTH} characters")
    return signs.reshape(-1, LENGTH)


def loss(weights: Weights, records: npt.NDArray[np.int64]) -> float:
    """Mean cross-entropy of every next character: adder.loss in 64 bits."""
    seen, wanted = records[:, :-1], records[:, 1:]
    with np.errstate(all="ignore"):
        guesses = _scores({name: np.asarray(value, np.float64) for name, value in weights.items()}, seen)
        shifted = guesses - guesses.max(-1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        return float(-np.take_along_axis(logs, wanted[..., None], -1).mean())


def _scores(weights: Mapping[str, Floats], signs: npt.NDArray[np.int64]) -> Floats:
    batch, length = signs.shape
    seen = weights["signs"][signs] + weights["places"][:length]
    width = seen.shape[-1]
    future = np.triu(np.full((length, length), -math.inf), 1)
    layers = sum(name.endswith(".query.weight") for name in weights)
    for at in (f"layer{layer}." for layer in range(layers)):
        normed = _normed(weights, at + "norm1", seen)
        query, key, value = (
            _linear(weights, at + name, normed).reshape(batch, length, HEADS, -1).transpose(0, 2, 1, 3)
            for name in ("query", "key", "value")
        )
        looks = np.exp(_lowered(query @ key.transpose(0, 1, 3, 2) / math.sqrt(width // HEADS) + future))
        found = (looks / looks.sum(-1, keepdims=True)) @ value
        seen = seen + _linear(weights, at + "out", found.transpose(0, 2, 1, 3).reshape(batch, length, width))
        up = _linear(weights, at + "up", _normed(weights, at + "norm2", seen))
        seen = seen + _linear(weights, at + "down", up * (1 + _erf(up / math.sqrt(2))) / 2)
    scores: Floats = _normed(weights, "norm", seen) @ weights["signs"].T
    return scores


def _lowered(looks: Floats) -> Floats:
    lowered: Floats = looks - looks.max(-1, keepdims=True)
    return lowered


def _linear(weights: Mapping[str, Floats], name: str, seen: Floats) -> Floats:
    return seen @ weights[name + ".weight"].T + weights[name + ".bias"]


def _normed(weights: Mapping[str, Floats], name: str, seen: Floats) -> Floats:
    apart = seen - seen.mean(-1, keepdims=True)
    spread = np.sqrt(np.square(apart).mean(-1, keepdims=True) + EPSILON)
    return apart / spread * weights[name + ".gain"] + weights[name + ".bias"]
