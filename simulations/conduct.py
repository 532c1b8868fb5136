"""How a simulated peer's router behaves: honest, or one of the ways in which the attacks on GossipSub deviate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Conduct:
    """Deviations hold from `from_time` on: until then the peer is honest and gathers a good score (covert flash)."""

    forwards: float = 1.0
    """Share of other peers' statements that it passes on; its own it always sends."""
    censors: frozenset[int] = frozenset()
    """Origins whose statements it never passes on."""
    announces: bool = True
    """Sends IHAVE for what it has."""
    answers_iwant: bool = True
    grafts_back: bool = True
    """Accepts GRAFT as an honest peer does; otherwise every GRAFT is answered with PRUNE."""
    keeps_mesh: bool = True
    """Looks after its mesh each heartbeat; otherwise it only takes what others graft."""
    spam_ihave: int = 0
    """IHAVEs with invented identifiers to each neighbour and heartbeat."""
    sybil_of: int = -1
    """Number of the address group (same IP) that it shares with others, from the start; -1: an address of its own."""
    from_time: int = 0
    """Nanoseconds of the simulation."""

    def has_turned(self, now: int) -> bool:
        """Whether the deviations hold at this time."""
        return now >= self.from_time


HONEST: Final = Conduct()
"""Follows the protocol."""
