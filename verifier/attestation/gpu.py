"""Attestation reports of NVIDIA GPUs in confidential mode: an SPDM 1.1 measurement exchange, request and response.

The nonce of the request is what binds a report to its purpose. Source: DMTF DSP0274 1.1, GET_MEASUREMENTS.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Final

from cryptography.hazmat.primitives import hashes

from protocol.units import Micros
from verifier.attestation.chains import check_chain, check_signature, order, read_pem
from verifier.attestation.fields import Fields, malformed
from verifier.attestation.quote import Quote

REQUEST: Final = bytes((0x11, 0xE0, 0x01, 0xFF))
"""SPDM 1.1, GET_MEASUREMENTS, signed, all blocks."""

RESPONSE: Final = bytes((0x11, 0x60))
"""SPDM 1.1, MEASUREMENTS."""

SIGNATURE_BYTES: Final = 96
"""ECDSA on P-384."""

BLOCKS_MAX: Final = 254
DMTF: Final = 1
"""The measurement specification of every block."""


def read_gpu(
    report: bytes,
    chain: bytes,
    roots: Collection[bytes],
    revoked: Collection[bytes],
    now: Micros,
    others: bytes = b"",
) -> Quote:
    """A checked report; `chain` in PEM, the device's certificate first, `others`: a chain that may have its issuers.

    `report_data` is the request's nonce."""
    fields = Fields(report, "the GPU report")
    if fields.take(4) != REQUEST:
        raise malformed("no request for all measurements of a GPU")
    nonce = fields.take(32)
    fields.take(1)
    if fields.take(2) != RESPONSE:
        raise malformed("no measurements of a GPU")
    fields.take(2)
    count = fields.number(1)
    record = Fields(fields.take(fields.number(3)), "the measurement record")
    blocks = [_block(record) for _ in range(count)]
    record.end()
    fields.take(32)
    fields.take(fields.number(2))
    fields.take(SIGNATURE_BYTES)
    fields.end()
    leaf = check_chain(order([*read_pem(chain), *(read_pem(others) if others else ())]), roots, revoked, now)
    check_signature(leaf, report[-SIGNATURE_BYTES:], report[:-SIGNATURE_BYTES], hashes.SHA384())
    if len({index for index, _ in blocks}) != len(blocks):
        raise malformed("a measurement stands there twice")
    measured = hashlib.sha384(b"".join(bytes([index]) + value for index, value in sorted(blocks))).digest()
    return Quote("nvidia", measured, nonce, is_debug=False, versions=())


def _block(record: Fields) -> tuple[int, bytes]:
    """(index, measured value)."""
    index = record.number(1)
    if not 1 <= index <= BLOCKS_MAX or record.number(1) != DMTF:
        raise malformed("a measurement block of an unknown kind")
    value = Fields(record.take(record.number(2)), "a measurement")
    value.take(1)
    measured = value.take(value.number(2))
    value.end()
    return index, measured
