"""shoal.jobfile_proof: what `proof`, `numeric` and `trust` say, and what is said about nonsense."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import UNSET

from protocol.errors import Refused
from protocol.jobspec import JobSpec
from protocol.proof import Proof, Tolerance
from shoal.jobfile import read
from tests.shoal.proof_mistakes import MISTAKES, START, TORCH


def spec_of(text: str, folder: Path) -> JobSpec:
    (folder / "m.wasm").write_bytes(b"\0asm")
    return read(text, folder, {}).spec


def test_a_job_that_says_nothing_is_what_it_always_was(tmp_path: Path) -> None:
    spec = spec_of(START, tmp_path)
    assert (spec.proof, spec.trust, spec.numeric, spec.audit_ppm) == (UNSET, UNSET, "D2", 100_000)


def test_every_key(tmp_path: Path) -> None:
    text = (
        "proof: {class: training, units: 12, samples: 6, auditors: 2, numeric: D3,"
        " tolerance: {ok: 2.5e-4, bad: 0.002, profile: mine}, check: [python check.py]}\n"
    )
    spec = spec_of(TORCH + text, tmp_path)
    assert spec.proof == Proof(
        "training", 12, 6, 2, Tolerance(t_ok=250_000_000, t_bad=2_000_000_000, profile="mine"), ("python check.py",)
    )
    assert (spec.numeric, spec.units) == ("D3", 12)


def test_the_least_work_of_a_chunk(tmp_path: Path) -> None:
    proof = spec_of(START + "proof: {class: general, flops: 2.5e12, bytes: 40e9}\n", tmp_path).proof
    assert isinstance(proof, Proof) and (proof.flops, proof.bytes_moved) == (2_500_000_000_000, 40_000_000_000)
    plain = spec_of(START + "proof: {class: general, flops: 4000}\n", tmp_path).proof
    assert isinstance(plain, Proof) and (plain.flops, plain.bytes_moved) == (4000, UNSET)


@pytest.mark.parametrize("where", ["numeric: D1\nproof: {class: general}", "proof: {class: general, numeric: D1}"])
def test_numeric_stands_at_the_top_or_in_proof(where: str, tmp_path: Path) -> None:
    assert spec_of(f"{START}{where}\n", tmp_path).numeric == "D1"


def test_numeric_may_be_said_twice_alike(tmp_path: Path) -> None:
    assert spec_of(START + "numeric: D0\nproof: {class: general, numeric: D0}\n", tmp_path).numeric == "D0"


def test_wasm_is_exact(tmp_path: Path) -> None:
    text = "type: task\nname: x\nwasm: m.wasm\nproof: {class: deterministic, numeric: D0}\n"
    assert spec_of(text, tmp_path).numeric == "D0"


@pytest.mark.parametrize("profile", ["training/adamw", "training/sgd"])
def test_measured_tolerances_have_names(profile: str, tmp_path: Path) -> None:
    text = f"{TORCH}numeric: D3\nproof: {{class: training, units: 4, tolerance: {profile}}}\n"
    proof = spec_of(text, tmp_path).proof
    assert isinstance(proof, Proof) and isinstance(proof.tolerance, Tolerance)
    assert proof.tolerance.profile.startswith(profile) and proof.tolerance.t_bad >= 5 * proof.tolerance.t_ok


@pytest.mark.parametrize("level", ["basic", "standard", "high", "certain"])
def test_levels(level: str, tmp_path: Path) -> None:
    spec = spec_of(f"{START}trust: {level}\n", tmp_path)
    assert (spec.trust, spec.audit_ppm) == (level, 100_000)


@pytest.mark.parametrize(("text", "where", "code", "says", "fix"), MISTAKES, ids=range(len(MISTAKES)))
def test_nonsense_has_a_place_a_cause_and_a_fix(
    text: str, where: str, code: str, says: str, fix: str, tmp_path: Path
) -> None:
    with pytest.raises(Refused) as caught:
        spec_of(text, tmp_path)
    error = caught.value
    assert error.detail.startswith(f"job.yml:{where}"), error.detail
    assert error.code == code, error.detail
    assert says in error.detail, error.detail
    assert fix in error.fix and error.fix, error.fix
