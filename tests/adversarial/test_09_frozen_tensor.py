"""Attack 09: one layer, or a single bias, is left as it was.

The measure takes the worst tensor, so it cannot hide among the others; and it divides by the whole update, so that a
tensor which only noise moves, as a key's bias under AdamW, raises no alarm.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from node.guest.work.training import Named
from tests.adversarial import small_training as small
from verifier import training
from verifier.score import ACCEPT


class Freezer(small.Small):
    """Keeps some tensors."""

    frozen: tuple[str, ...] = ()

    def _move(self, values: Named, gradients: Named, step: int) -> None:
        kept = {training.PARAMETERS + name: values[training.PARAMETERS + name].copy() for name in self.frozen}
        super()._move(values, gradients, step)
        values.update(kept)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("frozen", [("bias",), ("first", "bias"), ("second",)])
def test_a_frozen_tensor_is_rejected(optimizer: str, frozen: tuple[str, ...], tmp_path: Path) -> None:
    states, _ = small.chain(small.work(tmp_path, optimizer), 2)
    replayed = small.unit(small.work(tmp_path, optimizer, kind=small.Twin), states[1], 1)
    freezer = small.work(tmp_path, optimizer, kind=Freezer)
    assert isinstance(freezer, Freezer)
    freezer.frozen = frozen
    claimed = small.unit(freezer, states[1], 1)
    code, ppm = small.verdict(states[1], claimed, replayed, optimizer)
    assert (code, ppm) == ("update_differs", 0)
    _, where = training.update_error(states[1], claimed[0], replayed[0])
    assert where.removeprefix(training.PARAMETERS) in frozen


def test_noise_in_a_tensor_without_a_gradient_is_accepted(tmp_path: Path) -> None:
    """`shift` moves by rounding alone: relative to itself two honest machines differ by half and more."""
    states, told = small.chain(small.work(tmp_path, "adamw"), 3)
    replayed = small.unit(small.work(tmp_path, "adamw", kind=small.Twin), states[2], 2)
    name = training.PARAMETERS + "shift"
    ours, theirs = (np.float64(state[name]) - np.float64(states[2][name]) for state in (states[3], replayed[0]))
    assert abs(ours - theirs) > 0.05 * abs(theirs)
    code, ppm = small.verdict(states[2], (states[3], told[2]), replayed, "adamw")
    assert (code, ppm >= ACCEPT) == ("within_tolerance", True)
