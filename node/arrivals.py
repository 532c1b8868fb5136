"""What the transport hands to the driver, in the order of arrival."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.messages import Head, JobNotice, Message, Offer
from protocol.units import PeerId
from protocol.wire import Signed


@dataclass(frozen=True, slots=True)
class Received:
    """A direct message from an authenticated peer."""

    sender: PeerId
    message: Message


@dataclass(frozen=True, slots=True)
class Statement:
    """A gossiped statement whose signature and shape are right; `signed.signer` said it, `forwarder` passed it on."""

    topic: str
    signed: Signed
    forwarder: PeerId
    body: Offer | JobNotice | Head
    """What the statement says, decoded."""


@dataclass(frozen=True, slots=True)
class PeerUp:
    """A peer of this network and protocol version is connected and has said Hello."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerDown:
    """The last connection to a peer ended: it said goodbye, it crashed, or the network between us did."""

    peer: PeerId


Arrival = Received | Statement | PeerUp | PeerDown
