"""specs/36-scientific-proof.md against the guest's classes and the verifier."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import specs
from node.guest.work import scientific as guest
from protocol.errors import Refused
from verifier import comparable, invariants, merkle_sum, scientific, streams

SPEC = specs.load("36-scientific-proof")
MODULES = (comparable, merkle_sum, scientific, streams)
numbers = st.integers(-merkle_sum.LEAF_MAX, merkle_sum.LEAF_MAX)


def test_constants_are_those_of_the_code() -> None:
    for name, value in SPEC.constants.items():
        holders = [module for module in MODULES if hasattr(module, name)]
        assert holders, name
        assert {getattr(module, name) for module in holders} == {value}, name


def test_every_code_is_explained() -> None:
    sources = "".join(Path(str(module.__file__)).read_text(encoding="utf-8") for module in MODULES)
    given_codes = set(re.findall(r'code="(\w+)"', sources)) | set(re.findall(r'math.inf, "(\w+)"', sources))
    given_codes |= set(re.findall(r'Comparison\(\w+, "(\w+)"', sources)) | {"canary_wrong", scientific.WITHIN}
    given_codes |= set(re.findall(r'math.inf, "(\w+)", said', sources))
    assert {row["code"] for row in SPEC.table("codes")} == given_codes
    assert {row["kind"]: row["code"] for row in SPEC.table("invariants")} == invariants.CODES


def test_guest_and_verifier_mean_the_same() -> None:
    assert (guest.HISTORY, guest.SUM_MAX) == (scientific.HISTORY, merkle_sum.LEAF_MAX)


@given(st.lists(st.tuples(*[st.floats(-100, 100)] * 3), min_size=1, max_size=20))
def test_the_error_of_a_segment(places: list[tuple[float, float, float]]) -> None:
    start, claimed, replayed = (np.array(column) for column in zip(*places, strict=True))
    said = SPEC.functions["change_error"](start.tolist(), claimed.tolist(), replayed.tolist())
    assert isinstance(said, float)
    found = scientific.change_error(start, claimed, replayed)
    assert found == said or found == pytest.approx(said, rel=1e-9)


@given(rounding=st.floats(1e-12, 1e-4), growth=st.floats(0.01, 3), t_ok=st.floats(1e-6, 1e-2))
def test_the_length_of_a_segment(rounding: float, growth: float, t_ok: float) -> None:
    said = SPEC.functions["segment_length"](rounding, growth, t_ok)
    try:
        found = scientific.segment_length(rounding, growth, t_ok)
    except Refused as error:
        assert error.code == "no_margin"
        found = 0
    assert found == said or math.isclose(rounding * math.exp(growth * max(found, int(str(said)))), t_ok, rel_tol=1e-9)


@given(rows=st.integers(1, 3).flatmap(lambda k: st.lists(st.tuples(*[numbers] * k), min_size=1, max_size=20)))
def test_the_tree_of_sums(rows: list[tuple[int, ...]]) -> None:
    root = merkle_sum.SumTree(rows).root
    assert SPEC.functions["sum_root"](rows) == (root.hash, list(root.sums))
    assert guest.sum_root([list(row) for row in rows]) == root.hash
