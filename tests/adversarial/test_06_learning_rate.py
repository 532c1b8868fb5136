"""Attack 06: another learning rate than the specification's, by a hundredth or a hundredfold.

Tiny steps make any trajectory plausible to whoever only looks at sizes. The direction of the update is that of honest
work: its cosine is 1.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adversarial import small_training as small
from verifier.score import ACCEPT


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("factor", [0.99, 0.01])
def test_another_rate_is_rejected(optimizer: str, factor: float, tmp_path: Path) -> None:
    states, _ = small.chain(small.work(tmp_path, optimizer), 1)
    replayed = small.unit(small.work(tmp_path, optimizer, kind=small.Twin), states[0], 0)
    claimed = small.unit(small.work(tmp_path, optimizer, rate=small.RATES[optimizer] * factor), states[0], 0)
    code, ppm = small.verdict(states[0], claimed, replayed, optimizer)
    assert code == "update_differs"
    assert ppm == 0
    assert small.update_cosine(states[0], claimed[0], replayed[0]) > 0.99


def test_the_rate_is_part_of_every_units_input(tmp_path: Path) -> None:
    """So the executor's leaf has another input digest, before anybody replays."""
    honest, other = small.work(tmp_path), small.work(tmp_path, rate=small.RATES["sgd"] * 0.99)
    assert honest.plan.digest != other.plan.digest
    assert honest.input(0) != other.input(0)
    assert honest.input(0) == small.work(tmp_path, kind=small.Twin).input(0)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_rate_of_the_specification_is_accepted(optimizer: str, tmp_path: Path) -> None:
    states, told = small.chain(small.work(tmp_path, optimizer), 1)
    replayed = small.unit(small.work(tmp_path, optimizer, kind=small.Twin), states[0], 0)
    code, ppm = small.verdict(states[0], (states[1], told[0]), replayed, optimizer)
    assert (code, ppm >= ACCEPT) == ("within_tolerance", True)
