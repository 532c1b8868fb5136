"""The child that multiplies for a seeded benchmark: an order in, then a seed, then a beacon; a root and rows out.

It imports numpy and the verifier's own protocol, and nothing else of a node, so that any interpreter with PyTorch or
CuPy can be it: the node's own has neither. Lowest priority; it says `ready` when starting is over.
Spec: specs/41-benchmarks.md.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
from collections.abc import Callable
from typing import Final

import numpy as np

from verifier.gpu_challenge import BLOCK, Answer, Challenge, Int8, Int32, chosen, product

NICE: Final = 19
"""The lowest priority, as jobs have."""

CPU_SECONDS: Final = 180
"""Processor time that it may take, making matrices and hashing counted in."""

LINE_BYTES_MAX: Final = 4_096
"""Of an order, a seed or a beacon."""

Multiply = Callable[[Int8, Int8], Int32]


class UnableError(Exception):
    """What was asked for is not here."""


def main() -> int:
    """Answer one order on standard input. 0: rows were opened; 3: this interpreter cannot do it."""
    os.nice(NICE)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (min(CPU_SECONDS, hard) if hard > 0 else CPU_SECONDS, hard))
    order = json.loads(_line())
    try:
        multiply = product if order["kind"] == "cpu" else on_card(int(order["card"]))
    except UnableError as error:
        print(error, file=sys.stderr)
        return 3
    _say(b"ready\n")
    challenge = Challenge(bytes.fromhex(_line()), int(order["size"]), int(order["count"]))
    answer = answered(challenge, multiply)
    _say(answer.root.hex().encode() + b"\n")
    for leaf in chosen(challenge, answer.root, bytes.fromhex(_line())):
        row, path = answer.open(leaf)
        _say(row.astype("<i4").tobytes().hex().encode() + b" " + b"".join(path).hex().encode() + b"\n")
    return 0


def answered(challenge: Challenge, multiply: Multiply) -> Answer:
    """All products of a challenge, committed. A product is compared with this processor's in its first row: libraries
    have layouts and rounding modes in which they are not exact."""
    products = []
    for index in range(challenge.count):
        left, right = challenge.matrix(index, "a"), challenge.matrix(index, "b")
        whole = multiply(left, right)
        if multiply is not product and not np.array_equal(whole[:1], product(left[:1], right)):
            whole = product(left, right)
        products.append(whole)
    return Answer(challenge, products)


def on_card(card: int, device: str = "cuda") -> Multiply:
    """Products on a card, by whichever library is here, after one that warms it up. Raises `UnableError`."""
    for make in (_torch, _cupy):
        multiply = make(card, device)
        if multiply is not None:
            multiply(np.ones((1024, 1024), np.int8), np.ones((1024, 1024), np.int8))
            return multiply
    raise UnableError("neither PyTorch nor CuPy finds this card")


def _torch(card: int, device: str) -> Multiply | None:
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return None
    if device == "cuda" and not (torch.cuda.is_available() and card < torch.cuda.device_count()):
        return None
    place = torch.device(device, card)

    def multiply(left: Int8, right: Int8) -> Int32:
        a, b = torch.from_numpy(left).to(place), torch.from_numpy(right).to(place)
        try:
            whole = torch._int_mm(a, b)
        except RuntimeError:  # Cards before integer units for matrices: the float unit adds up blocks exactly.
            whole = torch.zeros((a.shape[0], b.shape[1]), dtype=torch.int32, device=place)
            for start in range(0, a.shape[1], BLOCK):
                part = a[:, start : start + BLOCK].float() @ b[start : start + BLOCK].float()
                whole += part.to(torch.int32)
        found: Int32 = whole.cpu().numpy()
        return found

    return multiply


def _cupy(card: int, device: str) -> Multiply | None:
    try:
        cupy = importlib.import_module("cupy")
        if device != "cuda" or card >= cupy.cuda.runtime.getDeviceCount():
            return None
    except (ImportError, RuntimeError):  # CUDARuntimeError is one: no driver.
        return None

    def multiply(left: Int8, right: Int8) -> Int32:
        with cupy.cuda.Device(card):
            a, b = cupy.asarray(left), cupy.asarray(right)
            whole = cupy.zeros((left.shape[0], right.shape[1]), cupy.int32)
            for start in range(0, left.shape[1], BLOCK):
                part = a[:, start : start + BLOCK].astype(cupy.float32) @ b[start : start + BLOCK].astype(cupy.float32)
                whole += part.astype(cupy.int32)
            found: Int32 = cupy.asnumpy(whole)
        return found

    return multiply


def _line() -> str:
    return sys.stdin.buffer.readline(LINE_BYTES_MAX).decode("ascii").strip()


def _say(text: bytes) -> None:
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
