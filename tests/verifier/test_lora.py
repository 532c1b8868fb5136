"""verifier/lora.py: every way in which a delta is not what the job asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from verifier.lora import LoraSpec, change_of, check_delta, check_loss, merged
from verifier.tensors import Array, Tensors

BASE_DIGEST = b"b" * 32
SHAPES = {"layer.query": (8, 6), "layer.up": (12, 6)}


def spec(rank: int = 2, change_max: int = 1_000_000, rise: int = 0) -> LoraSpec:
    return LoraSpec(BASE_DIGEST, rank, 2 * rank, SHAPES, change_max, rise)


def base() -> dict[str, Array]:
    chance = np.random.Generator(np.random.PCG64(1))
    return {name: chance.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def delta(rank: int = 2, size: float = 0.1) -> dict[str, Array]:
    chance = np.random.Generator(np.random.PCG64(2))
    found: dict[str, Array] = {}
    for name, (outputs, inputs) in SHAPES.items():
        found[name + ".lora_A"] = (size * chance.standard_normal((rank, inputs))).astype(np.float32)
        found[name + ".lora_B"] = (size * chance.standard_normal((outputs, rank))).astype(np.float32)
    return found


def code(handed: Tensors, wanted: LoraSpec, digest: bytes = BASE_DIGEST) -> str:
    try:
        check_delta(handed, wanted, base(), digest)
    except Refused as refused:
        assert refused.detail
        return refused.code
    return ""


def test_what_the_job_asked_for_passes() -> None:
    assert code(delta(), spec()) == ""
    assert code(delta(rank=5), spec(rank=5)) == ""


def test_another_base_is_refused() -> None:
    assert code(delta(), spec(), b"c" * 32) == "base_differs"


def test_names_and_shapes_are_the_jobs() -> None:
    left_out = {name: array for name, array in delta().items() if name != "layer.up.lora_B"}
    assert code(left_out, spec()) == "names_differ"
    assert code({**delta(), "layer.up.weight": np.zeros(3, np.float32)}, spec()) == "names_differ"
    name = "layer.query.lora_A"
    assert code({**delta(), name: delta()[name].T.copy()}, spec()) == "rank_differs"
    assert code({**delta(), name: delta()[name][:, :5]}, spec()) == "shape_differs"
    assert code({**delta(), name: delta()[name].ravel()}, spec()) == "shape_differs"
    assert code({**delta(), name: np.zeros((2, 6), np.int64)}, spec()) == "shape_differs"


def test_the_rank_is_the_jobs() -> None:
    assert code(delta(rank=3), spec(rank=2)) == "rank_differs"
    assert code(delta(rank=1), spec(rank=2)) == "rank_differs"


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_what_is_no_number_is_refused(odd: float) -> None:
    broken = delta()
    broken["layer.up.lora_B"].flat[3] = odd
    assert code(broken, spec()) == "not_finite"


def test_a_change_too_large_is_refused() -> None:
    assert code(delta(size=2.0), spec()) == "change_too_large"
    assert code(delta(size=1e25), spec()) == "change_too_large"
    assert code(delta(), spec(change_max=1)) == "change_too_large"


@given(rank=st.integers(1, 6), size=st.floats(1e-3, 10), seed=st.integers(0, 99))
def test_the_change_is_that_of_the_product(rank: int, size: float, seed: int) -> None:
    """Beside the definition: the product itself."""
    chance = np.random.Generator(np.random.PCG64(seed))
    a, b, w = (chance.standard_normal(shape) * size for shape in ((rank, 6), (8, rank), (8, 6)))
    known = float(np.linalg.norm(2.0 * b @ a) / np.linalg.norm(w))
    assert change_of(a, b, 2.0, w) == pytest.approx(known, rel=1e-6)
    assert change_of(a * 0, b, 2.0, w) == 0.0
    assert change_of(a, b, 2.0, w * 0) == math.inf


def test_the_hidden_loss_decides_what_it_is_worth() -> None:
    target = merged(base(), delta(), spec())

    def loss(model: Tensors) -> float:
        apart = [np.asarray(model[name], np.float64) - np.asarray(target[name], np.float64) for name in SHAPES]
        return 1.0 + float(sum(np.square(one).sum() for one in apart))

    before, after = check_loss(loss, delta(), spec(), base())
    assert before > after == 1.0
    worse = {name: np.negative(np.float32(array)) if name.endswith("A") else array for name, array in delta().items()}
    with pytest.raises(Refused) as refused:
        check_loss(loss, worse, spec(), base())
    assert refused.value.code == "loss_too_high"
    check_loss(loss, worse, spec(rise=10_000_000), base())
    with pytest.raises(Refused) as refused:
        check_loss(lambda model: math.nan, delta(), spec(), base())
    assert refused.value.code == "not_finite"
