"""specs/38-canaries.md against the verifier."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import specs
from protocol import units
from protocol.units import Digest
from verifier import canaries, gpu_challenge, indistinguishable, plausibility
from verifier.views import Facts

SPEC = specs.load("38-canaries")
MODULES = (units, canaries, gpu_challenge, indistinguishable, plausibility)


def test_constants_are_those_of_the_code() -> None:
    for name, value in SPEC.constants.items():
        found = [getattr(module, name) for module in MODULES if hasattr(module, name)]
        assert found and set(found) == {value}, name


@given(salt=st.binary(max_size=40), answer=st.binary(max_size=40), ppm=st.integers(0, 10**6))
def test_seals_and_forced_errors(salt: bytes, answer: bytes, ppm: int) -> None:
    assert canaries.seal_answer(salt, answer) == SPEC.functions["seal_answer"](salt, answer)
    assert canaries.is_forced(salt, ppm) == SPEC.functions["is_forced"](salt, ppm)


@given(
    counts=st.tuples(*[st.integers(0, 10**9)] * 4), gflops=st.integers(1, 10**7), gbps=st.integers(1, 10**4),
    count=st.integers(1, 64),
)  # fmt: skip
def test_least_time(counts: tuple[int, int, int, int], gflops: int, gbps: int, count: int) -> None:
    said = SPEC.functions["t_min"](*counts, gflops, gbps, count)
    assert plausibility.t_min(plausibility.Counts(*counts), plausibility.Device(gflops, gbps, count)) == said


@given(took=st.integers(-10, 10**9), least=st.integers(0, 10**9), done=st.integers(0, 10**6))
def test_too_fast(took: int, least: int, done: int) -> None:
    facts = facts_of(least)
    assert (took < facts.least(0, done)) == SPEC.functions["is_too_fast"](took, least, done)


def facts_of(least: int) -> Facts:
    """Those of a job with one chunk whose fastest execution takes so long."""
    return Facts(
        digest=Digest(bytes(32)), size=1, floor_ppm=0, chunks=1, steps=1, disk_bytes=1, timeout=units.SECOND,
        numeric="D0", runtime="wasm", hard_floor=units.Micros(least),
    )  # fmt: skip


def test_findings_of_speed() -> None:
    found = {row["finding"] for row in SPEC.table("speed")}
    assert found == set(re.findall(r'"(\w+)"', str(plausibility.Speed).replace("'", '"')))


def test_chances() -> None:
    assert SPEC.functions["detection"](0.1, 44) == pytest.approx(0.99, abs=0.01)
    assert SPEC.functions["missed"](0.5) == pytest.approx(0.5**12)
