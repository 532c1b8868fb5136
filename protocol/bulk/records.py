"""Records: how bytes cross a data connection, sealed and opened in place. Spec: specs/19-bulk.md.

    kind 1 | flags 1 | zero 2 | body size 4 | body, encrypted | tag 16

The header is authenticated, not encrypted. The nonce is a counter that only `seal` and `open` advance, each direction
has its own key, and a key is replaced long before its limit: no nonce can be used twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from protocol.errors import LocalError, Unavailable
from protocol.units import GIB, MIB

CipherName = Literal["aes-128-gcm", "chacha20-poly1305"]
Kind = Literal[1, 2]

CONTROL: Final[Kind] = 1
"""A message, at most `CONTROL_BYTES_MAX` bytes."""

DATA: Final[Kind] = 2
"""Bytes of a blob or of a list; which ones follows from the order of the requests."""

LAST: Final = 1
"""Flag: nothing follows in this direction. A connection that ends without it was cut."""

HEADER_BYTES: Final = 8
"""Kind, flags, two zero bytes, and the body's size as 32 bits, big-endian."""

TAG_BYTES: Final = 16
"""Both ciphers authenticate with 128 bits."""

RECORD_BYTES_MAX: Final = 1 * MIB
"""Body of one record: at 1 MiB the cost per record is lost in that per byte."""

CONTROL_BYTES_MAX: Final = 4_096
"""Body of one control record; the largest message has about 300 bytes."""

REKEY_BYTES: Final = 64 * GIB
"""Bytes under one key; AES-GCM stays far below 2^-32 of its bound."""

REKEY_RECORDS: Final = 2**32
"""Records under one key, for those who send tiny ones."""

KEY_BYTES: Final = 32
"""A traffic key; AES-128-GCM takes the first half."""

NONCE_BYTES: Final = 12
_REKEY_LABEL: Final = b"shoal bulk 1 rekey"


@dataclass(frozen=True, slots=True)
class Header:
    """What the first 8 bytes of a record announce; nobody has vouched for it until the body opens."""

    kind: Kind
    size: int
    """Bytes of the body, without the tag."""
    is_last: bool


class _Direction:
    """Key, counter and limits that the two ends of one direction keep alike."""

    __slots__ = ("_aead", "_bytes", "_cipher", "_counter", "_is_over", "_key", "_rekey_bytes")

    def __init__(self, cipher: CipherName, key: bytes, rekey_bytes: int = REKEY_BYTES) -> None:
        self._cipher: CipherName = cipher
        self._rekey_bytes = rekey_bytes
        self._is_over = False
        self._turn(key)

    def __copy__(self) -> _Direction:
        raise LocalError("a copy would use the same nonces again", code="nonce_reuse")

    def __deepcopy__(self, memo: object) -> _Direction:
        return self.__copy__()

    def __reduce__(self) -> str:
        raise LocalError("a copy would use the same nonces again", code="nonce_reuse")

    def _turn(self, key: bytes) -> None:
        """Start with a fresh key and counter."""
        if len(key) != KEY_BYTES:
            raise LocalError(f"a traffic key has {KEY_BYTES} bytes, this one has {len(key)}", code="bad_key")
        self._key = key
        self._aead = AESGCM(key[:16]) if self._cipher == "aes-128-gcm" else ChaCha20Poly1305(key)
        self._counter = 0
        self._bytes = 0

    def _next_nonce(self, size: int) -> bytes:
        """The nonce of the next record of `size` bytes; replaces the key when its limit would be passed."""
        if self._bytes + size > self._rekey_bytes or self._counter >= REKEY_RECORDS:
            self._turn(HKDFExpand(SHA256(), KEY_BYTES, _REKEY_LABEL).derive(self._key))
        nonce = self._counter.to_bytes(NONCE_BYTES, "big")
        self._counter += 1
        self._bytes += size
        return nonce


class Sealer(_Direction):
    """Encrypts one direction."""

    __slots__ = ()

    def seal(self, buffer: memoryview, size: int, kind: Kind, is_last: bool = False) -> int:
        """Turn `buffer[8 : 8 + size]` into a record within `buffer`, in place; the bytes to send from its start.

        LocalError after the last record, or when the record does not fit."""
        if self._is_over:
            raise LocalError("nothing may follow the last record", code="record_order")
        end = HEADER_BYTES + size + TAG_BYTES
        if size > RECORD_BYTES_MAX or end > len(buffer):
            raise LocalError(f"a record of {size} bytes does not fit {len(buffer)}", code="record_size")
        buffer[:HEADER_BYTES] = header = _pack(kind, size, is_last)
        body = buffer[HEADER_BYTES : HEADER_BYTES + size]
        nonce = self._next_nonce(size)  # First, for it may replace the key.
        self._aead.encrypt_into(nonce, body, header, buffer[HEADER_BYTES:end])
        self._is_over = is_last
        return end


class Opener(_Direction):
    """Decrypts one direction. What it refuses may be the work of anyone on the path, so it is nobody's violation."""

    __slots__ = ()

    def announced(self, header: memoryview) -> Header:
        """Read a header; Unavailable when no honest peer would send it."""
        kind, flags, size = header[0], header[1], int.from_bytes(header[4:HEADER_BYTES], "big")
        limit = RECORD_BYTES_MAX if kind == DATA else CONTROL_BYTES_MAX
        is_sound = kind in (CONTROL, DATA) and flags in (0, LAST) and header[2] == header[3] == 0 and size <= limit
        if self._is_over or not is_sound:
            raise Unavailable("a record's header makes no sense", code="broken_record")
        return Header(DATA if kind == DATA else CONTROL, size, flags == LAST)

    def open(self, header: memoryview, body: memoryview, into: memoryview) -> Header:
        """Decrypt `body` (with its tag) into `into`, which may be the same memory and has exactly the size announced.

        Unavailable when it was changed, left out, repeated, or belongs elsewhere."""
        found = self.announced(header)
        if len(body) != found.size + TAG_BYTES or len(into) != found.size:
            raise LocalError(f"{len(body)} and {len(into)} bytes for a record of {found.size}", code="record_size")
        nonce = self._next_nonce(found.size)
        try:
            self._aead.decrypt_into(nonce, body, bytes(header), into)
        except InvalidTag:
            self._is_over = True
            raise Unavailable("a record does not open: it was changed on its way", code="broken_record") from None
        self._is_over = found.is_last
        return found

    def end(self) -> None:
        """The connection ended; Unavailable when the last record did not come before."""
        if not self._is_over:
            raise Unavailable("the connection was cut before its last record", code="truncated")


def _pack(kind: Kind, size: int, is_last: bool) -> bytes:
    return bytes((kind, LAST if is_last else 0, 0, 0)) + size.to_bytes(4, "big")
