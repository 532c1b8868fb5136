"""Attack 48: every unit is pushed by nine tenths of what is tolerated, always the same way.

Each unit passes. Over the audited units of one provider the errors add up, which those of rounding do not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protocol.proof import PPT
from tests.adversarial import small_training as small
from verifier import training
from verifier.drift import UNITS_MIN, SignedError, drift, signed_error
from verifier.score import ACCEPT
from verifier.tensors import Array, Tensors

SECRET = b"known to the judge alone"
UNITS = 32


def pushed(start: Tensors, after: Tensors, by: float, along: bool) -> dict[str, Array]:
    """`after` moved by `by` parts of the update: along it, or in one direction for ever."""
    update = small.flat(after) - small.flat(start)
    names = sorted(name for name in after if name.startswith(training.PARAMETERS))
    way = update if along else np.cos(np.arange(update.size) * 1.7) * np.linalg.norm(update) / np.sqrt(update.size / 2)
    moved, at = dict(after), 0
    for name in names:
        size = after[name].size
        step = (by * way[at : at + size]).reshape(after[name].shape)
        moved[name] = (np.asarray(after[name], np.float64) + step).astype(np.float32)
        at += size
    return moved


def account(folder: Path, by: float, along: bool) -> tuple[list[SignedError], list[tuple[str, int]]]:
    """The signed errors of UNITS audited units under AdamW, and the verdict on each of them."""
    job, twin = small.work(folder, "adamw"), small.work(folder, "adamw", kind=small.Twin)
    states, told = small.chain(job, UNITS)
    errors, verdicts = [], []
    for index in range(UNITS):
        replayed = small.unit(twin, states[index], index)
        claimed = pushed(states[index], states[index + 1], by, along)
        verdicts.append(small.verdict(states[index], (claimed, told[index]), replayed, "adamw"))
        errors.append(signed_error(states[index], claimed, replayed[0], SECRET))
    return errors, verdicts


@pytest.mark.parametrize("along", [True, False])
def test_units_that_pass_one_by_one_are_flagged_together(along: bool, tmp_path: Path) -> None:
    allowed = small.tolerance("adamw")
    errors, verdicts = account(tmp_path, 0.9 * allowed.t_ok / PPT, along)
    assert all(code == "within_tolerance" and ppm >= ACCEPT for code, ppm in verdicts)
    found = drift(errors, allowed)
    assert (found.code, found.is_flagged) == ("drift", True)
    assert max(abs(found.z_along), found.z_common) > 5
    assert drift(errors[: UNITS_MIN - 1], allowed).code == "within_tolerance"


def test_honest_rounding_is_not_flagged(tmp_path: Path) -> None:
    errors, verdicts = account(tmp_path, 0.0, along=True)
    assert all(ppm >= ACCEPT for _, ppm in verdicts)
    assert drift(errors, small.tolerance("adamw")).code == "within_tolerance"
