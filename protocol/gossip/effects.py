"""What a router asks of its driver, and how a statement is judged."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import NamedTuple

from protocol.gossip.rpc import Rpc
from protocol.units import PeerId


class Rank(IntEnum):
    """What goes first when a neighbour is slow."""

    CONTROL = 0
    OWN = 1
    FORWARD = 2


class Verdict(Enum):
    """What is to become of a statement."""

    ACCEPT = "accept"
    REJECT = "reject"
    """It is wrong, and whoever forwarded it made it or did not look."""
    IGNORE = "ignore"
    """It is not passed on, and that is nobody's fault: over its author's rate, for example."""
    RETRY = "retry"
    """Nobody could say, for its body could not be had: forget that it came."""


class SendRpc(NamedTuple):
    """The same RPC to each of these peers."""

    peers: tuple[PeerId, ...]
    rpc: Rpc
    rank: Rank


class Judge(NamedTuple):
    """A new statement: look at it, then call `Router.decide`."""

    name: bytes
    topic: str
    data: bytes
    forwarder: PeerId


class Deliver(NamedTuple):
    """An accepted statement, once, to whoever follows the topic here."""

    topic: str
    data: bytes
    forwarder: PeerId | None
    """Who brought it first; None: it is our own."""


class Suggest(NamedTuple):
    """A neighbour in good standing pruned us and names others who may have a place."""

    peers: tuple[PeerId, ...]


GossipEffect = SendRpc | Judge | Deliver | Suggest
