"""Inference in units that anybody can check: one request each, and an answer that has one right value, or nearly so.

    import shoal_work
    from shoal_work import inference, int8_model

    shoal_work.run(inference.InferenceWork(int8_model.load(path), prompts, inference.Sampling(0.8, top_k=40)))

The chance in the answers comes from the job's seed, the request's number and the token's place, so a provider cannot
draw until it likes the answer. State i + 1 is the answer to request i. Unit i + 1 tells how that answer came about,
its fingerprint; unit 0 tells nothing, and a job of n requests has n + 1 units. A replay feeds prompt and answer to the
model in one pass, which takes a fraction of the time that the answer took, and says how far each token is from the one
that should have come.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from . import fingerprint, gumbel, int8_model
from .gumbel import Sampling
from .model import Model, Pass
from .tensors import Array, State, encode
from .work import Aux, Work

__all__ = ["InferenceWork", "Model", "Pass", "Sampling"]


class InferenceWork(Work):
    """Requests with their prompts as tokens; `units` is one more than there are requests."""

    def __init__(
        self, model: Model, prompts: Sequence[Sequence[int]], sampling: Sampling, stop: int = -1, longest: int = 128
    ) -> None:
        """Answers end with the token `stop`, which belongs to them, or after `longest` tokens."""
        self.units = len(prompts) + 1
        self._model = model
        self._prompts = [np.array(prompt, np.int64) for prompt in prompts]
        self._sampling = sampling
        self._stop = stop
        self._longest = longest
        self._answers: dict[int, State] = {}
        self._told: dict[int, Aux] = {}

    def first(self) -> State:
        """No answer yet."""
        return {"tokens": np.zeros(0, np.int32), "prompt": np.zeros(32, np.uint8)}

    def input(self, index: int) -> bytes:
        """The requests that unit `index` tells about and answers, with everything that decides about their answers."""
        return b"".join(self._request(number) for number in (index - 1, index) if 0 <= number < len(self._prompts))

    def step(self, state: State, index: int) -> tuple[State, Aux]:
        """Tell how the answer in `state` came about, and answer the next request."""
        told = self._told.pop(index, None)
        if told is None:  # Not the process that answered it: it went on from a snapshot.
            told = self._look(state, index - 1)[0] if index else {}
        if index:
            self._answers[index - 1] = state
        if index < len(self._prompts):
            answer, self._told[index + 1] = self._answer(index)
            return answer, told
        digests = [hashlib.sha256(encode(self._answer_to(number))).digest() for number in range(len(self._prompts))]
        return {"answers": np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)}, told

    def replay(self, state: State, index: int, seed: bytes) -> tuple[None, Aux]:
        """One pass over prompt and answer: the fingerprint again, margins, and how likely the end was.

        An exact model says what the provider said, to the last bit, unless something is wrong. An answer that is none
        is said to be one: it must not end the audit."""
        if not index:
            return None, {}
        if not self._is_answer(state, index - 1):
            return None, {"malformed": np.ones(1, np.uint8)}
        told, judged = self._look(state, index - 1)
        is_right = not judged["margins"].any() and judged["ending"][0] >= 0 and _is_same(state, judged["prompt"])
        return None, told if "leaves" in told and is_right else {**told, **judged}

    def effect(self, before: State, after: State, aux: Aux) -> float:
        """Tokens: the longest answers are always looked at."""
        return 0.0 if isinstance(before, bytes) or "tokens" not in before else float(before["tokens"].size)

    def finish(self, state: State, out: Path) -> None:
        """`answers/<request>.state`: the very bytes that the trace names, and `answers.json`, all tokens to read."""
        folder = out / "answers"
        folder.mkdir()
        answers = [self._answer_to(number) for number in range(len(self._prompts))]
        for number, answer in enumerate(answers):
            (folder / f"{number}.state").write_bytes(encode(answer))
        (out / "answers.json").write_text(json.dumps([_tokens(answer).tolist() for answer in answers]))

    def _answer_to(self, number: int) -> State:
        """The answer to a request: kept, or found once more by a process that went on from a snapshot."""
        if number not in self._answers:
            self._answers[number], _ = self._answer(number)
        return self._answers[number]

    def _is_answer(self, state: State, number: int) -> bool:
        """Whether a stranger's state is an answer to this request, right or wrong."""
        if isinstance(state, bytes) or state.keys() != {"tokens", "prompt"}:
            return False
        tokens, prompt = state["tokens"], state["prompt"]
        if tokens.dtype != np.int32 or tokens.ndim != 1 or prompt.dtype != np.uint8 or prompt.shape != (32,):
            return False
        if not 0 < len(tokens) <= self._room(number):
            return False
        return bool(tokens.min() >= 0 and tokens.max() < self._model.vocabulary)

    def _room(self, number: int) -> int:
        """Tokens that an answer may have at most."""
        return min(self._longest, self._model.context - len(self._prompts[number]) + 1)

    def _request(self, number: int) -> bytes:
        """Everything that decides about the answer to one request, besides the model and the seed."""
        prompt = self._prompts[number]
        how = struct.pack("<dqdqq", *self._sampling, self._stop, self._longest)
        return struct.pack("<QQ", number, len(prompt)) + prompt.astype("<i4").tobytes() + how

    def _scores(self, logits: Array, number: int, place: int) -> npt.NDArray[np.float64]:
        """What the token at this place of the answer is the largest of. Integers stay exact in fp64."""
        draws = gumbel.words(self.seed, number, place, len(logits))
        if logits.dtype.kind != "i":
            return gumbel.scores(logits.astype(np.float64), draws, self._sampling)
        temperature = round(self._sampling.temperature * (1 << gumbel.NOISE_BITS))
        exact = gumbel.integer_scores(logits.astype(np.int64), draws, temperature, self._sampling.top_k)
        return exact.astype(np.float64) / (1 << gumbel.NOISE_BITS)

    def _answer(self, number: int) -> tuple[State, Aux]:
        """(the answer, how it came about), token by token."""
        self._model.reset()
        fed, tokens, passes = self._prompts[number], np.zeros(0, np.int64), list[Pass]()
        while len(tokens) < self._room(number) and not (len(tokens) and tokens[-1] == self._stop):
            passes.append(self._model.extend(fed))
            fed = np.array([np.argmax(self._scores(passes[-1].logits[-1], number, len(tokens)))])
            tokens = np.append(tokens, fed)
        digest = hashlib.sha256(self._request(number)).digest()
        state: State = {"tokens": tokens.astype(np.int32), "prompt": np.frombuffer(digest, np.uint8)}
        return state, _told(passes)

    def _look(self, state: State, number: int) -> tuple[Aux, Aux]:
        """(how the answer came about, what is judged of it), from one pass."""
        prompt, tokens = self._prompts[number], _tokens(state).astype(np.int64)
        self._model.reset()
        found = self._model.extend(np.concatenate([prompt, tokens[:-1]]))
        logits = found.logits[len(prompt) - 1 :]
        scores = [self._scores(row, number, place) for place, row in enumerate(logits)]
        margins = [gumbel.margin(row, int(token)) for row, token in zip(scores, tokens)]  # noqa: B905  Python 3.9
        digest = hashlib.sha256(self._request(number)).digest()
        judged: Aux = {
            "prompt": np.frombuffer(digest, np.uint8),
            "margins": np.array(margins, np.float32),
            "ending": np.array([self._ending(tokens, self._room(number), logits[-1])], np.float32),
        }
        return _told([found]), judged

    def _ending(self, tokens: npt.NDArray[np.int64], room: int, logits: Array) -> float:
        """Probability of the stop token where the answer ends with it, 1 where there was no room for more, else -1."""
        if tokens[-1] == self._stop:
            exact = logits.astype(np.float64) / (1 << gumbel.NOISE_BITS if logits.dtype.kind == "i" else 1)
            return float(1 / np.sum(np.exp(exact - exact[self._stop])))
        return 1.0 if len(tokens) == room else -1.0


def bitwise_run(threads: int = 1) -> str:
    """Hex digest of an exact model's run with `threads`: the same on every machine."""
    return int8_model.bitwise_run(threads)


def _told(passes: Sequence[Pass]) -> Aux:
    """The fingerprint of all positions, and the leaves of an exact model."""
    places, values = fingerprint.take(np.concatenate([one.hidden for one in passes]))
    leaves = np.concatenate([one.leaves for one in passes])
    return {"places": places, "values": values, **({"leaves": leaves} if len(leaves) else {})}


def _is_same(state: State, prompt: Array) -> bool:
    """Whether the state names this prompt."""
    return not isinstance(state, bytes) and np.array_equal(state["prompt"], prompt)


def _tokens(state: State) -> Array:
    """The tokens of an answer. Raises ValueError where there are none."""
    if isinstance(state, bytes) or "tokens" not in state or state["tokens"].ndim != 1:
        raise ValueError("a state of this work holds tokens")
    return state["tokens"]
