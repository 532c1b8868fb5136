"""Attack 49: the arithmetic is honest and the data is poisoned, so the model gets worse.

Out of the scope of correctness, and documented so: whoever replays gets the same bytes. What a hidden validation shard
shows withholds the bonus, and is no fault of whoever computed what was asked.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.adversarial import small_training as small
from verifier import training
from verifier.score import ACCEPT
from verifier.tensors import Tensors
from verifier.usefulness import measured

SPEC = Path(__file__).parents[2] / "specs" / "33-training-proof.md"


def evaluate(job: small.Small, state: Tensors) -> float:
    """Loss on the hidden shard."""
    weights = {
        name[len(training.PARAMETERS) :]: value for name, value in state.items() if name.startswith(training.PARAMETERS)
    }
    loss, _ = job.gradients(weights, small.rows(b"hidden"))  # type: ignore[arg-type]
    return loss


def poisoned() -> npt.NDArray[np.uint8]:
    """The same inputs under labels moved by one."""
    data = small.rows().copy()
    data[:, small.INPUTS] = (data[:, small.INPUTS] + 1) % small.LABELS
    return data


def test_poison_passes_the_replay_and_earns_no_bonus(tmp_path: Path) -> None:
    small.lay_out(tmp_path, data=poisoned())
    job = small.work(tmp_path, rate=0.2)
    states, told = small.chain(job, 8)
    replayed = small.unit(small.work(tmp_path, kind=small.Twin, rate=0.2), states[7], 7)
    code, ppm = small.verdict(states[7], (states[8], told[7]), replayed, "sgd")
    assert (code, ppm >= ACCEPT) == ("within_tolerance", True)
    found = measured(lambda state: evaluate(job, state), states[0], states[8])
    assert found.after > found.before
    assert (found.code, found.bonus) == ("not_useful", 0)


def test_the_data_of_the_job_earns_one(tmp_path: Path) -> None:
    job = small.work(tmp_path, rate=0.2)
    states, _ = small.chain(job, 8)
    found = measured(lambda state: evaluate(job, state), states[0], states[8])
    assert found.code == "useful"
    assert found.bonus > 0


def test_the_limit_is_documented() -> None:
    text = SPEC.read_text(encoding="utf-8")
    assert "## What this does not prove" in text
    assert "poisoned data" in text
