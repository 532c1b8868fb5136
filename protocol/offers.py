"""Standing offers: what every peer knows about every other, and how it speaks about itself. Spec: specs/04-offers.md.

An offer is a statement, not a promise: it says what a host measured, sells and asks. The newest sequence wins, old ones
die by themselves, and nothing here needs to be told that a peer has gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from msgspec import UNSET, structs

from protocol import wire
from protocol.completions import Completion
from protocol.effects import Effect, Emit, Publish, Wake
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.identity import Identity, peer_text
from protocol.messages import Capability, Message, Offer, Runtime
from protocol.overlay.place import Place
from protocol.units import SECOND, Credits, Micros, PeerId

OFFER_INTERVAL: Final = Micros(10 * SECOND)
"""Microseconds between two publications of an unchanged offer: a newcomer sees the market after ten seconds."""

OFFER_LIFE: Final = Micros(45 * SECOND)
"""Microseconds from issue to expiry: four publications may be lost before a living peer disappears."""

OFFER_LIFE_MAX: Final = Micros(60 * SECOND)
"""Microseconds that an offer of anybody may last; how long a withdrawn sequence number must be remembered."""

OFFER_SKEW_MAX: Final = Micros(30 * SECOND)
"""Microseconds that the clock of a peer may be ahead of ours; without NTP, home machines are off by seconds."""

OFFERS_MAX: Final = 4096
"""Peers in one book: 4096 offers of about 2 KB are 8 MB."""

FREE: Final = Credits(0)
"""The hourly price of whoever asks for nothing, in smallest units."""

Role = Literal["provider", "validator", "steward"]
Executor = Literal["docker", "runc", "bwrap", "wasm", "child"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a host says about itself: an offer without sequence and times."""

    roles: tuple[Role, ...]
    capability: Capability
    addresses: tuple[str, ...] = ()
    executors: tuple[Executor, ...] = ()
    runtimes: tuple[Runtime, ...] = ()
    slots: int = 0
    slots_free: int = 0
    price_per_hour: Credits = FREE
    serves: tuple[PeerId, ...] = ()
    is_draining: bool = False
    place: Place | None = None
    uplink: int = 0
    """Bytes per second; 0: not measured."""


class OfferBook:
    """The newest offer of every peer. The sender of an `Offer` is its *signer*."""

    accepts: tuple[type, ...] = (Offer,)

    def __init__(self, offers_max: int = OFFERS_MAX, life_max: Micros = OFFER_LIFE_MAX) -> None:
        self._life_max = life_max
        self._offers: dict[PeerId, Offer] = {}
        self._seen: dict[PeerId, Micros] = {}
        self._offers_max = offers_max

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        """Take an offer in. An older or equal sequence changes nothing; another offer under the same one is a lie."""
        if not isinstance(message, Offer):
            raise LocalError(f"{type(message).__name__} is no offer", code="not_accepted")
        known = self._offers.get(sender)
        if known is not None and message.sequence < known.sequence:
            return []
        if known is not None and message.sequence == known.sequence:
            if known != message:
                raise RemoteViolation(sender, f"two offers under sequence {message.sequence}", code="equivocation")
            return []
        self._check(sender, message, now)
        if known is None and self._forgotten(message) <= now:
            return []
        if known is None:
            self._make_room(now)
        self._offers[sender] = message
        self._seen[sender] = now
        was_live = known is not None and known.expires > now
        is_live = message.expires > now
        effects: list[Effect] = [Wake(self._forgotten(message))]
        if was_live != is_live:
            effects.append(Emit("offer_new" if is_live else "offer_gone", {"peer": peer_text(sender)}))
        return effects

    def tick(self, now: Micros) -> list[Effect]:
        """Forget what can no longer be confused with anything newer."""
        for peer in [peer for peer, offer in self._offers.items() if self._forgotten(offer) <= now]:
            del self._offers[peer], self._seen[peer]
        if not self._offers:
            return []
        return [Wake(min(self._forgotten(offer) for offer in self._offers.values()))]

    def offers(self, now: Micros) -> dict[PeerId, Offer]:
        """The offers that hold now."""
        return {peer: offer for peer, offer in self._offers.items() if offer.expires > now}

    def get(self, peer: PeerId, now: Micros) -> Offer | None:
        """One peer's offer, while it holds."""
        offer = self._offers.get(peer)
        return offer if offer is not None and offer.expires > now else None

    def seen(self, peer: PeerId) -> Micros | None:
        """When the newest offer of a peer came in; None for a stranger."""
        return self._seen.get(peer)

    def __len__(self) -> int:
        return len(self._offers)

    def _make_room(self, now: Micros) -> None:
        """A full book drops what has expired, and refuses a stranger when that is not enough."""
        if len(self._offers) < self._offers_max:
            return
        for peer in [peer for peer, offer in self._offers.items() if offer.expires <= now]:
            del self._offers[peer], self._seen[peer]
        if len(self._offers) >= self._offers_max:
            raise Refused(
                f"the book holds {len(self._offers)} live offers, at most {self._offers_max} fit",
                code="book_full",
                fix="Offers expire within a minute; the next publication may fit.",
                numbers={"offers": len(self._offers), "offers_max": self._offers_max},
            )

    def _forgotten(self, offer: Offer) -> Micros:
        """From here on no older offer of the same peer can be alive any more."""
        return Micros(max(offer.expires, offer.issued + self._life_max))

    def _check(self, sender: PeerId, offer: Offer, now: Micros) -> None:
        """What types cannot say about an offer."""
        if offer.issued > now + OFFER_SKEW_MAX:
            ahead = offer.issued - now
            raise RemoteViolation(
                sender, f"offer issued {ahead} µs ahead of our clock, {OFFER_SKEW_MAX} allowed", code="clock_skew"
            )
        if not 0 <= offer.expires - offer.issued <= self._life_max:
            life = offer.expires - offer.issued
            raise RemoteViolation(sender, f"offer lasts {life} µs, 0 to {self._life_max} allowed", code="bad_life")
        if offer.slots_free > offer.slots:
            raise RemoteViolation(
                sender, f"{offer.slots_free} of {offer.slots} slots are said to be free", code="bad_slots"
            )
        if offer.slots and "provider" not in offer.roles:
            raise RemoteViolation(sender, f"{offer.slots} slots offered by no provider", code="bad_slots")


class OfferMaker:
    """Speaks for this peer: its own terms, signed, every `interval` and at once when they change."""

    accepts: tuple[type, ...] = ()

    def __init__(self, identity: Identity, network: str, interval: Micros = OFFER_INTERVAL) -> None:
        self._identity = identity
        self._network = network
        self._interval = interval
        self._life = Micros(interval * OFFER_LIFE // OFFER_INTERVAL)
        self._sequence = 0
        self._due = Micros(0)
        self.terms: Terms | None = None

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        """Nothing comes in here."""
        raise LocalError(f"{type(message).__name__} was routed to the offer maker", code="not_accepted")

    def change(self, terms: Terms, now: Micros) -> list[Effect]:
        """Say something else from now on; the same terms again are no news."""
        if terms == self.terms:
            return []
        self.terms = terms
        return self._publish(now, self._life)

    def withdraw(self, now: Micros) -> list[Effect]:
        """Leave the market now: an offer that has expired replaces the one that people hold."""
        if self.terms is None:
            return []
        effects = self._publish(now, Micros(0))[:1]
        self.terms = None
        return effects

    def tick(self, now: Micros) -> list[Effect]:
        """Publish again when it is time."""
        if self.terms is None:
            return []
        if now < self._due:
            return [Wake(self._due)]
        return self._publish(now, self._life)

    def offer(self, now: Micros, life: Micros | None = None) -> Offer | None:
        """The terms as an offer issued now; None before `change` and after `withdraw`."""
        terms = self.terms
        if terms is None:
            return None
        return Offer(
            sequence=max(now, self._sequence + 1),
            issued=now,
            expires=now + (self._life if life is None else life),
            roles=terms.roles,
            addresses=terms.addresses,
            capability=structs.replace(terms.capability, uplink=terms.uplink or UNSET),
            executors=terms.executors,
            runtimes=terms.runtimes,
            slots=terms.slots,
            slots_free=terms.slots_free,
            price_per_hour=terms.price_per_hour,
            serves=terms.serves,
            is_draining=terms.is_draining,
            place=UNSET if terms.place is None else terms.place,
        )

    def _publish(self, now: Micros, life: Micros) -> list[Effect]:
        offer = self.offer(now, life)
        if offer is None:
            return []
        self._sequence = offer.sequence
        self._due = Micros(now + self._interval)
        return [Publish("offers", wire.sign(self._identity, self._network, "offer", offer)), Wake(self._due)]
