"""A session that outlives its connections: what was sent and not acknowledged is sent again on the next one.

Each direction of two peers is a session of its own: a random name, and messages numbered from 1. `Hello` says which
number comes first on a stream and `Skip` which one comes next when some were given up; the receiver drops what it has,
acknowledges now and then, and so hears every message once, in order, however often the path changes underneath.
Spec: specs/12-transport.md.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from protocol.units import MIB

SESSION_BYTES: Final = 16
"""Length of a session's name: two sessions of one pair never share one by chance."""

KEPT_ITEMS: Final = 1_024
"""Messages kept until they are acknowledged; older ones cannot be sent again."""

KEPT_BYTES: Final = 4 * MIB
"""Bytes kept until they are acknowledged, per peer."""

ACK_EVERY: Final = 32
"""Messages after which a receiver acknowledges without waiting."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """One message on its way: its number, when it was queued (seconds), its frame."""

    number: int
    queued: float
    frame: bytes


@dataclass(slots=True)
class Outbox:
    """The sending side: what waits, and what was written and is not acknowledged yet.

    `session` is the name of this direction; `items_max` bounds what waits."""

    session: bytes
    items_max: int
    acked: int = 0
    _last: int = 0
    _waiting: deque[Numbered] = field(default_factory=deque)
    _written: deque[Numbered] = field(default_factory=deque)
    _written_bytes: int = 0

    def __len__(self) -> int:
        """Messages that wait to be written."""
        return len(self._waiting)

    @property
    def unacknowledged(self) -> int:
        """Messages that were written and may have to be written again."""
        return len(self._written)

    @property
    def first(self) -> int:
        """The number of the message that would be written next."""
        return self._waiting[0].number if self._waiting else self._last + 1

    def put(self, frame: bytes, now: float) -> int:
        """Queue a message; the number of old ones dropped to make room (0 or 1)."""
        dropped = 0
        if len(self._waiting) >= self.items_max:
            self._waiting.popleft()
            dropped = 1
        self._last += 1
        self._waiting.append(Numbered(self._last, now, frame))
        return dropped

    def take(self, size_max: int) -> list[Numbered]:
        """The next messages to write, at least one when there is one, together at most `size_max` bytes."""
        batch: list[Numbered] = []
        size = 0
        while self._waiting and (not batch or size + len(self._waiting[0].frame) <= size_max):
            item = self._waiting.popleft()
            size += len(item.frame)
            batch.append(item)
            self._keep(item)
        return batch

    def rewind(self) -> None:
        """The stream is gone: everything that was not acknowledged waits again, in order."""
        self._waiting.extendleft(reversed(self._written))
        self._written.clear()
        self._written_bytes = 0

    def acknowledge(self, session: bytes, count: int) -> bool:
        """The other side has everything up to `count`. False: it speaks of messages that were never sent."""
        if session != self.session:
            return True  # Of an earlier session of ours; nothing of it is kept.
        if count > self._last:
            return False
        self.acked = max(self.acked, count)
        while self._written and self._written[0].number <= self.acked:
            self._written_bytes -= len(self._written.popleft().frame)
        while self._waiting and self._waiting[0].number <= self.acked:
            self._waiting.popleft()
        return True

    def expire(self, before: float) -> int:
        """Give up messages queued before a time; how many."""
        count = 0
        while self._waiting and self._waiting[0].queued < before:
            self._waiting.popleft()
            count += 1
        return count

    def _keep(self, item: Numbered) -> None:
        self._written.append(item)
        self._written_bytes += len(item.frame)
        while len(self._written) > KEPT_ITEMS or self._written_bytes > KEPT_BYTES:
            self._written_bytes -= len(self._written.popleft().frame)


@dataclass(slots=True)
class Heard:
    """The receiving side of one session: the last number heard, and what was acknowledged of it."""

    session: bytes
    count: int
    acked: int

    @property
    def is_ack_urgent(self) -> bool:
        """True when the sender keeps a lot."""
        return self.count - self.acked >= ACK_EVERY

    def take(self, number: int) -> bool:
        """True when the message with this number is new; it counts as heard then."""
        if number <= self.count:
            return False
        self.count = number
        return True


def resumed(known: Heard | None, session: bytes, first: int) -> tuple[Heard, int]:
    """The receiving side when a stream opens with `session` and `first`, and how many messages are lost for good."""
    if known is None or known.session != session:
        return Heard(session, first - 1, first - 1), 0
    lost = max(0, first - 1 - known.count)
    known.count = max(known.count, first - 1)
    return known, lost
