"""Which packs are in danger, and how much may be spent on them now. Pure.

Repair is lazy: a shard that is gone may come back, and each one that is made again costs somebody's uplink. It is
budgeted, the most endangered pack first; only one that could be lost with the next holder waits for no budget.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from protocol.units import PPM, SECOND, Digest, Micros
from storage.erasure import Code

UPLINK_PPM: Final = 200_000
"""Share of the helper's uplink that repairs may take."""

BURST: Final = Micros(60 * SECOND)
"""Microseconds of budget that may be saved up."""


@dataclass(frozen=True, slots=True)
class Health:
    """How a pack is."""

    pack: Digest
    code: Code
    alive: int
    """Distinct shards in distinct failure domains whose holders are there, true and fast enough."""
    size: int
    """Bytes of one shard."""
    is_new: bool = False
    """It was never whole: this is its first placement, not a repair."""

    @property
    def is_due(self) -> bool:
        """Time to make lost shards again."""
        return self.is_new or self.alive <= trigger(self.code)

    @property
    def is_critical(self) -> bool:
        """The next loss could be the last one: no budget holds it back."""
        return self.is_new or self.alive <= self.code.k

    @property
    def missing(self) -> int:
        """Shards to make."""
        return max(0, self.code.n - self.alive)


def trigger(code: Code) -> int:
    """Shards left at which a pack is repaired: k + ⌈(n−k)/3⌉.

    >>> trigger(Code(8, 20)), trigger(Code(8, 14)), trigger(Code(1, 3))
    (12, 10, 2)
    """
    return code.k + -(-(code.n - code.k) // 3)


def in_order(healths: Iterable[Health]) -> list[Health]:
    """Those that are due, the most endangered first: by shards that may still be lost."""
    return sorted((one for one in healths if one.is_due), key=lambda one: (one.alive - one.code.k, one.pack))


class Budget:
    """Bytes that repairs may send: a share of the uplink, saved up for a minute."""

    def __init__(self, uplink: int, now: Micros) -> None:
        self._uplink = uplink
        self._saved = self._most
        self._at = now

    @property
    def _most(self) -> int:
        return self._rate * BURST // SECOND

    @property
    def _rate(self) -> int:
        return self._uplink * UPLINK_PPM // PPM

    def measured(self, uplink: int) -> None:
        """The uplink is so fast, bytes per second."""
        self._uplink = max(1, uplink)

    def take(self, size: int, now: Micros) -> bool:
        """Spend `size` bytes if there are that many; a shard larger than the whole budget waits until it is full."""
        passed = max(0, now - self._at)
        self._at = now
        self._saved = min(self._most, self._saved + self._rate * passed // SECOND)
        if self._saved < min(size, self._most):
            return False
        self._saved -= size
        return True

    def force(self, size: int) -> None:
        """Spend what there is not: later repairs wait for it."""
        self._saved -= size
