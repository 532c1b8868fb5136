"""Who can open a connection to whom: NAT classes, the dial matrix, and how two peers meet.

Classes: `public` is reachable by anybody; `cone` maps one inner address to one outer address whoever it talks to
(endpoint-independent mapping of RFC 4787, 2007), hence can be punched; `symmetric` maps anew for every destination, so
that nobody can foretell the port that a hole needs (RFC 5128, 2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

NATS: Final = ("public", "cone", "symmetric")
"""The classes; their places in this tuple are their numbers in the tables below."""

DIRECT: Final = "direct"
"""One side's plain dial succeeds."""
PUNCHED: Final = "punched"
"""Both dial at the same moment, as a relay tells them to (libp2p DCUtR); from then on as good as direct."""
RELAYED: Final = "relayed"
"""Every byte goes over a public peer (libp2p circuit relay v2)."""
APART: Final = "apart"
"""They never meet."""

DIALS: Final = (
    # target:  public, cone, symmetric
    (True, False, False),  # source: public
    (True, False, False),  # source: cone
    (True, False, False),  # source: symmetric
)
"""Whether a plain dial succeeds. What a NAT hides takes no call, whoever calls; but it calls."""

PUNCHES: Final = (
    (False, False, False),
    (False, True, False),
    (False, False, False),
)
"""Whether a hole can be punched where neither side can be dialled. Cone to symmetric needs a cone that filters by no
port, which is the exception (RFC 5128 §3.3.5), so it counts as impossible. Every attempt that can succeed does: live
success rates of DCUtR are about 70 %, so shares of `cone` should be read as `cone that can be punched`."""


def number(nat: str) -> int:
    """The number of a class in the tables. Raises ValueError for a word that is none."""
    return NATS.index(nat)


def can_dial(source: str, target: str) -> bool:
    """Whether a plain dial from a peer of class `source` to one of class `target` succeeds."""
    return DIALS[number(source)][number(target)]


def meeting(first: str, second: str, relay: bool) -> str:
    """DIRECT, PUNCHED, RELAYED or APART: how two peers of these classes hold a connection; the same both ways.

    A connection serves both directions, so one dial is enough. Without relays nobody arranges the punching either.
    """
    if can_dial(first, second) or can_dial(second, first):
        return DIRECT
    if not relay:
        return APART
    return PUNCHED if PUNCHES[number(first)][number(second)] else RELAYED


class Meetings:
    """Which way any two peers of a world meet. `nats` and `regions` are by peer; public peers serve as relays."""

    __slots__ = ("_between", "_hidden", "_relays")

    def __init__(self, nats: Sequence[str], regions: Sequence[int], relay: bool) -> None:
        self._hidden = [number(kind) for kind in nats]
        self._between = [[meeting(first, second, relay) for second in NATS] for first in NATS]
        public = [peer for peer, hidden in enumerate(self._hidden) if not hidden]
        near: dict[int, list[int]] = {}
        for peer in public:
            near.setdefault(regions[peer], []).append(peer)
        choices = [near.get(region, public) for region in regions]
        self._relays = [choice[peer % len(choice)] if choice else -1 for peer, choice in enumerate(choices)]

    @property
    def is_open(self) -> bool:
        """Whether everybody is public."""
        return not any(self._hidden)

    def relay(self, source: int, target: int) -> int:
        """The peer between the two: -1: nobody is needed; `source`: they never meet.

        It is one at which the peer with the higher index is reserved, hence the same both ways: of its region if
        anybody public lives there. Peers move their reservations when a relay dies: nobody asks whether it is up.
        """
        first = self._hidden[source]
        if not first:
            return -1
        second = self._hidden[target]
        if not second:
            return -1
        how = self._between[first][second]
        relay = self._relays[max(target, source)]
        if how == APART or relay < 0:
            return source
        return relay if how == RELAYED else -1

    def way(self, source: int, target: int) -> tuple[int, ...]:
        """The peers that a connection goes over, ends included; empty: they never meet."""
        relay = self.relay(source, target)
        if relay < 0:
            return (source, target)
        return () if relay == source else (source, relay, target)
