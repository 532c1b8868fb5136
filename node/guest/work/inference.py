"""Inference in units that anybody can check: some requests each, and answers that have one right value, or nearly so.

    import shoal_work
    from shoal_work import inference, int8_model

    shoal_work.run(inference.InferenceWork(int8_model.load(path), prompts, inference.Sampling(0.8, top_k=40)))

The chance in the answers comes from the job's seed, the request's number and the token's place, so a provider cannot
draw until it likes the answer. State i + 1 holds the answers to the i-th batch of requests. Unit i + 1 tells how they
came about, their fingerprint; unit 0 tells nothing, and a job of n batches has n + 1 units. A replay feeds prompts and
answers to the model in one pass each, which takes a fraction of the time that the answers took, and says how far each
token is from the one that should have come.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from . import fingerprint, gumbel, int8_model
from .gumbel import Sampling
from .model import Model, Pass
from .tensors import Array, State, encode
from .work import Aux, Work

__all__ = ["InferenceWork", "Model", "Options", "Pass", "Sampling", "bitwise_run"]


class Options(NamedTuple):
    """When an answer ends, and how many are one unit."""

    stop: int = -1
    """The token that ends an answer and belongs to it."""
    longest: int = 128
    """Tokens of one answer at most."""
    together: int = 1
    """Requests of one unit. A unit of a few hundred tokens is enough to tell a mild cheat."""


ONE_EACH = Options()

NOISE_PLACES = 16
"""Places whose noise is made together: 16 MiB for a vocabulary of 128,000."""


class InferenceWork(Work):
    """Requests with their prompts as tokens."""

    def __init__(
        self, model: Model, prompts: Sequence[Sequence[int]], sampling: Sampling, options: Options = ONE_EACH
    ) -> None:
        """The job's `units` is one more than the batches of `options.together` prompts."""
        self._model = model
        self._prompts = [np.array(prompt, np.int64) for prompt in prompts]
        self._sampling = sampling
        self._options = options
        self._answers: dict[int, State] = {}
        self._told: dict[int, Aux] = {}
        self._drawn: tuple[tuple[int, int], Array] = ((-1, -1), np.zeros(0))
        self.units = self._batches + 1

    def first(self) -> State:
        """No answer yet."""
        return {"tokens": np.zeros(0, np.int32), "ends": np.zeros(0, np.int32), "prompt": np.zeros(32, np.uint8)}

    def input(self, index: int) -> bytes:
        """The requests that unit `index` tells about and answers, with everything that decides about their answers."""
        return b"".join(self._requests(batch) for batch in (index - 1, index) if 0 <= batch < self._batches)

    def step(self, state: State, index: int) -> tuple[State, Aux]:
        """Tell how the answers in `state` came about, and answer the next batch."""
        told = self._told.pop(index, None)
        if told is None:  # Not the process that answered: it went on from a snapshot.
            told = self._look(state, index - 1)[0] if index else {}
        if index:
            self._answers[index - 1] = state
        if index < self._batches:
            answers, self._told[index + 1] = self._answer(index)
            return answers, told
        digests = [hashlib.sha256(encode(self._answers_to(batch))).digest() for batch in range(self._batches)]
        return {"answers": np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)}, told

    def replay(self, state: State, index: int, seed: bytes) -> tuple[None, Aux]:
        """One pass over each prompt and answer: the fingerprint again, margins, and how likely the ends were.

        An exact model says what the provider said, to the last bit, unless something is wrong. Answers that are none
        are said to be none: they must not end the audit."""
        if not index:
            return None, {}
        if not self._are_answers(state, index - 1):
            return None, {"malformed": np.ones(1, np.uint8)}
        told, judged = self._look(state, index - 1)
        is_ended = bool((judged["ending"].astype(np.float64) >= 0).all())
        is_right = is_ended and not judged["margins"].any() and _names(state, judged["prompt"])
        return None, told if "leaves" in told and is_right else {**told, **judged}

    def effect(self, before: State, after: State, aux: Aux) -> float:
        """Tokens: the longest answers are always looked at."""
        return 0.0 if isinstance(before, bytes) or "tokens" not in before else float(before["tokens"].size)

    def finish(self, state: State, out: Path) -> None:
        """`answers/<batch>.state`: the very bytes that the trace names, and `answers.json`, all tokens to read."""
        folder = out / "answers"
        folder.mkdir()
        tokens: list[object] = []
        for batch in range(self._batches):
            (folder / f"{batch}.state").write_bytes(encode(self._answers_to(batch)))
            tokens += [answer.tolist() for answer in _split(self._answers_to(batch))]
        (out / "answers.json").write_text(json.dumps(tokens))

    @property
    def _batches(self) -> int:
        return -(-len(self._prompts) // self._options.together)

    def _numbers(self, batch: int) -> range:
        """The requests of a batch."""
        first = batch * self._options.together
        return range(first, min(first + self._options.together, len(self._prompts)))

    def _requests(self, batch: int) -> bytes:
        """Everything that decides about the answers to a batch, besides the model and the seed."""
        how = struct.pack("<dqdqqq", *self._sampling, *self._options)
        prompts = [
            struct.pack("<QQ", n, len(self._prompts[n])) + self._prompts[n].tobytes() for n in self._numbers(batch)
        ]
        return how + b"".join(prompts)

    def _room(self, number: int) -> int:
        """Tokens that an answer may have at most."""
        return min(self._options.longest, self._model.context - len(self._prompts[number]) + 1)

    def _scores(self, logits: Array, number: int, place: int) -> npt.NDArray[np.float64]:
        """What the token at this place of the answer is the largest of. Integers stay exact in fp64."""
        noise = self._noise(number, place, len(logits), logits.dtype.kind == "i")
        if logits.dtype.kind != "i":
            return gumbel.scores(logits.astype(np.float64), noise.astype(np.float64), self._sampling)
        temperature = round(self._sampling.temperature * (1 << gumbel.NOISE_BITS))
        whole = noise.astype(np.int64)
        exact = gumbel.integer_scores(logits.astype(np.int64), whole, temperature, self._sampling.top_k)
        return exact.astype(np.float64) / (1 << gumbel.NOISE_BITS)

    def _noise(self, number: int, place: int, count: int, is_exact: bool) -> Array:
        """The noise at this place. Made for NOISE_PLACES at a time: logarithms of integers are long rows of steps."""
        block = place // NOISE_PLACES
        if self._drawn[0] != (number, block):
            places = range(block * NOISE_PLACES, (block + 1) * NOISE_PLACES)
            draws = np.stack([gumbel.words(self.seed, number, one, count) for one in places])
            self._drawn = (number, block), (gumbel.integer_noise(draws) if is_exact else gumbel.noise(draws))
        row: Array = self._drawn[1][place % NOISE_PLACES]
        return row

    def _answers_to(self, batch: int) -> State:
        """The answers to a batch: kept, or found once more by a process that went on from a snapshot."""
        if batch not in self._answers:
            self._answers[batch], _ = self._answer(batch)
        return self._answers[batch]

    def _answer(self, batch: int) -> tuple[State, Aux]:
        """(the answers to a batch, how they came about), token by token."""
        found = [self._draw(number) for number in self._numbers(batch)]
        state = {
            "tokens": np.concatenate([tokens for tokens, _ in found]).astype(np.int32),
            "ends": np.cumsum([len(tokens) for tokens, _ in found]).astype(np.int32),
            "prompt": self._digest(batch),
        }
        return state, _told([passes for _, passes in found])

    def _draw(self, number: int) -> tuple[npt.NDArray[np.int64], list[Pass]]:
        self._model.reset()
        fed, tokens, passes = self._prompts[number], np.zeros(0, np.int64), list[Pass]()
        while len(tokens) < self._room(number) and not (len(tokens) and tokens[-1] == self._options.stop):
            passes.append(self._model.extend(fed))
            fed = np.array([np.argmax(self._scores(passes[-1].logits[-1], number, len(tokens)))])
            tokens = np.append(tokens, fed)
        return tokens, passes

    def _look(self, state: State, batch: int) -> tuple[Aux, Aux]:
        """(how the answers came about, what is judged of them), from one pass each."""
        passes: list[list[Pass]] = []
        margins: list[float] = []
        endings: list[float] = []
        for number, answer in zip(self._numbers(batch), _split(state)):  # noqa: B905  Python 3.9
            prompt, tokens = self._prompts[number], answer.astype(np.int64)
            self._model.reset()
            passes.append([self._model.extend(np.concatenate([prompt, tokens[:-1]]))])
            logits = passes[-1][0].logits[len(prompt) - 1 :]
            for place, row in enumerate(logits):
                margins.append(gumbel.margin(self._scores(row, number, place), int(tokens[place])))
            endings.append(self._ending(tokens, self._room(number), logits[-1]))
        judged = {
            "prompt": self._digest(batch),
            "margins": np.array(margins, np.float32),
            "ending": np.array(endings, np.float32),
        }
        return _told(passes), judged

    def _ending(self, tokens: npt.NDArray[np.int64], room: int, logits: Array) -> float:
        """Probability of the stop token where the answer ends with it, 1 where there was no room for more, else -1. Of
        an exact model a stop is right or wrong like any token, and floats would not be equal everywhere: 1."""
        if tokens[-1] != self._options.stop:
            return 1.0 if len(tokens) == room else -1.0
        if logits.dtype.kind == "i":
            return 1.0
        exact = logits.astype(np.float64)
        return float(1 / np.sum(np.exp(exact - exact[self._options.stop])))

    def _are_answers(self, state: State, batch: int) -> bool:
        """Whether a stranger's state holds answers to this batch, right or wrong."""
        if isinstance(state, bytes) or state.keys() != {"tokens", "ends", "prompt"}:
            return False
        tokens, ends, numbers = state["tokens"], state["ends"], self._numbers(batch)
        if tokens.dtype != np.int32 or ends.dtype != np.int32 or tokens.ndim != 1 or ends.shape != (len(numbers),):
            return False
        lengths = np.diff(ends.astype(np.int64), prepend=0)
        if (lengths < 1).any() or lengths.sum() != len(tokens):
            return False
        if any(length > self._room(number) for length, number in zip(lengths, numbers)):  # noqa: B905  Python 3.9
            return False
        return bool((tokens.astype(np.int64) >= 0).all() and (tokens.astype(np.int64) < self._model.vocabulary).all())

    def _digest(self, batch: int) -> Array:
        return np.frombuffer(hashlib.sha256(self._requests(batch)).digest(), np.uint8)


def bitwise_run(threads: int = 1) -> str:
    """Hex digest of an exact model's run with `threads`: the same on every machine."""
    return int8_model.bitwise_run(threads)


def _told(requests: Sequence[Sequence[Pass]]) -> Aux:
    """The fingerprint of all positions of each request, one behind the other, and the leaves of an exact model."""
    hidden = [np.concatenate([one.hidden for one in passes]) for passes in requests]
    places, values = fingerprint.join([fingerprint.take(rows) for rows in hidden])
    leaves = np.concatenate([one.leaves for passes in requests for one in passes])
    return {"places": places, "values": values, **({"leaves": leaves} if len(leaves) else {})}


def _split(state: State) -> list[Array]:
    """The answers in a state. Raises ValueError where it holds none."""
    if isinstance(state, bytes) or "tokens" not in state or "ends" not in state:
        raise ValueError("a state of this work holds tokens and their ends")
    return np.split(state["tokens"], state["ends"].astype(np.int64)[:-1])


def _names(state: State, prompt: Array) -> bool:
    """Whether the state names these requests."""
    return not isinstance(state, bytes) and np.array_equal(state["prompt"], prompt)
