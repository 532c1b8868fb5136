"""Transformer arithmetic in integers alone: the same bits on every processor, so that it can be checked by equality.

Weights and activations are 8 bits wide, products 32, everything between them fixed point with FRACTION binary places.
exp and SiLU are tables of integers, square roots and divisions are floored. What is not elementary here is exactly
rounded by IEEE 754. NumPy alone: programs in a sandbox use this very file. Spec: specs/34-inference-proof.md.
"""

from __future__ import annotations

import decimal
import hashlib
import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bytes8 = npt.NDArray[np.int8]
Products = npt.NDArray[np.int32]
Floats = npt.NDArray[np.floating]
Multiply = Callable[[str, Bytes8], Products]
"""(name of a matrix, rows int8 (n, k)) -> rows times the matrix transposed, int32 (n, m)."""

FRACTION: Final = 12
"""Binary places of activations: 2^-12 is a sixteenth of what 8 bits of an activation of 1 resolve."""
ONE: Final = 1 << FRACTION
"""1.0 as a fixed point number."""
LIMIT: Final = 1 << 20
"""Activations are cut at ±256: every product below then fits 63 bits up to a width of 4096."""
SCALE_BITS: Final = 24
"""Binary places of a weight's scale."""
SCALE_MAX: Final = 1 << 22
"""Largest scale: a weight of ±32."""
BLOCK: Final = 1024
"""Products in one fp32 sum: 1024 × 128 × 128 = 2^24, up to which fp32 holds every integer."""
INT8_MAX: Final = 127
"""Activations and weights are symmetric."""
EXP_BITS: Final = 8
"""Binary places of the argument of the table of exp."""
EXP_SPAN: Final = 16
"""exp(-16) is 1e-7 and counts as nothing."""
EXP_ONE: Final = 1 << 16
"""exp(0) in the table."""
SILU_SPAN: Final = 8
"""Beyond ±8 SiLU is its argument, or nothing."""
SILU_STEP: Final = 4
"""Every 2^SILU_STEP-th argument is in the table."""


def multiply(rows: Bytes8, matrix: Bytes8) -> Products:
    """rows (n, k) times matrix (m, k) transposed, as int32 (n, m): the definition. k is at most 2^17."""
    product: Products = (rows.astype(np.int64) @ matrix.astype(np.int64).T).astype(np.int32)
    return product


def multiply_fast(rows: Bytes8, matrix: Bytes8) -> Products:
    """The same bits by the BLAS in fp32, BLOCK columns at a time: every partial sum is an integer below 2^24, in
    whatever order it is added up."""
    total = np.zeros((rows.shape[0], matrix.shape[0]), np.int32)
    for start in range(0, rows.shape[1], BLOCK):
        left = rows[:, start : start + BLOCK].astype(np.float32)
        total += (left @ matrix[:, start : start + BLOCK].astype(np.float32).T).astype(np.int32)
    return total


def quantise_weights(weights: Floats) -> tuple[Bytes8, npt.NDArray[np.int32]]:
    """(matrix int8, scale of each row): row ≈ int8 × scale / 2^SCALE_BITS. Division and rounding alone, so that equal
    weights become equal bytes everywhere. Raises ValueError unless all are finite and below 32."""
    exact = weights.astype(np.float64)
    largest = np.max(np.abs(exact), axis=-1, keepdims=True)
    scale = np.rint(largest * (1 << SCALE_BITS) / INT8_MAX)
    if not np.isfinite(exact).all() or not (scale < SCALE_MAX).all():
        raise ValueError("weights are finite and below 32 in magnitude")
    scale = np.maximum(scale, 1)
    matrix = np.clip(np.rint(exact * (1 << SCALE_BITS) / scale), -INT8_MAX, INT8_MAX)
    return matrix.astype(np.int8), scale[..., 0].astype(np.int32)


def fixed(weights: Floats) -> Ints:
    """Floats as fixed point numbers, exactly rounded."""
    return np.clip(np.rint(weights.astype(np.float64) * ONE), -LIMIT, LIMIT).astype(np.int64)


def quantise(flow: Ints) -> tuple[Bytes8, Ints]:
    """(int8 rows, largest magnitude of each row (n, 1)): row ≈ int8 × largest / 127, rounded half up."""
    largest = np.maximum(np.max(np.abs(flow), axis=-1, keepdims=True), 1)
    return ((flow * (2 * INT8_MAX) + largest) // (2 * largest)).astype(np.int8), largest


def requantise(products: Products, scale: npt.NDArray[np.int32], largest: Ints) -> Ints:
    """Products back to fixed point: products × scale × largest / (127 × 2^SCALE_BITS), floored."""
    scaled = (products.astype(np.int64) * scale.astype(np.int64)) >> 8
    flow = (scaled * largest) // (INT8_MAX << (SCALE_BITS - 8))
    return _cut(flow)


def root(squares: Ints) -> Ints:
    """Floored square roots of integers below 2^52. The float root is exactly rounded, so at most one off."""
    guess = np.sqrt(squares.astype(np.float64)).astype(np.int64)
    guess -= guess * guess > squares
    return guess + ((guess + 1) * (guess + 1) <= squares)


def rms_norm(flow: Ints) -> Ints:
    """Every row at a root mean square of one."""
    mean = np.sum(flow * flow, axis=-1, keepdims=True) // flow.shape[-1]
    return _cut((flow << FRACTION) // (root(mean) + 1))


def silu(flow: Ints) -> Ints:
    """x / (1 + exp(-x)) by table."""
    table = silu_table()
    place = (flow >> SILU_STEP) + len(table) // 2
    inside = table[np.clip(place, 0, len(table) - 1)]
    return np.where(place < 0, 0, np.where(place >= len(table), flow, inside))


def softmax_weights(scores: Ints, allowed: npt.NDArray[np.bool_]) -> Ints:
    """exp(score - largest allowed score) of the last axis in 2^-16, zero where not allowed."""
    table = exp_table()
    lowest = np.where(allowed, scores, np.min(scores, axis=-1, keepdims=True))
    below = np.max(lowest, axis=-1, keepdims=True) - scores
    place = np.clip(below >> (FRACTION - EXP_BITS), 0, len(table) - 1)
    return np.where(allowed, table[place], 0)


def attend(queries: Ints, keys: Ints, values: Ints, first: int) -> Ints:
    """Causal attention of queries (n, heads, size) at places `first`… over keys and values (length, heads, size):
    (n, heads × size)."""
    count, heads, size = queries.shape
    turn = root(np.array([ONE * ONE // size], np.int64))[0]
    scores = np.einsum("nhs,lhs->hnl", queries, keys)
    scores = ((scores >> FRACTION) * turn) >> FRACTION
    allowed = np.arange(len(keys))[None, :] <= np.arange(first, first + count)[:, None]
    weights = softmax_weights(scores, allowed[None])
    mixed = np.einsum("hnl,lhs->nhs", weights, values)
    seen: Ints = (mixed // np.sum(weights, axis=-1).T[:, :, None]).reshape(count, heads * size)
    return seen


@lru_cache(maxsize=1)
def exp_table() -> Ints:
    """exp(-i / 2^EXP_BITS) in 2^-16, from correctly rounded decimals; the last entry is 0."""
    with decimal.localcontext(decimal.Context(prec=30)):
        step = decimal.Decimal(1) / (1 << EXP_BITS)
        entries = [int((-i * step).exp() * EXP_ONE + decimal.Decimal("0.5")) for i in range(EXP_SPAN << EXP_BITS)]
    return np.array([*entries, 0], np.int64)


@lru_cache(maxsize=1)
def silu_table() -> Ints:
    """SiLU at every multiple of 2^SILU_STEP from -SILU_SPAN up, in fixed point."""
    half = SILU_SPAN << (FRACTION - SILU_STEP)
    with decimal.localcontext(decimal.Context(prec=30)):
        step = decimal.Decimal(1 << SILU_STEP)
        entries = [
            int((i * step / (1 + (-i * step / ONE).exp())).to_integral_value(decimal.ROUND_HALF_EVEN))
            for i in range(-half, half)
        ]
    return np.array(entries, np.int64)


class Network:
    """A transformer in integers, fed some tokens at a time; it remembers keys and values of those before.

    `weights`: `embed` and `place` (rows in fixed point), the scales of every matrix as `<name>.scale`, `heads`. The
    matrices themselves are behind `multiply`: who checks products instead of making them needs none."""

    def __init__(self, weights: Mapping[str, npt.NDArray[np.generic]], multiply: Multiply) -> None:
        self._weights = weights
        self._multiply = multiply
        self._embed, self._place = weights["embed"].astype(np.int64), weights["place"].astype(np.int64)
        self._heads = int(weights["heads"].astype(np.int64)[0])
        self._layers = sum(name.endswith(".qkv.scale") for name in weights)
        self.reset()

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return len(self._embed)

    @property
    def context(self) -> int:
        """Most tokens in a row."""
        return len(self._place)

    def reset(self) -> None:
        """Forget everything that was fed."""
        size = self._embed.shape[1] // self._heads
        self._seen = [np.zeros((2, 0, self._heads, size), np.int64) for _ in range(self._layers)]

    def extend(self, tokens: Ints) -> tuple[Ints, Ints]:
        """(logits (n, vocabulary) in 2^-16, final norm (n, width) in fixed point) for n more tokens.

        Raises IndexError for tokens outside the vocabulary, or beyond the context."""
        first = self._seen[0].shape[1]
        if not (tokens.ndim == 1 and len(tokens) and tokens.min() >= 0 and tokens.max() < self.vocabulary):
            raise IndexError("tokens are a row of numbers below the vocabulary's size")
        if first + len(tokens) > self.context:
            raise IndexError(f"{first + len(tokens)} tokens in a row, {self.context} are possible")
        flow = self._embed[tokens] + self._place[first : first + len(tokens)]
        for layer in range(self._layers):
            flow = _cut(flow + self._attention(f"layer{layer}", rms_norm(flow), layer, first))
            wide = silu(self._linear(f"layer{layer}.up", rms_norm(flow)))
            flow = _cut(flow + self._linear(f"layer{layer}.down", wide))
        hidden = rms_norm(flow)
        return self._linear("head", hidden) << 4, hidden

    def _attention(self, name: str, flow: Ints, layer: int, first: int) -> Ints:
        parts = self._linear(f"{name}.qkv", flow).reshape(len(flow), 3, self._heads, -1)
        kept = np.concatenate([self._seen[layer], parts[:, 1:].swapaxes(0, 1)], axis=1)
        self._seen[layer] = kept
        return self._linear(f"{name}.out", attend(parts[:, 0], kept[0], kept[1], first))

    def _linear(self, name: str, flow: Ints) -> Ints:
        rows, largest = quantise(flow)
        return requantise(self._multiply(name, rows), self._weights[f"{name}.scale"].astype(np.int32), largest)


def quantised(weights: Mapping[str, npt.NDArray[np.generic]]) -> dict[str, npt.NDArray[np.generic]]:
    """A transformer of floats (embed, place, layer<i>.{qkv,out,up,down}, head, heads) as one of integers: int8
    matrices and their scales. Raises ValueError where a weight is not finite or too large."""
    found: dict[str, npt.NDArray[np.generic]] = {"heads": weights["heads"].astype(np.int32)}
    for name, value in weights.items():
        if name in ("embed", "place"):
            found[name] = fixed(value.astype(np.float64)).astype(np.int32)
        elif name != "heads":
            found[name], found[f"{name}.scale"] = quantise_weights(value.astype(np.float64))
    return found


def leaf(token: int, products: Mapping[str, Products], logits: Ints) -> bytes:
    """What binds one token that was fed to all the integers behind it: a hash of the token, of the hash of each
    matrix's products (m,), names in order, and of the logits."""
    rows = b"".join(
        _hash(b"products", name.encode(), products[name].astype("<i4").tobytes()) for name in sorted(products)
    )
    return _hash(b"token", struct.pack("<q", token), _hash(b"layers", rows), logits.astype("<i8").tobytes())


def _cut(flow: Ints) -> Ints:
    """Activations within ±LIMIT."""
    return np.clip(flow, -LIMIT, LIMIT)


def _hash(domain: bytes, *parts: bytes) -> bytes:
    """SHA-256 over parts with their lengths."""
    return hashlib.sha256(
        b"shoal/1\0inference " + domain + b"\0" + b"".join(struct.pack("<Q", len(part)) + part for part in parts)
    ).digest()
