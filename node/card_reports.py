"""Reports of NVIDIA cards in confidential mode: from the driver itself, or through NVIDIA's own SDK.

The SDK (nv-attestation-sdk 2.7.3, the last for Python) pins libraries that the node has newer, so it cannot be
installed beside it: it runs in an interpreter of its own, which the owner names. Both end in one call of the driver.
"""

from __future__ import annotations

import base64
import binascii
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import msgspec
import pynvml

from protocol.errors import Unavailable
from protocol.quote_messages import CARDS_MAX, GpuReport

SDK_SECONDS: Final = 20.0
"""For the SDK: its imports take two, each card one or two; it waits 30 by itself where there is no driver."""

OUTPUT_BYTES_MAX: Final = 1 << 20
"""Of the SDK's words and evidence: eight cards have 120 KiB."""

MARK: Final = "shoal-evidence:"
"""Before the line that is meant for the node: the SDK's loggers write to the same stream."""

PROGRAM: Final = f"""
import json, sys
from nv_attestation_sdk.attestation import Attestation, Devices, Environment
client = Attestation("shoal")
client.set_nonce(sys.argv[1])
client.add_verifier(Devices.GPU, Environment.REMOTE, "", "")
found = client.get_evidence({{"ppcie_mode": False}})
print("\\n{MARK}" + json.dumps([[card["evidence"], card["certificate"]] for card in found]))
"""
"""What the SDK's interpreter runs: evidence is collected, nobody is asked about it. argv: the nonce in hex."""

_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_FIX: Final = (
    "Confidential mode needs a Hopper card or newer behind a TDX or SEV-SNP machine (nvidia-smi conf-compute)."
)


class Cards(msgspec.Struct, frozen=True, array_like=True):
    """One card's evidence as the program prints it, in base64."""

    report: str
    chain: str


def from_driver(nonce: bytes) -> tuple[GpuReport, ...]:
    """Every card's report over 32 bytes, by NVML. Blocks for a second per card. Raises `Unavailable`."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise Unavailable(f"no NVIDIA driver: {error}", code="no_quote", fix=_FIX) from error
    try:
        count = min(CARDS_MAX, int(pynvml.nvmlDeviceGetCount()))
        return tuple(_report(index, nonce) for index in range(count))
    except pynvml.NVMLError as error:
        raise Unavailable(f"the cards sign nothing: {error}", code="no_quote", fix=_FIX) from error
    finally:
        pynvml.nvmlShutdown()


def without_repeats(cards: tuple[GpuReport, ...]) -> tuple[GpuReport, ...]:
    """The same evidence, shorter: cards of one machine share the certificates of their makers."""
    known = set(_CERTIFICATE.findall(cards[0].chain)) if cards else set()
    slim = [
        GpuReport(card.report, b"\n".join(one for one in _CERTIFICATE.findall(card.chain) if one not in known))
        for card in cards[1:]
    ]
    return (*cards[:1], *slim)


def _report(index: int, nonce: bytes) -> GpuReport:
    card = pynvml.nvmlDeviceGetHandleByIndex(index)
    chain = pynvml.nvmlDeviceGetConfComputeGpuCertificate(card)
    signed = pynvml.nvmlDeviceGetConfComputeGpuAttestationReport(card, nonce)
    return GpuReport(
        bytes(signed.attestationReport[: signed.attestationReportSize]),
        bytes(chain.attestationCertChain[: chain.attestationCertChainSize]).rstrip(b"\0"),
    )


def from_sdk(python: Path, nonce: bytes, seconds: float = SDK_SECONDS) -> tuple[GpuReport, ...]:
    """The same through NVIDIA's SDK, in the interpreter that has it. Raises `Unavailable`."""
    command = [str(python), "-I", "-c", PROGRAM, nonce.hex()]
    try:
        with tempfile.TemporaryDirectory() as folder:  # The SDK leaves its logs where it runs.
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, cwd=folder)
    except OSError as error:
        raise Unavailable(f"nv-attestation-sdk: {error}", code="no_quote", fix=_FIX) from error
    except subprocess.TimeoutExpired as error:
        late = f"nv-attestation-sdk: nothing within {seconds:g} s; it waits for a driver that is not there"
        raise Unavailable(late, code="no_quote", fix=_FIX) from error
    said = [line for line in done.stdout[-OUTPUT_BYTES_MAX:].splitlines() if line.startswith(MARK.encode())]
    if done.returncode or not said:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise Unavailable(f"nv-attestation-sdk: {last[0][:200]}", code="no_quote", fix=_FIX)
    return _decoded(said[-1].removeprefix(MARK.encode()))


def _decoded(line: bytes) -> tuple[GpuReport, ...]:
    try:
        cards = msgspec.json.decode(line, type=tuple[Cards, ...])
        return tuple(
            GpuReport(base64.b64decode(card.report, validate=True), base64.b64decode(card.chain, validate=True))
            for card in cards
        )
    except (msgspec.DecodeError, binascii.Error) as error:
        raise Unavailable(f"nv-attestation-sdk: {error}", code="no_quote", fix=_FIX) from error
