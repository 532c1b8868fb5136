"""Auditors that failed lately where others did not, as one judge has seen it: they are drawn last.

Remembered for a while and only so many, so that one bad hour costs nobody for ever. Spec: specs/11-verification.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from protocol.units import MINUTE, Micros, PeerId

REMEMBERED: Final = Micros(30 * MINUTE)
"""Microseconds for which a failure counts: about as long as a judge has for one claim."""

REMEMBERED_MAX: Final = 1024
"""Peers; the longest remembered is forgotten first."""


class NoShows:
    """Peer -> until when it is drawn last."""

    def __init__(self) -> None:
        self._until: dict[PeerId, Micros] = {}

    def __len__(self) -> int:
        return len(self._until)

    def note(self, peers: Iterable[PeerId], now: Micros) -> None:
        """They failed at something that somebody else could do."""
        for peer in sorted(peers):
            self._until.pop(peer, None)
            self._until[peer] = Micros(now + REMEMBERED)
        while len(self._until) > REMEMBERED_MAX:
            del self._until[next(iter(self._until))]

    def forgive(self, peer: PeerId) -> None:
        """It has done its work."""
        self._until.pop(peer, None)

    def lately(self, now: Micros) -> frozenset[PeerId]:
        """Who is drawn last now."""
        for peer in [peer for peer, until in self._until.items() if until <= now]:
            del self._until[peer]
        return frozenset(self._until)
