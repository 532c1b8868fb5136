"""node/guest/work/inference.py: answers in units, replayed in one pass each, and the same everywhere for integers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from node.guest.work import float_model, inference, int8_model
from node.guest.work.gumbel import Sampling
from node.guest.work.inference import InferenceWork, Options
from node.guest.work.model import Model
from node.guest.work.tensors import Array, State, decode, encode
from tests.verifier import answers

ROOT = Path(__file__).parents[4]
TORCH = ROOT / ".venv-torch" / "bin" / "python"
OPTIONS = Options(answers.STOP, 30, 2)
PROMPTS = [answers.tokens_of(text) for text in ("The provider ", "A peer ", "Every block ")]


def made(model: Model | None = None, sampling: Sampling = answers.SAMPLING) -> InferenceWork:
    work = InferenceWork(model or answers.integers(), PROMPTS, sampling, OPTIONS)
    work.seed = answers.SEED
    return work


def states(work: InferenceWork) -> tuple[list[Mapping[str, Array]], list[dict[str, bytes]]]:
    """All states, and what each unit tells, as bytes."""
    first = work.first()
    assert not isinstance(first, bytes)
    found: list[Mapping[str, Array]] = [first]
    told: list[dict[str, bytes]] = []
    for index in range(work.units):
        after, aux = work.step(decode(encode(found[-1])), index)
        assert not isinstance(after, bytes)
        found.append(after)
        told.append({name: value.tobytes() for name, value in aux.items()})
    return found, told


def test_units_are_one_more_than_batches() -> None:
    assert made().units == 3
    found, told = states(made())
    assert [state.keys() for state in found] == [
        {"ends", "prompt", "tokens"},
        {"ends", "prompt", "tokens"},
        {"ends", "prompt", "tokens"},
        {"answers"},
    ]
    assert told[0] == {} and {"leaves", "places", "values"} == told[1].keys()


def test_an_exact_replay_tells_what_the_run_told() -> None:
    work = made()
    found, told = states(work)
    for index in range(work.units):
        _, aux = made().replay(decode(encode(found[index])), index, b"")
        assert {name: value.tobytes() for name, value in aux.items()} == told[index]


def test_a_process_that_goes_on_from_a_state_tells_the_same() -> None:
    found, told = states(made())
    fresh = made()
    after, aux = fresh.step(decode(encode(found[1])), 1)
    assert encode(after) == encode(found[2])
    assert {name: value.tobytes() for name, value in aux.items()} == told[1]
    last, _ = fresh.step(decode(encode(found[2])), 2)
    assert encode(last) == encode(found[3])


def test_files_of_the_output_are_the_states_that_were_committed_to(tmp_path: Path) -> None:
    work = made()
    found, _ = states(work)
    work.finish(found[-1], tmp_path)
    assert [(tmp_path / "answers" / f"{n}.state").read_bytes() for n in (0, 1)] == [encode(found[1]), encode(found[2])]
    tokens = json.loads((tmp_path / "answers.json").read_text())
    assert len(tokens) == len(PROMPTS) and all(1 <= len(answer) <= OPTIONS.longest for answer in tokens)


def test_the_longest_answers_have_the_largest_effect() -> None:
    work = made()
    found, _ = states(work)
    assert work.effect(found[1], found[2], {}) == len(found[1]["tokens"])
    assert work.effect(found[3], found[3], {}) == 0


def test_inputs_bind_what_decides_about_the_answers() -> None:
    inputs = {made().input(index) for index in range(3)}
    inputs |= {made(sampling=Sampling(0.9)).input(1), made(sampling=Sampling(0.8, 5)).input(1)}
    assert len(inputs) == 5


def test_the_seed_decides() -> None:
    other = made()
    other.seed = b"another"
    assert encode(other.step(other.first(), 0)[0]) != encode(made().step(made().first(), 0)[0])


@pytest.mark.parametrize(
    "state",
    [
        b"bytes",
        {},
        {"tokens": np.zeros(4, np.int32), "ends": np.array([2, 4], np.int32)},
        {"tokens": np.zeros(4, np.int64), "ends": np.array([2, 4], np.int32), "prompt": np.zeros(32, np.uint8)},
        {"tokens": np.zeros(4, np.int32), "ends": np.array([4], np.int32), "prompt": np.zeros(32, np.uint8)},
        {"tokens": np.zeros(4, np.int32), "ends": np.array([4, 4], np.int32), "prompt": np.zeros(32, np.uint8)},
        {"tokens": np.zeros(4, np.int32), "ends": np.array([2, 5], np.int32), "prompt": np.zeros(32, np.uint8)},
        {"tokens": np.full(4, -1, np.int32), "ends": np.array([2, 4], np.int32), "prompt": np.zeros(32, np.uint8)},
        {"tokens": np.full(4, 96, np.int32), "ends": np.array([2, 4], np.int32), "prompt": np.zeros(32, np.uint8)},
        {"tokens": np.zeros(40, np.int32), "ends": np.array([1, 40], np.int32), "prompt": np.zeros(32, np.uint8)},
    ],
)
def test_states_that_are_no_answers_do_not_end_the_audit(state: State) -> None:
    _, aux = made().replay(state, 1, b"")
    assert list(aux) == ["malformed"]


def test_floats_tell_no_leaves_and_a_replay_judges() -> None:
    work = made(answers.floats())
    state, _ = work.step(work.first(), 0)
    _, told = work.step(state, 1)
    assert told.keys() == {"places", "values"}
    _, own = work.replay(state, 1, b"")
    assert {"places", "values", "prompt", "margins", "ending"} == own.keys()
    assert not own["margins"].any() and own["ending"].shape == (2,)


def test_an_answer_fills_the_context_at_most() -> None:
    long = [answers.tokens_of("x" * 150)]
    work = InferenceWork(answers.floats(), long, Sampling(0.0), Options(-1, 1000, 1))
    state, _ = work.step(work.first(), 0)
    assert not isinstance(state, bytes) and len(state["tokens"]) == 11


def test_threads_change_no_bit() -> None:
    digests = {inference.bitwise_run(threads) for threads in (1, 2, 3)}
    assert digests == {"8d73c5d9aebf1a422c5987684c4f1b428f67df2432230707d3386b889aa8a5dc"}


def test_processes_with_other_instructions_change_no_bit() -> None:
    script = "from node.guest.work.inference import bitwise_run; print(bitwise_run())"
    kinds = ({"OPENBLAS_CORETYPE": "Prescott"}, {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "3"})
    for environment in kinds:
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == inference.bitwise_run(), done.stderr


def test_files_that_hold_no_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(encode(b"nothing"))
    with pytest.raises(ValueError, match="no weights"):
        int8_model.load(tmp_path / "weights")
    with pytest.raises(ValueError, match="no weights"):
        float_model.load(tmp_path / "weights")
    with pytest.raises(ValueError, match="fp8 is none of"):
        float_model.load(answers.WEIGHTS / "small.safetensors", "fp8")


def test_integers_are_loaded_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(encode(dict(answers.integer_weights())))
    tokens = np.array(PROMPTS[0])
    assert np.array_equal(int8_model.load(tmp_path / "weights").extend(tokens).leaves, int8_model.load(
        answers.WEIGHTS / "large.safetensors").extend(tokens).leaves)  # fmt: skip


TORCH_SCRIPT = """
import numpy as np, torch
from node.guest.work.inference import InferenceWork, Options
from node.guest.work.gumbel import Sampling
from node.guest.work.model import TorchModel
torch.manual_seed(1)
embed, mix, head = (torch.randn(*shape) for shape in ((50, 64), (64, 64), (64, 50)))
def forward(tokens, kept):
    seen = embed[tokens] if kept is None else torch.cat([kept, embed[tokens]])
    hidden = torch.tanh(torch.cumsum(seen, 0)[-len(tokens):] @ mix)
    return hidden @ head, hidden, seen
work = InferenceWork(TorchModel(forward, 50, 64), [[1, 2, 3]], Sampling(0.9), Options(-1, 20, 1))
state, _ = work.step(work.first(), 0)
_, told = work.step(state, 1)
_, own = work.replay(state, 1, b"")
print(len(state["tokens"]), float(own["margins"].max()) < 1e-3, np.array_equal(told["places"], own["places"]))
"""


@pytest.mark.skipif(not TORCH.exists(), reason="the jobs' environment .venv-torch is not there; `make demo` makes it")
def test_models_of_torch_are_asked_the_same_way() -> None:
    done = subprocess.run([TORCH, "-c", TORCH_SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["20", "True", "True"], done.stderr
