"""Intel TDX quotes, version 4, with the provisioning chain inside. Source: Intel, "TDX DCAP Quoting Library API"."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.errors import Refused
from protocol.units import Micros
from verifier.attestation.chains import check_chain, check_ecdsa, check_signature, order, read_pem
from verifier.attestation.fields import Fields, malformed
from verifier.attestation.quote import Quote

HEADER_BYTES: Final = 48
BODY_BYTES: Final = 584
"""Of the report about the virtual machine."""

QE_REPORT_BYTES: Final = 384
"""Of the report about the enclave that quotes."""

TDX: Final = 0x81
"""Kind of machine; 0 is SGX."""

ECDSA_P256: Final = 2
QE_CERTIFICATION: Final = 6
"""Certification data that holds the quoting enclave's report."""
PCK_CHAIN: Final = 5
"""Certification data that holds a PEM chain."""


QE_SIGNER: Final = bytes.fromhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5")
"""Who signed Intel's own quoting enclaves: any other enclave on a genuine machine may vouch for any key it likes."""

TD_QE: Final = 2
"""Product number of the enclave that quotes virtual machines."""

DEBUG: Final = 2
"""Bit of an enclave's flags."""

_QE_FIX: Final = "Install Intel's own quoting enclave (DCAP)."


@dataclass(frozen=True, slots=True)
class _Signed:
    """What is below the body: the attestation key's signature, and who vouches for that key."""

    signature: bytes
    key: bytes
    qe_report: bytes
    qe_signature: bytes
    qe_auth: bytes
    chain: bytes


def read_tdx(quote: bytes, roots: Collection[bytes], revoked: Collection[bytes], now: Micros) -> Quote:
    """A checked quote: attestation key, quoting enclave, provisioning chain. Raises `Refused`."""
    said, parts = parse_tdx(quote)
    _check(quote[: HEADER_BYTES + BODY_BYTES], parts, roots, revoked, now)
    return said


def parse_tdx(quote: bytes) -> tuple[Quote, _Signed]:
    """What a quote says, unchecked, and what would prove it. Raises `Refused` (`malformed_proof`)."""
    fields = Fields(quote, "the TDX quote")
    if (fields.number(2), fields.number(2), fields.number(4)) != (4, ECDSA_P256, TDX):
        raise malformed("no TDX quote of version 4 with ECDSA")
    fields.take(HEADER_BYTES - 8)
    body = Fields(fields.take(BODY_BYTES), "the TDX report")
    svn = body.take(16)
    body.take(48 + 48 + 8)
    attributes = body.number(8)
    body.take(8)
    mrtd = body.take(48)
    body.take(3 * 48)
    registers, report_data = body.take(4 * 48), body.take(64)
    body.end()
    parts = _signed(Fields(fields.take(fields.number(4)), "the TDX signature"))
    if any(quote[fields.at :]):  # Machines pad quotes with zeros.
        raise malformed("bytes behind the quote")
    image = hashlib.sha384(mrtd + registers).digest()
    return Quote("tdx", image, report_data, bool(attributes & 1), tuple(svn)), parts


def _signed(fields: Fields) -> _Signed:
    signature, key = fields.take(64), fields.take(64)
    if fields.number(2) != QE_CERTIFICATION:
        raise malformed("a TDX quote without the report of its quoting enclave")
    inner = Fields(fields.take(fields.number(4)), "the certification data")
    qe_report, qe_signature = inner.take(QE_REPORT_BYTES), inner.take(64)
    auth = inner.take(inner.number(2))
    if inner.number(2) != PCK_CHAIN:
        raise malformed("a TDX quote without its certificates")
    chain = inner.take(inner.number(4))
    return _Signed(signature, key, qe_report, qe_signature, auth, chain)


def _check(signed: bytes, parts: _Signed, roots: Collection[bytes], revoked: Collection[bytes], now: Micros) -> None:
    leaf = check_chain(order(read_pem(parts.chain)), roots, revoked, now)
    check_signature(leaf, parts.qe_signature, parts.qe_report, hashes.SHA256())
    _check_enclave(Fields(parts.qe_report, "the report of the quoting enclave"))
    if parts.qe_report[320:352] != hashlib.sha256(parts.key + parts.qe_auth).digest():
        raise malformed("the quoting enclave vouches for another key")
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + parts.key)
    except ValueError as error:
        raise malformed("the attestation key is no point of P-256") from error
    check_ecdsa(key, parts.signature, signed, hashes.SHA256())


def _check_enclave(report: Fields) -> None:
    """That the enclave which vouches for the attestation key is Intel's, and nobody can look into it."""
    report.take(48)
    flags = report.number(8)
    report.take(8 + 32 + 32)
    signer = report.take(32)
    report.take(96)
    if signer != QE_SIGNER or report.number(2) != TD_QE:
        raise Refused("another enclave than Intel's vouches for the key", code="bad_chain", fix=_QE_FIX)
    if flags & DEBUG:
        raise Refused("the quoting enclave may be debugged", code="debug_machine", fix=_QE_FIX)
