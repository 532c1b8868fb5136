"""specs/33-training-proof.md against the guest's training, the comparison, the score and the rest."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import specs
from node.guest.work import training as guest
from protocol import proof
from protocol.errors import Refused
from protocol.proof import PPT, Tolerance
from verifier import comparable, drift, drift_watch, grid, lora, score, training, usefulness
from verifier.drift import SKETCH, SignedError
from verifier.tensors import Array

SPEC = specs.load("33-training-proof")
MODULES = (proof, score, training, grid, drift, drift_watch, usefulness, guest)
finite = st.floats(-1e3, 1e3)


def test_constants_are_those_of_the_code() -> None:
    for name, value in SPEC.constants.items():
        holders = [module for module in MODULES if hasattr(module, name)]
        assert holders, name
        if name not in ("UNITS_MIN", "SKETCH"):
            assert {getattr(module, name) for module in holders} == {value}, name
    assert SPEC.constants["UNITS_MIN"] == drift.UNITS_MIN


def test_guest_and_judge_mean_the_same() -> None:
    for name in ("PARAMETERS", "MOMENTUM", "VARIANCE", "STEP"):
        assert getattr(guest, name) == getattr(training, name)
    assert (guest.GRID_BITS, guest.ADAM_BITS, guest.VARIANCE_BITS) == (
        grid.GRID_BITS, grid.ADAM_BITS, grid.VARIANCE_BITS,
    )  # fmt: skip


def test_every_code_is_explained() -> None:
    comparing = (training, grid, comparable)
    sources = "".join(Path(module.__file__ or "").read_text(encoding="utf-8") for module in comparing)
    given_codes = set(re.findall(r'Comparison\(\s*[^"]*?"(\w+)",', sources))
    given_codes |= set(re.findall(r'"(off_grid|within_tolerance|gradient_differs|loss_differs|no_update)"', sources))
    assert {row["code"] for row in SPEC.table("comparison")} == given_codes
    refusals = set(re.findall(r'code="(\w+)"', Path(lora.__file__ or "").read_text(encoding="utf-8")))
    text = (specs.FOLDER / "33-training-proof.md").read_text(encoding="utf-8")
    assert all(f"`{code}`" in text for code in refusals)


@given(
    seed=st.binary(min_size=32, max_size=32),
    step=st.integers(0, 10**6),
    count=st.integers(1, 300),
    batch=st.integers(1, 40),
)
def test_schedule(seed: bytes, step: int, count: int, batch: int) -> None:
    assert guest.schedule(seed, step, count, batch).tolist() == SPEC.functions["schedule"](seed, step, count, batch)


@given(elements=st.integers(1, 10**9), steps=st.integers(1, 50))
def test_flips(elements: int, steps: int) -> None:
    allowed = SPEC.functions["flips_allowed"](elements, steps)
    assert allowed == grid.FLIPS_MARGIN * elements * steps >> grid.FLIP_BITS
    small: dict[str, Array] = {"parameters/w": np.zeros(elements % 1000 + 1)}
    assert grid.flips(small, small, 24, steps).allowed == SPEC.functions["flips_allowed"](elements % 1000 + 1, steps)


@given(
    claimed=st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=4),
    replayed=st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=4),
)
def test_update_error(claimed: list[tuple[float, ...]], replayed: list[tuple[float, ...]]) -> None:
    count = min(len(claimed), len(replayed))
    ours, theirs = (dict(enumerate(map(list, each[:count]))) for each in (replayed, claimed))
    start, after, other = (
        {f"parameters/{name}": np.array(values) for name, values in each.items()}
        for each in (dict.fromkeys(ours, [0.0] * 3), ours, theirs)
    )
    said = SPEC.functions["update_error"](theirs, ours)
    assert isinstance(said, float)
    assert training.update_error(start, other, after)[0] == pytest.approx(said, rel=1e-9)


@given(err=st.floats(), t_ok=st.integers(1, 10**11), gap=st.integers(5, 10**4))
def test_score(err: float, t_ok: int, gap: int) -> None:
    t_bad = min(1000 * PPT, t_ok * gap)
    assert score.score(err, Tolerance(t_ok=t_ok, t_bad=t_bad)) == SPEC.functions["score"](err, t_ok, t_bad)


@given(honest=st.floats(0, 1), cheat=st.floats(0, 10))
def test_thresholds(honest: float, cheat: float) -> None:
    said = SPEC.functions["thresholds"](honest, cheat)
    try:
        found = score.calibrate([honest] * score.HONEST_RUNS_MIN, [cheat])
    except Refused as refused:
        assert refused.code == "no_margin"
        assert said is None
        return
    assert (found.t_ok, found.t_bad) == said


@given(values=st.lists(st.floats(-1, 1), max_size=20))
def test_z_along(values: list[float]) -> None:
    rows = [SignedError(1.0, value, (0.0,) * SKETCH) for value in values]
    found = drift.drift(rows, Tolerance(t_ok=1, t_bad=5))
    said = SPEC.functions["z_along"](values)
    assert isinstance(said, float)
    assert math.isclose(found.z_along, said, rel_tol=1e-9, abs_tol=1e-9)


@given(seed=st.integers(0, 1000), count=st.integers(2, 12))
def test_z_common(seed: int, count: int) -> None:
    rows = np.random.Generator(np.random.PCG64(seed)).standard_normal((count, SKETCH))
    errors = [SignedError(1.0, 0.0, tuple(row.tolist())) for row in rows]
    said = SPEC.functions["z_common"](rows[:, :].tolist())
    assert drift.drift(errors, Tolerance(t_ok=1, t_bad=5)).z_common == pytest.approx(said, rel=1e-6, abs=1e-9)


@given(before=st.floats(), after=st.floats())
def test_bonus(before: float, after: float) -> None:
    assert usefulness.usefulness(before, after).bonus == SPEC.functions["bonus"](before, after)
