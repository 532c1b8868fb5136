"""Bytes per second and bytes per hour as integers: what a relay's budget counts with. Spec: specs/20-relays.md."""

from __future__ import annotations

from typing import Final

from protocol.units import SECOND, Micros, PeerId

BURST_PARTS: Final = 4
"""A rate lets a quarter of a second's bytes pass at once."""


class Rate:
    """A steady number of bytes per second. Taking never fails: it says how long to wait before the bytes may go."""

    __slots__ = ("_booked", "_rate")

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._booked = 0
        """Until when the line is taken, in µs times the rate: one integer, no rounding."""

    def take(self, size: int, now: Micros) -> Micros:
        """Book `size` bytes at `now`; µs to wait before they are due."""
        clock = now * self._rate
        burst = self._rate * SECOND // BURST_PARTS
        self._booked = max(self._booked, clock - burst) + size * SECOND
        return Micros(max(0, -(-(self._booked - clock) // self._rate)))


class Quota:
    """Bytes per key: `limit` at once, and as many again in the course of every `span`. At most `keys_max` keys."""

    __slots__ = ("_keys_max", "_limit", "_owed", "_span")

    def __init__(self, limit: int, span: Micros, keys_max: int) -> None:
        self._limit = limit
        self._span = span
        self._keys_max = keys_max
        self._owed: dict[PeerId | str, int] = {}
        """When a key will owe nothing any more, in µs times the limit."""

    def __len__(self) -> int:
        return len(self._owed)

    def left(self, key: PeerId | str, now: Micros) -> int:
        """Bytes that a key may send at `now`. None for a key that is new while too many others still owe something."""
        if key not in self._owed and len(self._owed) >= self._keys_max:
            return 0
        owed = max(0, self._owed.get(key, 0) - now * self._limit)
        return max(0, self._limit - -(-owed // self._span))

    def spend(self, key: PeerId | str, size: int, now: Micros) -> None:
        """Charge a key."""
        self._owed[key] = max(self._owed.get(key, 0), now * self._limit) + size * self._span

    def forget_paid(self, now: Micros) -> None:
        """Drop every key that owes nothing."""
        clock = now * self._limit
        self._owed = {key: until for key, until in self._owed.items() if until > clock}
