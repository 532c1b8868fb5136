"""A transformer in integers for unit programs: every answer has one right value, whatever machine computes it.

`int8.py`, `gumbel.py` and `fingerprint.py` beside this module are the verifier's own files, so that a sandbox computes
by the letter what an auditor checks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from . import int8
from .model import Pass
from .tensors import Array, decode

WIDTH, HEADS, LAYERS, VOCABULARY, CONTEXT = 256, 4, 2, 512, 64
"""Of the network whose digest tells whether machines agree: wide enough for a BLAS to use its threads and blocks."""


class Int8Model:
    """An `int8.Network` that keeps the products of each token and makes its leaf of them."""

    def __init__(self, weights: Mapping[str, Array], threads: int = 1) -> None:
        """`weights` as `int8.quantised` returns them. `threads` compute one product together; the bits are the same."""
        self._matrices = {
            name: value.astype(np.int8)
            for name, value in weights.items()
            if value.dtype == np.int8
        }  # fmt: skip
        self._network = int8.Network(weights, self._multiply)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads)
        self.products: dict[str, int8.Products] = {}
        """Of the last pass: name of a matrix -> int32 (tokens, rows)."""

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return self._network.vocabulary

    @property
    def context(self) -> int:
        """Most tokens in a row."""
        return self._network.context

    def reset(self) -> None:
        """Forget what was fed."""
        self._network.reset()

    def extend(self, tokens: npt.NDArray[np.int64]) -> Pass:
        """Feed more tokens. Raises IndexError for tokens that do not exist, or too many."""
        self.products = {}
        logits, hidden = self._network.extend(tokens)
        leaves = [
            int8.leaf(int(token), {name: product[row] for name, product in self.products.items()}, logits[row])
            for row, token in enumerate(tokens)
        ]
        return Pass(logits, hidden, np.frombuffer(b"".join(leaves), np.uint8).reshape(-1, 32))

    def _multiply(self, name: str, rows: int8.Bytes8) -> int8.Products:
        matrix = self._matrices[name]
        if self._threads == 1:
            product = int8.multiply_fast(rows, matrix)
        else:
            bands = np.array_split(matrix, self._threads)
            product = np.concatenate(list(self._pool.map(lambda band: int8.multiply_fast(rows, band), bands)), axis=1)
        self.products[name] = product
        return product


def load(path: Path) -> Int8Model:
    """A model from a file of canonical tensors: floats, which are quantised the same everywhere, or integers."""
    weights = decode(path.read_bytes())
    if isinstance(weights, bytes):
        raise ValueError(f"{path.name} holds no weights")
    return Int8Model(weights if "head.scale" in weights else int8.quantised(weights))


def weights_from_seed(seed: bytes) -> dict[str, Array]:
    """Integer weights drawn from SHAKE-256, for a network that answers nonsense, the same everywhere."""
    shapes = {"head": (VOCABULARY, WIDTH)}
    for layer in range(LAYERS):
        shapes |= {f"layer{layer}.qkv": (3 * WIDTH, WIDTH), f"layer{layer}.out": (WIDTH, WIDTH)}
        shapes |= {f"layer{layer}.up": (4 * WIDTH, WIDTH), f"layer{layer}.down": (WIDTH, 4 * WIDTH)}
    found: dict[str, Array] = {"heads": np.array([HEADS], np.int32)}
    for name, shape in shapes.items():
        found[name] = _drawn(seed, name, shape)
        found[f"{name}.scale"] = np.full(shape[0], 1 << 14, np.int32)
    for name, rows in (("embed", VOCABULARY), ("place", CONTEXT)):
        found[name] = _drawn(seed, name, (rows, WIDTH)).astype(np.int32) * 32
    return found


def bitwise_run(threads: int = 1) -> str:
    """Hex digest of a prefill and some decoded tokens with `threads`: equal on all machines, or something is wrong."""
    model = Int8Model(weights_from_seed(b"bitwise"), threads)
    tokens = np.arange(40, dtype=np.int64) * 11 % VOCABULARY
    digest = hashlib.sha256(model.extend(tokens).leaves.tobytes())
    for _ in range(8):
        step = model.extend(tokens[-1:])
        digest.update(step.leaves.tobytes())
        tokens = np.append(tokens, np.argmax(step.logits[-1]))
    return digest.hexdigest()


def bitwise_digests() -> dict[str, str]:
    """`bitwise_run` with several numbers of threads, by name."""
    return {f"{threads} threads": bitwise_run(threads) for threads in (1, 2, 4)}


def _drawn(seed: bytes, name: str, shape: tuple[int, int]) -> Array:
    """int8 numbers of -127 to 127; -128 becomes 0."""
    stream = hashlib.shake_256(b"shoal/1\0weights\0" + name.encode() + b"\0" + seed).digest(shape[0] * shape[1])
    drawn = np.frombuffer(stream, np.int8).reshape(shape)
    return np.where(drawn == -128, 0, drawn).astype(np.int8)
