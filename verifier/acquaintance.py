"""What a judge and a court know of the peers whom they may ask: by the ledger their stake, by their offers the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from protocol import exposure, trust
from protocol.identity import Identity
from protocol.ledger import Ledger
from protocol.messages import Offer
from protocol.offers import OfferBook, OfferMaker
from protocol.units import Digest, Micros, PeerId
from verifier.bailiff import Bailiff
from verifier.case import Place
from verifier.networks import networks
from verifier.summons import Fitness, roll
from verifier.views import Facts


@dataclass(frozen=True, slots=True)
class Acquaintance:
    """Of one validator; wired once."""

    me: PeerId
    validators: tuple[PeerId, ...]
    book: OfferBook
    now: Callable[[], Micros]
    maker: OfferMaker
    ledger: Callable[[], Ledger]

    def bailiff(self, identity: Identity, network: str, read: Callable[[Digest], bytes]) -> Bailiff:
        """What the court of this validator needs."""
        return Bailiff(
            identity, network, self.ledger, lambda: self.validators, self.roll, self.fits, read, self.networks
        )

    def roll(self) -> dict[PeerId, int]:
        """Who may be called to a panel, by the ledger alone."""
        ledger = self.ledger()
        return roll(ledger.stakes, ledger.standings, self.validators)

    def auditors(self, facts: Facts, provider: PeerId) -> Mapping[PeerId, int]:
        """Validators whose execution can be compared, for D2 those with the provider's runtime digest; where no
        validator has the runtime, everybody else with a stake who has it."""
        able = self.able(facts, provider)
        return {peer: stake for peer, stake in able.items() if peer in self.validators} or able

    def able(self, facts: Facts, provider: PeerId) -> Mapping[PeerId, int]:
        """Validators, and everybody else with a stake, whose execution can be compared."""
        offers, ledger = self.book.offers(self.now()), self.ledger()
        wanted = self._runtime(provider, facts.runtime, offers)
        stakes = {peer: ledger.available("S", peer) for peer in offers}
        stakes |= {peer: max(1, ledger.available("S", peer)) for peer in self.validators}
        runtimes = {peer: self._runtime(peer, facts.runtime, offers) for peer in stakes if peer != provider}
        is_alike = facts.numeric != "D2"
        fit = [peer for peer, has in runtimes.items() if has and (is_alike or has == wanted)]
        return {peer: stakes[peer] for peer in fit if stakes[peer] > 0}

    def fits(self, facts: Facts, provider: PeerId, peer: PeerId) -> Fitness:
        """Whether a peer's execution can be compared. Where nothing is known of it, only D2 rules it out: honest bits
        would differ there."""
        offers = self.book.offers(self.now())
        has = self._runtime(peer, facts.runtime, offers)
        is_d2 = facts.numeric == "D2"
        if peer != self.me and peer not in offers and not is_d2:
            return "unknown"
        is_alike = not is_d2 or has == self._runtime(provider, facts.runtime, offers)
        return "fit" if has and is_alike else "unfit"

    def networks(self, peer: PeerId) -> frozenset[str]:
        """Where a peer's public addresses lie, by its own offer."""
        if peer == self.me:
            return networks(self.maker.terms.addresses if self.maker.terms else ())
        offer = self.book.get(peer, self.now())
        return networks(offer.addresses if offer else ())

    def floor(self, place: Place, provider: PeerId) -> Callable[[int], int]:
        """The job's own, and where the network has a policy: what makes cheating at this price a loss, more of it while
        much of what the whole network hands in fails (features A1). Where a claim rests on the word of earlier leases
        the smallest stake of all counts: else somebody with much to lose would have a pauper do the bad units."""
        ledger = self.ledger()
        if ledger.policy is None:
            return int
        lease = ledger.escrows[place[0]].chunks[place[1]]
        others = [ledger.available("S", peer) for peer in lease.inherited.values()]
        stake = min([ledger.available("S", provider) + lease.collateral, *others])
        needed = exposure.floor_ppm(lease.price, stake, ledger.policy.collusion)
        good = sum(standing.accepted for standing in ledger.standings.values())
        bad = sum(
            one.wrong + one.severe + one.rejected + one.withheld + one.missing for one in ledger.standings.values()
        )
        return lambda asked: trust.floor_under_failures(max(asked, needed), bad, good + bad)

    def _runtime(self, peer: PeerId, name: str, offers: Mapping[PeerId, Offer]) -> bytes | None:
        """The digest of a runtime as its host offers it; None where it has none of that name."""
        terms = self.maker.terms if peer == self.me else offers.get(peer)
        return next((item.digest for item in terms.runtimes if item.name == name), None) if terms else None
