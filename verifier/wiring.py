"""Every machine of a peer and who talks to whom: the architecture on one screen.

Both drivers, the live node and the simulator, wire their peers here, so that what the one proves holds for the other.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

import msgspec

from protocol import matching, reputation, wire
from protocol.bidding import Counter
from protocol.catchup import Catchup
from protocol.desk import Desk
from protocol.effects import Effect, LeaseKey, Machine, Store
from protocol.follower import Follower
from protocol.genesis import Genesis
from protocol.identity import Identity
from protocol.job_record import JobRecord
from protocol.jobspec import JobSpec
from protocol.ledger import Ledger
from protocol.ledger_client import LedgerClient
from protocol.messages import Capability, Offer
from protocol.offers import OFFER_INTERVAL, OFFER_LIFE_MAX, OfferBook, OfferMaker, Terms
from protocol.overlay.place import Coordinate, estimate
from protocol.overlay.vivaldi import RTT_MAX
from protocol.peer import Peer
from protocol.provider import Provider
from protocol.provider_trace import KeptTrace
from protocol.ranking import rank, standing_record
from protocol.reclaim import Reclaim
from protocol.standby import Standby
from protocol.steward import Steward
from protocol.units import Credits, Digest, Micros, PeerId
from protocol.watcher import Watcher
from verifier.acquaintance import Acquaintance
from verifier.attestation.makers import BUILT_IN, Makers
from verifier.auditor import Auditor
from verifier.beacon import BeaconKeeper
from verifier.bench import Canaries, Caution
from verifier.court import Court
from verifier.judge import Judge
from verifier.justice import Justice, advocate
from verifier.orderer import Orderer
from verifier.witness import Witness

RECORD_BYTES_MAX: Final = 1 << 30
"""Bytes of a job's record that this peer wrote itself."""

RECALLED: Final = 64
"""Blocks that a judge reads again after a restart: claims are decided within a few of those that made their beacon."""

UNTRUSTED: Final = reputation.Rank(0, Credits(0), is_newcomer=False)
"""Of who said what is not so: behind everybody, and not tried out as newcomers are."""

Command = tuple[Machine, Callable[[Micros], list[Effect]]]
"""A method of a machine, called by its owner and not by a message."""

_record_decoder: Final = wire.decoder(JobRecord)
_trace_decoder: Final = wire.decoder(KeptTrace)
_lease_decoder: Final = msgspec.msgpack.Decoder(tuple[bytes, int, int])


@dataclass(frozen=True, slots=True)
class Outside:
    """What a peer's machines must know of the world around them; each driver fills it in."""

    read: Callable[[Digest], bytes]
    """The content of a blob that was fetched or made here."""
    executor: Callable[[JobSpec, PeerId], str]
    """The tier on which a renter's job would run here; raises `Refused`."""
    capability: Capability
    audits_at_once: int
    now: Callable[[], Micros]
    dice: Callable[[], Random]
    """Chance for one machine."""
    offer_interval: Micros = OFFER_INTERVAL
    """Microseconds between publications of an unchanged offer."""
    offer_life_max: Micros = OFFER_LIFE_MAX
    coordinate: Callable[[], Coordinate] = Coordinate
    """Where this peer is, by its own measurements; the default knows nothing."""
    """Microseconds that an offer of anybody may last."""
    loss: matching.Loss = lambda spec, uplink: spec.timeout
    """Work that a host takes with it at worst, from its uplink; unless said, all that a chunk may take."""
    neighbours: Callable[[], Sequence[PeerId]] = tuple
    """Peers that are connected now."""
    is_cut: Callable[[PeerId], bool] = lambda peer: False
    """Whether no connection to a peer is left."""
    fresh: Callable[[], bytes] = bytes
    """Public randomness of others for a validator's part of a beacon, where there is some; never waited for."""
    canary: Canaries = lambda place, provider, output: None
    """What proves an opened output wrong, where this validator knew the answer."""
    makers: Makers = BUILT_IN
    """Whose trusted hardware this validator believes."""
    trusted: Callable[[PeerId, Offer], Offer] = lambda peer, offer: offer
    """An offer with the lower of what it claims and what its peer showed this one (`verifier.benchmarking`)."""
    is_doubted: Callable[[PeerId], bool] = lambda peer: False
    """Whether a claim of a peer was shown to be false."""


@dataclass(slots=True)
class Machines:
    """The machines of one peer."""

    client: LedgerClient
    offers: OfferBook
    maker: OfferMaker
    steward: Steward
    provider: Provider
    standby: Standby
    reclaim: Reclaim
    hands: Hands
    watcher: Watcher
    replica: Orderer | Follower
    judge: Judge | None
    auditor: Auditor
    catchup: Catchup
    justice: Justice

    @property
    def ledger(self) -> Ledger:
        """This peer's own executed copy of the ledger."""
        return self.replica.ledger

    @property
    def listed(self) -> list[Machine]:
        """All of them, in the order in which messages reach them: the replica before those that read it."""
        listed: list[Machine] = [
            self.replica,
            self.client,
            self.offers,
            self.maker,
            self.watcher,
            self.steward,
            self.provider,
            self.standby,
            self.reclaim,
            self.auditor,
            self.catchup,
            *self.justice.listed,
        ]
        return listed if self.judge is None else [*listed, self.judge]

    def peer(self, more: Sequence[Machine] = ()) -> Peer:
        """All of them, and those of custody, behind one door."""
        return Peer([*self.listed, *more])

    def offer(self, terms: Terms, now: Micros) -> list[Effect]:
        """Say what this host offers now. Until the first word `terms` counts, later its addresses and place do: a
        host may get others, and what else it sells is changed by its owner. Called about once a second."""
        known = self.maker.terms
        if known is None:  # The provider counts free slots from the offer that is out: before the first there are none.
            return self.maker.change(terms, now)
        free = self.provider.slots_free if known.slots else 0
        here = replace(known, addresses=terms.addresses, place=terms.place, uplink=terms.uplink)
        return self.maker.change(replace(here, slots_free=free), now)

    def restored(self, records: Iterable[tuple[str, bytes]], me: PeerId) -> list[Command]:
        """What to do first so that this peer goes on where an earlier run of it ended. `records`: key, value."""
        records = list(records)
        jobs: list[JobRecord] = []
        leases: dict[str, tuple[bytes, int, int]] = {}
        traces: list[KeptTrace] = []
        for key, value in records:
            if key.startswith("job/"):
                jobs.append(wire.decode(value, _record_decoder, me, RECORD_BYTES_MAX))
            elif key.startswith("lease/"):
                leases[key] = _lease_decoder.decode(value)
            elif key.startswith("trace/"):
                traces.append(wire.decode(value, _trace_decoder, me))

        def give_back(now: Micros) -> list[Effect]:
            forget: list[Effect] = [Store(key, None) for key in leases]
            self.provider.traces.restore(traces)
            return [*self.provider.restore(list(leases.values()), now), *forget]

        first: list[Command] = [(self.steward, lambda now: self.steward.restore(jobs, now)), (self.provider, give_back)]
        if self.judge is not None:
            first.append((self.judge, self.judge.resume))
            for receipts in self.replica.log.newest(RECALLED) if isinstance(self.replica, Orderer) else ():
                self.judge.recall(receipts)
        return [*first, *self.justice.restored(records)]


def wire_machines(
    identity: Identity,
    genesis: Genesis,
    outside: Outside,
    blocks: Sequence[bytes] = (),
    voted: bytes | None = None,
    shared: Follower | None = None,
) -> Machines:
    """Every machine, and who talks to whom.

    `blocks` and `voted` are what a validator stored. `shared`: read this replica of another peer instead of an own one.
    """
    network, me = genesis.chain, identity.peer
    validators = genesis.validator_set
    judges, is_validator = validators.peers, me in validators
    replica = Orderer(identity, genesis, blocks, voted) if is_validator else shared or Follower(genesis)
    offers = OfferBook(life_max=outside.offer_life_max)
    maker = OfferMaker(identity, network, outside.offer_interval)

    def ledger() -> Ledger:
        return replica.ledger

    client = LedgerClient(validators, ledger)

    def plan(spec: JobSpec, renter: PeerId, now: Micros) -> matching.Plan:
        known = {peer: _as_if_idle(outside.trusted(peer, offer)) for peer, offer in offers.offers(now).items()}
        own = known.pop(me, None)
        ranks = {peer: reputation.rank(standing_record(ledger(), peer)) for peer in known}
        ranks |= {peer: UNTRUSTED for peer in known if outside.is_doubted(peer)}
        made = matching.plan(known, spec, renter, ranks, now, planning, outside.coordinate(), outside.loss)
        return made if own is None or not own.slots else replace(made, excluded=(*made.excluded, _itself(me)))

    def exclusion(spec: JobSpec, renter: PeerId, now: Micros) -> tuple[str, str] | None:
        offer = maker.offer(now)
        why = matching.exclusion(_as_if_idle(offer), spec, renter, now) if offer else None
        return (why.code, why.detail) if why else None

    judging = Acquaintance(me, judges, offers, outside.now, maker, ledger)

    planning = outside.dice()
    desk = _desk(identity, network, client, replica, offers, outside)
    nothing = Terms((), outside.capability)
    counter = Counter(lambda: maker.terms or nothing, exclusion, outside.read, outside.executor, ledger)
    working = _working(identity, network, client, counter)
    machines = Machines(
        client=client,
        offers=offers,
        maker=maker,
        steward=Steward(desk, plan),
        provider=working.provider,
        standby=working.standby,
        reclaim=working.reclaim,
        hands=working.hands,
        watcher=Watcher(identity, network),
        replica=replica,
        judge=_judge(judging, identity, network, outside) if is_validator else None,
        auditor=Auditor(identity, network, lambda: judges, outside.read, outside.audits_at_once),
        catchup=Catchup(me, network, outside.neighbours, outside.dice(), outside.offer_life_max),
        justice=_justice(me, judges, ledger, working.provider, outside.read),
    )
    if is_validator:
        machines.justice.court = Court(judging.bailiff(identity, network, outside.read))
        machines.justice.beacon = BeaconKeeper(identity, validators, ledger, outside.fresh)
    client.listeners += [machines.steward, machines.provider, machines.reclaim]
    return machines


def _judge(known: Acquaintance, identity: Identity, network: str, outside: Outside) -> Judge:
    """The judge of this validator."""
    caution = Caution(known.networks, known.floor, outside.canary, outside.is_doubted, outside.makers)
    return Judge(identity, network, known.ledger, lambda: known.validators, known.auditors, outside.read, caution)


def _justice(
    me: PeerId,
    judges: tuple[PeerId, ...],
    ledger: Callable[[], Ledger],
    provider: Provider,
    read: Callable[[Digest], bytes],
) -> Justice:
    """Speaks for the traces of own claims, and of what was executed here to contest others'."""
    witness = Witness(me, ledger, read)
    by_root = ChainMap(provider.traces.by_root, witness.by_root)
    return Justice(advocate(me, judges, ledger, by_root, read), witness)


def _desk(
    identity: Identity,
    network: str,
    client: LedgerClient,
    replica: Orderer | Follower,
    offers: OfferBook,
    outside: Outside,
) -> Desk:
    """What all jobs of this peer as a steward share."""
    around = _Around(offers, outside)
    return Desk(
        identity=identity,
        network=network,
        client=client,
        ledger=lambda: replica.ledger,
        is_current=lambda: isinstance(replica, Orderer) or 0 < replica.height >= replica.tip,
        random=outside.dice(),
        rank=lambda peer: (*around.rank(replica.ledger, peer), around.nearness(peer, outside.now())),
        suits=around.suits,
        is_cut=outside.is_cut,
        safety=around.safety,
        peers=lambda now: list(offers.offers(now)),
    )


@dataclass(frozen=True, slots=True)
class _Working:
    """What sells this host's time, waits behind others, and gives the host back."""

    provider: Provider
    standby: Standby
    reclaim: Reclaim
    hands: Hands


def _working(identity: Identity, network: str, client: LedgerClient, counter: Counter) -> _Working:
    provider = Provider(identity, network, client, counter)
    standby = Standby(provider.job, lambda: provider.slots_free, provider.phase)
    provider.awaited = lambda: standby.jobs
    hands = Hands(provider)
    return _Working(provider, standby, Reclaim(identity, network, client, counter.ledger, hands), hands)


@dataclass(frozen=True, slots=True)
class _Around:
    """How far others are from here, and whether a job may run there."""

    offers: OfferBook
    outside: Outside

    def rank(self, ledger: Ledger, peer: PeerId) -> tuple[int, int]:
        """(reputation, stake); of a peer that said what is not so: nothing, whatever it has."""
        return (0, 0) if self.outside.is_doubted(peer) else rank(ledger, peer)

    def safety(self, spec: JobSpec, peer: PeerId, now: Micros) -> tuple[int, int]:
        """How safe a job's chunks are with a peer; one whose offer is unknown has an uplink that is."""
        offer = self.offers.get(peer, now)
        return matching.safety(spec, self.outside.loss(spec, matching.uplink_of(offer) if offer else 0))

    def nearness(self, peer: PeerId, now: Micros) -> int:
        """Microseconds of round trip, negative: the nearest is best, the unknown last."""
        offer = self.offers.get(peer, now)
        latency = estimate(self.outside.coordinate(), matching.place_of(offer).coordinate) if offer else None
        return -(RTT_MAX if latency is None else latency)

    def suits(self, spec: JobSpec, provider: PeerId, now: Micros) -> bool:
        """Whether a provider is where the job may run, with cards that it showed; unknown offers are not kept out."""
        offer = self.offers.get(provider, now)
        if offer is None:
            return True
        here, trusted = self.outside.coordinate(), self.outside.trusted(provider, offer)
        if trusted is not offer and next(matching.gpu_exclusions(trusted, spec), None) is not None:
            return False
        return next(matching.placement_exclusions(offer, spec, here), None) is None


@dataclass(slots=True)
class Hands:
    """What a reclaim asks of the machines that run and protect leases (`protocol.reclaim.Hands`)."""

    provider: Provider
    cut_now: Callable[[str, bool, Micros], list[Effect]] = lambda task, hold, now: []
    """A snapshot of a task at once; the protector's, where there is one."""

    def give_back(self, key: LeaseKey, why: str, now: Micros) -> list[Effect]:
        """Stop and surrender."""
        return self.provider.give_back(key, why, now)

    def cut(self, task: str, now: Micros) -> list[Effect]:
        """A snapshot at which the task stands still."""
        return self.cut_now(task, True, now)


def _itself(me: PeerId) -> matching.Excluded:
    return matching.Excluded(me, "own_job", "it carries the job, and no peer leases to itself")


def _as_if_idle(offer: Offer) -> Offer:
    """A busy host can still be planned with: its leases wait their turn."""
    return msgspec.structs.replace(offer, slots_free=max(1, offer.slots_free)) if offer.slots else offer
