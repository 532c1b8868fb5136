"""A peer's identity: an Ed25519 key pair whose public half is the peer id.

Text form = the libp2p peer id (base58 of the identity multihash of the key). Spec: specs/02-identity.md.
Signing is deterministic, so this module needs no dice; seeds come in from `node.entropy`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import base58
from blake3 import blake3
from nacl import bindings
from nacl.exceptions import BadSignatureError, CryptoError

from protocol.errors import Refused
from protocol.units import PeerId

SEED_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

CHECKED_MAX: Final = 4_096
"""Answers remembered, 100 bytes each: the certificate of a block comes with its head, with the block and with receipts,
and a hash costs a fiftieth of a signature. Forging a remembered answer means a collision of BLAKE3."""

_checked: Final[dict[bytes, bool]] = {}

_LIBP2P_PREFIX: Final = bytes.fromhex("002408011220")
"""Identity multihash (0x00, 36 bytes) around the protobuf {type: Ed25519, data: 32 bytes}; libp2p peer-ids spec."""


class Identity:
    """A key pair that can sign. The seed is the only secret of a peer."""

    __slots__ = ("_secret", "peer")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise Refused(f"an identity seed has {SEED_BYTES} bytes, this one has {len(seed)}", code="bad_seed")
        public, self._secret = bindings.crypto_sign_seed_keypair(seed)
        self.peer = PeerId(public)

    @property
    def seed(self) -> bytes:
        """The 32-byte secret, for the one place that stores it."""
        return self._secret[:SEED_BYTES]

    def sign(self, data: bytes) -> bytes:
        """A 64-byte detached Ed25519 signature. Own words that come back, in blocks and receipts, need no check."""
        signed = bindings.crypto_sign(data, self._secret)
        _remember(blake3(self.peer + signed).digest(), True)
        return signed[:SIGNATURE_BYTES]

    def __repr__(self) -> str:
        return f"Identity({peer_text(self.peer)})"


def is_signed_by(peer: PeerId, data: bytes, signature: bytes) -> bool:
    """True when `signature` is the peer's over exactly these bytes. Never raises on hostile input."""
    if len(signature) != SIGNATURE_BYTES or len(peer) != SEED_BYTES:
        return False
    signed = signature + data
    key = blake3(peer + signed).digest()
    known = _checked.get(key)
    if known is not None:
        return known
    try:
        bindings.crypto_sign_open(signed, peer)
    except (BadSignatureError, CryptoError, ValueError):
        is_valid = False
    else:
        is_valid = True
    _remember(key, is_valid)
    return is_valid


def forget_checked() -> None:
    """Check everything anew, for whoever measures what that costs."""
    _checked.clear()


def _remember(key: bytes, is_valid: bool) -> None:
    if len(_checked) >= CHECKED_MAX:
        _checked.pop(next(iter(_checked)), None)
    _checked[key] = is_valid


@lru_cache(maxsize=4096)
def peer_text(peer: PeerId) -> str:
    """The text people see: `12D3KooW…`, the same as libp2p's."""
    return base58.b58encode(_LIBP2P_PREFIX + peer).decode()


def peer_from_text(text: str) -> PeerId:
    """The inverse of `peer_text`; refuses anything that is no Ed25519 peer id."""
    try:
        raw = base58.b58decode(text)
    except ValueError:
        raw = b""
    if len(raw) != len(_LIBP2P_PREFIX) + SEED_BYTES or not raw.startswith(_LIBP2P_PREFIX):
        raise Refused(
            f"{text[:80]!r} is no peer id",
            code="bad_peer_id",
            fix="A peer id starts with 12D3KooW; `shoal node status` shows yours.",
        )
    return PeerId(raw[len(_LIBP2P_PREFIX) :])
