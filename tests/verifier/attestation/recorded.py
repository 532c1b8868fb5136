"""Quotes of real machines, and the roots of their makers, as published with the makers' and Google's own verifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from protocol.units import Micros
from verifier.attestation.chains import fingerprint, read_der, read_pem
from verifier.attestation.gpu import read_gpu
from verifier.attestation.quote import Quote
from verifier.attestation.snp import read_snp
from verifier.attestation.tdx import read_tdx

PEM: Final = Encoding.PEM
QUOTES: Final = Path(__file__).with_name("quotes")
NOW: Final = Micros(1_700_000_000_000_000)
"""A day of November 2023: every recorded certificate was valid then, µs."""


def read(name: str) -> bytes:
    return (QUOTES / name).read_bytes()


MILAN: Final = read_pem(read("snp-milan-chain.pem"))
SNP_CERTIFICATES: Final = (read_der(read("snp-vcek.der")), *MILAN)
SNP_ROOTS: Final = {fingerprint(item) for item in MILAN if item.subject == item.issuer}
TDX_ROOTS: Final = {fingerprint(item) for item in read_pem(read("intel-root.pem"))}
GPU_ROOTS: Final = {fingerprint(item) for item in read_pem(read("nvidia-root.pem"))}
ROOTS: Final = SNP_ROOTS | TDX_ROOTS | GPU_ROOTS
TDX, SNP, GPU = read("tdx-quote.bin"), read("snp-report.bin"), read("gpu-report.bin")


def tdx(data: bytes = TDX, now: int = NOW, revoked: tuple[bytes, ...] = ()) -> Quote:
    return read_tdx(data, ROOTS, revoked, Micros(now))


def snp(data: bytes = SNP, now: int = NOW, revoked: tuple[bytes, ...] = ()) -> Quote:
    return read_snp(data, SNP_CERTIFICATES, ROOTS, revoked, Micros(now))


def gpu(data: bytes = GPU, now: int = NOW, revoked: tuple[bytes, ...] = ()) -> Quote:
    return read_gpu(data, read("gpu-chain.pem"), ROOTS, revoked, Micros(now))
