"""What a specification may say about proof, numeric class and trust: rules that types cannot say. Spec: specs/39-trust.md.

`protocol.jobrules.check` raises the first of these problems, at the place that it names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import UNSET

from protocol.jobspec import JobSpec
from protocol.proof import Proof, Tolerance
from protocol.trust import LEVELS

Problem = tuple[str, str, str, str]
"""JSON pointer, what is wrong, what to do, code."""

GAP_MIN: Final = 5
"""t_bad in t_ok, at least (`verifier.score`): where the two are closer, no score tells honest work from a cheat."""

EXACT: Final = frozenset({"deterministic", "certificate"})
"""Kinds whose results are equal or wrong; there is nothing to tolerate."""

AUDIT_DEFAULT: Final = JobSpec(name="defaults", runtime="python", commands=(), chunks=()).audit_ppm
"""What `audit_ppm` is when a job does not say it."""


def problems(spec: JobSpec) -> Iterator[Problem]:
    """Everything that is wrong with proof, numeric class and trust of a specification, the plainest first."""
    yield from _trust(spec)
    if isinstance(spec.proof, Proof):
        yield from _proof(spec, spec.proof)
    elif spec.numeric == "D3":
        yield (
            "/numeric",
            "D3 compares units within a tolerance, and the job has no `proof`",
            "Add `proof: {class: training, units: 12, tolerance: …}`, or use D1 or D2.",
            "bad_proof",
        )


def _trust(spec: JobSpec) -> Iterator[Problem]:
    if spec.trust is UNSET or not isinstance(spec.trust, str):
        return
    if spec.is_interactive:
        yield (
            "/trust",
            "a chunk that its renter can reach into is never audited: no level of trust can be kept",
            "Leave `trust` out, or `ports` and `shell`.",
            "bad_proof",
        )
    if spec.audit_ppm not in (AUDIT_DEFAULT, LEVELS[spec.trust].floor_ppm):
        yield (
            "/audit_ppm",
            f"`trust: {spec.trust}` says how many results are audited, and `audit` says {spec.audit_ppm / 10_000:g} %",
            "Leave one of the two out.",
            "bad_proof",
        )


def _proof(spec: JobSpec, proof: Proof) -> Iterator[Problem]:
    if spec.is_interactive:
        fix = "Leave `proof` out, or `ports` and `shell`."
        yield "/proof", "nobody can compute again what its renter can reach into", fix, "bad_proof"
    if proof.kind == "certificate" and not proof.check:
        fix = "Add `check`, lines that end with 0 when the result at $SHOAL_IN/result is right."
        yield "/proof/check", "a certificate is proven by its check, and there is none", fix, "bad_proof"
    for index, line in enumerate(proof.check):
        if "\0" in line or not line.strip():
            yield f"/proof/check/{index}", "a check is empty or has a zero byte", "Remove it.", "bad_proof"
    if proof.check and spec.runtime == "wasm":
        fix = "Use another runtime, or leave `check` out: WASM results are compared byte by byte."
        yield "/proof/check", "checks are lines of a shell, and a WASM module has none", fix, "bad_proof"
    yield from _numeric(spec, proof)


def _numeric(spec: JobSpec, proof: Proof) -> Iterator[Problem]:
    tolerance = proof.tolerance if isinstance(proof.tolerance, Tolerance) else None
    if spec.numeric == "D3" and proof.kind in EXACT:
        fix = "Use D0, D1 or D2, or the kind that the work is of."
        yield "/numeric", f"a {proof.kind} result is right or wrong: there is no D3 of it", fix, "bad_proof"
    elif spec.numeric == "D3" and not proof.units:
        fix = "Say `units`, into how many steps each chunk is cut."
        yield "/proof/units", "D3 compares units, and the chunks have none", fix, "bad_proof"
    elif spec.numeric == "D3" and tolerance is None:
        fix = "Give `tolerance` of a calibration (docs/verification.md), or use D1 or D2, which need none."
        yield "/proof/tolerance", "D3 accepts what lies within a tolerance, and there is none", fix, "bad_proof"
    elif spec.numeric != "D3" and tolerance is not None:
        fix = "Leave `tolerance` out, or say `numeric: D3`."
        yield "/proof/tolerance", f"{spec.numeric} compares bits: nothing is tolerated", fix, "bad_proof"
    if tolerance is not None and tolerance.t_bad < GAP_MIN * tolerance.t_ok:
        detail = f"t_bad, {tolerance.t_bad}, is less than {GAP_MIN} t_ok, {tolerance.t_ok}: honest work and cheats mix"
        yield "/proof/tolerance", detail, "Use a bitwise class (D1) for this task, or fp32.", "no_margin"
