"""How many tokens honest and cheating providers miss, what their fingerprints are like, and what a check costs.

OMP_NUM_THREADS=1 python -m benchmarks.inference_proof [--requests N]

Prints the tables of docs/inference-proof.md. Everything is drawn from fixed seeds; only the times differ between runs.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple, cast

import numpy as np

from node.guest.work import float_model, int8_model
from node.guest.work.float_model import FloatModel
from node.guest.work.gumbel import Sampling
from node.guest.work.inference import InferenceWork, Options
from node.guest.work.int8_model import Int8Model
from verifier import fingerprint, freivalds, inference, int8
from verifier.fingerprint import Fingerprint
from verifier.tensors import Tensors

ROOT: Final = Path(__file__).parents[1]
WEIGHTS: Final = ROOT / "examples" / "inference-units"
STOP: Final = 95
OPTIONS: Final = Options(STOP, 120, 1)
HONEST: Final = Sampling(0.8)
SEED: Final = bytes(32)
FIRST: Final = "The A Every No Each This Its One Another Any Some That Their Whose Both Two Which What Where When"
SECOND: Final = (
    "provider peer block lease job chunk shard ledger node steward "
    "auditor renter claim beacon snapshot wire key message byte price"
)


class Row(NamedTuple):
    """One provider beside one reference."""

    title: str
    precision: str
    size: str = "large"
    sampling: Sampling = HONEST
    seed: bytes = SEED
    reference: str = "fp32"


ROWS: Final = (
    Row("the same", "fp32"),
    Row("fp64", "fp64"),
    Row("int8 weights", "int8"),
    Row("bf16", "bf16"),
    Row("int4 weights", "int4"),
    Row("temperature -10 %", "fp32", sampling=Sampling(0.72)),
    Row("temperature +10 %", "fp32", sampling=Sampling(0.88)),
    Row("top-p 0.9 unasked", "fp32", sampling=Sampling(0.8, 0, 0.9)),
    Row("a smaller model", "fp32", "small"),
    Row("a seed of its own", "fp32", seed=b"w" * 32),
    Row("the same", "bf16", reference="bf16"),
    Row("fp32", "fp32", reference="bf16"),
    Row("int8 weights", "int8", reference="bf16"),
    Row("temperature +10 %", "bf16", sampling=Sampling(0.88), reference="bf16"),
)


def prompts(count: int) -> list[list[int]]:
    """Beginnings of sentences, at most 400 different ones."""
    both = [f"{first} {second} " for first in FIRST.split() for second in SECOND.split()]
    return [[ord(character) - 32 for character in text] for text in random.Random(1).sample(both, count)]


def work(model: FloatModel | Int8Model, asked: list[list[int]], sampling: Sampling, seed: bytes) -> InferenceWork:
    """One request for each unit."""
    made = InferenceWork(model, asked, sampling, OPTIONS)
    made.seed = seed
    return made


def measured(row: Row, asked: list[list[int]]) -> str:
    """A line of the first table, from every request by itself."""
    provider = work(float_model.load(WEIGHTS / f"{row.size}.safetensors", row.precision), asked, row.sampling, row.seed)
    auditor = work(float_model.load(WEIGHTS / "large.safetensors", row.reference), asked, HONEST, SEED)
    margins, alike, shares = [], [], []
    state = provider.first()
    for index in range(provider.units):
        after, told = provider.step(state, index)
        if index:
            _, own = auditor.replay(state, index, b"")
            margins.append(own["margins"].astype(np.float64))
            seen = inference.evidence(margins[-1])
            shares.append(seen.misses / max(1, seen.tokens))
            alike.append(fingerprint.compare(_print(told), _print(own)))
        state = after
    every = np.concatenate(margins)
    seen = inference.evidence(every)
    return (
        f"| {row.reference} | {row.title} | {len(every):,} | {np.mean(every == 0):.4f} "
        f"| {seen.misses / seen.tokens:.4f} "
        f"| {max(shares):.3f} | {np.minimum(every, 4).mean():.4f} | {min(one.equal for one in alike):.2f} "
        f"| {median(one.equal for one in alike):.2f} | {max(one.mantissa_mean for one in alike):.1f} |"
    )


def seconds(task: Callable[[], object], times: int = 7) -> float:
    """Median time of a task."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        task()
        taken.append(time.perf_counter() - start)
    return median(taken)


def costs(asked: list[list[int]]) -> list[str]:
    """Lines of the second table: answering, telling, replaying in one pass, auditing products."""
    lines = []
    exact = int8_model.load(WEIGHTS / "large.safetensors")
    for name, model in (("fp32", float_model.load(WEIGHTS / "large.safetensors")), ("integers", exact)):
        made = InferenceWork(model, asked[:1], HONEST, Options(-1, 128, 1))
        state, _ = made.step(made.first(), 0)
        answer = seconds(partial(made.step, made.first(), 0), 3)
        replay = seconds(partial(made.replay, state, 1, b""))
        tell = seconds(partial(fingerprint.take, np.random.default_rng(1).normal(0, 1, (143, 64))))
        lines.append(f"| {name} | {1e3 * answer:.1f} ms | {1e3 * replay:.1f} ms | {1e3 * tell:.2f} ms |")
    return lines


def products() -> list[str]:
    """Lines of the third table: one product of a large matrix, made and checked."""
    chance = np.random.default_rng(1)
    lines = []
    for shape, count in (((4096, 4096), 1), ((14336, 4096), 1), ((14336, 4096), 64)):
        matrix = chance.integers(-127, 128, shape).astype(np.int8)
        rows = chance.integers(-127, 128, (count, shape[1])).astype(np.int8)
        made = int8.multiply_fast(rows, matrix)
        whole = matrix.astype(np.float32)
        key = freivalds.Key(b"secret", 1, {"w": matrix})
        again = seconds(partial(np.matmul, rows.astype(np.float32), whole.T))
        check = seconds(partial(key.is_product, "w", rows, made))
        lines.append(
            f"| {shape[0]} × {shape[1]} | {count} | {1e3 * again:.2f} ms | {1e3 * check:.2f} ms | {again / check:.0f} |"
        )
    return lines


def main(words: Sequence[str]) -> int:
    """All tables; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=240)
    options = parser.parse_args(words)
    asked = prompts(options.requests)
    print(
        "| reference | provider | tokens | exact | missed | worst request | margin | least alike | median | mantissa |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in ROWS:
        print(measured(row, asked), flush=True)
    print(*costs(asked), *products(), sep="\n")
    return 0


def _print(aux: Tensors) -> Fingerprint:
    return Fingerprint(cast("fingerprint.Places", aux["places"]), cast("fingerprint.Values", aux["values"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
