"""Tickets: who may fetch what over a data connection until when. Spec: specs/19-bulk.md.

A ticket is asked for on the control plane, where Noise has proved who asks. Its secret enters the keys of exactly one
data connection, of which the network sees only an id derived from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from blake3 import blake3
from msgspec import Meta, Struct

from protocol.errors import Refused, Unavailable
from protocol.jobspec import Bytes32
from protocol.units import SECOND, Digest, Micros, PeerId

TICKET_US: Final = Micros(30 * SECOND)
"""Time to open the connection, µs. The transfer itself may last for ever."""

DIGESTS_PER_TICKET: Final = 1_024
"""Blobs that one connection may ask for: 35 KiB, so that request and reply fit a control message."""

TICKETS_MAX: Final = 4_096
"""Open tickets of one holder, about 1 kB each with one digest."""

TICKETS_PER_PEER: Final = 32
"""Open tickets of one peer; it opens a handful of connections at a time."""

DATA_ADDRESSES_MAX: Final = 8
"""As many as a peer has addresses."""

ABSENT: Final = -1
"""Size of a blob that is not here."""

_ID_CONTEXT: Final = "shoal bulk 1 ticket id"

Size = Annotated[int, Meta(ge=ABSENT, le=2**62)]


class TicketRequest(Struct, frozen=True, forbid_unknown_fields=True, tag="ticket_request"):
    """May I fetch these?"""

    digests: Annotated[tuple[Bytes32, ...], Meta(min_length=1, max_length=DIGESTS_PER_TICKET)]


class TicketReply(Struct, frozen=True, forbid_unknown_fields=True, tag="ticket_reply"):
    """What is here, and one ticket for it. `secret` is all zero when nothing of it is here."""

    sizes: Annotated[tuple[Size, ...], Meta(min_length=1, max_length=DIGESTS_PER_TICKET)]
    """Bytes of each blob asked for, in order; -1 = not here."""
    secret: Bytes32
    addresses: Annotated[tuple[Annotated[str, Meta(max_length=128)], ...], Meta(max_length=DATA_ADDRESSES_MAX)]
    """Where the holder listens for data: `/ip4/…/tcp/…`."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """One connection's worth of permission."""

    secret: bytes
    peer: PeerId
    """Who may fetch."""
    digests: frozenset[bytes]
    expires: Micros

    @property
    def id(self) -> bytes:
        """16 bytes that name the ticket in the open."""
        return ticket_id(self.secret)


def ticket_id(secret: bytes) -> bytes:
    """What is shown of a secret.

    >>> ticket_id(bytes(32)).hex()
    'fd6bd4931529afe0700ee6d45d357e70'
    """
    return blake3(secret, derive_key_context=_ID_CONTEXT).digest(16)


class TicketOffice:
    """A holder's open tickets. Each is used once, by its peer, in time; bounded in total and per peer."""

    def __init__(self) -> None:
        self._open: dict[bytes, Ticket] = {}
        self._held: Counter[PeerId] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def issue(self, peer: PeerId, digests: Sequence[Digest], secret: bytes, now: Micros) -> Ticket:
        """A new ticket with a fresh 32-byte secret; Refused when too many are open."""
        self._forget(now)
        if len(self._open) >= TICKETS_MAX or self._held[peer] >= TICKETS_PER_PEER:
            raise Refused(
                f"{self._held[peer]} tickets of this peer and {len(self._open)} in all are open",
                code="too_many_tickets",
                fix="Use or drop the open ones; each ends after half a minute.",
                numbers={"peer": self._held[peer], "all": len(self._open)},
            )
        ticket = Ticket(secret, peer, frozenset(digests), Micros(now + TICKET_US))
        self._open[ticket.id] = ticket
        self._held[peer] += 1
        return ticket

    def find(self, ticket: bytes, now: Micros) -> Ticket:
        """An open ticket by its id, which stays open; Unavailable when it was used, has expired or never was."""
        found = self._open.get(ticket)
        if found is None or found.expires <= now:
            raise Unavailable("the ticket is used up or unknown", code="no_ticket")
        return found

    def redeem(self, ticket: bytes, now: Micros) -> Ticket:
        """The same, and nobody can use it again."""
        found = self.find(ticket, now)
        self._drop(found)
        return found

    def _forget(self, now: Micros) -> None:
        """Drop what expired. Tickets are kept in the order of their issue, hence of their end."""
        while self._open and (oldest := next(iter(self._open.values()))).expires <= now:
            self._drop(oldest)

    def _drop(self, ticket: Ticket) -> None:
        del self._open[ticket.id]
        self._held[ticket.peer] -= 1
        if not self._held[ticket.peer]:
            del self._held[ticket.peer]
