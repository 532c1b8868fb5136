"""Where chance comes from: one independent stream per (seed, peer, purpose), the same in every process and version."""

from __future__ import annotations

import hashlib
from random import Random


def stream(seed: int, *names: str | int) -> Random:
    """A generator that depends on nothing but the seed and the names."""
    return Random(int.from_bytes(digest(seed, *names), "big"))


def digest(seed: int, *names: str | int) -> bytes:
    """32 bytes under the same rule: the key of a simulated peer, for one."""
    return hashlib.blake2b("/".join(str(part) for part in (seed, *names)).encode(), digest_size=32).digest()
