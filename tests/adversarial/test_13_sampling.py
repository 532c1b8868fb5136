"""Attack 13: other sampling than was asked for, or drawing again until the answer is convenient.

The defence: temperature, top-k and top-p are part of the request, and the chance comes from a seed that the provider
does not choose. It draws once, and everybody knows what.
"""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from node.guest.work.gumbel import Sampling
from node.guest.work.inference import InferenceWork
from node.proving import program
from protocol.jobspec import Chunk, JobSpec
from tests.verifier import answers
from verifier.score import SECOND, score
from verifier.tensors import Tensors


def reference() -> InferenceWork:
    return answers.work(answers.floats())


def lied(sampling: Sampling, seed: bytes = answers.SEED) -> tuple[Tensors, Tensors]:
    """Answers under other sampling, in the name of the request that was made."""
    state, told = answers.answered(answers.work(answers.floats(), sampling, seed))
    return {**state, "prompt": answers.honest()[0]["prompt"]}, told


def test_the_sampling_that_was_asked_for_is_accepted() -> None:
    assert answers.judged(*answers.honest(), reference()).code == "within_tolerance"


@pytest.mark.parametrize(
    ("sampling", "least"),
    [(Sampling(0.72), 0.015), (Sampling(0.88), 0.015), (Sampling(0.8, 0, 0.9), 0.03), (Sampling(0.0), 0.2)],
    ids=["colder by 10 %", "hotter by 10 %", "top-p 0.9", "always the likeliest"],
)
def test_other_sampling_is_rejected(sampling: Sampling, least: float) -> None:
    state, told = lied(sampling)
    assert answers.misses(state, reference()) > least
    found = answers.judged(state, told, reference())
    assert found.code == "wrong_tokens" and score(found.err, answers.TOLERANCE) < SECOND


def test_who_says_that_it_sampled_otherwise_answers_another_request() -> None:
    state, told = answers.answered(answers.work(answers.floats(), Sampling(0.7)))
    assert "prompt_differs" == answers.judged(state, told, reference()).code  # noqa: SIM300


def test_a_seed_of_ones_own_is_rejected() -> None:
    state, told = lied(answers.SAMPLING, b"w" * 32)
    assert answers.misses(state, reference()) > 0.3
    assert answers.judged(state, told, reference()).code == "wrong_tokens"


def test_the_shortest_of_several_answers_is_rejected() -> None:
    """Drawing each answer with eight seeds and keeping the shortest saves half of the tokens."""
    tries = [answers.work(answers.floats(), seed=bytes([n]) * 32) for n in range(8)]
    drawn = [[one._draw(number) for one in tries] for number in range(6)]
    kept = [min(answer, key=lambda one: len(one[0]))[0] for answer in drawn]
    tokens = np.concatenate([*kept, answers.honest()[0]["tokens"][answers.honest()[0]["ends"][5] :]])
    ends = np.cumsum([*map(len, kept), *np.diff(answers.honest()[0]["ends"])[5:]])
    state = {**answers.honest()[0], "tokens": tokens.astype(np.int32), "ends": ends.astype(np.int32)}
    own = answers.replayed(state, reference())
    assert sum(map(len, kept)) < answers.honest()[0]["ends"][5]
    found = answers.judged(state, {name: own[name] for name in ("places", "values")}, reference())
    assert found.code == "wrong_tokens"


def test_the_seed_is_not_for_the_provider_to_choose() -> None:
    """It depends on the specification and the chunk alone: neither lease nor claim nor anybody's signature moves it, so
    trying again gives the same. What can be ground: the renter may change its own job, and a provider that knows the
    seed before it takes the lease may decline; both pay for their own choice."""
    assert list(inspect.signature(program.seed_of).parameters) == ["spec", "chunk"]
    spec = JobSpec("ask", "python", ("true",), (Chunk(), Chunk()))
    assert len({program.seed_of(spec, 0), program.seed_of(spec, 1)}) == 2
    assert program.seed_of(spec, 0) == program.seed_of(JobSpec("ask", "python", ("true",), (Chunk(), Chunk())), 0)
