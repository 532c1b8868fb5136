"""The peers as a picture: places, lines and counts for the template to draw as SVG. Nothing here is HTML.

The node behind this gateway stands in the middle, because its view is what is drawn: a solid line is a connection that
it has, a dashed one a peer that it only heard of. Lines between other peers are not known here, so none are drawn.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.jobs import ACTIVE_CHUNKS
from gateway.live import View
from gateway.schemas import JobStatus, Peer

PEERS_DRAWN: Final = 24
"""More circles than this cannot be told apart; the table lists all."""

SLOTS_DRAWN: Final = 12
LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Spot:
    """One peer on the picture."""

    peer: Peer
    letter: str
    hue: int
    x: float
    y: float
    is_own: bool
    active: int
    """Chunks of the drawn jobs that it holds now."""
    slots: tuple[str, ...]
    """busy | free, one each."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing of given size."""

    width: int
    height: int
    spots: tuple[Spot, ...]
    hidden: int
    """Peers that did not fit."""

    @property
    def own(self) -> Spot | None:
        """The node in the middle."""
        return next((spot for spot in self.spots if spot.is_own), None)


def letters(peers: Sequence[Peer]) -> dict[str, str]:
    """A short name for each provider, the same on every picture: A, B, … in order of peer id."""
    providers = sorted(peer.peer for peer in peers if "provider" in peer.roles)
    return {peer: LETTERS[index] if index < len(LETTERS) else str(index + 1) for index, peer in enumerate(providers)}


def hues(peers: Sequence[Peer]) -> dict[str, int]:
    """One of eight colours for each provider."""
    return {peer: index % 8 for index, peer in enumerate(letters(peers))}


def active_by_peer(jobs: Sequence[JobStatus]) -> Counter[str]:
    """How many chunks each provider holds now."""
    return Counter(
        chunk.provider for job in jobs for chunk in job.chunks if chunk.provider and chunk.state in ACTIVE_CHUNKS
    )


def draw(view: View, width: int, height: int) -> Picture:
    """Own node in the middle, the others on an ellipse, validators first, then providers by name."""
    others = sorted(
        (peer for peer in view.peers if peer.peer != view.own_peer),
        key=lambda peer: ("provider" in peer.roles, peer.peer),
    )
    drawn = others[:PEERS_DRAWN]
    names, colours, active = letters(view.peers), hues(view.peers), active_by_peer(view.jobs)

    def spot(peer: Peer, x: float, y: float, is_own: bool) -> Spot:
        busy = max(0, peer.slots - peer.slots_free)
        slots = (("busy",) * busy + ("free",) * (peer.slots - busy))[:SLOTS_DRAWN]
        return Spot(
            peer,
            names.get(peer.peer, ""),
            colours.get(peer.peer, 0),
            round(x, 1),
            round(y, 1),
            is_own,
            active[peer.peer],
            slots,
        )

    spots = []
    own = next((peer for peer in view.peers if peer.peer == view.own_peer), None)
    if own is None and view.own_peer:
        roles = view.node.get("roles")
        own = Peer(
            view.own_peer,
            [str(role) for role in roles] if isinstance(roles, list) else [],
            connected=True,
            liveness="alive",
        )
    if own is not None:
        spots.append(spot(own, width / 2, height / 2 - 8, True))
    for index, peer in enumerate(drawn):
        angle = -math.pi / 2 + 2 * math.pi * index / max(1, len(drawn))
        x = width / 2 + math.cos(angle) * (width / 2 - 62)
        y = height / 2 - 8 + math.sin(angle) * (height / 2 - 50)
        spots.append(spot(peer, x, y, False))
    return Picture(width, height, tuple(spots), len(others) - len(drawn))
