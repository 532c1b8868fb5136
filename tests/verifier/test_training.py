"""verifier/training.py: every way in which a claimed unit can differ from its replay, and none in which it may."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from protocol import merkle
from protocol.errors import Refused
from protocol.proof import Tolerance
from protocol.units import PPM
from verifier import training
from verifier.score import ACCEPT, SECOND, score
from verifier.tensors import Array

ALLOWED = Tolerance(t_ok=2_000_000, t_bad=1_000_000_000)
State = dict[str, Array]


def unit(seed: int = 0) -> tuple[State, State, State]:
    """(state before, state after, aux) of something like a unit of AdamW."""
    chance = np.random.Generator(np.random.PCG64(seed))
    start: State = {"step": np.array(5, np.int64)}
    after: State = {"step": np.array(10, np.int64)}
    for name, shape in (("layer.weight", (6, 4)), ("layer.bias", (6,))):
        weight = chance.standard_normal(shape).astype(np.float32)
        start["parameters/" + name] = weight
        after["parameters/" + name] = weight + np.float32(0.01) * chance.standard_normal(shape).astype(np.float32)
        for kind in ("momentum/", "variance/"):
            start[kind + name] = np.abs(chance.standard_normal(shape)).astype(np.float32)
            after[kind + name] = np.abs(chance.standard_normal(shape)).astype(np.float32)
    gradient = chance.standard_normal(30).astype(np.float32)
    losses = np.array([2.0, 1.9, 1.8, 1.7, 1.6])
    return start, after, {"losses": losses, "norms": losses / 2, "gradient": gradient}


def times(array: Array, factor: float) -> Array:
    """In its own precision."""
    return np.asarray(np.asarray(array, np.float64) * factor, array.dtype)


def judged(start: State, claimed: State | None, replayed: State | None, aux: State, ours: State) -> tuple[str, int]:
    found = training.compare(start, claimed, replayed, aux, ours, ALLOWED)
    assert found.detail
    assert not math.isnan(found.err)
    return found.code, score(found.err, ALLOWED)


def test_the_same_unit_is_within() -> None:
    start, after, aux = unit()
    assert judged(start, after, after, aux, aux) == ("within_tolerance", PPM)


def test_rounding_is_within() -> None:
    start, after, aux = unit()
    other = {**after} | {name: times(after[name], 1 + 1e-8) for name in after if "/" in name}
    code, ppm = judged(start, other, after, {**aux, "losses": times(aux["losses"], 1 + 1e-7)}, aux)
    assert (code, ppm >= ACCEPT) == ("within_tolerance", True)


def test_what_is_no_state_is_no_unit() -> None:
    start, after, aux = unit()
    assert judged(start, None, after, aux, aux) == ("shape_differs", 0)
    assert judged(start, after, None, aux, aux) == ("shape_differs", 0)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["parameters/layer.bias", "momentum/layer.weight", "losses", "gradient"])
def test_what_is_no_number_is_never_within(odd: float, name: str) -> None:
    start, after, aux = unit()
    both = {**after, **aux}
    both[name] = both[name].copy()
    both[name].flat[1] = odd
    claimed = {n: both[n] for n in after}
    assert judged(start, claimed, after, {n: both[n] for n in aux}, aux) == ("not_finite", 0)
    assert judged(start, claimed, claimed, {n: both[n] for n in aux}, {n: both[n] for n in aux}) == ("not_finite", 0)


@pytest.mark.parametrize("change", ["left_out", "added", "reshaped", "retyped"])
def test_other_shapes_are_rejected(change: str) -> None:
    start, after, aux = unit()
    claimed, name = dict(after), "parameters/layer.weight"
    if change == "left_out":
        del claimed[name]
    elif change == "added":
        claimed["parameters/more"] = claimed[name]
    elif change == "reshaped":
        claimed[name] = claimed[name].reshape(4, 6)
    else:
        claimed[name] = claimed[name].astype(np.float64)
    assert judged(start, claimed, after, aux, aux) == ("shape_differs", 0)


def test_no_update_another_step_and_missing_words() -> None:
    start, after, aux = unit()
    assert judged(start, {**start, "step": after["step"]}, after, aux, aux) == ("no_update", 0)
    assert judged(start, {**after, "step": np.array(11)}, after, aux, aux) == ("update_differs", 0)
    for name, code in (("losses", "shape_differs"), ("norms", "shape_differs"), ("gradient", "gradient_differs")):
        assert judged(start, after, after, {n: a for n, a in aux.items() if n != name}, aux) == (code, 0)
    assert judged(start, after, after, {**aux, "losses": aux["losses"][:4]}, aux) == ("loss_differs", 0)
    assert judged(start, after, after, {**aux, "gradient": aux["gradient"][:29]}, aux) == ("gradient_differs", 0)


def test_an_update_where_nothing_should_move_is_rejected() -> None:
    start, after, aux = unit()
    still = {**after} | {name: start[name] for name in start if name.startswith("parameters/")}
    assert judged(start, after, still, aux, aux) == ("update_differs", 0)
    assert judged(start, still, still, aux, aux) == ("within_tolerance", PPM)


@pytest.mark.parametrize("kind", ["parameters/", "momentum/", "variance/"])
def test_one_tensor_cannot_hide(kind: str) -> None:
    start, after, aux = unit()
    claimed = {**after, kind + "layer.bias": start[kind + "layer.bias"]}
    code, ppm = judged(start, claimed, after, aux, aux)
    assert (code, ppm) == ("update_differs", 0)


def test_a_loss_that_does_not_reproduce_is_rejected() -> None:
    start, after, aux = unit()
    for factor, is_fine in ((1 + 9e-6, True), (1 + 5e-5, False), (0.0, False)):
        code, ppm = judged(start, after, after, {**aux, "losses": times(aux["losses"], factor)}, aux)
        assert (code == "within_tolerance") == is_fine
        assert (ppm >= ACCEPT) == is_fine
        assert is_fine or (code, ppm < SECOND) == ("loss_differs", True)


def test_the_measure_is_the_worst_tensor_in_the_whole_update() -> None:
    """Beside the definition, written down naively."""
    start, replayed, _ = unit(1)
    claimed = {**replayed} | {name: times(replayed[name], 1.25) for name in replayed if "/" in name}
    names = [name for name in start if name.startswith("parameters/")]
    moved = {n: np.float64(replayed[n]) - np.float64(start[n]) for n in names}
    apart = {n: np.float64(replayed[n]) - np.float64(claimed[n]) for n in names}
    whole = math.sqrt(sum(float(np.square(update).sum()) for update in moved.values()))
    sizes = {n: float(np.linalg.norm(error)) / whole for n, error in apart.items()}
    err, where = training.update_error(start, claimed, replayed)
    assert err == pytest.approx(max(sizes.values()))
    assert where == max(sizes, key=lambda name: sizes[name])


@given(
    values=arrays.arrays(np.float64, st.integers(0, 70), elements=st.floats(-1e6, 1e6)),
)
def test_the_sum_is_a_sum(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    kept = values.copy()
    assert training.tree_sum(values) == pytest.approx(math.fsum(kept.tolist()), abs=1e-6)
    assert np.array_equal(values, kept)


@given(
    claimed=arrays.arrays(np.float32, 6, elements=st.floats(width=32)),
    start=arrays.arrays(np.float32, 6, elements=st.floats(width=32)),
    losses=arrays.arrays(np.float64, st.integers(0, 6), elements=st.floats()),
)
def test_no_numbers_upset_the_comparison(claimed: Array, start: Array, losses: Array) -> None:
    """Whatever a stranger writes: a code, and a score that is 1 only where nothing differs."""
    before, after, aux = unit()
    name = "parameters/layer.bias"
    code, ppm = judged({**before, name: start}, {**after, name: claimed}, after, {**aux, "losses": losses}, aux)
    assert code in {"within_tolerance", "not_finite", "update_differs", "loss_differs", "shape_differs", "no_update"}
    assert (ppm >= ACCEPT) == (code == "within_tolerance")


@given(records=st.lists(st.binary(min_size=4, max_size=4), min_size=1, max_size=12, unique=True), pick=st.data())
def test_a_record_is_where_the_root_says(records: list[bytes], pick: st.DataObject) -> None:
    place = pick.draw(st.integers(0, len(records) - 1))
    tree = merkle.Tree(records)
    training.check_record(tree.root, records[place], place, len(records), tree.path(place))
    for wrong in (hashlib.sha256(records[place]).digest()[:4], *records[:place], *records[place + 1 :]):
        with pytest.raises(Refused) as refused:
            training.check_record(tree.root, wrong, place, len(records), tree.path(place))
        assert refused.value.code == "data_not_in_root"


odd_arrays = st.sampled_from(["<f4", "<f8", "<i8", "|b1", "|u1"]).flatmap(
    lambda kind: arrays.arrays(np.dtype(kind), arrays.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
)
odd_states = st.dictionaries(
    st.sampled_from(["parameters/w", "momentum/w", "variance/w", "step", "losses", "norms", "gradient"]), odd_arrays
)


@given(start=odd_states, claimed=odd_states, replayed=odd_states, aux=odd_states, ours=odd_states)
def test_no_shapes_upset_the_comparison(start: State, claimed: State, replayed: State, aux: State, ours: State) -> None:
    judged(start, claimed, replayed, aux, ours)
    judged(start, replayed, replayed, ours, ours)
    judged({**replayed, **start}, {**replayed, **claimed}, replayed, {**ours, **aux}, ours)
