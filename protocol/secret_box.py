"""A secret from one peer to another, through hands that must not read it. Spec: specs/28-recovery.md.

NaCl's box between the X25519 forms of both peers' Ed25519 keys. It is deterministic: the nonce is derived from a label
that is used once (the id of a ledger operation), so that the simulator replays it bit for bit.
"""

from __future__ import annotations

import hashlib
from typing import Final

from nacl import bindings
from nacl.exceptions import CryptoError

from protocol.errors import RemoteViolation
from protocol.identity import Identity
from protocol.units import PeerId

OVERHEAD_BYTES: Final = 16
"""What the authenticator adds."""


def seal(sender: Identity, receiver: PeerId, label: bytes, secret: bytes) -> bytes:
    """`secret` for `receiver` alone. Never use one label for two secrets between the same two peers."""
    mine = bindings.crypto_sign_ed25519_sk_to_curve25519(sender.seed + sender.peer)
    theirs = bindings.crypto_sign_ed25519_pk_to_curve25519(receiver)
    return bindings.crypto_box(secret, _nonce(label), theirs, mine)


def unseal(receiver: Identity, sender: PeerId, label: bytes, box: bytes) -> bytes:
    """The inverse of `seal`; RemoteViolation (`bad_box`) when the sender did not make it for us under this label."""
    mine = bindings.crypto_sign_ed25519_sk_to_curve25519(receiver.seed + receiver.peer)
    try:
        theirs = bindings.crypto_sign_ed25519_pk_to_curve25519(sender)
        return bindings.crypto_box_open(box, _nonce(label), theirs, mine)
    except (CryptoError, ValueError, RuntimeError) as error:
        raise RemoteViolation(sender, "a sealed secret opens with neither key nor label", code="bad_box") from error


def _nonce(label: bytes) -> bytes:
    return hashlib.sha256(b"shoal/1\0box\0" + label).digest()[: bindings.crypto_box_NONCEBYTES]
