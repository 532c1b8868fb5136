"""TOPLOC's own package beside `verifier/fingerprint.py` on the same activations; run by a Python that has `toploc`.

Such a Python has torch, setuptools and, since the wheel wants another torch, the package from source:

    pip install --no-build-isolation --no-binary toploc --no-deps toploc==0.1.6

Prints one object of JSON. What accepts in TOPLOC is what its paper publishes: at least 90 of 128 exponents equal, their
mantissas apart by 10 in the mean and 8 in the median at most.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import toploc  # type: ignore[import-not-found]
import torch  # type: ignore[import-not-found]

from node.guest.work import float_model
from verifier import fingerprint

WEIGHTS: Final = Path(__file__).parents[1] / "examples" / "inference-units"
TEXT: Final = (
    "The provider keeps every state and commits to all of them. An auditor who gets one computes the next one."
)
WIDTH: Final = 4096
TOKENS: Final = 256
KEPT: Final = 128
STRIDE: Final = 32
EXPONENTS_MIN: Final = 90
MEAN_MAX: Final = 10.0
MEDIAN_MAX: Final = 8.0

BOUNDS: Final = (fingerprint.BOUNDS["fp32"], fingerprint.BOUNDS["bf16"])
"""Of jobs that compute in fp32, and in bf16."""

Rows = npt.NDArray[np.float32]


def theirs(rows: Rows) -> list[bytes]:
    """Their proofs of a prompt's activations, all read at once, one for each 32 tokens."""
    tensor = torch.from_numpy(rows).to(torch.bfloat16)
    parts = [tensor[start:end].reshape(1, -1) for start, end in fingerprint.spans(len(rows))]
    return [proof for part in parts for proof in toploc.build_proofs_bytes([part], STRIDE, KEPT)]


def they_accept(rows: Rows, proofs: list[bytes]) -> bool:
    """Whether their package finds these activations in the proofs."""
    tensor = torch.from_numpy(rows).to(torch.bfloat16)
    parts = [tensor[start:end].reshape(1, -1) for start, end in fingerprint.spans(len(rows))]
    found = [
        one
        for part, proof in zip(parts, proofs, strict=True)
        for one in toploc.verify_proofs_bytes([part], [proof], STRIDE, KEPT)
    ]
    return all(
        KEPT - one.exp_mismatches >= EXPONENTS_MIN
        and one.mant_err_mean <= MEAN_MAX
        and one.mant_err_median <= MEDIAN_MAX
        for one in found
    )


def activations(size: str, precision: str, text: str = TEXT) -> Rows:
    """Final norms of the toy model on a text."""
    model = float_model.load(WEIGHTS / f"{size}.safetensors", precision)
    model.reset()
    hidden = model.extend(np.array([ord(character) - 32 for character in text])).hidden
    return np.asarray(hidden, np.float32)


def cpu(task: Callable[[], object], times: int = 9) -> float:
    """Median CPU time of a task, s."""
    taken = []
    for _ in range(times):
        began = time.process_time()
        task()
        taken.append(time.process_time() - began)
    return float(np.median(taken))


def main() -> int:
    """Measure; the exit status."""
    torch.set_num_threads(1)
    large = np.random.default_rng(1).standard_t(4, (TOKENS, WIDTH)).astype(np.float32)
    chunks = TOKENS // STRIDE
    proofs, mine = theirs(large), fingerprint.take(large)
    answer: dict[str, object] = {
        "bytes": len(proofs[0]),
        "own_bytes": (mine.places.nbytes + mine.values.nbytes) // chunks,
        "make": cpu(lambda: theirs(large)) / chunks,
        "own_make": cpu(lambda: fingerprint.take(large)) / chunks,
        "check": cpu(lambda: they_accept(large, proofs)) / chunks,
        "own_check": cpu(lambda: fingerprint.compare(mine, fingerprint.take(large))) / chunks,
    }
    honest = activations("large", "fp32")
    cases = {
        "the same": honest,
        "bf16": activations("large", "bf16"),
        "int8 weights": activations("large", "int8"),
        "int4 weights": activations("large", "int4"),
        "a letter changed": activations("large", "fp32", "t" + TEXT[1:]),
        "all signs turned": -honest,
    }
    own = fingerprint.take(honest)
    answer["accepted"] = {
        name: [
            they_accept(honest, theirs(rows)),
            *(fingerprint.compare(fingerprint.take(rows), own).is_within(bounds) for bounds in BOUNDS),
        ]
        for name, rows in cases.items()
    }
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
