"""Attack 02: nothing is trained; the weights that came in go out again.

A similarity of weights cannot see it: their cosine is above 0.99999.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.adversarial import small_training as small
from verifier.score import ACCEPT, SECOND

RATE = 0.0002
"""Fine-tuning: the weights hardly move."""


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_unchanged_weights_are_rejected_although_they_look_alike(optimizer: str, tmp_path: Path) -> None:
    job = small.work(tmp_path, optimizer, rate=RATE)
    states, told = small.chain(job, 3)
    before, after = small.flat(states[2]), small.flat(states[3])
    cosine = float(before @ after / np.sqrt((before @ before) * (after @ after)))
    lazy = {**states[2], "step": states[3]["step"]}
    assert cosine > 0.99999
    code, ppm = small.verdict(states[2], (lazy, told[2]), (states[3], told[2]), optimizer)
    assert (code, ppm) == ("no_update", 0)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_little_noise_instead_of_work_is_rejected(optimizer: str, tmp_path: Path) -> None:
    states, told = small.chain(small.work(tmp_path, optimizer), 1)
    noisy = {**states[1]} | {name: states[0][name] * np.float32(1 + 1e-6) for name in states[0] if "/" in name}
    code, ppm = small.verdict(states[0], (noisy, told[0]), (states[1], told[0]), optimizer)
    assert code == "update_differs"
    assert ppm < SECOND


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_honest_work_on_another_machine_is_accepted(optimizer: str, tmp_path: Path) -> None:
    states, told = small.chain(small.work(tmp_path, optimizer, rate=RATE), 3)
    twin = small.unit(small.work(tmp_path, optimizer, kind=small.Twin, rate=RATE), states[2], 2)
    assert any(twin[0][name].tobytes() != states[3][name].tobytes() for name in twin[0])
    code, ppm = small.verdict(states[2], (states[3], told[2]), twin, optimizer)
    assert code == "within_tolerance"
    assert ppm >= ACCEPT
