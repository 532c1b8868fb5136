"""Attack 15: the prompt is altered, or the answer to a similar prompt comes from a cache.

The defence: the answer names its request by hash, the fingerprint covers the prompt's tokens, and an auditor reads the
prompt from the specification.
"""

from __future__ import annotations

from node.guest.work.inference import InferenceWork
from tests.verifier import answers
from tests.verifier.answers import PROMPTS
from verifier.tensors import Tensors

SIMILAR = tuple(prompt.lower() for prompt in PROMPTS)


def reference() -> InferenceWork:
    return answers.work(answers.floats())


def cached() -> tuple[Tensors, Tensors]:
    """Answers to similar prompts."""
    return answers.answered(answers.work(answers.floats(), prompts=SIMILAR))


def test_the_prompts_that_were_asked_are_accepted() -> None:
    assert answers.judged(*answers.honest(), reference()).code == "within_tolerance"


def test_a_cached_answer_says_so_itself() -> None:
    assert answers.judged(*cached(), reference()).code == "prompt_differs"


def test_with_a_forged_hash_its_fingerprint_gives_it_away() -> None:
    """Not its tokens: to a prompt that differs in one letter the answer is almost right."""
    state, told = cached()
    forged = {**state, "prompt": answers.honest()[0]["prompt"]}
    assert answers.misses(forged, reference()) < 0.011
    assert answers.judged(forged, told, reference()).code == "fingerprint_differs"


def test_with_stolen_tokens_its_fingerprint_gives_it_away() -> None:
    """Right tokens from somewhere, a forward pass over another prompt: the fingerprint covers the prompt."""
    state, _ = answers.honest()
    longer = tuple("By the way: " + prompt for prompt in PROMPTS)
    own = answers.replayed(state, answers.work(answers.floats(), prompts=longer))
    told = {name: own[name] for name in ("places", "values")}
    assert answers.judged(state, told, reference()).code in ("fingerprint_differs", "malformed_proof")
    shifted = tuple("It's " + prompt[5:] for prompt in PROMPTS)
    own = answers.replayed(state, answers.work(answers.floats(), prompts=shifted))
    told = {name: own[name] for name in ("places", "values")}
    assert answers.judged(state, told, reference()).code == "fingerprint_differs"


def test_an_exact_answer_to_another_prompt_is_found_too() -> None:
    few = answers.ALL._replace(together=3)
    asked = answers.work(answers.integers(), prompts=PROMPTS[:3], options=few)
    state, told = answers.answered(answers.work(answers.integers(), prompts=SIMILAR[:3], options=few))
    assert answers.judged(state, told, asked).code == "wrong_tokens"
