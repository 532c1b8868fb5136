"""specs/31-units.md against the codecs, the rules and the node's limits."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import specs
from node.executors import wasm_units
from node.guest.work import tensors as guest
from node.proving import examining, judgement, resuming, retention, saving, scoring, taking
from node.proving.program import seed_of
from protocol import jobrules, operations, prefix, proof, provider_trace, trace, wire
from protocol.identity import Identity
from protocol.jobspec import Chunk, JobSpec
from verifier import tensors
from verifier.tensors import Array

SPEC = specs.load("31-units")
MODULES = (
    proof, tensors, trace, taking, wasm_units, retention, scoring, judgement, operations, provider_trace, saving,
    resuming, examining,
)  # fmt: skip


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


@given(
    st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=9), st.binary(max_size=9)), min_size=1, max_size=4)
)
def test_the_stream_of_a_snapshot(units: list[tuple[bytes, bytes, bytes]]) -> None:
    with TemporaryDirectory() as name:
        source, target = Path(name, "snapshot"), Path(name, "target")
        source.mkdir()
        target.mkdir()
        whole = SPEC.functions["stream"](units, b"the last")
        assert isinstance(whole, bytes)
        (source / "0.units").write_bytes(whole)
        sizes = tuple((len(state), len(read), len(aux)) for state, read, aux in units)
        table = saving.Table((0.0,) * len(units), sizes, 8)
        (source / saving.TABLE).write_bytes(msgspec.msgpack.encode(table))
        _, made = resuming.unpack(source, target)
    assert [leaf.state for leaf in made.leaves] == [*(wire.digest(unit[0]) for unit in units), wire.digest(b"the last")]


def test_what_a_worker_signs() -> None:
    worker, place, root = Identity(b"w" * 32), (b"e" * 32, 3, 7), b"r" * 32
    before = (prefix.sign_prefix(worker, "net", place[0], 3, 2, 4, root),)
    body = SPEC.functions["prefix"](wire.encode, wire.digest, place, 9, root, before)
    said = prefix.sign_prefix(worker, "net", *place, 9, root, before)
    assert isinstance(body, bytes)
    assert said.signature == worker.sign(wire.signing_bytes("net", "prefix", body))


def test_names_are_those_of_the_code() -> None:
    assert {row["variable"] for row in SPEC.table("unit programs")} == {
        "SHOAL_PROOF", "SHOAL_UNITS", "SHOAL_SEED", "SHOAL_BEGIN", "SHOAL_REPLAY", "SHOAL_CHALLENGE",
    }  # fmt: skip
    codes = {row["code"] for row in SPEC.table("comparing")}
    assert codes == {"within_tolerance", tensors.MALFORMED, "withheld", "disk_full"}
