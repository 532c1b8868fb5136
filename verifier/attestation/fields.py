"""Reads fields of fixed and of stated length from a quote; running out of bytes is a malformed proof, never a crash."""

from __future__ import annotations

from typing import Final

from protocol.errors import Refused

QUOTE_BYTES_MAX: Final = 64 * 1024
"""Bytes of any quote: those recorded from real machines have 1 to 5 KiB, certificates included."""

MALFORMED: Final = "malformed_proof"
"""The code of bytes that are no quote."""


def malformed(what: str) -> Refused:
    """A quote that cannot be read."""
    return Refused(what, code=MALFORMED, fix="Send the quote exactly as the hardware gave it.")


class Fields:
    """A position in the bytes of a quote."""

    def __init__(self, data: bytes, what: str) -> None:
        if len(data) > QUOTE_BYTES_MAX:
            raise malformed(f"{what} has {len(data)} bytes, {QUOTE_BYTES_MAX} are allowed")
        self._data, self._what = data, what
        self.at = 0

    @property
    def left(self) -> int:
        """Bytes that are not read yet."""
        return len(self._data) - self.at

    def take(self, size: int) -> bytes:
        """The next `size` bytes; `Refused` (`malformed_proof`) when there are fewer."""
        if size < 0 or size > self.left:
            raise malformed(f"{self._what} ends at byte {len(self._data)}, {size} more were promised at {self.at}")
        part = self._data[self.at : self.at + size]
        self.at += size
        return part

    def number(self, size: int) -> int:
        """The next `size` bytes as an unsigned little-endian number."""
        return int.from_bytes(self.take(size), "little")

    def end(self) -> None:
        """Nothing may be left."""
        if self.left:
            raise malformed(f"{self._what} has {self.left} bytes behind its end")
