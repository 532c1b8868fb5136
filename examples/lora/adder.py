"""A small transformer that reads a sum character by character and guesses the next one: two layers, 17,952 numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch.nn import functional as f

SIGNS = "0123456789+=."
LENGTH = 12
"""Characters of a record: `37+48=85....`."""
WIDTH = 32
HEADS = 4
LAYERS = 2

Weights = Mapping[str, torch.Tensor]


def shapes() -> dict[str, tuple[int, ...]]:
    """Every parameter's name and shape."""
    found: dict[str, tuple[int, ...]] = {"signs": (len(SIGNS), WIDTH), "places": (LENGTH, WIDTH)}
    for layer in range(LAYERS):
        at = f"layer{layer}."
        found |= {at + "norm1.gain": (WIDTH,), at + "norm1.bias": (WIDTH,)}
        for name in ("query", "key", "value", "out"):
            found |= {f"{at}{name}.weight": (WIDTH, WIDTH), f"{at}{name}.bias": (WIDTH,)}
        found |= {at + "norm2.gain": (WIDTH,), at + "norm2.bias": (WIDTH,)}
        found |= {at + "up.weight": (2 * WIDTH, WIDTH), at + "up.bias": (2 * WIDTH,)}
        found |= {at + "down.weight": (WIDTH, 2 * WIDTH), at + "down.bias": (WIDTH,)}
    return found | {"norm.gain": (WIDTH,), "norm.bias": (WIDTH,)}


def scores(weights: Weights, signs: torch.Tensor) -> torch.Tensor:
    """`signs`: (batch, length) numbers of characters. Returns (batch, length, characters)."""
    batch, length = signs.shape
    seen = weights["signs"][signs] + weights["places"][:length]
    hidden = torch.triu(torch.full((length, length), -math.inf, dtype=seen.dtype), 1)
    for layer in range(LAYERS):
        at = f"layer{layer}."
        normed = f.layer_norm(seen, (WIDTH,), weights[at + "norm1.gain"], weights[at + "norm1.bias"])
        heads = {
            name: linear(weights, at + name, normed).reshape(batch, length, HEADS, -1).transpose(1, 2)
            for name in ("query", "key", "value")
        }
        looks = heads["query"] @ heads["key"].transpose(2, 3) / math.sqrt(WIDTH // HEADS) + hidden
        found = (looks.softmax(-1) @ heads["value"]).transpose(1, 2).reshape(batch, length, WIDTH)
        seen = seen + linear(weights, at + "out", found)
        normed = f.layer_norm(seen, (WIDTH,), weights[at + "norm2.gain"], weights[at + "norm2.bias"])
        seen = seen + linear(weights, at + "down", f.gelu(linear(weights, at + "up", normed)))
    return f.layer_norm(seen, (WIDTH,), weights["norm.gain"], weights["norm.bias"]) @ weights["signs"].T


def linear(weights: Weights, name: str, seen: torch.Tensor) -> torch.Tensor:
    """x W' + b."""
    return f.linear(seen, weights[name + ".weight"], weights[name + ".bias"])


def loss(weights: Weights, signs: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of every next character of (batch, LENGTH) records."""
    guesses = scores(weights, signs[:, :-1])
    return f.cross_entropy(guesses.reshape(-1, len(SIGNS)), signs[:, 1:].reshape(-1))


def record(a: int, b: int) -> bytes:
    """One record: the numbers of the characters of a sum.

    >>> "".join(SIGNS[number] for number in record(37, 48))
    '37+48=85....'
    """
    return bytes(SIGNS.index(sign) for sign in f"{a}+{b}={a + b}".ljust(LENGTH, "."))
