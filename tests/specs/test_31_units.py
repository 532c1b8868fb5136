"""specs/31-units.md against the codecs, the rules and the node's limits."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import specs
from node.executors import wasm_units
from node.guest.work import tensors as guest
from node.proving import judgement, retention, scoring, taking
from node.proving.program import seed_of
from protocol import jobrules, proof, trace, wire
from protocol.jobspec import Chunk, JobSpec
from verifier import tensors
from verifier.tensors import Array

SPEC = specs.load("31-units")
MODULES = (proof, tensors, trace, taking, wasm_units, retention, scoring, judgement)


def test_constants_are_those_of_the_code() -> None:
    for name, value in SPEC.constants.items():
        holders = [module for module in MODULES if hasattr(module, name)]
        assert holders, name
        for module in holders:
            assert (name, getattr(module, name)) == (name, value), module.__name__
    for name in ("TENSORS_MAX", "RANK_MAX", "HEADER_BYTES_MAX", "STATE_BYTES_MAX"):
        assert getattr(guest, name) == SPEC.constants[name]
    assert str(jobrules.MARGIN_MIN) == "5"


@given(
    st.dictionaries(
        st.from_regex(tensors.NAME, fullmatch=True).filter(lambda name: name != "bytes"),
        st.tuples(st.sampled_from(["U8", "I64", "F32"]), st.lists(st.integers(0, 3), max_size=2)),
        max_size=4,
    )
)
def test_states(shapes: dict[str, tuple[str, list[int]]]) -> None:
    arrays: dict[str, Array] = {
        name: np.arange(int(np.prod(shape, dtype=int))).astype(tensors.DTYPES[dtype]).reshape(shape)
        for name, (dtype, shape) in shapes.items()
    }
    plain = {name: (shapes[name][0], array.shape, array.tobytes()) for name, array in arrays.items()}
    assert tensors.encode(arrays) == guest.encode(arrays) == SPEC.functions["encode"](plain)


@given(st.floats())
def test_effects(effect: float) -> None:
    assert int.from_bytes(trace.encode_effect(effect), "big") == SPEC.functions["coded"](effect)


@given(st.integers(0, 4095))
def test_seeds(chunk: int) -> None:
    spec = JobSpec(name="x", runtime="torch", commands=("x",), chunks=(Chunk(),))
    assert seed_of(spec, chunk) == SPEC.functions["seed"](wire.digest, wire.encode(spec), chunk)


def test_names_are_those_of_the_code() -> None:
    assert {row["variable"] for row in SPEC.table("unit programs")} == {
        "SHOAL_PROOF", "SHOAL_UNITS", "SHOAL_SEED", "SHOAL_REPLAY", "SHOAL_CHALLENGE",
    }  # fmt: skip
    codes = {row["code"] for row in SPEC.table("comparing")}
    assert codes == {"within_tolerance", tensors.MALFORMED, "withheld", "disk_full"}
