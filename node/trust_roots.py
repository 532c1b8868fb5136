"""Whose trusted hardware a validator believes, where its operator keeps a list of his own.

The folder has one folder per kind (`tdx`, `sev-snp`, `nvidia`) with root certificates in PEM, and may have a file
`revoked` with a SHA-256 fingerprint of a certificate per line. It replaces the built-in list as a whole: a kind
without a folder is believed by nobody. Judges with other lists come to no other verdict, only to more audits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, get_args

from protocol.errors import Refused
from protocol.proof import HardwareKind
from verifier.attestation.chains import fingerprint, read_pem
from verifier.attestation.makers import BUILT_IN, Makers

REVOKED: Final = "revoked"
"""The file of revoked fingerprints."""

FINGERPRINT_DIGITS: Final = 64
_FIX: Final = "docs/owner.md says what the folder of `trust_roots` holds."


def load(folder: Path | None) -> Makers:
    """The list that is in force. `Refused` (`bad_config`) for a folder that cannot be read."""
    if folder is None:
        return BUILT_IN
    if not folder.is_dir():
        raise Refused(f"there is no folder {folder}", code="bad_config", fix=_FIX)
    roots = {kind: _roots(folder / kind) for kind in get_args(HardwareKind)}
    return Makers({kind: found for kind, found in roots.items() if found}, _revoked(folder / REVOKED))


def _roots(folder: Path) -> frozenset[bytes]:
    found: set[bytes] = set()
    for path in sorted(folder.glob("*.pem")):
        try:
            found |= {fingerprint(item) for item in read_pem(path.read_bytes()) if item.issuer == item.subject}
        except (Refused, OSError) as error:
            raise Refused(f"{path}: {error}", code="bad_config", fix=_FIX) from error
    return frozenset(found)


def _revoked(path: Path) -> frozenset[bytes]:
    lines = path.read_text(encoding="ascii").split() if path.exists() else []
    for line in lines:
        if len(line) != FINGERPRINT_DIGITS or set(line.lower()) - set("0123456789abcdef"):
            raise Refused(f"{path}: {line[:70]!r} is no fingerprint", code="bad_config", fix=_FIX)
    return frozenset(bytes.fromhex(line) for line in lines)
