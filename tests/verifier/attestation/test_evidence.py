"""What a job takes for evidence: both makers' quotes and cards, bound to one claim, each under its own root only."""

from __future__ import annotations

import pytest

from protocol.errors import Refused
from protocol.proof import Hardware
from protocol.quote_messages import EVIDENCE_BYTES_MAX, CpuQuote, Evidence, GpuReport
from protocol.units import Micros
from tests.verifier.attestation import recorded
from tests.verifier.attestation.foundry import GPU_IMAGE, SNP_IMAGE, TDX_IMAGE, Foundry
from verifier.attestation.chains import fingerprint
from verifier.attestation.evidence import check, measurement, read
from verifier.attestation.makers import BUILT_IN, Makers

NOW = Micros(1_800_000_000_000_000)
FOUNDRY = Foundry()
BOUND = b"\5" * 32
TDX = Hardware("tdx", (TDX_IMAGE,), (5, 5))
SNP = Hardware("sev-snp", (b"x" * 48, SNP_IMAGE), (9,))
CARD = Hardware("nvidia", (GPU_IMAGE,))
SNP_QUOTE = CpuQuote("sev-snp", FOUNDRY.snp(BOUND), FOUNDRY.snp_chain.pem)
TDX_QUOTE = CpuQuote("tdx", FOUNDRY.tdx(BOUND))


def code(cpu: CpuQuote, *hardware: Hardware, cards: tuple[GpuReport, ...] = (), makers: Makers = FOUNDRY.makers) -> str:
    try:
        check(Evidence(cpu, cards), hardware, BOUND, makers, NOW)
    except Refused as error:
        return error.code
    return ""


def test_what_a_job_lists_is_evidence() -> None:
    assert code(TDX_QUOTE, TDX) == ""
    assert code(SNP_QUOTE, TDX, SNP) == ""
    assert code(TDX_QUOTE, TDX, CARD, cards=(FOUNDRY.gpu(BOUND), FOUNDRY.gpu(BOUND))) == ""


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (code(TDX_QUOTE, SNP), "unknown_image"),
        (code(TDX_QUOTE, Hardware("tdx", (TDX_IMAGE,), (6,))), "outdated_platform"),
        (code(CpuQuote("tdx", FOUNDRY.tdx(b"old")), TDX), "stale_nonce"),
        (code(CpuQuote("tdx", FOUNDRY.tdx(BOUND, attributes=1)), TDX), "debug_machine"),
        (code(CpuQuote("sev-snp", FOUNDRY.snp(BOUND, 1 << 19), FOUNDRY.snp_chain.pem), SNP), "debug_machine"),
        (code(CpuQuote("tdx", FOUNDRY.tdx(BOUND, signer=bytes(32))), TDX), "bad_chain"),
        (code(CpuQuote("sev-snp", SNP_QUOTE.report), SNP), "malformed_proof"),
        (code(CpuQuote("sev-snp", TDX_QUOTE.report), SNP), "malformed_proof"),
        (code(TDX_QUOTE, TDX, CARD), "missing_quote"),
        (code(TDX_QUOTE, TDX, CARD, cards=(FOUNDRY.gpu(b"\6" * 32),)), "stale_nonce"),
        (code(TDX_QUOTE, TDX, cards=(FOUNDRY.gpu(BOUND),)), "unknown_image"),
        (code(TDX_QUOTE, TDX, makers=BUILT_IN), "untrusted_root"),
        (code(TDX_QUOTE, TDX, makers=Makers({})), "untrusted_root"),
    ],
)
def test_what_is_no_evidence(found: str, wanted: str) -> None:
    assert found == wanted


def test_a_root_counts_for_its_own_maker_only() -> None:
    swapped = Makers({"tdx": FOUNDRY.makers.roots["sev-snp"], "sev-snp": FOUNDRY.makers.roots["tdx"]})
    assert code(TDX_QUOTE, TDX, makers=swapped) == code(SNP_QUOTE, SNP, makers=swapped) == "untrusted_root"


def test_a_revoked_certificate_counts_no_more() -> None:
    revoked = Makers(FOUNDRY.makers.roots, frozenset([fingerprint(FOUNDRY.tdx_chain.leaf)]))
    assert code(TDX_QUOTE, TDX, makers=revoked) == "revoked"


def test_more_than_fits_a_message_is_not_read() -> None:
    card = GpuReport(bytes(16_384), bytes(16_384))
    assert Evidence(TDX_QUOTE, (card, card)).size > EVIDENCE_BYTES_MAX
    assert code(TDX_QUOTE, TDX, CARD, cards=(card, card)) == "malformed_proof"


def test_recorded_quotes_of_real_machines_end_at_the_built_in_roots() -> None:
    chain = b"".join(recorded.read(name) for name in ("snp-milan-chain.pem",))
    vcek = recorded.SNP_CERTIFICATES[0].public_bytes(recorded.PEM)
    card = GpuReport(recorded.GPU, recorded.read("gpu-chain.pem"))
    amd = Evidence(CpuQuote("sev-snp", recorded.SNP, vcek + chain), (card,))
    intel = Evidence(CpuQuote("tdx", recorded.TDX))
    assert [quote.maker for quote in read(amd, BUILT_IN, recorded.NOW)] == ["sev-snp", "nvidia"]
    assert [quote.maker for quote in read(intel, BUILT_IN, recorded.NOW)] == ["tdx"]
    assert read(intel, BUILT_IN, recorded.NOW)[0].measurement == measurement(intel.cpu)
    assert (measurement(TDX_QUOTE), measurement(SNP_QUOTE)) == (TDX_IMAGE, SNP_IMAGE)
