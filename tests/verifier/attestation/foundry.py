"""Makers of hardware with roots of their own: quotes in the formats of the real ones, over any bytes.

The hardware is emulated; formats, chains and signatures are not: the readers cannot tell but by the root.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol.quote_messages import CpuQuote, Evidence, GpuReport
from verifier.attestation.chains import fingerprint
from verifier.attestation.gpu import REQUEST, RESPONSE
from verifier.attestation.makers import Makers
from verifier.attestation.snp import COMPONENT_BYTES, ECDSA_P384_SHA384, REPORT_BYTES, SIGNED_BYTES
from verifier.attestation.tdx import QE_SIGNER, TD_QE

BEGIN, END = datetime(1970, 1, 1, tzinfo=UTC), datetime(2060, 1, 1, tzinfo=UTC)
MRTD: Final = b"\7" * 48
REGISTERS: Final = b"\1" * 192
TDX_IMAGE: Final = hashlib.sha384(MRTD + REGISTERS).digest()
SNP_IMAGE: Final = b"\x0b" * 48
FIRMWARE: Final = b"\x0c" * 48
GPU_IMAGE: Final = hashlib.sha384(b"\1" + FIRMWARE).digest()


@dataclass(frozen=True)
class Chain:
    """A root, and a device that it vouches for."""

    curve: ec.EllipticCurve
    root_key: ec.EllipticCurvePrivateKey
    key: ec.EllipticCurvePrivateKey
    root: x509.Certificate
    leaf: x509.Certificate

    @property
    def pem(self) -> bytes:
        return self.leaf.public_bytes(Encoding.PEM) + self.root.public_bytes(Encoding.PEM)

    def sign(self, data: bytes, algorithm: hashes.HashAlgorithm, width: int) -> bytes:
        return raw(self.key, data, algorithm, width)


def raw(key: ec.EllipticCurvePrivateKey, data: bytes, algorithm: hashes.HashAlgorithm, width: int) -> bytes:
    """r and s, big-endian."""
    return b"".join(part.to_bytes(width, "big") for part in decode_dss_signature(key.sign(data, ec.ECDSA(algorithm))))


def chain(name: str, curve: ec.EllipticCurve, sibling: Chain | None = None) -> Chain:
    """A device below a fresh root, or below that of a sibling."""
    root_key = sibling.root_key if sibling is not None else ec.generate_private_key(curve)
    issuer, device = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name} test {what}")]) for what in ("root", "device")
    )

    def certificate(subject: x509.Name, public: ec.EllipticCurvePublicKey, is_root: bool) -> x509.Certificate:
        builder = x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number(), BEGIN, END)
        builder = builder.add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        return builder.sign(root_key, hashes.SHA384())

    root = sibling.root if sibling is not None else certificate(issuer, root_key.public_key(), is_root=True)
    key = ec.generate_private_key(curve)
    return Chain(curve, root_key, key, root, certificate(device, key.public_key(), is_root=False))


@dataclass
class Foundry:
    """One maker of each kind."""

    tdx_chain: Chain = field(default_factory=lambda: chain("tdx", ec.SECP256R1()))
    snp_chain: Chain = field(default_factory=lambda: chain("snp", ec.SECP384R1()))
    gpu_chain: Chain = field(default_factory=lambda: chain("gpu", ec.SECP384R1()))

    @property
    def makers(self) -> Makers:
        """Who believes in them."""
        return Makers(
            {
                "tdx": frozenset([fingerprint(self.tdx_chain.root)]),
                "sev-snp": frozenset([fingerprint(self.snp_chain.root)]),
                "nvidia": frozenset([fingerprint(self.gpu_chain.root)]),
            }
        )

    def tdx(self, data: bytes, attributes: int = 0, signer: bytes = QE_SIGNER, svn: int = 5) -> bytes:
        """A TDX quote of version 4."""
        attestation = ec.generate_private_key(ec.SECP256R1())
        public = attestation.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
        head = b"".join(number.to_bytes(size, "little") for number, size in ((4, 2), (2, 2), (0x81, 4))) + bytes(40)
        body = bytes([svn]) * 16 + bytes(104) + attributes.to_bytes(8, "little") + bytes(8) + MRTD + bytes(144)
        signed = head + body + REGISTERS + data.ljust(64, b"\0")
        auth = b"auth"
        vouched = hashlib.sha256(public + auth).digest().ljust(64, b"\0")
        enclave = bytes(128) + signer + bytes(96) + TD_QE.to_bytes(2, "little") + bytes(62) + vouched
        inner = enclave + self.tdx_chain.sign(enclave, hashes.SHA256(), 32) + _sized(auth, 2)
        inner += (5).to_bytes(2, "little") + _sized(self.tdx_chain.pem, 4)
        part = raw(attestation, signed, hashes.SHA256(), 32) + public + (6).to_bytes(2, "little") + _sized(inner, 4)
        return signed + _sized(part, 4)

    def snp(self, data: bytes, policy: int = 0) -> bytes:
        """A SEV-SNP report of version 2."""
        head = (2).to_bytes(4, "little") + bytes(4) + policy.to_bytes(8, "little") + bytes(36)
        head += ECDSA_P384_SHA384.to_bytes(4, "little") + bytes(24) + data.ljust(64, b"\0") + SNP_IMAGE
        signed = (head + bytes(192) + b"\x09" * 8).ljust(SIGNED_BYTES, b"\0")
        pair = self.snp_chain.sign(signed, hashes.SHA384(), 48)
        parts = (pair[:48][::-1].ljust(COMPONENT_BYTES, b"\0"), pair[48:][::-1].ljust(COMPONENT_BYTES, b"\0"))
        return (signed + b"".join(parts)).ljust(REPORT_BYTES, b"\0")

    def gpu(self, nonce: bytes, by: Chain | None = None) -> GpuReport:
        """An NVIDIA report with one measurement. `by`: another card than the first."""
        device = by or self.gpu_chain
        measured = b"\0" + _sized(FIRMWARE, 2)
        block = b"\1\1" + _sized(measured, 2)
        signed = REQUEST + nonce + b"\0" + RESPONSE + bytes(2) + b"\1" + _sized(block, 3) + bytes(32) + _sized(b"", 2)
        return GpuReport(signed + device.sign(signed, hashes.SHA384(), 48), device.pem)

    def evidence(self, bound: bytes, has_card: bool = False) -> Evidence:
        """A TDX machine's, with its card's report on request."""
        return Evidence(CpuQuote("tdx", self.tdx(bound)), (self.gpu(bound),) if has_card else ())


def _sized(data: bytes, size: int) -> bytes:
    return len(data).to_bytes(size, "little") + data
