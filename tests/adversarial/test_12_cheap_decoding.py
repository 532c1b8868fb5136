"""Attack 12: a small model finds the answer, and the large one reads it once to make the fingerprint.

The defence: the fingerprint alone accepts it, which this file holds on to. The seed decides which token the large model
draws at each place, and the small one does not know.
"""

from __future__ import annotations

from node.guest.work.inference import InferenceWork
from tests.verifier import answers
from verifier import fingerprint
from verifier.fingerprint import BOUNDS, Fingerprint
from verifier.tensors import Tensors


def reference() -> InferenceWork:
    return answers.work(answers.floats())


def cheap() -> tuple[Tensors, Tensors]:
    """(the small model's answers under the large one's request, the large model's fingerprint of them)."""
    state, _ = answers.answered(answers.work(answers.floats("small")))
    own = answers.replayed(state, reference())
    return state, {name: own[name] for name in ("places", "values")}


def test_the_fingerprint_alone_accepts_it() -> None:
    state, told = cheap()
    own = answers.replayed(state, reference())
    found = fingerprint.compare(_print(told), _print(own))
    assert found.is_within(BOUNDS["fp32"]) and found.equal == 1.0


def test_with_the_seed_it_is_rejected() -> None:
    state, told = cheap()
    assert answers.misses(state, reference()) > 0.3
    assert answers.judged(state, told, reference()).code == "wrong_tokens"


def test_who_decodes_with_the_large_model_is_accepted_by_both() -> None:
    state, told = answers.honest()
    own = answers.replayed(state, reference())
    assert fingerprint.compare(_print(told), _print(own)).is_within(BOUNDS["fp32"])
    assert answers.judged(state, told, reference()).code == "within_tolerance"


def test_drafts_of_a_small_model_that_the_large_one_corrects_are_honest_work() -> None:
    """Speculative decoding: where the draft is what the seed makes the large model draw, nothing is wrong with it."""
    drafted, _ = answers.answered(answers.work(answers.floats("small")))
    margins = answers.replayed(drafted, reference())["margins"]
    assert (margins == 0).mean() > 0.5, "the draft is right more often than not, and right is right"


def _print(aux: Tensors) -> Fingerprint:
    return Fingerprint(aux["places"], aux["values"])  # type: ignore[arg-type]  # Parsed by the comparison before.
