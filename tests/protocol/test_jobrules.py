"""The rules about proofs: what a specification with units, a tolerance or a check may say."""

from __future__ import annotations

import pytest
from msgspec import structs

from protocol import jobrules
from protocol.errors import Refused
from protocol.jobspec import Chunk, FileRef, JobSpec, TreeRef
from protocol.proof import Proof, Tolerance

TOLERANCE = Tolerance(t_ok=10, t_bad=50)
UNITS = JobSpec(
    name="u", runtime="torch", commands=("python a.py",), chunks=(Chunk(),), numeric="D0",
    proof=Proof("deterministic", units=6),
)  # fmt: skip
WITHIN = structs.replace(UNITS, numeric="D3", proof=Proof("training", units=6, tolerance=TOLERANCE))
CERTIFICATE = structs.replace(UNITS, runtime="python", proof=Proof("certificate", check=("python check.py",)))
MODULE = structs.replace(UNITS, runtime="wasm", commands=("m.wasm",), files=(FileRef("m.wasm", bytes(32), 8),))


@pytest.mark.parametrize("spec", [UNITS, WITHIN, CERTIFICATE, MODULE])
def test_a_proof_that_holds_together_is_let_in(spec: JobSpec) -> None:
    jobrules.check(spec)


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [
        (structs.replace(UNITS, runtime="python"), "/runtime"),
        (structs.replace(UNITS, ports=(80,), audit_ppm=0), "/proof"),
        (structs.replace(UNITS, files=(FileRef(".shoal/open/0.state", bytes(32), 1),)), "/files/0/path"),
        (structs.replace(UNITS, trees=(TreeRef("/in/.shoal", bytes(32), 1, 1),)), "/trees/0/mount"),
        (structs.replace(UNITS, trees=(TreeRef("/vol/v", bytes(32), 1, 1, "v", True),)), "/trees"),
        (structs.replace(UNITS, proof=Proof("deterministic", units=6, tolerance=TOLERANCE)), "/proof/tolerance"),
        (structs.replace(UNITS, numeric="D3"), "/proof/tolerance"),
        (structs.replace(UNITS, numeric="D3", proof=Proof("training", tolerance=TOLERANCE)), "/proof/tolerance"),
        (structs.replace(WITHIN, proof=Proof("general", units=6, tolerance=TOLERANCE)), "/proof/kind"),
        (structs.replace(WITHIN, proof=Proof("training", units=6, tolerance=Tolerance(10, 49))), "/proof/tolerance"),
        (JobSpec(name="u", runtime="torch", commands=("x",), chunks=(Chunk(),), numeric="D3"), "/numeric"),
        (structs.replace(CERTIFICATE, proof=Proof("certificate")), "/proof/check"),
        (structs.replace(CERTIFICATE, proof=Proof("certificate", check=(" ",))), "/proof/check/0"),
        (structs.replace(CERTIFICATE, files=(FileRef("result/a", bytes(32), 1),)), "/files"),
        (structs.replace(CERTIFICATE, trees=(TreeRef("/in/result", bytes(32), 1, 1),)), "/files"),
        (structs.replace(MODULE, proof=Proof("certificate", check=("m.wasm a", "m.wasm b"))), "/proof/check"),
    ],
)
def test_what_could_not_be_proven_is_refused_where_it_is_wrong(spec: JobSpec, pointer: str) -> None:
    with pytest.raises(Refused) as caught:
        jobrules.check(spec)
    assert caught.value.numbers["pointer"] == pointer
    assert caught.value.fix


def test_a_tolerance_that_tells_nobody_apart_has_a_code_of_its_own() -> None:
    with pytest.raises(Refused) as caught:
        jobrules.check(structs.replace(WITHIN, proof=Proof("training", units=6, tolerance=Tolerance(10, 49))))
    assert caught.value.code == "no_margin"


def test_a_folder_called_result_is_free_where_nothing_is_checked() -> None:
    jobrules.check(structs.replace(UNITS, files=(FileRef("result/a", bytes(32), 1),)))
