"""A node from start to end: opens the parts, wires the machines on one screen, runs until told to stop.

`wire_machines` is the architecture of a peer; everything else here opens, restores or closes something.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import trio

from node import data_lock, entropy, heat
from node.blobs import BlobStore
from node.clock import Clock
from node.config import Config
from node.config import identity as load_identity
from node.control import ControlServer
from node.driver import Driver, World
from node.events import EventLog
from node.gpu import HostSource
from node.host import Host, inspect_host
from node.journal import Journal
from node.methods import methods
from node.node_api import SOFTWARE
from node.outcomes import Outcomes
from node.parts import Parts
from node.renter_api import renter_identity
from node.store import RecordStore
from node.thermal import Decision, ThermalMachine
from node.transport import Transport, TransportConfig
from protocol import genesis as genesis_file
from protocol import matching, reputation, wire
from protocol.bidding import Counter
from protocol.effects import Effect, Machine
from protocol.errors import Refused
from protocol.follower import Follower
from protocol.genesis import Genesis
from protocol.identity import Identity, peer_from_text, peer_text
from protocol.job_record import JobRecord
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
from protocol.units import MIB, Credits, Digest, Micros, PeerId
from protocol.watcher import Watcher
from verifier.auditor import Auditor
from verifier.case import Facts
from verifier.judge import Judge
from verifier.orderer import Orderer

SPEC_BYTES_MAX: Final = 16 * MIB
"""Bytes of an encoded specification."""

STOP_GRACE_S: Final = 3.0
"""Seconds that giving leases back may take at the end; what is still out then is fenced by its watchers."""

LAST_WORDS_S: Final = 0.2
"""Seconds for the withdrawn offer to leave the gossip queue before connections close."""

log = logging.getLogger("shoal.node")

_record_decoder: Final = wire.decoder(JobRecord)
_lease_decoder: Final = msgspec.msgpack.Decoder(tuple[bytes, int, int])


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
        auditor=Auditor(identity, network, lambda: validators.peers, read, max(1, config.slots)),
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


def main(config: Config) -> int:
    """Run a node until SIGTERM, SIGINT or `node.stop`. 0 = clean end; errors are for the caller to show."""
    logging.basicConfig(
        stream=sys.stderr,
        level=config.log_level.upper(),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        force=True,
    )
    logging.getLogger("libp2p").setLevel(logging.ERROR)
    with data_lock.hold(config.data):
        identity = load_identity(config)
        try:
            genesis = genesis_file.from_json(config.genesis_file.read_bytes())
        except OSError as error:
            raise Refused(
                f"cannot read the genesis file {config.genesis_file}: {error.strerror}",
                code="no_genesis",
                fix="Get it from the network's founder and name it with --genesis, or try `shoal devnet up`.",
            ) from error
        trio.run(_run, replace_network(config, genesis), identity, genesis)
    return 0


def replace_network(config: Config, genesis: Genesis) -> Config:
    """The network is the chain of the genesis; another name in the configuration is a mistake worth telling."""
    if config.network not in ("shoal", genesis.chain):
        raise Refused(
            f"the configuration says network {config.network!r}, the genesis file is of {genesis.chain!r}",
            code="wrong_network",
            fix="Use the genesis file of your network, or leave --network out.",
        )
    return msgspec.structs.replace(config, network=genesis.chain)


async def _run(config: Config, identity: Identity, genesis: Genesis) -> None:
    clock = Clock()
    blobs = BlobStore(config.data / "blobs", config.blob_bytes_max)
    records = RecordStore(config.data / "node.sqlite")
    is_validator = identity.peer in genesis.validator_set
    journal = Journal(config.data / "blocks.journal") if is_validator else None
    serves = tuple(peer_from_text(text) for text in config.serves)
    host = await inspect_host(config, blobs, serves, clock)
    machines = wire_machines(identity, genesis, config, host, blobs, clock, journal or [], records.get("vote"))
    transport = Transport(
        identity,
        genesis.chain,
        TransportConfig(
            listen=config.listen,
            bootstraps=config.bootstrap,
            peer_cache=config.data / "peers.json",
            software=SOFTWARE,
            roles=config.roles,
        ),
        blobs,
    )
    events = EventLog()
    world = World(identity.peer, genesis.chain, clock, transport, blobs, host.runner, records, journal, events)
    driver = Driver(machines.peer(), world)
    try:
        async with transport.serving(), trio.open_nursery() as nursery:
            terms = _terms(config, host, transport.addresses(), serves, records)
            _restore(machines, identity, records, driver, clock)
            ending = trio.Event()
            nursery.start_soon(driver.run)
            nursery.start_soon(_watch_signals, ending)
            parts = Parts(
                config=config,
                identity=identity,
                started=clock.now(),
                now=clock.now,
                driver=driver,
                client=machines.client,
                steward=machines.steward,
                provider=machines.provider,
                offers=machines.offers,
                maker=machines.maker,
                terms=lambda: machines.maker.terms or terms,
                transport=transport,
                blobs=blobs,
                records=records,
                events=events,
                outcomes=machines.outcomes,
                ledger=lambda: machines.ledger,
                plan=machines.steward.plan,
                stop=ending.set,
            )
            await nursery.start(ControlServer(config.socket, methods(parts, config.data / "uploads")).serve)
            nursery.start_soon(_tell, events, machines, driver, terms)
            nursery.start_soon(heat.watch, HostSource(), ThermalMachine(), parts, clock, _tell_heat)
            log.info(
                "node %s is up on %s, executors: %s",
                peer_text(identity.peer),
                ", ".join(transport.addresses()),
                ", ".join(host.runner.tiers),
            )
            await ending.wait()
            await _leave(machines, driver, events)
            nursery.cancel_scope.cancel()
    finally:
        records.close()
        if journal:
            journal.close()


def _terms(config: Config, host: Host, addresses: list[str], serves: tuple[PeerId, ...], records: RecordStore) -> Terms:
    """What this node offers at first; a price set at runtime outlives a restart."""
    saved = records.get("setting/price_per_hour")
    slots = config.slots if "provider" in config.roles else 0
    return Terms(
        roles=config.roles,
        capability=host.capability,
        addresses=tuple(addresses[:8]),
        executors=host.tiers,
        runtimes=host.runtimes,
        slots=slots,
        slots_free=slots,
        price_per_hour=Credits(int(saved) if saved else config.price_per_hour),
        serves=serves,
    )


def _restore(machines: Machines, identity: Identity, records: RecordStore, driver: Driver, clock: Clock) -> None:
    """Go on where an earlier run of this node ended."""
    for key, _ in records.scan("renter/"):
        renter = renter_identity(identity, key.removeprefix("renter/"))
        machines.steward.renters[renter.peer] = renter
    jobs = [wire.decode(value, _record_decoder, identity.peer, 1 << 30) for _, value in records.scan("job/")]
    leases = [_lease_decoder.decode(value) for _, value in records.scan("lease/")]
    driver.later(machines.steward, lambda now: machines.steward.restore(jobs, now))
    driver.later(machines.provider, lambda now: machines.provider.restore(leases, now))
    for key, _ in list(records.scan("lease/")):
        records.put(key, None)
    judge = machines.judge
    if judge is not None:
        driver.later(judge, judge.resume)


async def _tell(events: EventLog, machines: Machines, driver: Driver, terms: Terms) -> None:
    """Publish the first offer, keep its free slots right, and let deposits know of new blocks."""

    def publish(now: Micros) -> list[Effect]:
        known = machines.maker.terms or terms
        free = machines.provider.slots_free if known.slots else 0
        return machines.maker.change(replace(known, slots_free=free), now)

    driver.command(machines.maker, publish)
    async for event in events.follow(0):
        if event.name in ("followed", "block"):
            machines.outcomes.grown()
        elif event.name == "lease_ended":
            driver.command(machines.maker, publish)


def _tell_heat(decision: Decision) -> None:
    log.warning("thermal policy: %s (%s)", decision.level.name.lower(), decision.reason or "back to normal")


async def _watch_signals(ending: trio.Event) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async for number in received:
            log.info("%s: ending cleanly", signal.Signals(number).name)
            ending.set()
            return


async def _leave(machines: Machines, driver: Driver, events: EventLog) -> None:
    """Give the leases back and take the offer down, and wait a little for the ledger's word."""
    driver.command(machines.provider, lambda now: machines.provider.drain(False, now))
    driver.command(machines.maker, machines.maker.withdraw)
    with trio.move_on_after(STOP_GRACE_S):
        start = events.next_sequence
        while any(lease.phase in ("waiting", "running", "claiming") for lease in machines.provider.leases.values()):
            async for event in events.follow(start):
                start = event.sequence + 1
                break
        await trio.sleep(LAST_WORDS_S)
