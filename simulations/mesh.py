"""The mesh of one peer and topic: with whom it exchanges whole statements, and whom it must not ask again yet."""

from __future__ import annotations

from typing import Final

MULTIPLIER: Final = 0x9E3779B97F4A7C15
"""2**64 divided by the golden ratio: spreads indices over a word (Knuth, The Art of Computer Programming 3, 1973)."""

WORD: Final = (1 << 64) - 1


def scrambled(number: int) -> int:
    """64 well mixed bits of a number: splitmix64 (Steele, Lea and Flood, 2014)."""
    number = (number + MULTIPLIER) & WORD
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & WORD
    return number ^ (number >> 31)


def drawn(pool: list[int], wanted: int, key: int) -> list[int]:
    """`wanted` different members of the pool by a draw that depends only on the key, not on draws before it."""
    if wanted >= len(pool):
        return pool
    left = pool[:]
    count = len(left)
    for place in range(wanted):
        key = scrambled(key)
        other = place + key % (count - place)
        left[place], left[other] = left[other], left[place]
    del left[wanted:]
    return left


class Mesh:
    """Members in order of their coming, back-off, and the memory of PRUNEs. Lists are short enough to be searched."""

    __slots__ = ("_pool", "_pool_until", "backoff", "members", "pruned_at")

    def __init__(self) -> None:
        self.members: list[int] = []
        self.backoff: dict[int, int] = {}
        """Until when (ns) a peer must not be grafted."""
        self.pruned_at: dict[int, int] = {}
        """When (ns) a peer sent PRUNE last."""
        self._pool: list[int] | None = None
        self._pool_until = 0

    def add(self, peer: int) -> None:
        """A new member."""
        self.members.append(peer)
        if self._pool and peer in self._pool:
            self._pool.remove(peer)

    def remove(self, peer: int) -> bool:
        """False when it was no member."""
        if peer not in self.members:
            return False
        self.members.remove(peer)
        if peer not in self.backoff:
            self._pool = None
        return True

    def hold_off(self, peer: int, until: int) -> None:
        """Do not graft it before this time; a longer back-off stays."""
        if until > self.backoff.get(peer, 0):
            self.backoff[peer] = until
            self._pool_until = min(self._pool_until, until)
            if self._pool and peer in self._pool:
                self._pool.remove(peer)

    def is_held_off(self, peer: int, now: int) -> bool:
        """Whether its back-off still runs."""
        return self.backoff.get(peer, 0) > now

    def forget(self, peer: int) -> None:
        """The connection is gone; back-off outlives it, as in every implementation."""
        if peer in self.members:
            self.members.remove(peer)
        self.pruned_at.pop(peer, None)
        self._pool = None

    def changed(self) -> None:
        """The peer's links changed."""
        self._pool = None

    def reset(self) -> None:
        """The peer restarts."""
        self.members.clear()
        self.backoff.clear()
        self.pruned_at.clear()
        self._pool = None

    def pool(self, links: list[int], now: int) -> list[int]:
        """Neighbours that are neither members nor held off, in the order of the links. It changes with the mesh."""
        pool = self._pool
        if pool is not None and now < self._pool_until:
            return pool
        members, backoff = self.members, self.backoff
        until = 1 << 62
        if backoff:
            for peer, time in list(backoff.items()):
                if time <= now:
                    del backoff[peer]
                elif time < until:
                    until = time
            pool = [peer for peer in links if peer not in members and peer not in backoff]
        else:
            pool = [peer for peer in links if peer not in members]
        self._pool = pool
        self._pool_until = until
        return pool
