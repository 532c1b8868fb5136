"""The only source of secrets: everything unguessable starts here, from the operating system."""

from __future__ import annotations

import random
import secrets
from typing import Final

from protocol.identity import SEED_BYTES

SALT_BYTES: Final = 32
"""As long as the digest that it protects: nobody finds an output by trying salts."""

TOKEN_BYTES: Final = 32
"""256 bits: a bearer token is never the weakest link."""


def seed() -> bytes:
    """32 bytes for a new identity."""
    return secrets.token_bytes(SEED_BYTES)


def salt() -> bytes:
    """32 bytes that hide a sealed result."""
    return secrets.token_bytes(SALT_BYTES)


def token() -> str:
    """A bearer token, URL-safe text of 43 characters."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def dice() -> random.Random:
    """A generator seeded by the operating system, for jitter and choices that hide nothing."""
    return random.Random(secrets.randbits(128))
