"""Attack 14: an answer is cut short, with a stop token that the model would hardly have said, or without one.

The defence: a stop must be what the seed draws, or at least likely; an answer without one must fill its room. One wrong
token in hundreds moves no average, so endings have a rule of their own.
"""

from __future__ import annotations

import math

import numpy as np

from node.guest.work.inference import InferenceWork
from tests.verifier import answers
from tests.verifier.answers import STOP
from verifier import inference
from verifier.tensors import Tensors


def reference() -> InferenceWork:
    return answers.work(answers.floats())


def cut(stop: bool) -> tuple[Tensors, Tensors]:
    """The longest answer ends after ten tokens; everything else is honest."""
    state, _ = answers.honest()
    parts = np.split(state["tokens"], state["ends"].astype(np.int64)[:-1])
    longest = max(range(len(parts)), key=lambda number: len(parts[number]))
    parts[longest] = np.append(parts[longest][:10], [STOP] if stop else []).astype(np.int32)
    changed = {
        **state,
        "tokens": np.concatenate(parts),
        "ends": np.cumsum([len(part) for part in parts]).astype(np.int32),
    }
    own = answers.replayed(changed, reference())
    return changed, {name: own[name] for name in ("places", "values")}


def test_a_stop_that_the_model_would_hardly_say_is_rejected() -> None:
    state, told = cut(stop=True)
    own = answers.replayed(state, reference())
    at = int(np.argmax(own["margins"]))
    number = int(np.searchsorted(state["ends"], at, side="right"))
    assert float(own["ending"][number].astype(np.float64)) < inference.STOP_MIN
    found = answers.judged(state, told, reference())
    assert found.code == "improbable_stop" and found.err == math.inf


def test_by_its_tokens_alone_it_would_have_passed() -> None:
    state, _ = cut(stop=True)
    margins = answers.replayed(state, reference())["margins"].astype(np.float64)
    assert inference.decoding(margins, answers.TOLERANCE).code == "within_tolerance"


def test_an_answer_without_a_stop_is_rejected() -> None:
    assert answers.judged(*cut(stop=False), reference()).code == "improbable_stop"


def test_an_improbable_stop_that_the_seed_asks_for_is_accepted() -> None:
    """Of two dozen honest answers some end where the end had little probability: that is what sampling is."""
    state, told = answers.honest()
    own = answers.replayed(state, reference())
    likely = own["ending"].astype(np.float64)
    assert ((likely >= 0) & (likely < inference.STOP_MIN)).any()
    assert answers.judged(state, told, reference()).code == "within_tolerance"


def test_an_answer_that_fills_its_room_is_accepted() -> None:
    state, _ = answers.honest()
    lengths = np.diff(state["ends"], prepend=0)
    full = lengths == answers.ALL.longest
    assert full.any(), "some answers are cut by their limit"
    ending = answers.replayed(state, reference())["ending"].astype(np.float64)
    unstopped = state["tokens"][state["ends"].astype(np.int64) - 1] != STOP
    assert (ending[full & unstopped] == 1).all()
