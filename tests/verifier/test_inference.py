"""verifier/inference.py: each way in which an answer and its replay differ has its code; honest ones are accepted."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protocol.proof import PPT, Leaf, Tolerance
from tests.verifier import answers
from tests.verifier.answers import TOLERANCE
from verifier import inference
from verifier.score import ACCEPT, SECOND, score
from verifier.tensors import Array, Tensors

PROMPTS = answers.PROMPTS[:4]
FEW = answers.ALL._replace(together=4)

Changed = Callable[[Array], Array]


@cache
def case() -> tuple[Tensors, Tensors, Tensors]:
    """(state, what its provider told, what an auditor told)."""
    state, told = answers.answered(answers.work(answers.floats(), prompts=PROMPTS, options=FEW))
    return state, told, answers.replayed(state, answers.work(answers.floats(), prompts=PROMPTS, options=FEW))


def code(state: Tensors, told: Tensors, own: Tensors) -> str:
    found = inference.compare(state, None, None, told, own, TOLERANCE)
    assert (found.err == math.inf) == (found.code not in ("within_tolerance", "wrong_tokens", "equal", "undecided"))
    return found.code


def test_honest_answers_are_accepted_by_other_arithmetic() -> None:
    state, told = answers.honest()
    for precision in ("fp32", "fp64"):
        found = answers.judged(state, told, answers.work(answers.floats("large", precision)))
        assert found.code == "within_tolerance" and score(found.err, TOLERANCE) >= ACCEPT


def test_before_the_first_request_there_is_nothing() -> None:
    first = answers.work(answers.floats()).first()
    assert not isinstance(first, bytes)
    assert inference.compare(first, None, None, {}, {}, TOLERANCE).code == "equal"


def test_a_request_without_its_fingerprint_is_malformed() -> None:
    state, _, own = case()
    assert code(state, {}, own) == "malformed_proof"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tokens", lambda array: array.astype(np.int64)),
        ("tokens", lambda array: array.reshape(1, -1)),
        ("tokens", lambda array: array[:0]),
        ("ends", lambda array: array[:0]),
        ("ends", lambda array: array[::-1]),
        ("ends", lambda array: array - 1),
        ("ends", lambda array: array.astype(np.uint32)),
        ("prompt", lambda array: array[:31]),
        ("prompt", lambda array: array.astype(np.int32)),
    ],
)
def test_states_that_hold_no_answers_are_malformed(name: str, change: Changed) -> None:
    state, told, own = case()
    assert code({**state, name: change(state[name])}, told, own) == "malformed_proof"
    assert code({key: value for key, value in state.items() if key != name}, told, own) == "malformed_proof"


@pytest.mark.parametrize("name", ["places", "values"])
@pytest.mark.parametrize("change", [lambda a: a[:-1], lambda a: a.astype(np.int64), lambda a: a.reshape(-1)])
def test_fingerprints_of_another_shape_are_malformed(name: str, change: Changed) -> None:
    state, told, own = case()
    assert code(state, {**told, name: change(told[name])}, own) == "malformed_proof"
    assert code(state, {**told, "more": told[name]}, own) == "malformed_proof"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("margins", lambda array: array[:-1]),
        ("margins", lambda array: array * np.float32(np.nan)),
        ("margins", lambda array: array - 1),
        ("margins", lambda array: array.astype(np.float64)),
        ("ending", lambda array: array * np.float32(np.inf)),
        ("ending", lambda array: array[:1]),
        ("places", lambda array: array[:, ::-1]),
    ],
)
def test_what_an_auditor_tells_is_not_believed_either(name: str, change: Changed) -> None:
    state, told, own = case()
    assert code(state, told, {**own, name: change(own[name])}) == "malformed_audit"
    assert code(state, told, {key: value for key, value in own.items() if key != name}) == "malformed_audit"


def test_answers_to_another_request_are_told_by_their_hash() -> None:
    state, told, own = case()
    assert code({**state, "prompt": state["prompt"][::-1]}, told, own) == "prompt_differs"


def test_a_fingerprint_of_other_weights_differs() -> None:
    state, _, own = case()
    _, other = answers.work(answers.floats("large", "int4"), prompts=PROMPTS, options=FEW).replay(dict(state), 1, b"")
    assert code(state, {name: other[name] for name in ("places", "values")}, own) == "fingerprint_differs"


def margins(misses: int, tokens: int, near: int = 0) -> npt.NDArray[np.float64]:
    return np.array([2.0] * misses + [0.01] * near + [0.0] * (tokens - misses - near))


@pytest.mark.parametrize(
    ("misses", "tokens", "expected"),
    [(0, 10, "within_tolerance"), (0, 5000, "within_tolerance"), (2, 60, "undecided"), (40, 1000, "wrong_tokens")],
)
def test_tokens_decide(misses: int, tokens: int, expected: str) -> None:
    found = inference.decoding(margins(misses, tokens), TOLERANCE)
    assert found.code == expected
    points = score(found.err, TOLERANCE)
    assert {"within_tolerance": points >= ACCEPT, "undecided": SECOND <= points < ACCEPT, "wrong_tokens": points == 0}[
        expected
    ]


def test_near_tokens_neither_speak_for_nor_against_up_to_a_quarter() -> None:
    assert inference.evidence(margins(1, 100, near=25)) == (1, 75)
    assert inference.evidence(margins(1, 100, near=45)) == (21, 75)


@given(st.integers(0, 300), st.integers(0, 1000), st.integers(1, PPT), st.integers(1, 1000 * PPT))
def test_any_tolerance_gives_a_decision(misses: int, hits: int, t_ok: int, t_bad: int) -> None:
    if t_ok < t_bad:
        found = inference.decoding(margins(misses, misses + hits), Tolerance(t_ok=t_ok, t_bad=t_bad))
        assert found.err >= 0 and found.code in ("within_tolerance", "undecided", "wrong_tokens")


@given(
    st.dictionaries(
        st.sampled_from(["tokens", "ends", "prompt", "places", "values", "leaves", "margins", "ending", "malformed"]),
        hnp.arrays(
            st.sampled_from([np.int32, np.uint8, np.uint16, np.float32, np.int64]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        ),
    ),
    st.booleans(),
    st.booleans(),
)
def test_nothing_that_a_stranger_writes_ends_in_an_exception(wild: Tensors, is_state: bool, is_told: bool) -> None:
    state, told, own = case()
    mixed = {**state, **wild} if is_state else state
    found = inference.compare(mixed, None, None, wild if is_told else told, own, TOLERANCE)
    assert found.code in inference.CODES


def test_no_exception_for_what_auditors_write() -> None:
    state, told, own = case()
    for name in own:
        for bad in (np.zeros(0, np.float32), np.zeros((2, 2), np.float32), np.full(3, np.nan, np.float32)):
            assert code(state, told, {**own, name: bad}) == "malformed_audit"


def test_answers_that_were_replayed_are_files_of_the_output() -> None:
    first, second = (Leaf(index, bytes([index]) * 32, 9, bytes(32), bytes(32), 0) for index in (0, 1))
    assert inference.are_delivered([b"x" * 32, second.state], [first, second])
    assert not inference.are_delivered([b"x" * 32], [first, second])
    assert inference.are_delivered([], [first])


def test_exact_answers_are_equal_or_say_why_not() -> None:
    reference = answers.work(answers.integers(), prompts=PROMPTS, options=FEW)
    state, told = answers.answered(reference)
    assert {"leaves", "places", "values"} == told.keys()
    assert answers.judged(state, told, reference).code == "equal"
    leaves = told["leaves"].copy()
    leaves[5, 0] ^= np.uint8(1)
    assert answers.judged(state, {**told, "leaves": leaves}, reference).code == "fingerprint_differs"
    tokens = state["tokens"].copy()
    tokens[2] = (tokens[2] + 1) % 90
    assert answers.judged({**state, "tokens": tokens}, told, reference).code == "wrong_tokens"
    assert answers.judged({**state, "prompt": state["prompt"][::-1]}, told, reference).code == "prompt_differs"
    without = {name: told[name] for name in ("places", "values")}
    assert answers.judged(state, without, reference).code == "fingerprint_differs"


def test_an_exact_answer_from_floats_is_found() -> None:
    reference = answers.work(answers.integers(), prompts=PROMPTS, options=FEW)
    state, told = answers.answered(answers.work(answers.floats(), prompts=PROMPTS, options=FEW))
    assert answers.judged(state, told, reference).code == "wrong_tokens"
