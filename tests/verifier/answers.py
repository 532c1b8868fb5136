"""Answers of small trained transformers, as providers of all sorts give them, and what an auditor makes of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from node.guest.work import float_model
from node.guest.work.float_model import FloatModel
from node.guest.work.gumbel import Sampling
from node.guest.work.inference import InferenceWork, Options
from node.guest.work.int8_model import Int8Model
from protocol.proof import Tolerance
from verifier import inference, int8
from verifier.score import Comparison
from verifier.tensors import Tensors, decode, encode

WEIGHTS: Final = Path(__file__).parents[2] / "examples" / "inference-units"
STOP: Final = 95
PROMPTS: Final = (
    "The provider ", "A peer ", "Every block ", "| name | ", "Who is ", "When a lease ", "The steward ", "Nobody ",
    "A validator ", "What a job ", "Each shard ", "The ledger ", "If the node ", "Its bytes ", "Two of three ",
    "The beacon ", "An auditor ", "Bytes of ", "It waits ", "A snapshot ", "Time is ", "Money ", "The wire ", "Keys ",
)  # fmt: skip
SAMPLING: Final = Sampling(0.8)
SEED: Final = b"s" * 32
TOLERANCE: Final = Tolerance(t_ok=2_000_000_000, t_bad=11_000_000_000, profile="fp32/prose")
"""Misses in 2 or 11 of 1,000 tokens; the calibration is in docs/inference-proof.md."""

ALL: Final = Options(STOP, 120, len(PROMPTS))
"""All prompts in one unit: about 1,400 tokens."""


def tokens_of(text: str) -> list[int]:
    """Characters as the models' tokens."""
    return [STOP if character == "\n" else ord(character) - 32 for character in text]


@cache
def floats(size: str = "large", precision: str = "fp32") -> FloatModel:
    return float_model.load(WEIGHTS / f"{size}.safetensors", precision)


@cache
def integer_weights() -> Tensors:
    return int8.quantised(decode((WEIGHTS / "large.safetensors").read_bytes()))


@cache
def integers() -> Int8Model:
    return Int8Model(integer_weights())


def work(
    model: FloatModel | Int8Model,
    sampling: Sampling = SAMPLING,
    seed: bytes = SEED,
    prompts: tuple[str, ...] = PROMPTS,
    options: Options = ALL,
) -> InferenceWork:
    """One batch: unit 1 tells about the answers to all prompts."""
    made = InferenceWork(model, [tokens_of(prompt) for prompt in prompts], sampling, options)
    made.seed = seed
    return made


def answered(by: InferenceWork) -> tuple[Tensors, Tensors]:
    """(state 1, what unit 1 tells), through their bytes as they travel."""
    state, _ = by.step(by.first(), 0)
    sent = encode(state if not isinstance(state, bytes) else {})
    _, told = by.step(dict(decode(sent)), 1)
    return decode(sent), decode(encode(dict(told)))


@cache
def honest() -> tuple[Tensors, Tensors]:
    """What an honest provider answers in fp32."""
    return answered(work(floats()))


def replayed(state: Tensors, by: InferenceWork) -> Tensors:
    """What an auditor tells about answers that it was shown."""
    _, told = by.replay(dict(state), 1, b"")
    return decode(encode(dict(told)))


def judged(state: Tensors, told: Tensors, reference: InferenceWork, tolerance: Tolerance = TOLERANCE) -> Comparison:
    """An auditor with the reference replays and the comparison decides."""
    return inference.compare(state, None, None, told, replayed(state, reference), tolerance)


def misses(state: Tensors, reference: InferenceWork) -> float:
    """Share of tokens that are not what the reference draws."""
    seen = inference.evidence(replayed(state, reference)["margins"].astype(np.float64))
    return seen.misses / seen.tokens
