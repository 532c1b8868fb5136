"""Partitions: sets of edges that carry nothing for a while. Any number at once, checked in constant time per message.

Each cut in force owns one bit; a peer's mask has the bit when the peer is on the cut's first side. An edge is cut where
the masks of its ends differ (in a one-way cut: where the source has the bit and the target has not).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from protocol.errors import LocalError


@dataclass(frozen=True, slots=True)
class Cut:
    """One partition in force."""

    number: int
    bit: int
    peers: tuple[int, ...]
    """The first side."""
    since: int
    until: int
    """ns; at this instant the edges carry again."""
    one_way: bool


class Cuts:
    """The partitions in force among peers 0..n-1."""

    __slots__ = ("_both", "_cuts", "_number", "_out", "sides")

    def __init__(self, n: int) -> None:
        self.sides = [0] * n
        """Per peer: the bits of the cuts on whose first side it is."""
        self._cuts: list[Cut] = []
        self._both = 0
        self._out = 0
        self._number = 0

    def __bool__(self) -> bool:
        return bool(self._cuts)

    def add(self, peers: Iterable[int], since: int, until: int, one_way: bool) -> Cut:
        """Put a partition in force. Raises LocalError for a peer that does not exist."""
        first = tuple(sorted(dict.fromkeys(peers)))
        if first and not 0 <= first[0] <= first[-1] < len(self.sides):
            raise LocalError(f"peers 0..{len(self.sides) - 1} exist, not {first[0]}..{first[-1]}", code="bad_peer")
        taken, bit = self._both | self._out, 1
        while taken & bit:
            bit <<= 1
        self._number += 1
        cut = Cut(self._number, bit, first, since, until, one_way)
        self._cuts.append(cut)
        if one_way:
            self._out |= bit
        else:
            self._both |= bit
        for peer in first:
            self.sides[peer] |= bit
        return cut

    def heal(self, number: int) -> None:
        """End a partition; one that has ended already stays so."""
        self._drop([cut for cut in self._cuts if cut.number == number])

    def expire(self, now: int) -> None:
        """End those whose time has come."""
        self._drop([cut for cut in self._cuts if cut.until <= now])

    def _drop(self, ended: list[Cut]) -> None:
        for cut in ended:
            self._cuts.remove(cut)
            self._both &= ~cut.bit
            self._out &= ~cut.bit
            for peer in cut.peers:
                self.sides[peer] &= ~cut.bit

    def next_end(self) -> int | None:
        """When the next one ends, ns; None when none is in force."""
        return min((cut.until for cut in self._cuts), default=None)

    def crossed(self, source: int, target: int) -> int:
        """The bits of the cuts that a message from source to target runs into; 0: the edge carries."""
        first, second = self.sides[source], self.sides[target]
        return ((first ^ second) & self._both) | (first & ~second & self._out)

    def span(self, bits: int) -> tuple[int, int]:
        """From when until when an edge carries nothing that these cuts lie across, ns."""
        hit = [cut for cut in self._cuts if cut.bit & bits]
        return min(cut.since for cut in hit), max(cut.until for cut in hit)
