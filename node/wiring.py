"""Every machine of a peer and who talks to whom: the architecture on one screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from node import entropy
from node.blobs import BlobStore
from node.clock import Clock
from node.config import Config
from node.host import Host
from node.outcomes import Outcomes
from protocol import matching, reputation
from protocol.bidding import Counter
from protocol.effects import Machine
from protocol.follower import Follower
from protocol.genesis import Genesis
from protocol.identity import Identity
from protocol.jobspec import JobSpec
from protocol.leasing import Desk
from protocol.ledger import Ledger
from protocol.ledger_client import LedgerClient
from protocol.messages import Offer
from protocol.offers import OfferBook, OfferMaker, Terms
from protocol.peer import Peer
from protocol.provider import Provider
from protocol.ranking import rank, standing_record
from protocol.steward import Steward
from protocol.units import MIB, Digest, Micros, PeerId
from protocol.watcher import Watcher
from verifier.auditor import Auditor
from verifier.case import Facts
from verifier.judge import Judge
from verifier.orderer import Orderer

SPEC_BYTES_MAX: Final = 16 * MIB
"""Bytes of an encoded specification."""


@dataclass(slots=True)
class Machines:
    """The machines of one peer."""

    client: LedgerClient
    offers: OfferBook
    maker: OfferMaker
    steward: Steward
    provider: Provider
    watcher: Watcher
    replica: Orderer | Follower
    judge: Judge | None
    auditor: Auditor
    outcomes: Outcomes

    @property
    def ledger(self) -> Ledger:
        """This peer's own executed copy of the ledger."""
        return self.replica.ledger

    def peer(self) -> Peer:
        """All of them behind one door. The replica comes before those that read it."""
        listed: list[Machine] = [
            self.replica,
            self.client,
            self.offers,
            self.maker,
            self.watcher,
            self.steward,
            self.provider,
            self.auditor,
        ]
        return Peer(listed if self.judge is None else [*listed, self.judge])


def wire_machines(
    identity: Identity,
    genesis: Genesis,
    config: Config,
    host: Host,
    blobs: BlobStore,
    clock: Clock,
    blocks: Sequence[bytes],
    voted: bytes | None,
) -> Machines:
    """Every machine, and who talks to whom."""
    network, me = genesis.chain, identity.peer
    validators = genesis.validator_set
    is_validator = me in validators
    replica: Orderer | Follower = Orderer(identity, genesis, blocks, voted) if is_validator else Follower(genesis)
    client = LedgerClient(validators)
    offers, maker = OfferBook(), OfferMaker(identity, network)

    def ledger() -> Ledger:
        return replica.ledger

    def read(digest: Digest) -> bytes:
        return blobs.read(digest, SPEC_BYTES_MAX)

    def plan(spec: JobSpec, renter: PeerId, now: Micros) -> matching.Plan:
        known = {peer: _as_if_idle(offer) for peer, offer in offers.offers(now).items()}
        ranks = {peer: reputation.rank(standing_record(ledger(), peer)) for peer in known}
        return matching.plan(known, spec, renter, ranks, now, entropy.dice())

    def exclusion(spec: JobSpec, renter: PeerId, now: Micros) -> tuple[str, str] | None:
        offer = maker.offer(now)
        why = matching.exclusion(_as_if_idle(offer), spec, renter, now) if offer else None
        return (why.code, why.detail) if why else None

    def auditors(facts: Facts, provider: PeerId) -> Mapping[PeerId, int]:
        return _auditors(facts, provider, me, validators.peers, offers.offers(clock.now()), maker, ledger())

    def is_current() -> bool:
        return isinstance(replica, Orderer) or 0 < replica.height >= replica.tip

    desk = Desk(
        identity=identity,
        network=network,
        client=client,
        ledger=ledger,
        is_current=is_current,
        random=entropy.dice(),
        rank=lambda peer: rank(ledger(), peer),
        peers=lambda now: list(offers.offers(now)),
    )
    counter = Counter(lambda: maker.terms or Terms((), host.capability), exclusion, read, host.runner.choose, ledger)
    machines = Machines(
        client=client,
        offers=offers,
        maker=maker,
        steward=Steward(desk, plan),
        provider=Provider(identity, network, client, counter),
        watcher=Watcher(identity, network),
        replica=replica,
        judge=Judge(identity, network, ledger, lambda: validators.peers, auditors, read) if is_validator else None,
        auditor=Auditor(identity, network, lambda: validators.peers, read, host.audits),
        outcomes=Outcomes(ledger),
    )
    client.listeners += [machines.steward, machines.provider, machines.outcomes]
    return machines


def _as_if_idle(offer: Offer) -> Offer:
    """A busy host can still be planned with: its leases wait their turn."""
    return msgspec.structs.replace(offer, slots_free=max(1, offer.slots_free)) if offer.slots else offer


def _auditors(
    facts: Facts,
    provider: PeerId,
    me: PeerId,
    validators: tuple[PeerId, ...],
    offers: Mapping[PeerId, Offer],
    maker: OfferMaker,
    ledger: Ledger,
) -> Mapping[PeerId, int]:
    """Validators whose execution can be compared: for D2 the same runtime digest as the provider's."""

    def digest(peer: PeerId) -> bytes | None:
        runtimes = (
            maker.terms.runtimes if peer == me and maker.terms else offers[peer].runtimes if peer in offers else ()
        )
        return next((item.digest for item in runtimes if item.name == facts.runtime), None)

    wanted = digest(provider)
    stakes = {peer: max(1, ledger.available("S", peer)) for peer in validators if peer != provider}
    return {
        peer: stake
        for peer, stake in stakes.items()
        if (has := digest(peer)) and (facts.numeric == "D0" or has == wanted)
    }
