"""`proof.hardware` of a job file, and the rules of a specification that it ends in."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from protocol.errors import Refused
from protocol.jobcodec import spec_from_plain, spec_to_plain
from protocol.proof import Hardware, Proof
from tests.shoal.proof_mistakes import START, proof
from tests.shoal.test_jobfile_proof import spec_of

A, B = "0a" * 48, "0B" * 48
TDX: Final = f"tdx: {{images: [{A}, {B}], versions: [5, 0, 6]}}"
CARD: Final = f"nvidia: {{images: {A}}}"


def hardware(inside: str) -> str:
    return proof(f"class: general, hardware: {{{inside}}}")


def test_kinds_images_and_versions(tmp_path: Path) -> None:
    spec = spec_of(hardware(f"{TDX}, {CARD}"), tmp_path)
    assert isinstance(spec.proof, Proof)
    first, second = bytes.fromhex(A), bytes.fromhex(B)
    assert spec.proof.hardware == (Hardware("tdx", (first, second), (5, 0, 6)), Hardware("nvidia", (first,)))
    assert spec_from_plain(spec_to_plain(spec)) == spec
    assert "hardware" not in str(spec_to_plain(spec_of(START, tmp_path)))


@pytest.mark.parametrize(
    ("inside", "code", "key", "said"),
    [
        ("", "bad_job_file", "proof.hardware", "at least one of tdx, sev-snp, nvidia"),
        ("snp: {}", "unknown_key", "proof.hardware.snp", "`sev-snp`"),
        ("tdx: {}", "missing_key", "proof.hardware.tdx.images", "shoal doctor"),
        ("tdx: {images: []}", "bad_job_file", "proof.hardware.tdx.images", "1 to 16"),
        ("tdx: {images: [abc]}", "bad_job_file", "proof.hardware.tdx.images[0]", "96 hexadecimal digits"),
        (f"tdx: {{images: {A}, versions: 5}}", "bad_job_file", "proof.hardware.tdx.versions", "list"),
        (f"tdx: {{images: {A}, versions: [256]}}", "bad_job_file", "versions[0]", "0 to 255"),
        (f"tdx: {{images: {A}, versions: {[1] * 17}}}", "bad_job_file", "versions", "at most 16"),
        (f"tdx: {{measurements: {A}}}", "unknown_key", "measurements", "`images`"),
        (f"tdx: {{images: [{A}, {A}]}}", "bad_spec", "proof.hardware", "twice"),
        (CARD, "bad_spec", "proof.hardware", "a card alone"),
        (f"{TDX}, nvidia: {{images: {A}, versions: [1]}}", "bad_spec", "proof.hardware", "no security versions"),
    ],
)
def test_what_makes_no_sense_is_said_with_its_place(
    tmp_path: Path, inside: str, code: str, key: str, said: str
) -> None:
    with pytest.raises(Refused) as caught:
        spec_of(hardware(inside), tmp_path)
    told = f"{caught.value.detail} {caught.value.fix}"
    assert said in told and key in told, told
    assert caught.value.code == code or code == "bad_spec"


def test_a_certificate_has_no_audit_to_spare(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no audit to spare"):
        spec_of(proof(f"class: certificate, check: 'true', hardware: {{{TDX}}}"), tmp_path)


@pytest.mark.parametrize("image", ["0a", 5, "0A" * 48, "0a" * 49])
def test_plain_values_hold_images_as_hexadecimal_digits(tmp_path: Path, image: object) -> None:
    plain = spec_to_plain(spec_of(hardware(TDX), tmp_path))
    plain["proof"] = {"kind": "general", "hardware": [{"kind": "tdx", "images": [image]}]}
    with pytest.raises(Refused) as caught:
        spec_from_plain(plain)
    assert caught.value.numbers["pointer"] == "/proof/hardware/0/images/0"
