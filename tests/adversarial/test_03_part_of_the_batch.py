"""Attack 03: a part of every batch is skipped, 1/32, 1/8 or 1/2 of it.

The update of 31 records of 32 points nearly the same way, so a cut-off at a cosine of 0.95 pays for work not done.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.adversarial import small_training as small
from verifier import training
from verifier.score import ACCEPT


class Shirker(small.Small):
    """Leaves out some records of each batch."""

    kept = 32

    def rows(self, step: int) -> npt.NDArray[np.int64]:
        return super().rows(step)[: self.kept]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("kept", [31, 28, 16])
def test_a_skipped_part_is_rejected(optimizer: str, kept: int, tmp_path: Path) -> None:
    states, _ = small.chain(small.work(tmp_path, optimizer), 2)
    replayed = small.unit(small.work(tmp_path, optimizer, kind=small.Twin), states[1], 1)
    shirker = small.work(tmp_path, optimizer, kind=Shirker)
    assert isinstance(shirker, Shirker)
    shirker.kept = kept
    claimed = small.unit(shirker, states[1], 1)
    code, ppm = small.verdict(states[1], claimed, replayed, optimizer)
    assert code == "gradient_differs"
    assert ppm == 0
    if kept == 31:
        assert small.update_cosine(states[1], claimed[0], replayed[0]) > 0.95


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_first_gradient_shows_it_by_itself(optimizer: str, tmp_path: Path) -> None:
    """Even with the state and the losses of honest work."""
    states, told = small.chain(small.work(tmp_path, optimizer), 1)
    shirker = small.work(tmp_path, optimizer, kind=Shirker)
    assert isinstance(shirker, Shirker)
    shirker.kept = 31
    _, aux = small.unit(shirker, states[0], 0)
    claimed = {**told[0], training.GRADIENT: aux[training.GRADIENT]}
    code, ppm = small.verdict(states[0], (states[1], claimed), (states[1], told[0]), optimizer)
    assert code == "gradient_differs"
    assert ppm < 500_000


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_whole_batch_is_accepted(optimizer: str, tmp_path: Path) -> None:
    states, _ = small.chain(small.work(tmp_path, optimizer), 2)
    claimed = small.unit(small.work(tmp_path, optimizer, kind=Shirker), states[1], 1)
    replayed = small.unit(small.work(tmp_path, optimizer, kind=small.Twin), states[1], 1)
    code, ppm = small.verdict(states[1], claimed, replayed, optimizer)
    assert (code, ppm >= ACCEPT) == ("within_tolerance", True)
