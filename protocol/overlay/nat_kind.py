"""What a router does to our connections, judged from what several observers saw of one local port.

The words are those of RFC 4787: a mapping that is the same for every destination can be told to others and punched
through; one that changes with the destination cannot.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from protocol.overlay.endpoint import Endpoint, is_carrier, is_global

NatKind = Literal["none", "cone", "symmetric", "unknown"]
"""none: seen as we are. cone: endpoint-independent mapping. symmetric: address- or port-dependent mapping."""


@dataclass(frozen=True, slots=True)
class Nat:
    """The router in front of us, as far as it is known."""

    kind: NatKind = "unknown"
    keeps_port: bool | None = None
    """Whether others see the port that we dial from; None while nobody said."""
    is_carrier: bool | None = None
    """Whether a second NAT, the carrier's, stands behind our own router; None while the router's address is unknown."""
    external: str = ""
    """The address that others see; empty while fewer than two of different subnets agree."""


def kind_of(seen: Sequence[tuple[Endpoint, Endpoint]], own: Collection[str]) -> NatKind:
    """Judge pairs (who looked, what it saw) that all left from one local port.

    Two observers at different addresses are needed to tell a cone from a symmetric NAT: one alone sees the same mapping
    in both cases."""
    if len({looked.ip for looked, _ in seen}) < 2:
        return "unknown"
    if all(found.ip in own for _, found in seen):
        return "none"
    return "cone" if len({found for _, found in seen}) == 1 else "symmetric"


def is_behind_carrier(router: str, external: str) -> bool | None:
    """True when the router's own outside address is not the one that the world sees: there is another NAT behind it.

    `router` is what it says of itself by PCP, NAT-PMP or UPnP. None when that decides nothing."""
    if not router:
        return None
    if is_carrier(router) or not is_global(router):
        return True
    return router != external if external else None
