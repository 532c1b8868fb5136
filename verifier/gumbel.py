"""Sampling that a stranger can repeat: the chance in it comes from a seed, a request, a place and nothing else.

    token = argmax(logits / temperature + G),   G = -ln(-ln u),   u from SHAKE-256(seed, request, place)

draws from the softmax of the logits, and whoever knows the seed and has the model knows which token comes. A token that
another model drew stands out by its margin. NumPy alone: programs in a sandbox use this very file.
Spec: specs/34-inference-proof.md. After Token-DiFR, arXiv 2511.20621.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint32]

MARGIN_MAX: Final = 4.0
"""Nats at which a margin is cut: a token that top-p left out is infinitely far, and one such token must not decide."""
WORD_BITS: Final = 32
"""Bits of one draw."""
NOISE_BITS: Final = 16
"""Binary places of integer noise, logits and temperatures."""
LN2: Final = 45_426
"""ln 2 in 2^-16, rounded."""
LOG_STEPS: Final = 30
"""Binary places of an integer logarithm."""
LN_LN2: Final = -25_791_053_946_220
"""ln(ln 2) in 2^-16 × 2^-LOG_STEPS: what turns the logarithm of bits into one of nats."""


class Sampling(NamedTuple):
    """How tokens are drawn; part of the job."""

    temperature: float = 1.0
    """0: always the likeliest token, no chance."""
    top_k: int = 0
    """Only so many of the likeliest tokens; 0: all."""
    top_p: float = 1.0
    """Only the likeliest tokens that together reach this probability."""


def words(seed: bytes, request: int, place: int, count: int) -> Words:
    """One draw of 32 bits for every token of the vocabulary."""
    key = b"shoal/1\0gumbel\0" + struct.pack("<IQQ", len(seed), request, place) + seed
    return np.frombuffer(hashlib.shake_256(key).digest(4 * count), "<u4").astype(np.uint32)


def noise(draws: Words) -> Floats:
    """Standard Gumbel noise: u = (draw + 1/2) / 2^32 is never 0 or 1."""
    uniform = (draws.astype(np.float64) + 0.5) / float(1 << WORD_BITS)
    gumbel: Floats = -np.log(-np.log(uniform))
    return gumbel


def scores(logits: npt.NDArray[np.floating], gumbel: Floats, sampling: Sampling) -> Floats:
    """What the drawn token is the largest of, in fp64; -inf for tokens that top-k and top-p leave out."""
    exact = logits.astype(np.float64)
    if sampling.temperature <= 0:
        return exact
    scaled: Floats = exact / sampling.temperature
    return np.where(allowed(scaled, sampling), scaled + gumbel, -np.inf)


def allowed(scaled: Floats, sampling: Sampling) -> npt.NDArray[np.bool_]:
    """Which tokens may be drawn. Equal logits are in or out together at top-k; the likeliest is always in."""
    keep = np.ones(len(scaled), np.bool_)
    if 0 < sampling.top_k < len(scaled):
        keep &= scaled >= np.partition(scaled, -sampling.top_k)[-sampling.top_k]
    if sampling.top_p < 1:
        order = np.argsort(-scaled, kind="stable")
        mass = np.exp(scaled[order] - scaled[order[0]]) * keep[order]
        before = np.cumsum(mass) - mass
        keep[order[before >= sampling.top_p * mass.sum()]] = False
        keep[order[0]] = True
    return keep


def margin(found: Floats, token: int) -> float:
    """How far the token is from the one that should have been drawn: 0 for that one itself, at most MARGIN_MAX."""
    return min(MARGIN_MAX, float(np.max(found) - found[token]))


def integer_noise(draws: Words) -> Ints:
    """Gumbel noise in 2^-16 by integer logarithms: equal bits everywhere."""
    spread = (WORD_BITS + 1 << LOG_STEPS) - log2(2 * draws.astype(np.uint64) + 1)
    nats = np.maximum(spread, 1)
    return -((log2(nats.astype(np.uint64)) - (LOG_STEPS << LOG_STEPS)) * LN2 + LN_LN2 >> LOG_STEPS)


def integer_scores(logits: Ints, gumbel: Ints, temperature: int, top_k: int) -> Ints:
    """As `scores`, all in 2^-16; tokens that are left out have the least of all numbers."""
    if temperature <= 0:
        return logits
    found = (logits << NOISE_BITS) // temperature + gumbel
    if 0 < top_k < len(logits):
        found[logits < np.partition(logits, -top_k)[-top_k]] = np.iinfo(np.int64).min
    return found


def log2(values: npt.NDArray[np.uint64]) -> Ints:
    """Binary logarithms of positive integers below 2^53, in 2^-LOG_STEPS, floored: one place per squaring.

    >>> [float(x) / 2**30 for x in log2(np.array([1, 2, 1024], np.uint64))]
    [0.0, 1.0, 10.0]
    """
    whole = np.frexp(values.astype(np.float64))[1].astype(np.int64) - 1
    one = np.uint64(31)
    rest = np.where(
        whole > 31,
        values >> np.maximum(whole - 31, 0).astype(np.uint64),
        values << np.maximum(31 - whole, 0).astype(np.uint64),
    )
    fraction = np.zeros(values.shape, np.int64)
    for _ in range(LOG_STEPS):
        rest = rest * rest >> one
        carry = rest >> np.uint64(32)
        rest = rest >> carry
        fraction = fraction * 2 + carry.astype(np.int64)
    return (whole << LOG_STEPS) + fraction
