"""One stream of a muxer: what came and is unread, what waits to be sent, and which halves are open.

The window's bytes are always in three places: `credit_in` (the peer may still send them), `buffered` (here, unread) and
`consumed` (read, not yet given back). Their sum changes only when the window grows.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import Final

from protocol.overlay.yamux_limits import SMALL_BYTES, WINDOW_START_BYTES

MERGED_BYTES_MAX: Final = 65_536
"""Bytes; short pieces are gathered in blocks of this size, so that a byte costs a byte and not an object."""


class Phase(Enum):
    """Where a stream is in its life."""

    OPEN = auto()
    """Both halves may carry data, or one of them."""
    ENDED = auto()
    """Both halves were finished, and what came was read."""
    RESET = auto()
    """One side gave it up, or the connection ended."""


class Stream:
    """The state of one stream; only its session changes it."""

    __slots__ = (
        "_pieces",
        "buffered",
        "consumed",
        "credit_in",
        "credit_out",
        "has_ended",
        "has_finished",
        "has_sent_finish",
        "id",
        "is_ours",
        "is_released",
        "outbox",
        "phase",
        "waiting",
        "window",
    )

    def __init__(self, number: int, *, is_ours: bool) -> None:
        self.id = number
        self.is_ours = is_ours
        self.phase = Phase.OPEN
        self.window = WINDOW_START_BYTES
        self.credit_in = WINDOW_START_BYTES
        self.credit_out = WINDOW_START_BYTES
        self.buffered = 0
        self.consumed = 0
        self.outbox: deque[memoryview] = deque()
        self.waiting = 0
        """Bytes in the outbox."""
        self.has_finished = False
        """We said that nothing more comes; the outbox may still hold data."""
        self.has_sent_finish = False
        self.has_ended = False
        """The peer said so."""
        self.is_released = False
        """Nobody is going to use it any more."""
        self._pieces: deque[memoryview | bytearray] = deque()

    def put(self, piece: memoryview, whole: int) -> None:
        """Data that came, as a part of `whole` bytes, which are kept alive only where that does not waste memory."""
        size = len(piece)
        self.credit_in -= size
        self.buffered += size
        if size >= SMALL_BYTES:
            self._pieces.append(piece if 2 * size >= whole else memoryview(bytes(piece)))
            return
        last = self._pieces[-1] if self._pieces else None
        if isinstance(last, bytearray) and len(last) + size <= MERGED_BYTES_MAX:
            last += piece
        else:
            self._pieces.append(bytearray(piece))

    def take(self, size: int) -> bytes:
        """At most `size` of the bytes that came, in order; empty when there are none."""
        pieces = self._pieces
        if not pieces or size <= 0:
            return b""
        first = pieces[0]
        if len(first) >= size or len(pieces) == 1:
            taken = self._part(size)
        else:
            parts = []
            while pieces and size > 0:
                parts.append(self._part(size))
                size -= len(parts[-1])
            taken = b"".join(parts)
        self.buffered -= len(taken)
        self.consumed += len(taken)
        return taken

    def drop(self) -> None:
        """Forget what came."""
        self._pieces.clear()
        self.buffered = 0

    def _part(self, size: int) -> bytes:
        first = self._pieces[0]
        if len(first) <= size:
            self._pieces.popleft()
            return bytes(first)
        view = memoryview(first)
        self._pieces[0] = view[size:]
        return bytes(view[:size])
