"""specs/38-canaries.md against the verifier."""

from __future__ import annotations

import re
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import specs
from node import canaries as issuing
from protocol import units
from protocol.escrow_state import ChunkLease, Escrow
from protocol.proof import Numeric
from protocol.steward import job_id
from protocol.units import Digest, PeerId
from verifier import canaries, canary_book, charges, gpu_challenge, indistinguishable, plausibility
from verifier.views import Facts

SPEC = specs.load("38-canaries")
MODULES = (units, canaries, canary_book, issuing, gpu_challenge, indistinguishable, plausibility)


def test_constants_are_those_of_the_code() -> None:
    for name, value in SPEC.constants.items():
        found = [getattr(module, name) for module in MODULES if hasattr(module, name)]
        assert found and set(found) == {value}, name


@given(salt=st.binary(max_size=40), answer=st.binary(max_size=40), ppm=st.integers(0, 10**6))
def test_seals_and_forced_errors(salt: bytes, answer: bytes, ppm: int) -> None:
    assert canaries.seal_answer(salt, answer) == SPEC.functions["seal_answer"](salt, answer)
    assert canaries.is_forced(salt, ppm) == SPEC.functions["is_forced"](salt, ppm)


@given(renter=st.binary(min_size=32, max_size=32), root=st.binary(min_size=32, max_size=32))
def test_the_job_of_an_escrow_holds_the_commitment(renter: bytes, root: bytes) -> None:
    assert job_id(PeerId(renter), root.hex()) == SPEC.functions["job_of"](renter, root)


@given(
    leases=st.lists(
        st.tuples(st.sampled_from(["paid", "free"]), st.booleans(), st.sampled_from(["hash_equal", "not_sampled"]),
                  st.binary(min_size=32, max_size=32)),
        max_size=8,
    )
)  # fmt: skip
def test_what_has_an_answer(leases: list[tuple[Literal["paid", "free"], bool, str, bytes]]) -> None:
    escrow = Escrow(b"e" * 32, b"", b"", b"", 0, b"", 0)
    for chunk, (state, is_audited, code, output) in enumerate(leases):
        escrow.chunks[chunk] = ChunkLease(chunk, state=state, is_audited=is_audited, code=code, output=output)
    assert canary_book.answers(escrow) == SPEC.functions["answers"](leases)


@given(
    seed=st.binary(min_size=32, max_size=32), auditors=st.integers(1, 3), numeric=st.sampled_from(["D0", "D2", "D3"])
)
def test_forced_audits(seed: bytes, auditors: int, numeric: Numeric) -> None:
    facts = Facts(
        digest=Digest(seed), size=0, floor_ppm=0, chunks=1, steps=1, disk_bytes=0, timeout=units.SECOND,
        numeric=numeric, runtime="python", auditors=auditors,
    )  # fmt: skip
    assert charges.wanted(facts, seed) == SPEC.functions["wanted"](auditors, facts.is_exact, seed)


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
