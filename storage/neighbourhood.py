"""The peers that could hold something, as the owner sees them now: offers of others, and what was learnt of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from protocol.identity import Identity
from protocol.units import Micros, PeerId
from storage import placement
from storage.pins import Pins
from storage.placement import Candidate, Where
from storage.standing import Standings

REMEMBERED_MAX: Final = 4_096
"""Peers whose failure domain is remembered after their offer has expired: their receipts still count."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A peer with a live offer."""

    peer: PeerId
    addresses: tuple[str, ...] = ()
    region: str = ""
    rtt: Micros | None = None
    """Estimated round trip, microseconds."""


class Neighbourhood:
    """Turns the book of offers into candidates and failure domains."""

    def __init__(self, me: PeerId, standings: Standings, peers: Callable[[], Sequence[Seen]]) -> None:
        self.me = me
        self.standings = standings
        self._peers = peers
        self._where: dict[PeerId, tuple[tuple[str, ...], Where]] = {}
        """Addresses, and what they were found to say."""

    def candidates(self, without: Collection[PeerId] = ()) -> list[Candidate]:
        """Who may be asked to keep something, without this peer itself."""
        made = []
        for seen in self._peers():
            standing = self.standings.of(seen.peer)
            if seen.peer == self.me or seen.peer in without or not standing.is_usable:
                continue
            made.append(self._candidate(seen))
        return made

    def known(self, peers: Collection[PeerId]) -> list[Candidate]:
        """The same for certain peers, usable or not: holders that count against limits."""
        live = {seen.peer: seen for seen in self._peers()}
        return [self._candidate(live.get(peer, Seen(peer))) for peer in peers]

    def domain(self, peer: PeerId) -> str:
        """The failure domain of a peer; of one that was never seen, itself."""
        if peer not in self._where:
            for seen in self._peers():
                if seen.peer == peer:
                    return self._located(seen).domain
            return peer.hex()
        return self._where[peer][1].domain

    def look(self, now: Micros) -> None:
        """Note who is there, and where."""
        for seen in self._peers():
            self.standings.present(seen.peer, now)
            self._located(seen)

    def is_here(self, peer: PeerId) -> bool:
        """Whether it has a live offer."""
        return any(seen.peer == peer for seen in self._peers())

    def weight(self, peer: PeerId) -> float:
        """How good a source it is; only the order matters."""
        return self.known([peer])[0].weight

    def _candidate(self, seen: Seen) -> Candidate:
        standing = self.standings.of(seen.peer)
        is_new = bool(seen.addresses) or seen.peer not in self._where
        where = self._located(seen) if is_new else self._where[seen.peer][1]
        return Candidate(
            seen.peer,
            where,
            seen.region,
            seen.rtt,
            self.standings.uptime_ppm(seen.peer),
            standing.uplink,
            self.standings.is_newcomer(seen.peer),
        )

    def _located(self, seen: Seen) -> Where:
        known = self._where.pop(seen.peer, None)
        is_same = known is not None and known[0] == seen.addresses
        found = known[1] if known is not None and is_same else placement.where(seen.peer, seen.addresses)
        self._where[seen.peer] = (seen.addresses, found)
        while len(self._where) > REMEMBERED_MAX:
            del self._where[next(iter(self._where))]
        return found


@dataclass(frozen=True, slots=True)
class Around:
    """What machines of one owner share."""

    identity: Identity
    network: str
    neighbourhood: Neighbourhood
    pins: Pins
    dice: Random

    @property
    def me(self) -> PeerId:
        """This peer."""
        return self.identity.peer
