"""Records: how stored bytes are encrypted, 64 KiB at a time, each bound to its place. Spec: specs/26-shards.md.

    ciphertext of 64 KiB | tag 16     ...     ciphertext of the rest | tag 16

Lengths are not in the records: the index says them, and it is authenticated itself.
"""

from __future__ import annotations

from typing import Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from protocol.errors import LocalError, Refused
from protocol.units import KIB

CipherName = Literal["aes-256-gcm", "chacha20-poly1305"]
Aead = AESGCM | ChaCha20Poly1305

RECORD_BYTES: Final = 64 * KIB
"""Plain bytes of one record: it stays in the cache between being read and written."""

TAG_BYTES: Final = 16
"""Both ciphers authenticate with 128 bits."""

WORD: Final = 0xFFFF_FFFF
"""A nonce is three numbers of 32 bits."""


def damaged(what: str, **numbers: int | str) -> Refused:
    """What is raised when bytes of a snapshot are not what was sealed."""
    return Refused(
        f"the snapshot is damaged: {what}",
        code="snapshot_damaged",
        fix="Take another copy of it, or an older snapshot.",
        numbers=numbers,
    )


def sealed_size(size: int) -> int:
    """Bytes that `size` plain bytes become.

    >>> sealed_size(0), sealed_size(1), sealed_size(65536), sealed_size(65537)
    (0, 17, 65552, 65569)
    """
    return size + TAG_BYTES * -(-size // RECORD_BYTES)


def aead(cipher: CipherName, key: bytes) -> Aead:
    """The cipher under one key of 32 bytes."""
    return AESGCM(key) if cipher == "aes-256-gcm" else ChaCha20Poly1305(key)


def nonce(number: int, sequence: int, record: int) -> bytes:
    """Snapshot, chunk, record: 12 bytes. Numbers above 32 bits wrap; the key is another one for each snapshot."""
    return b"".join((value & WORD).to_bytes(4, "big") for value in (number, sequence, record))


def seal(plain: memoryview, into: memoryview, using: Aead, number: int, sequence: int, bound: bytes) -> None:
    """Encrypt all of `plain` into `into`, which has `sealed_size(len(plain))` bytes; `bound` is authenticated too."""
    _check(len(plain), len(into))
    for record, start in enumerate(range(0, len(plain), RECORD_BYTES)):
        body = plain[start : start + RECORD_BYTES]
        at = start + record * TAG_BYTES
        using.encrypt_into(nonce(number, sequence, record), body, bound, into[at : at + len(body) + TAG_BYTES])


def open_into(sealed: memoryview, into: memoryview, using: Aead, number: int, sequence: int, bound: bytes) -> None:
    """The inverse of `seal`; `snapshot_damaged` when one bit, the place, the order or the length is another."""
    _check(len(into), len(sealed))
    for record, start in enumerate(range(0, len(into), RECORD_BYTES)):
        body = into[start : start + RECORD_BYTES]
        at = start + record * TAG_BYTES
        try:
            using.decrypt_into(nonce(number, sequence, record), sealed[at : at + len(body) + TAG_BYTES], bound, body)
        except InvalidTag:
            raise damaged("a record does not open", record=record, sequence=sequence) from None


def _check(plain: int, sealed: int) -> None:
    if sealed != sealed_size(plain):
        raise LocalError(f"{plain} bytes become {sealed_size(plain)}, not {sealed}", code="record_size")
