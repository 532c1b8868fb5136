"""One search through the directory: from peer to peer, ever nearer to a key, on paths that share nobody.

After S/Kademlia (Baumgart, Mies 2007): a peer that is asked on one path is asked on no other, so that a neighbourhood
of liars blinds one path and not the search. Spec: specs/23-discovery.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from protocol.overlay.peer_record import Contact
from protocol.overlay.subnets import is_crowded
from protocol.units import PeerId

PATHS: Final = 3
"""Disjoint paths; each has one question on its way, so this is Kademlia's α too."""

CLOSEST: Final = 8
"""Peers that keep a record, and that each path must have asked before it ends."""

ASKS_MAX: Final = 48
"""Questions of one search."""

CANDIDATES_MAX: Final = 64
"""Peers that one path remembers, the nearest."""

State = Literal["new", "asked", "answered", "failed"]


@dataclass(slots=True)
class Candidate:
    """Somebody who may be asked."""

    peer: PeerId
    distance: int
    depth: int
    subnets: frozenset[str]
    addresses: tuple[str, ...]
    state: State = "new"


@dataclass(slots=True)
class _Path:
    candidates: dict[PeerId, Candidate] = field(default_factory=dict)
    asked: PeerId | None = None


class Lookup:
    """The state of one search. `next` says whom to ask; `answered` and `failed` take what comes back."""

    def __init__(self, target: int, me: PeerId, seeds: Sequence[Contact], strangers: Sequence[PeerId] = ()) -> None:
        """`strangers` are peers without a record (bootstraps): asked first, as nobody knows how near they are."""
        self.target = target
        self._me = me
        self._paths = [_Path() for _ in range(PATHS)]
        self._claimed: dict[PeerId, _Path] = {}
        self._answered: dict[PeerId, Contact] = {}
        self.asks = 0
        self.hops = 0
        """Depth of the deepest peer that answered: 1 = somebody we knew."""
        for index, contact in enumerate(seeds):
            self._add(self._paths[index % PATHS], contact, 1)
        for index, peer in enumerate(strangers):
            stranger = Candidate(peer, 0, 1, frozenset(), ())
            self._paths[index % PATHS].candidates.setdefault(peer, stranger)

    @property
    def is_over(self) -> bool:
        """True when nobody is left to ask and nobody is waited for."""
        return all(path.asked is None and self._next(path) is None for path in self._paths)

    def next(self) -> list[Candidate]:
        """Whom to ask now: at most one per path that waits for nobody."""
        chosen: list[Candidate] = []
        for path in self._paths:
            if path.asked is not None or self.asks >= ASKS_MAX:
                continue
            candidate = self._next(path)
            if candidate is not None:
                candidate.state = "asked"
                path.asked = candidate.peer
                self._claimed[candidate.peer] = path
                self.asks += 1
                chosen.append(candidate)
        return chosen

    def answered(self, peer: PeerId, itself: Contact, named: Iterable[Contact]) -> None:
        """A peer answered, with its own record and those of others that are nearer."""
        path = self._claimed[peer]
        asked = path.candidates.get(peer)
        depth = asked.depth if asked is not None else 1
        path.asked = None
        if asked is not None:
            asked.state, asked.distance, asked.subnets = "answered", itself.position ^ self.target, itself.subnets
        self._answered[peer] = itself
        self.hops = max(self.hops, depth)
        for contact in named:
            self._add(path, contact, depth + 1)
        self._trim(path)

    def failed(self, peer: PeerId) -> None:
        """A peer did not answer, or lied."""
        path = self._claimed[peer]
        path.asked = None
        asked = path.candidates.get(peer)
        if asked is not None:
            asked.state = "failed"
        self._answered.pop(peer, None)

    def closest(self, count: int = CLOSEST) -> list[Contact]:
        """Those that answered, nearest first, at most two of one network."""
        chosen: list[Contact] = []
        for contact in sorted(self._answered.values(), key=lambda contact: contact.position ^ self.target):
            if len(chosen) < count and not is_crowded(contact.subnets, (other.subnets for other in chosen)):
                chosen.append(contact)
        return chosen

    def _next(self, path: _Path) -> Candidate | None:
        """The nearest whom nobody asked, unless enough nearer ones have answered; crowds of one network are skipped."""
        if self.asks >= ASKS_MAX:
            return None
        seen: list[frozenset[str]] = []
        for candidate in sorted(path.candidates.values(), key=lambda one: one.distance):
            if candidate.state == "failed" or is_crowded(candidate.subnets, seen):
                continue
            if len(seen) >= CLOSEST:
                return None
            if candidate.state == "new" and candidate.peer not in self._claimed:
                return candidate
            seen.append(candidate.subnets)
        return None

    def _add(self, path: _Path, contact: Contact, depth: int) -> None:
        if contact.peer != self._me and contact.peer not in path.candidates:
            distance = contact.position ^ self.target
            path.candidates[contact.peer] = Candidate(contact.peer, distance, depth, contact.subnets, contact.addresses)

    def _trim(self, path: _Path) -> None:
        if len(path.candidates) <= CANDIDATES_MAX:
            return
        kept = sorted(path.candidates.values(), key=lambda one: one.distance)[:CANDIDATES_MAX]
        path.candidates = {candidate.peer: candidate for candidate in kept}
