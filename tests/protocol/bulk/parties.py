"""Two peers and what stands between them, for tests of the handshake."""

from __future__ import annotations

from protocol.bulk.handshake import Fetcher, Holder, Met, Say, met_of, offers
from protocol.bulk.records import CipherName
from protocol.bulk.tickets import Ticket, TicketOffice
from protocol.identity import Identity
from protocol.units import Digest, Micros

NETWORK = "reef"
ANNA, BERT, EVE = Identity(b"a" * 32), Identity(b"b" * 32), Identity(b"e" * 32)
DIGEST = Digest(b"d" * 32)
NOW = Micros(1_000)


class Table:
    """Bert holds, Anna fetches; secrets are numbered, so that every run is the same."""

    def __init__(self) -> None:
        self.office = TicketOffice()

    def ticket(self, number: int = 1, peer: Identity = ANNA) -> Ticket:
        """A ticket of Bert's."""
        return self.office.issue(peer.peer, [DIGEST], bytes([number]) * 32, NOW)

    def fetcher(
        self, ticket: Ticket, who: Identity = ANNA, ephemeral: int = 10, ciphers: tuple[CipherName, ...] = offers(True)
    ) -> Fetcher:
        """Anna, or who claims to be."""
        return Fetcher(NETWORK, who, BERT.peer, ticket.secret, bytes([ephemeral]) * 32, ciphers)

    def holder(self, who: Identity = BERT, ephemeral: int = 20, has_aes: bool = True, network: str = NETWORK) -> Holder:
        """Bert, or who claims to be."""
        return Holder(network, who, self.office, bytes([ephemeral]) * 32, has_aes)


def said(effects: list[Say | Met]) -> bytes:
    """The message among some effects."""
    return next(effect.message for effect in effects if isinstance(effect, Say))


def meet(fetcher: Fetcher, holder: Holder) -> tuple[Met, Met]:
    """An undisturbed handshake: (the fetcher's keys, the holder's)."""
    effects = fetcher.receive(said(holder.receive(fetcher.open().message, NOW)))
    return met_of(effects), met_of(holder.receive(said(effects), NOW))
