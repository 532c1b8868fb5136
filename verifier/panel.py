"""Several auditors who do the same work blind, seal what they got, and open together: one vote each.

Nobody can copy: all seals are in before the first is opened, and a seal binds who made it. Who does not seal is
replaced by the next in the order; of those who did, the first in the order decide. Spec: specs/37-verification-game.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from protocol import operations
from protocol.effects import Effect, Send, Wake
from protocol.errors import RemoteViolation
from protocol.messages import AuditCommit, AuditOpenRequest, AuditRequest, AuditReveal
from protocol.units import SECOND, Digest, Micros, PeerId
from verifier.summons import Summons

OPEN_TIMEOUT: Final = Micros(30 * SECOND)
"""Microseconds for a member to open its seal; it needs only a connection."""

PATIENCE_MIN: Final = Micros(20 * SECOND)
"""Microseconds for which a panel that is full waits at least for those whom it asked besides: a lost request or seal is
sent again three times in it, and all judges wait for the same first in the order."""

SEATS: Final = (3, 7)
"""Members of the panels of the first two rounds: with a third of all peers bad, 25 % and 16 % of panels are captured,
and the next instance is the game, which no majority wins."""

VOTES_MIN: Final = 2
"""Equal votes that a finding needs, however few could be drawn: one machine's memory error decides nothing."""

OK: Final = "ok"

BLAMES: Final = "inputs"
"""How the reason of a member begins who could not get what the claim owes it."""

BREAKS: Final = "exit"
"""How the reason of a member begins whose program failed by itself; time and memory would depend on the member."""


@dataclass(slots=True)
class Panel:
    """One vote. `until` is the deadline of what is waited for: all seals, then all openings."""

    request: AuditRequest
    members: tuple[PeerId, ...]
    """Everybody who is asked, in the order of the draw; once all is opened, those whose word counts."""
    until: Micros
    seats: int = 0
    """Words that decide; 0: as many as there are members."""
    reserve: tuple[PeerId, ...] = ()
    """Who is asked next where fewer than that seal in time."""
    since: Micros = Micros(0)
    last: Micros = Micros(0)
    """When nobody else is asked any more."""
    seals: dict[PeerId, Digest] = field(default_factory=dict)
    votes: dict[PeerId, Digest] = field(default_factory=dict)
    """What each member got; zeros for one that failed or did not open what it had sealed."""
    blaming: set[PeerId] = field(default_factory=set)
    """Members who could not get what they were to replay."""
    broken: set[PeerId] = field(default_factory=set)
    """Members whose program ended with an error: an honest state can be replayed."""
    is_opening: bool = False

    def __post_init__(self) -> None:
        self.seats = self.seats or len(self.members)

    @classmethod
    def of(cls, request: AuditRequest, summons: Summons, now: Micros, limit: Micros, last: Micros) -> Panel:
        """One that begins now, with `limit` microseconds for everybody who is asked, and ends asking at `last`."""
        until = Micros(min(now + limit, last))
        return cls(request, summons.members, until, summons.seats, summons.reserve, now, last)

    @property
    def place(self) -> tuple[bytes, int, int]:
        return (self.request.escrow, self.request.chunk, self.request.epoch)

    @property
    def enough(self) -> int:
        """More than half of the seats."""
        return self.seats // 2 + 1

    def begin(self, request: AuditRequest, now: Micros, limit: Micros) -> None:
        """It is known only now what to ask."""
        self.request, self.since = request, now
        self.until = Micros(now + limit)

    def ask(self) -> list[Effect]:
        """To all who have not sealed yet, or not opened."""
        if self.is_opening:
            waiting = [peer for peer in self.seals if peer not in self.votes]
            return [Send(peer, AuditOpenRequest(*self.place)) for peer in waiting]
        return [Send(peer, self.request) for peer in self.members if peer not in self.seals]

    def committed(self, sender: PeerId, message: AuditCommit, now: Micros) -> list[Effect]:
        """A seal. Raises `RemoteViolation` (`equivocation`, `copied`)."""
        sealed = Digest(message.sealed)
        if sender not in self.members or self.is_opening:
            return []
        if self.seals.get(sender, sealed) != sealed:
            raise RemoteViolation(sender, "two different seals for one audit", code="equivocation")
        if any(other == sealed for peer, other in self.seals.items() if peer != sender):
            raise RemoteViolation(sender, "somebody else's seal", code="copied")
        self.seals[sender] = sealed
        if len(self.seals) == len(self.members):
            return self._open(now)
        if len(self.seals) == self.seats:  # Full: those before them in the order get as long again.
            self.until = Micros(min(self.until, now + max(PATIENCE_MIN, now - self.since)))
            return [Wake(self.until)]
        return []

    def revealed(self, sender: PeerId, message: AuditReveal) -> bool:
        """A seal is opened; True when all are. What does not fit its seal counts as no vote."""
        if not self.is_opening or sender not in self.seals or sender in self.votes:
            return False
        output = Digest(message.output)
        fits = operations.seal(sender, message.salt, output) == self.seals[sender]
        self.votes[sender] = output if fits and message.reason == OK else Digest(bytes(32))
        if fits and message.reason.startswith(BLAMES):
            self.blaming.add(sender)
        if fits and message.reason.startswith(BREAKS):
            self.broken.add(sender)
        return len(self.votes) == len(self.seals)

    def late(self, now: Micros) -> list[Effect] | None:
        """The deadline has passed: ask others, or open what was sealed; None when there is nothing more to wait for."""
        lack = self.seats - len(self.seals)
        if not self.is_opening and lack > 0 and self.reserve and now < self.last:
            limit = Micros(max(PATIENCE_MIN, self.until - self.since))
            self.members, self.reserve = (*self.members, *self.reserve[:lack]), self.reserve[lack:]
            self.since, self.until = now, Micros(min(self.last, now + limit))
            return [*self.ask(), Wake(self.until)]
        if not self.is_opening and self.seals:
            return self._open(now)
        return None

    def close(self) -> None:
        """Everything is opened: of those who said something about the claim the first in the order count."""
        said = [peer for peer in self.members if any(self.votes.get(peer, b"")) or peer in self.blaming | self.broken]
        self.members = tuple(said[: self.seats])
        self.votes = {peer: self.votes[peer] for peer in self.members}
        self.blaming &= set(self.members)
        self.broken &= set(self.members)

    def _open(self, now: Micros) -> list[Effect]:
        self.is_opening = True
        self.until = Micros(now + OPEN_TIMEOUT)
        return self.ask()

    @property
    def is_refused(self) -> bool:
        """Whether for more than half of the members, VOTES_MIN at least, the program ended with an error."""
        return len(self.broken) >= max(VOTES_MIN, self.enough)

    @property
    def is_withheld(self) -> bool:
        """Whether as many could not get what the claim owes them."""
        return len(self.blaming) >= max(VOTES_MIN, self.enough)

    def majority(self) -> Digest | None:
        """What more than half of the members got, and VOTES_MIN at least; None when nothing is."""
        return majority_of(self.votes, self.seats)


def majority_of(votes: Mapping[PeerId, Digest], members: int) -> Digest | None:
    """The value that more than half of so many members voted for, VOTES_MIN at least; zeros are no vote."""
    counted = Counter(vote for vote in votes.values() if any(vote))
    if not counted:
        return None
    value, count = counted.most_common(1)[0]
    return value if count >= max(VOTES_MIN, members // 2 + 1) else None
