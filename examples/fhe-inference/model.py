"""The model that answers on encrypted inputs: linear, 64 inputs, 4 classes, weights drawn from SHAKE-256."""

from __future__ import annotations

import hashlib

INPUTS, CLASSES = 64, 4


def weights(name: str, count: int) -> list[float]:
    """Multiples of 1/16 between -1/2 and 1/2."""
    return [(byte % 17 - 8) / 16 for byte in hashlib.shake_256(name.encode()).digest(count)]


MATRIX = [weights(f"row {row}", CLASSES) for row in range(INPUTS)]
BIAS = weights("bias", CLASSES)


def answer(inputs: list[float]) -> list[float]:
    """In the clear: what the renter knows of a canary."""
    return [sum(x * row[i] for x, row in zip(inputs, MATRIX, strict=True)) + BIAS[i] for i in range(CLASSES)]
