"""How far our clock is from those of others: one NTP-style offset per peer, and their median.

A single peer may lie; a median over several neighbours needs half of them to. Spec: specs/23-discovery.md.
"""

from __future__ import annotations

from statistics import median
from typing import Final

from protocol.units import SECOND, Micros, PeerId

PEERS_MAX: Final = 64
"""Peers whose offsets are kept; the one unheard for longest goes."""

PEERS_MIN: Final = 3
"""Peers without which there is no verdict: one or two clocks may be the wrong ones."""

SKEW_WARN: Final = Micros(2 * SECOND)
"""Microseconds from which on a person should hear of it: leases and offers compare times of several hosts."""


class ClockSkew:
    """Offsets by peer."""

    def __init__(self) -> None:
        self._offsets: dict[PeerId, int] = {}

    def sample(self, peer: PeerId, sent: Micros, heard: Micros, said: Micros, back: Micros) -> None:
        """Four times of one exchange: ours, theirs, theirs, ours (RFC 5905: offset = ((t2 − t1) + (t3 − t4)) / 2)."""
        self._offsets.pop(peer, None)
        self._offsets[peer] = ((heard - sent) + (said - back)) // 2
        if len(self._offsets) > PEERS_MAX:
            del self._offsets[next(iter(self._offsets))]

    def skew(self) -> Micros | None:
        """Microseconds by which the clocks of others are ahead of ours (median); None before three peers answered."""
        return Micros(int(median(self._offsets.values()))) if len(self._offsets) >= PEERS_MIN else None

    @property
    def count(self) -> int:
        """Peers that answered."""
        return len(self._offsets)

    def forget(self, peer: PeerId) -> None:
        """It is gone."""
        self._offsets.pop(peer, None)
