"""Whether the peer is still there, and how far away: a ping now and then, and any byte as a sign of life."""

from __future__ import annotations

from protocol.errors import Unavailable
from protocol.overlay.yamux_frames import CREDIT_MAX
from protocol.overlay.yamux_limits import KEEPALIVE, SILENCE
from protocol.units import SECOND, Micros


class Pulse:
    """The pings of one session."""

    def __init__(self, now: Micros) -> None:
        self.next_tick = Micros(now + KEEPALIVE)
        self.heard_at = now
        self._number = 0
        self._asked_at: Micros | None = None

    def tick(self, now: Micros) -> int | None:
        """The number of the ping to send now, if any. Unavailable when nothing was heard since the last one."""
        if now < self.next_tick:
            return None
        if self._asked_at is not None:
            if self.heard_at < self._asked_at:
                raise Unavailable(f"no sign of life for {SILENCE // SECOND} s after a ping", code="silent")
            if now < self._asked_at + KEEPALIVE:
                self.next_tick = Micros(self._asked_at + KEEPALIVE)
                return None
        return self.ask(now)

    def ask(self, now: Micros) -> int:
        """A ping to send now, due or not."""
        self._number = (self._number + 1) % CREDIT_MAX
        self._asked_at = now
        self.next_tick = Micros(now + SILENCE)
        return self._number

    def answered(self, number: int, now: Micros) -> Micros | None:
        """The round trip, when this answers the last ping."""
        if self._asked_at is None or number != self._number:
            return None
        round_trip = Micros(now - self._asked_at)
        self.next_tick = Micros(self._asked_at + KEEPALIVE)
        self._asked_at = None
        return round_trip
