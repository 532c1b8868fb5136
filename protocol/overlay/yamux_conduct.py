"""How a peer behaves on a muxed connection: what it gets for free is counted, and too much of it breaks a rule."""

from __future__ import annotations

from protocol.errors import RemoteViolation
from protocol.overlay import yamux_limits as limits
from protocol.overlay.yamux_limits import Meter
from protocol.units import Micros, PeerId


class Conduct:
    """The counters of one session; each method raises RemoteViolation when its bucket is empty."""

    def __init__(self, peer: PeerId, now: Micros) -> None:
        self._peer = peer
        self._pings = Meter(limits.PINGS, now)
        self._resets = Meter(limits.RESETS, now)
        self._idle_frames = Meter(limits.IDLE_FRAMES, now)

    def ping(self, now: Micros) -> None:
        """It wants an answer."""
        if not self._pings.take(now):
            raise self.broken("too many pings", "mux_flood")

    def reset(self, now: Micros) -> None:
        """It reset a stream that it opened, or opened one too many."""
        if not self._resets.take(now):
            raise self.broken("it opens streams only to reset them, or too many", "mux_flood")

    def idle(self, now: Micros) -> None:
        """It sent a frame that changes nothing."""
        if not self._idle_frames.take(now):
            raise self.broken("too many frames that do nothing", "mux_flood")

    def unread(self, size: int) -> None:
        """So many bytes of answers wait for it."""
        if size > limits.CONTROL_BYTES_MAX:
            raise self.broken("it does not read our answers", "mux_unread")

    def broken(self, rule: str, code: str) -> RemoteViolation:
        """The violation of a rule."""
        return RemoteViolation(self._peer, rule, code=code)
