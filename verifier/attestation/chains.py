"""Certificate chains of hardware makers: from a quote's signing key to a root that the verifier already trusts.

X.509 by the `cryptography` package; time is an argument. Spec: specs/40-attestation.md.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.utils import CryptographyDeprecationWarning

from protocol.errors import Refused
from protocol.units import SECOND, Micros
from verifier.attestation.fields import malformed

CHAIN_MAX: Final = 6
"""Certificates of one chain: NVIDIA's has five."""

UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the package says of bytes that are no certificate."""

_CA_FIX: Final = "Send the chain of the machine that signed, up to its maker's root."


def read_der(data: bytes) -> x509.Certificate:
    """One certificate; `Refused` (`malformed_proof`) for anything else. AMD's have the serial number 0, which the
    package reads with a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        try:
            return _whole(x509.load_der_x509_certificate(data))
        except UNREADABLE as error:
            raise malformed(f"no certificate: {error}") from error


def read_pem(data: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM file, leaf first; `Refused` (`malformed_proof`) for anything else. AMD's as above."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        try:
            found = [_whole(item) for item in x509.load_pem_x509_certificates(data.rstrip(b"\0"))]
        except UNREADABLE as error:
            raise malformed(f"no certificates: {error}") from error
    if len(found) > CHAIN_MAX:
        raise malformed(f"a chain of {len(found)} certificates, {CHAIN_MAX} are allowed")
    return found


def fingerprint(certificate: x509.Certificate) -> bytes:
    """SHA-256 of a certificate: how roots are trusted, and anything is revoked."""
    return certificate.fingerprint(hashes.SHA256())


def check_chain(
    chain: Sequence[x509.Certificate], roots: Collection[bytes], revoked: Collection[bytes], now: Micros
) -> x509.Certificate:
    """The leaf of a chain (leaf first) whose every link holds and whose last is a trusted root.

    `roots`, `revoked`: SHA-256 fingerprints. Raises `Refused`: `untrusted_root`, `bad_chain`, `expired`, `revoked`."""
    if not 1 <= len(chain) <= CHAIN_MAX:
        raise malformed(f"a chain of {len(chain)} certificates")
    if fingerprint(chain[-1]) not in roots:
        name = chain[-1].subject.rfc4514_string()
        raise Refused(f"the chain ends at {name[:80]}", code="untrusted_root", fix=_CA_FIX)
    moment = datetime.fromtimestamp(now / SECOND, UTC)
    for certificate in chain:
        if fingerprint(certificate) in revoked:
            raise Refused(
                f"{certificate.subject.rfc4514_string()[:80]} is revoked", code="revoked", fix="Update the machine."
            )
        if not certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc:
            raise Refused(
                f"{certificate.subject.rfc4514_string()[:80]} is not valid at {moment:%Y-%m-%d}",
                code="expired",
                fix="Fetch a fresh certificate from the maker's service.",
            )
    for child, issuer in itertools.pairwise(chain):
        _check_link(child, issuer)
    return chain[0]


def check_signature(leaf: x509.Certificate, signature: bytes, data: bytes, algorithm: hashes.HashAlgorithm) -> None:
    """An ECDSA signature, r and s big-endian of equal length, by a certificate's key. `Refused` (`bad_signature`)."""
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise malformed("the signing key is not on an elliptic curve")
    check_ecdsa(key, signature, data, algorithm)


def check_ecdsa(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes, algorithm: hashes.HashAlgorithm) -> None:
    """An ECDSA signature by a bare key."""
    half = len(signature) // 2
    r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
    try:
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(algorithm))
    except InvalidSignature as error:
        raise Refused(
            "the quote's signature does not fit its content", code="bad_signature", fix="Ask for a new quote."
        ) from error


def order(certificates: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """A chain from the leaf to its root, from certificates in any order; what belongs to none is left out."""
    issuers = {certificate.subject.public_bytes(): certificate for certificate in certificates}
    named = {item.issuer.public_bytes() for item in certificates if item.issuer != item.subject}
    leaves = [item for item in certificates if item.subject.public_bytes() not in named]
    chain = leaves[:1]
    while chain and chain[-1].issuer != chain[-1].subject and len(chain) < CHAIN_MAX:
        issuer = issuers.get(chain[-1].issuer.public_bytes())
        if issuer is None:
            break
        chain.append(issuer)
    return chain


def _whole(certificate: x509.Certificate) -> x509.Certificate:
    """The same certificate, with every part read that is used later: the package reads names, keys and dates only when
    they are asked for, and says then that they are none."""
    _ = certificate.subject, certificate.issuer, certificate.public_key(), certificate.extensions
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return certificate


def _check_link(child: x509.Certificate, issuer: x509.Certificate) -> None:
    try:
        child.verify_directly_issued_by(issuer)
        is_authority = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise Refused(
            f"{child.subject.rfc4514_string()[:60]} was not issued by {issuer.subject.rfc4514_string()[:60]}",
            code="bad_chain",
            fix=_CA_FIX,
        ) from error
    if not is_authority:
        raise Refused(f"{issuer.subject.rfc4514_string()[:60]} may not issue", code="bad_chain", fix=_CA_FIX)
