"""How much one peer may make a muxer hold and do.

Memory: each stream has a window of `WINDOW_START_BYTES`, as the wire demands, and grows out of one pool per connection;
the number of streams is capped, so the sum is. Work: what a peer gets for free on the wire is counted by buckets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocol.units import KIB, MIB, SECOND, Micros

WINDOW_START_BYTES: Final = 256 * KIB
"""Bytes that a peer may send on a new stream before it hears anything; fixed by the wire."""

WINDOW_MAX_BYTES: Final = 4 * MIB
"""Bytes; the widest window of a stream: 40 MB/s over a round trip of 100 ms."""

GROWTH_BYTES_MAX: Final = 8 * MIB
"""Bytes; by so much the windows of one connection are wider than `WINDOW_START_BYTES`, together."""

INBOUND_MAX: Final = 128
"""Streams that a peer has open at a time; one more is reset at once."""

OUTBOUND_MAX: Final = 96
"""Streams that we have open to a peer at a time; one more waits."""

LINGERING_MAX: Final = 32
"""Streams that we closed and the peer did not; one more resets the one that lingers longest."""

BUFFER_BYTES_MAX: Final = (INBOUND_MAX + OUTBOUND_MAX + LINGERING_MAX) * WINDOW_START_BYTES + GROWTH_BYTES_MAX
"""Bytes; received and unread on one connection, in the worst case."""

QUEUE_BYTES_MAX: Final = 512 * KIB
"""Bytes; one stream's data waiting to be sent."""

QUEUES_BYTES_MAX: Final = 4 * MIB
"""Bytes; all streams' data waiting to be sent. Only a stream with nothing waiting may add `SMALL_BYTES` beyond."""

SMALL_BYTES: Final = 4 * KIB
"""Bytes; a heartbeat or a request gets in line even when bulk fills the queues; shorter pieces are kept together."""

CONTROL_BYTES_MAX: Final = 256 * KIB
"""Bytes; answers that wait for a peer which sends but does not read."""

FORGOTTEN_MAX: Final = 1_024
"""Streams that ended lately and whose late frames are ignored; a stream older than these is unknown."""

KEEPALIVE: Final = Micros(30 * SECOND)
"""µs between pings."""

SILENCE: Final = Micros(20 * SECOND)
"""µs; a peer that says nothing at all for so long after a ping is gone."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """A burst, and what comes back per second."""

    burst: int
    per_second: int


PINGS: Final = Allowance(64, 8)
"""Pings; each makes us answer."""

RESETS: Final = Allowance(2_048, 256)
"""Streams that a peer opens and resets, or opens beyond the cap (rapid reset); each makes us start a task."""

IDLE_FRAMES: Final = Allowance(8_192, 1_024)
"""Frames that change nothing: no data, no credit, no flag, or for a stream that ended."""


class Meter:
    """A bucket of tokens. `take` is False when it is empty."""

    __slots__ = ("_allowance", "_at", "_tokens")

    def __init__(self, allowance: Allowance, now: Micros) -> None:
        self._allowance = allowance
        self._tokens = allowance.burst
        self._at = now

    def take(self, now: Micros) -> bool:
        """Use one token up."""
        gained = (now - self._at) * self._allowance.per_second // SECOND
        if gained > 0:
            self._tokens = min(self._allowance.burst, self._tokens + gained)
            self._at = now
        self._tokens -= 1
        if self._tokens < 0:
            self._tokens = 0
            return False
        return True
