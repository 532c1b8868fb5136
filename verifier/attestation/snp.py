"""AMD SEV-SNP attestation reports, version 2 and later. Source: AMD, "SEV Secure Nested Paging Firmware ABI", 56860."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from protocol.units import Micros
from verifier.attestation.chains import check_chain, check_signature, order
from verifier.attestation.fields import Fields, malformed
from verifier.attestation.quote import Quote

REPORT_BYTES: Final = 1184
"""Of every report."""

SIGNED_BYTES: Final = 672
"""From the beginning; the signature follows."""

COMPONENT_BYTES: Final = 72
"""R and S are little-endian numbers in 72 bytes each; those of P-384 fill 48."""

ECDSA_P384_SHA384: Final = 1
"""The only signature algorithm that the firmware knows."""

DEBUG_BIT: Final = 19
"""Of the guest policy."""

VERSION_MIN: Final = 2
"""Older firmware has another layout."""


def read_snp(
    report: bytes,
    certificates: Collection[x509.Certificate],
    roots: Collection[bytes],
    revoked: Collection[bytes],
    now: Micros,
) -> Quote:
    """A checked report. `certificates`: VCEK, ASK, ARK in any order. Raises `Refused`."""
    said = parse_snp(report)
    leaf = check_chain(order(tuple(certificates)), roots, revoked, now)
    signature = report[SIGNED_BYTES : SIGNED_BYTES + 2 * COMPONENT_BYTES]
    r, s = (int.from_bytes(signature[at : at + COMPONENT_BYTES], "little") for at in (0, COMPONENT_BYTES))
    if max(r, s).bit_length() > 384:
        raise malformed("a signature beyond its curve")
    check_signature(leaf, r.to_bytes(48, "big") + s.to_bytes(48, "big"), report[:SIGNED_BYTES], hashes.SHA384())
    return said


def parse_snp(report: bytes) -> Quote:
    """What a report says, unchecked. Raises `Refused` (`malformed_proof`)."""
    if len(report) != REPORT_BYTES:
        raise malformed(f"an SNP report has {REPORT_BYTES} bytes, not {len(report)}")
    fields = Fields(report, "the SNP report")
    if fields.number(4) < VERSION_MIN:
        raise malformed("an SNP report of an unknown version")
    fields.take(4)
    policy = fields.number(8)
    fields.take(16 + 16 + 4)
    if fields.number(4) != ECDSA_P384_SHA384:
        raise malformed("an SNP report with an unknown signature algorithm")
    fields.take(8 + 8 + 4 + 4)
    report_data, measurement = fields.take(64), fields.take(48)
    fields.take(32 + 48 + 48 + 32 + 32)
    reported = fields.take(8)
    return Quote("sev-snp", measurement, report_data, bool(policy >> DEBUG_BIT & 1), tuple(reported))
