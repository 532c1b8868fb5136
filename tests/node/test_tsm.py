"""Quotes through configfs-tsm, against a folder that behaves like it (tests/node/tsm_folder.py): emulated hardware."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from node.tsm import ENTRY, FOLDER, INBLOB_BYTES, TRIES, Door, certificates_of
from protocol.errors import Unavailable
from protocol.proof import Hardware
from protocol.quote_messages import PART_BYTES_MAX, Evidence
from protocol.units import Micros
from tests.node.tsm_folder import Signs, TsmFolder
from tests.verifier.attestation import recorded
from tests.verifier.attestation.foundry import SNP_IMAGE, TDX_IMAGE, Foundry
from verifier.attestation.evidence import check

FOUNDRY = Foundry()
BOUND = b"\4" * 32
NOW = Micros(1_800_000_000_000_000)
VCEK, ARK, CRL = (
    uuid.UUID(text).bytes
    for text in (
        "63da758d-e664-4564-adc5-f4b93be8accd",
        "c0b406a4-a803-4952-9743-3fb6014cd0ae",
        "92f81bc3-5811-4d3d-97ff-d19f88dc67ea",
    )
)


def table(*entries: tuple[bytes, bytes]) -> bytes:
    """A host's certificate table: names, places and lengths, an empty entry, then what they point at."""
    at, head, body = 24 * (len(entries) + 1), b"", b""
    for name, data in entries:
        head += name + (at + len(body)).to_bytes(4, "little") + len(data).to_bytes(4, "little")
        body += data
    return head + bytes(24) + body


HOST_TABLE = table(
    (VCEK, FOUNDRY.snp_chain.leaf.public_bytes(Encoding.DER)),
    (CRL, b"no certificate"),
    (ARK, FOUNDRY.snp_chain.root.public_bytes(Encoding.DER)),
)


def test_a_tdx_machine_signs_what_it_is_asked(tmp_path: Path) -> None:
    with TsmFolder(tmp_path / "report", FOUNDRY.tdx) as hardware:
        door = Door(tmp_path / "report")
        quotes = [door.sign(bound) for bound in (BOUND, b"\5" * 32)]
    assert hardware.written == [BOUND.ljust(INBLOB_BYTES, b"\0"), (b"\5" * 32).ljust(INBLOB_BYTES, b"\0")]
    assert [(quote.kind, quote.chain) for quote in quotes] == [("tdx", b"")] * 2
    check(Evidence(quotes[0]), (Hardware("tdx", (TDX_IMAGE,)),), BOUND, FOUNDRY.makers, NOW)


def test_a_snp_machine_shows_the_chain_of_its_host(tmp_path: Path) -> None:
    with TsmFolder(tmp_path / "report", FOUNDRY.snp, "sev_guest", HOST_TABLE):
        quote = Door(tmp_path / "report").sign(BOUND)
    check(Evidence(quote), (Hardware("sev-snp", (SNP_IMAGE,)),), BOUND, FOUNDRY.makers, NOW)


def test_or_the_one_that_its_owner_keeps(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "vcek.der").write_bytes(FOUNDRY.snp_chain.leaf.public_bytes(Encoding.DER))
    (kept / "ark.pem").write_bytes(FOUNDRY.snp_chain.root.public_bytes(Encoding.PEM))
    (kept / "notes.pem").write_text("not a certificate")
    with TsmFolder(tmp_path / "report", FOUNDRY.snp, "sev_guest"):
        quote = Door(tmp_path / "report", kept).sign(BOUND)
    check(Evidence(quote), (Hardware("sev-snp", (SNP_IMAGE,)),), BOUND, FOUNDRY.makers, NOW)


def test_amds_own_certificates_pass_through_a_table() -> None:
    der = [item.public_bytes(Encoding.DER) for item in recorded.SNP_CERTIFICATES]
    chain = certificates_of(table((VCEK, der[0]), (ARK, der[2])))
    assert chain == b"".join(recorded.SNP_CERTIFICATES[at].public_bytes(Encoding.PEM) for at in (0, 2))


@pytest.mark.parametrize(
    "data",
    [b"", b"x" * 23, VCEK + b"\xff" * 8, VCEK + bytes(8), HOST_TABLE[:60]],
    ids=["empty", "short", "far", "nothing", "cut"],
)
def test_a_broken_table_is_no_certificate(data: bytes) -> None:
    assert certificates_of(data) == b""


def test_somebody_elses_writes_are_noticed(tmp_path: Path) -> None:
    with TsmFolder(tmp_path / "report", FOUNDRY.tdx, step=2) as hardware, pytest.raises(Unavailable, match="another"):
        Door(tmp_path / "report").sign(BOUND)
    assert len(hardware.written) == TRIES


@pytest.mark.parametrize(
    ("signs", "provider", "said"),
    [
        (FOUNDRY.tdx, "arm_cca_guest", "arm_cca_guest"),
        (lambda asked: bytes(PART_BYTES_MAX + 1), "tdx_guest", "more than"),
    ],
    ids=["another maker", "too long"],
)
def test_what_is_no_quote_of_ours(tmp_path: Path, signs: Signs, provider: str, said: str) -> None:
    with TsmFolder(tmp_path / "report", signs, provider), pytest.raises(Unavailable, match=said):
        Door(tmp_path / "report").sign(BOUND)


def test_a_machine_without_says_so(tmp_path: Path) -> None:
    assert not Door(tmp_path / "none").is_there
    (tmp_path / "report" / ENTRY).mkdir(parents=True)
    with pytest.raises(Unavailable) as caught:
        Door(tmp_path / "report").sign(BOUND)
    assert caught.value.code == "no_quote"
    assert FOLDER.parts[-2:] == ("tsm", "report")
