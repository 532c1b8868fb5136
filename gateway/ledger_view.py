"""The money of a job, added up: what every party gave and got by the lines that are shown.

Only lines that moved money count. A promise (`reserve`, `collateral`) and what takes it back (`release`, `return`) move
none; when a promise is kept, a line of its own says so (`pay`, `commission`, `slash`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from gateway.schemas import Money
from protocol.escrow_state import POSTED_KINDS


@dataclass(frozen=True, slots=True)
class Party:
    """One account in the lines, and its balance over them."""

    name: str
    given: int
    taken: int

    @property
    def net(self) -> int:
        """What it has more than before."""
        return self.taken - self.given


@dataclass(frozen=True, slots=True)
class Book:
    """Lines that moved money, summed by party."""

    parties: tuple[Party, ...]

    @property
    def net(self) -> int:
        """Zero, unless a line names only one end."""
        return sum(party.net for party in self.parties)


def book_of(money: Money) -> Book:
    """Each line takes from one party and gives to another; a line without an end counts for the end that it has."""
    given: defaultdict[str, int] = defaultdict(int)
    taken: defaultdict[str, int] = defaultdict(int)
    for line in money.lines:
        if line.kind not in POSTED_KINDS:
            continue
        if line.source:
            given[line.source] += line.amount
        if line.target:
            taken[line.target] += line.amount
    return Book(tuple(Party(name, given[name], taken[name]) for name in sorted({*given, *taken})))
