"""specs/11-verification.md against the verifier."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import specs
from protocol import units
from protocol.units import PPM, PeerId
from verifier import auditor, case, course, judge, sampling

SPEC = specs.load("11-verification")
hashes = st.binary(min_size=32, max_size=32)


def test_constants_are_those_of_the_code() -> None:
    for module in (units, sampling, course, auditor):
        for name, value in SPEC.constants.items():
            if hasattr(module, name):
                assert (name, getattr(module, name)) == (name, value)
    named = {name for module in (units, sampling, course, auditor) for name in dir(module)}
    assert set(SPEC.constants) <= named


def test_states_are_the_types() -> None:
    assert [row["state"] for row in SPEC.table("states")] == [state.__name__ for state in case.STATES]


def test_every_code_a_judge_can_give_is_explained() -> None:
    source = "".join(Path(module.__file__ or "").read_text(encoding="utf-8") for module in (course, judge))
    given_codes = set(re.findall(r'decide\(case, "\w+", "(\w+)"', source))
    given_codes |= set(re.findall(r'_audit_impossible\(case, "(\w+)"', source)) | {"not_sampled"}
    assert {row["code"] for row in SPEC.table("verdicts")} == given_codes


@given(floor=st.integers(0, PPM), valid=st.integers(0, 10**9))
def test_share(floor: int, valid: int) -> None:
    assert sampling.audit_ppm(floor, valid) == SPEC.functions["audit_ppm"](floor, valid)


@given(beacon=hashes, escrow=hashes, chunk=st.integers(0, 4096), epoch=st.integers(1, 1000), ppm=st.integers(0, PPM))
def test_draw(beacon: bytes, escrow: bytes, chunk: int, epoch: int, ppm: int) -> None:
    said = SPEC.functions["is_drawn"](beacon, escrow, chunk, epoch, ppm)
    assert sampling.is_drawn(beacon, escrow, chunk, epoch, ppm) == said


@given(
    beacon=hashes,
    turn=st.integers(0, 4),
    stakes=st.dictionaries(hashes.map(PeerId), st.integers(0, 2 * sampling.AUDITOR_STAKE_CAP), max_size=6),
)
def test_auditor(beacon: bytes, turn: int, stakes: dict[PeerId, int]) -> None:
    place = (b"e" * 32, 1, 1)
    said = SPEC.functions["draw_auditor"](beacon, place, turn, stakes)
    assert sampling.draw_auditor(beacon, place, turn, stakes, frozenset()) == said


def test_comparison() -> None:
    compare = SPEC.functions["compare"]
    assert [compare("a", audits) for audits in ([], ["a"], ["b"], ["b", "a"], ["b", "b"], ["b", "c"])] == [
        None, "hash_equal", None, "hash_equal", "hash_differs", "not_reproducible",
    ]  # fmt: skip
