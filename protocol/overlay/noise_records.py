"""Noise messages after the handshake: seal and open many in one pass.

    2 bytes length, big endian | at most 65519 bytes, encrypted | 16 bytes tag

libp2p's Noise is ChaCha20-Poly1305 with a counter as nonce. The keys and the counters come from the handshake; from
then on nobody else may use them. Spec: specs/18-multiplexer.md.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from protocol.errors import RemoteViolation, Unavailable
from protocol.overlay.yamux_frames import RECORD_BYTES
from protocol.units import PeerId

TAG_BYTES: Final = 16
LENGTH_BYTES: Final = 2
NONCE_END: Final = 2**64 - 1
"""The counter that Noise keeps for other uses; a connection ends before it."""

_PREFIX: Final = bytes(4)


class Sealer:
    """Our direction."""

    def __init__(self, key: bytes, counter: int) -> None:
        self._seal = ChaCha20Poly1305(key).encrypt_into
        self.counter = counter

    def seal(self, plain: bytes) -> bytearray:
        """Records that carry `plain`, ready for the wire. Unavailable when the counter is used up."""
        size = len(plain)
        records = -(-size // RECORD_BYTES)
        if self.counter + records > NONCE_END:
            raise Unavailable("this connection sent all that its key may seal", code="nonces_used_up")
        out = bytearray(size + records * (LENGTH_BYTES + TAG_BYTES))
        with memoryview(plain) as source, memoryview(out) as target:
            at = 0
            for start in range(0, size, RECORD_BYTES):
                piece = source[start : start + RECORD_BYTES]
                length = len(piece) + TAG_BYTES
                target[at : at + LENGTH_BYTES] = length.to_bytes(LENGTH_BYTES, "big")
                at += LENGTH_BYTES
                nonce = _PREFIX + self.counter.to_bytes(8, "little")
                self._seal(nonce, piece, None, target[at : at + length])
                self.counter += 1
                at += length
        return out


class Opener:
    """The peer's direction. Holds at most one incomplete record."""

    def __init__(self, peer: PeerId, key: bytes, counter: int) -> None:
        self._peer = peer
        self._open = ChaCha20Poly1305(key).decrypt
        self._rest = bytearray()
        self.counter = counter

    def open(self, data: memoryview) -> list[bytes]:
        """What the records say that are complete now. RemoteViolation on a record that is forged or has no tag."""
        plain: list[bytes] = []
        at, end = self._complete(data, plain), len(data)
        while end - at >= LENGTH_BYTES:
            length = data[at] << 8 | data[at + 1]
            behind = at + LENGTH_BYTES + length
            if behind > end:
                break
            plain.append(self._one(data[at + LENGTH_BYTES : behind]))
            at = behind
        self._rest += data[at:]
        return plain

    @property
    def held(self) -> int:
        """Bytes of the incomplete record."""
        return len(self._rest)

    def _complete(self, data: memoryview, plain: list[bytes]) -> int:
        """Fill the record that was begun; how much of the data that took."""
        rest = self._rest
        if not rest:
            return 0
        at = 0
        if len(rest) < LENGTH_BYTES:
            at = LENGTH_BYTES - len(rest)
            rest += data[:at]
            if len(rest) < LENGTH_BYTES:
                return at
        missing = LENGTH_BYTES + (rest[0] << 8 | rest[1]) - len(rest)
        rest += data[at : at + missing]
        if len(data) - at < missing:
            return len(data)
        plain.append(self._one(memoryview(bytes(rest))[LENGTH_BYTES:]))
        rest.clear()
        return at + missing

    def _one(self, record: memoryview) -> bytes:
        if len(record) < TAG_BYTES:
            raise RemoteViolation(self._peer, f"a Noise message of {len(record)} bytes has no tag", code="noise_short")
        if self.counter >= NONCE_END:
            raise RemoteViolation(self._peer, "a Noise message behind the last counter", code="noise_counter")
        try:
            plain = self._open(_PREFIX + self.counter.to_bytes(8, "little"), record, None)
        except InvalidTag:
            raise RemoteViolation(self._peer, "a Noise message is forged", code="noise_forged") from None
        self.counter += 1
        return plain
