"""What a directory asks of the world, and what it tells. A closed union. Spec: specs/23-discovery.md."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.errors import RemoteViolation
from protocol.overlay.peer_record import Contact
from protocol.overlay.questions import Question
from protocol.units import PeerId


@dataclass(frozen=True, slots=True)
class Ask:
    """Put a question to a peer, and hand the reply to `receive` or the lack of it to `failed` under this number."""

    number: int
    peer: PeerId
    addresses: tuple[str, ...]
    """Where it said it is; empty when the address book must know."""
    question: Question
    is_check: bool = False
    """Nobody waits for the answer: only whether the peer is there at all is to be found out, some time."""


@dataclass(frozen=True, slots=True)
class Met:
    """A record was verified: its addresses are worth remembering."""

    contact: Contact


@dataclass(frozen=True, slots=True)
class Done:
    """A search that somebody asked for is over."""

    number: int
    kept: tuple[Contact, ...]
    """What was kept under the key, the newest record of each signer."""
    closest: tuple[Contact, ...]
    """The nearest peers that answered."""
    asks: int
    hops: int


@dataclass(frozen=True, slots=True)
class Twin:
    """Somebody signs records with our own key: two nodes with one identity, or our clock went back."""

    contact: Contact


@dataclass(frozen=True, slots=True)
class Fault:
    """A peer broke a rule."""

    violation: RemoteViolation


Effect = Ask | Met | Done | Twin | Fault
