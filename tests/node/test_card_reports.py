"""Reports of cards: as NVIDIA's SDK hands them out, and eight of them in one message."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from node.card_reports import MARK, from_sdk, without_repeats
from protocol.errors import Unavailable
from protocol.proof import Hardware
from protocol.quote_messages import CARDS_MAX, EVIDENCE_BYTES_MAX, CpuQuote, Evidence, GpuReport
from protocol.units import Micros
from tests.verifier.attestation import recorded
from tests.verifier.attestation.foundry import GPU_IMAGE, TDX_IMAGE, Foundry, chain
from verifier.attestation.evidence import check, read
from verifier.attestation.makers import BUILT_IN

SDK: Final = Path(__file__).parents[2] / ".venv-attestation" / "bin" / "python"
CARD: Final = GpuReport(recorded.GPU, recorded.read("gpu-chain.pem"))
BOUND: Final = b"\4" * 32
NOW: Final = Micros(1_800_000_000_000_000)

OF_SDK: Final = f"""
import base64, json, logging
logging.disable(logging.CRITICAL)
from nv_attestation_sdk.gpu import attest_gpu_local
from verifier.nvml.gpu_cert_chains import GpuCertificateChains
card, = attest_gpu_local.get_evidence("00" * 32, {{"no_gpu_mode": True, "ppcie_mode": False}})
chain = GpuCertificateChains.extract_gpu_cert_chain_base64(card.get_attestation_cert_chain())
print("\\n{MARK}" + json.dumps([[base64.b64encode(card.get_attestation_report()).decode(), chain]]))
"""
"""The SDK's own recorded H100, put into the form in which it hands out evidence."""


def interpreter(folder: Path, *lines: str, code: int = 0) -> Path:
    """A program that writes these lines, whatever it is asked to run."""
    (folder / "said").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    script = folder / "python"
    script.write_text(f'#!/bin/sh\ncat "{folder}/said"\nexit {code}\n', encoding="utf-8")
    script.chmod(0o700)
    return script


def said(*cards: GpuReport) -> str:
    parts = [[base64.b64encode(part).decode() for part in (card.report, card.chain)] for card in cards]
    return MARK + json.dumps(parts)


def test_the_sdks_words_are_passed_over_and_its_evidence_read(tmp_path: Path) -> None:
    python = interpreter(tmp_path, "Number of GPUs available : 1", said(CARD))
    assert from_sdk(python, bytes(32)) == (CARD,)


@pytest.mark.parametrize(
    "lines",
    [(), ("no mark",), (MARK + "rubbish",), (MARK + '[["a"]]',), (MARK + '[["?", "?"]]',), (MARK + "{}",)],
)
def test_rubbish_is_no_evidence(tmp_path: Path, lines: tuple[str, ...]) -> None:
    with pytest.raises(Unavailable) as caught:
        from_sdk(interpreter(tmp_path, *lines), bytes(32))
    assert caught.value.code == "no_quote"
    with pytest.raises(Unavailable):
        from_sdk(interpreter(tmp_path, said(CARD), code=1), bytes(32))


def test_an_interpreter_that_hangs_is_ended(tmp_path: Path) -> None:
    script = interpreter(tmp_path)
    script.write_text("#!/bin/sh\nexec sleep 3600\n", encoding="utf-8")
    with pytest.raises(Unavailable, match=r"nothing within 0\.2 s"):
        from_sdk(script, bytes(32), seconds=0.2)


@pytest.mark.skipif(not SDK.exists(), reason="no .venv-attestation: `make attestation` prepares it")
def test_the_sdks_own_recorded_card_ends_at_the_built_in_root() -> None:
    done = subprocess.run([str(SDK), "-I", "-c", OF_SDK], capture_output=True, timeout=60, check=True)
    (line,) = [line for line in done.stdout.decode().splitlines() if line.startswith(MARK)]
    ((report, pem),) = json.loads(line.removeprefix(MARK))
    card = GpuReport(base64.b64decode(report), base64.b64decode(pem))
    quotes = read(Evidence(CpuQuote("tdx", recorded.TDX), (card,)), BUILT_IN, recorded.NOW)
    assert [quote.maker for quote in quotes] == ["tdx", "nvidia"]


def test_eight_cards_fit_one_message_because_they_share_their_issuers() -> None:
    cpu = CpuQuote("tdx", recorded.TDX)
    whole, slim = (Evidence(cpu, cards) for cards in ((CARD,) * CARDS_MAX, without_repeats((CARD,) * CARDS_MAX)))
    assert slim.size < EVIDENCE_BYTES_MAX < whole.size
    assert len(read(slim, BUILT_IN, recorded.NOW)) == 1 + CARDS_MAX
    assert without_repeats(()) == ()


def test_every_card_keeps_its_own_certificate() -> None:
    foundry = Foundry()
    other = foundry.gpu(BOUND, chain("gpu", ec.SECP384R1(), foundry.gpu_chain))
    cards = without_repeats((foundry.gpu(BOUND), other))
    assert 0 < len(cards[1].chain) < len(other.chain)
    wanted = (Hardware("tdx", (TDX_IMAGE,)), Hardware("nvidia", (GPU_IMAGE,)))
    check(Evidence(CpuQuote("tdx", foundry.tdx(BOUND)), cards), wanted, BOUND, foundry.makers, NOW)
