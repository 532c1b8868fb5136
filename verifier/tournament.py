"""Many rival claims about one computation, and games between pairs of them until one is left.

Winners meet winners of as many games, so a claim that never loses plays at most ceil(log2(claims)) games, however many
rivals one adversary posts. Claims may come while games are played. Spec: specs/37-verification-game.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from protocol.units import PPM, Digest
from verifier.chess_clock import CLOCK_MAX

REWARD_PPM: Final = 500_000
"""Share of a loser's bond that its winner gets; the rest is burned, so that beating oneself costs half of it."""

DATA_TIME: Final = 2 * CLOCK_MAX
"""Microseconds that the end of a game may take: data deadlines of both claims, and the replay of one step."""

GAME_TIME_MAX: Final = 2 * CLOCK_MAX + DATA_TIME
"""Microseconds of one game: in the worst case the clocks of both claims run one after the other."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two claims that are to play now."""

    first: Digest
    second: Digest


@dataclass(slots=True)
class Tournament:
    """Who waits, who plays, who is out."""

    waiting: dict[int, Digest] = field(default_factory=dict)
    """By games won: at most one claim waits at each height."""
    playing: dict[Digest, tuple[Digest, int]] = field(default_factory=dict)
    """Claim -> (rival, games won)."""
    seen: set[Digest] = field(default_factory=set)
    """One game per distinct claim: the same root posted twice is one claim."""

    def enter(self, claim: Digest) -> Pair | None:
        """A claim comes; the pair that plays now, or None while it waits or when it is known."""
        if claim in self.seen:
            return None
        self.seen.add(claim)
        return self._seat(claim, 0)

    def won(self, winner: Digest | None, loser: Digest) -> Pair | None:
        """A game ended; `winner` None: both claims lost it. The pair that plays now."""
        rival, height = self.playing.pop(loser)
        self.playing.pop(rival)
        return None if winner is None else self._seat(winner, height + 1)

    def close(self) -> Pair | None:
        """Nobody can enter any more: while no game is on, the two lowest of those who wait meet. None: it is over."""
        if self.playing or len(self.waiting) < 2:
            return None
        low, high = sorted(self.waiting)[:2]
        first = self.waiting.pop(low)
        return self._meet(first, self.waiting.pop(high), high)

    @property
    def champion(self) -> Digest | None:
        """The only claim that is left; None while games are to be played, or when all have lost."""
        return next(iter(self.waiting.values())) if len(self.waiting) == 1 and not self.playing else None

    def _seat(self, claim: Digest, height: int) -> Pair | None:
        rival = self.waiting.pop(height, None)
        if rival is None:
            self.waiting[height] = claim
            return None
        return self._meet(rival, claim, height)

    def _meet(self, first: Digest, second: Digest, height: int) -> Pair:
        self.playing[first] = (second, height)
        self.playing[second] = (first, height)
        return Pair(first, second)


def games_max(claims: int) -> int:
    """Games that one claim plays at most among so many.

    >>> [games_max(n) for n in (1, 2, 3, 4, 64)]
    [0, 1, 2, 2, 6]
    """
    return max(0, claims - 1).bit_length()


def divide(bond: int) -> tuple[int, int]:
    """A loser's bond: (to the winner, burned), smallest units. The winner's own bond comes back besides.

    >>> divide(101)
    (50, 51)
    """
    reward = bond * REWARD_PPM // PPM
    return reward, bond - reward
