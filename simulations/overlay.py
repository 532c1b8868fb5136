"""Who is up and connected with whom: the graph under the meshes of gossip."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from random import Random
from typing import Final

from protocol.errors import Refused
from simulations.conduct import HONEST, Conduct

TRIES: Final = 8
"""Draws per wanted link: enough to find somebody new unless nearly everybody is a neighbour already."""


class Overlay:
    """Links between peers by index; grows when a peer with a higher index joins. Every link goes both ways."""

    __slots__ = ("_place", "_present", "_random", "born", "conducts", "dialled", "is_fixed", "is_up", "links", "wants")

    def __init__(self, random: Random, wants: int) -> None:
        self.wants = wants
        """Links that each peer dials."""
        self.links: list[list[int]] = []
        """Neighbours by peer, in an order that is random but stays: that of the hash tables of a live process."""
        self.dialled: list[set[int]] = []
        """Neighbours that the peer dialled itself. Only asked for membership, never iterated."""
        self.is_up = bytearray()
        self.is_fixed = bytearray()
        """1: the peer dials nobody by itself (given graph, or surrounded by attackers)."""
        self.born: list[int] = []
        """When the peer came up last: what was sent before is lost to it."""
        self.conducts: list[Conduct] = []
        self._random = random
        self._present: list[int] = []
        self._place: list[int] = []

    def grow(self, count: int) -> None:
        """Room for peers 0..count-1."""
        while len(self.links) < count:
            self.links.append([])
            self.dialled.append(set())
            self.is_up.append(0)
            self.is_fixed.append(0)
            self.born.append(0)
            self.conducts.append(HONEST)
            self._place.append(-1)

    def __len__(self) -> int:
        return len(self.links)

    @property
    def population(self) -> int:
        """Peers that are up."""
        return len(self._present)

    def come(self, peer: int, now: int) -> None:
        """The peer is up, without links."""
        self.grow(peer + 1)
        if self.is_up[peer]:
            raise Refused(f"peer {peer} joined twice", code="is_up", fix="Let it leave first.", numbers={"peer": peer})
        self.is_up[peer] = 1
        self.born[peer] = now
        self._place[peer] = len(self._present)
        self._present.append(peer)

    def go(self, peer: int) -> list[int]:
        """The peer is gone with all its links; returns who was its neighbour."""
        neighbours = self.links[peer][:]
        for other in neighbours:
            self.unlink(peer, other)
        self.is_up[peer] = 0
        last = self._present.pop()
        place = self._place[peer]
        if last != peer:
            self._present[place] = last
            self._place[last] = place
        self._place[peer] = -1
        return neighbours

    def link(self, dialler: int, other: int) -> bool:
        """Connect two peers that are up. False when they are connected already, or one."""
        links = self.links
        if dialler == other or other in links[dialler] or not (self.is_up[dialler] and self.is_up[other]):
            return False
        draw = self._random.random
        links[dialler].insert(int(draw() * (len(links[dialler]) + 1)), other)
        links[other].insert(int(draw() * (len(links[other]) + 1)), dialler)
        self.dialled[dialler].add(other)
        return True

    def unlink(self, peer: int, other: int) -> None:
        """Both forget the connection."""
        self.links[peer].remove(other)
        self.links[other].remove(peer)
        self.dialled[peer].discard(other)
        self.dialled[other].discard(peer)

    def dial(self, peer: int, wanted: int, reachable: Callable[[int, int], bool]) -> list[int]:
        """Draw up to `wanted` new neighbours out of all who are up and can be reached; returns who was connected."""
        present, draw = self._present, self._random.random
        found: list[int] = []
        for _ in range(wanted * TRIES):
            if len(found) >= wanted or len(self.links[peer]) >= len(present) - 1:
                break
            other = present[int(draw() * len(present))]
            if reachable(peer, other) and self.link(peer, other):
                found.append(other)
        return found

    def colocated(self, observer: int, peer: int) -> int:
        """Neighbours of the observer in the peer's address group, itself included; 1 for an address of its own."""
        group = self.conducts[peer].sybil_of
        if group < 0:
            return 1
        conducts = self.conducts
        return sum(1 for other in self.links[observer] if conducts[other].sybil_of == group)


def checked_links(links: Sequence[Collection[int]]) -> list[tuple[int, int]]:
    """The edges of a given graph, each once, dialled by who names it first. Refused for an edge that leads nowhere."""
    known: set[tuple[int, int]] = set()
    edges: list[tuple[int, int]] = []
    for peer, others in enumerate(links):
        for other in sorted(others):
            if not 0 <= other < len(links) or other == peer:
                raise Refused(
                    f"links: peer {peer} names {other} as its neighbour; there are 0..{len(links) - 1}, without itself",
                    code="bad_link",
                    fix="Name the other peers by index.",
                    numbers={"peer": peer, "neighbour": other},
                )
            edge = (min(peer, other), max(peer, other))
            if edge not in known:
                known.add(edge)
                edges.append((peer, other))
    return edges
