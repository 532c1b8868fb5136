"""One hash over everything that happened: two runs are the same run if and only if it is the same."""

from __future__ import annotations

import hashlib
import sys
from array import array
from typing import Final

BATCH: Final = 3 * 4096
"""Numbers gathered before they are hashed: hashing one event at a time would cost more than the event."""

MASK: Final = (1 << 63) - 1
"""Codes are cut to 63 bits, what a signed machine word holds."""


class Auditor:
    """A rolling BLAKE2b over (time ns, peer, code) of every event, in order."""

    __slots__ = ("_hash", "_waiting", "noted")

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._waiting = array("q")
        self.noted = 0
        """Events hashed or waiting."""

    def note(self, time: int, peer: int, code: int) -> None:
        """One event. `code` says what it was and what it carried: a checksum, or a number of the kind of event."""
        waiting = self._waiting
        waiting.append(time)
        waiting.append(peer)
        waiting.append(code & MASK)
        self.noted += 1
        if len(waiting) >= BATCH:
            self._flush()

    def hexdigest(self) -> str:
        """The hash of everything so far."""
        self._flush()
        return self._hash.copy().hexdigest()

    def _flush(self) -> None:
        if sys.byteorder == "big":
            self._waiting.byteswap()
        self._hash.update(self._waiting.tobytes())
        del self._waiting[:]
