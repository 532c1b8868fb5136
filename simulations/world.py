"""A whole simulated network, wired in one place: who lives in it, what joins them, what happens to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final
from zlib import crc32

from protocol import wire
from protocol.completions import Neighbour
from protocol.effects import Publish
from protocol.messages import Message, message_decoder
from protocol.units import PeerId
from simulations import chance
from simulations.adversaries import registry
from simulations.driver import ENVELOPE_BYTES, Driver
from simulations.faults import plan
from simulations.gossip_params import GossipParams
from simulations.gossipsub import Gossip
from simulations.injector import Injector
from simulations.library import Library
from simulations.lifecycle import Lifecycle
from simulations.market import Market
from simulations.network import Network
from simulations.observer import Observer
from simulations.places import place
from simulations.population import Birth, births, life_max, make_genesis, make_peer, runtimes
from simulations.queue import Queue
from simulations.recorder import Recorder
from simulations.scenario import NS, Group, Injection, Scenario
from simulations.simpeer import SimPeer
from simulations.worker import Worker
from simulations.workload import CHATTER_TOPIC, Workload

TOPICS: Final = ("offers", "jobs", "heads")
"""What the node gossips."""

Statement = tuple[wire.Signed, Message, int]
"""As it was signed, what it says, and a checksum."""


class World:
    """One run of one scenario with one seed. `run` may be called once."""

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        injections: Sequence[Injection] | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        """`injections`: the faults that happen, instead of those that the scenario's list gives."""
        self.scenario = scenario
        self.seed = seed
        self.queue = Queue()
        self.recorder = Recorder()
        self.library = Library()
        self.groups = scenario.population.groups
        self.peers = self._populate()
        self.genesis = make_genesis(self.peers, self.groups, scenario.simulation.economics)
        self.places = place(
            scenario.topology,
            len(self.peers),
            [peer.role == "validator" for peer in self.peers],
            chance.stream(seed, "places"),
        )
        self.network = Network(self.places, scenario.topology, chance.stream(seed, "network"), self.queue)
        self.injections = list(self._plan() if injections is None else injections)
        self.lifecycle = Lifecycle(self)
        self.market = Market(self)
        self.observers: list[Observer] = [*observers]
        self.driver = self._drive()
        self.gossip = Gossip(
            self.queue,
            self.network,
            chance.stream(seed, "gossip"),
            GossipParams(topics=TOPICS if scenario.workload.messages is None else (*TOPICS, CHATTER_TOPIC)),
            self._hear,
            self.driver.auditor.note,
            self.recorder,
        )
        self.gossip.met = lambda peer, other: self.queue.at(self.queue.now, self._met, (peer, other))
        self.injector = Injector(self, self.injections)
        self.workload = Workload(self)
        for peer in self.peers:
            peer.neighbours = partial(self._around, peer)
            peer.strategy.enter(self, peer)

    # ── wiring ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _populate(self) -> list[SimPeer]:
        """The population, then those whom adversaries bring, then the peer whose ledger the others share."""
        scenario, seed = self.scenario, self.seed
        people = births(scenario)
        people += registry.brought(scenario)
        is_shared = scenario.simulation.replicas == "shared"
        if is_shared:
            people.append(Birth("replica-0", "steward", Group(n=1, slots=0, stake=0), is_carrying=False))
        life = life_max(scenario)
        jobs = scenario.workload.jobs
        kept = jobs is not None and bool(jobs.state)
        offered = runtimes(scenario)
        peers = [
            make_peer(index, one, seed, self.queue, self.library, life, kept, offered)
            for index, one in enumerate(people)
        ]
        registry.enlist(scenario, seed, peers)
        return peers

    def _plan(self) -> list[Injection]:
        hit = [peer for peer in self.peers if peer.is_carrying]
        names = [self.network.regions[self.places[peer.index].region] for peer in hit]
        duration = self.scenario.simulation.duration
        return plan(
            self.scenario.faults, [peer.role for peer in hit], names, duration, chance.stream(self.seed, "faults")
        )

    def _drive(self) -> Driver:
        replays, random = self.scenario.topology.replay, chance.stream(self.seed, "replay")
        replay: Callable[[], bool] = (lambda: random.random() < replays) if replays else lambda: False
        driver = Driver(
            self.queue,
            self.network,
            self.library,
            self.peers,
            self.recorder,
            self.observers,
            replay,
            self.market.handled,
        )
        driver.is_checked = self.scenario.simulation.wire == "checked"
        driver.worker = Worker(self.seed, self.queue, self.library, self.scenario.workload.jobs, driver.give)
        driver.publish = self._publish
        driver.restoring = lambda peer: self.injector.restoring(peer)
        driver.unwritten = self.lifecycle.unwritten
        driver.end = lambda peer: self.lifecycle.kill(peer, torn=False)
        return driver

    # ── gossip ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _publish(self, peer: SimPeer, effect: Publish) -> None:
        data = wire.encode(effect.statement)
        body = wire.decode(effect.statement.body, message_decoder, peer.id)
        statement: Statement = (effect.statement, body, crc32(data))
        size, now = len(data) + ENVELOPE_BYTES, self.queue.now
        if self.scenario.simulation.gossip == "gossipsub":
            self.gossip.publish(peer.index, effect.topic, statement, size, now)
            return
        for other in self.peers:
            at = now if other is peer else self.network.arrival(peer.index, other.index, size, now)
            if at >= 0:
                self.queue.at(at, self._heard, (other.index, statement))

    def _heard(self, heard: tuple[int, Statement]) -> None:
        self._hear(heard[0], -1, heard[1])

    def _hear(self, peer: int, origin: int, payload: object) -> None:
        """A statement reaches a peer for the first time. Test statements carry nothing and end here."""
        if isinstance(payload, tuple):
            signed, body, code = payload
            self.driver.hear(self.peers[peer], signed, body, code)

    def _met(self, meeting: tuple[int, int]) -> None:
        """A connection is new: whoever keeps a book compares it."""
        peer, other = (self.peers[index] for index in meeting)
        if peer.keeps_book and other.keeps_book:
            self.driver.give(peer, peer.boots, Neighbour(other.id))

    def _around(self, peer: SimPeer) -> list[PeerId]:
        """Connected peers that keep a book."""
        links = self.gossip.overlay.links
        around = links[peer.index] if peer.index < len(links) else []
        return [self.peers[other].id for other in around if other < len(self.peers) and self.peers[other].keeps_book]

    @property
    def events(self) -> int:
        """Events executed so far."""
        return self.queue.executed

    # ── running ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def run(
        self, on_second: Callable[[int], None] = lambda now: None, is_over: Callable[[int], bool] = lambda now: False
    ) -> None:
        """Safety phase, then settle phase. A `Violation` of an observer ends it and is raised.

        `is_over` is asked each second of the settle phase: when nothing is left to happen, the rest need not be waited
        for."""
        plan, queue = self.scenario.simulation, self.queue
        self._begin()
        end = plan.duration + plan.settle
        while queue.now < end:
            is_settling = queue.now >= plan.duration
            if queue.now == plan.duration and plan.settle:
                self.lifecycle.settle()
            queue.run(min(queue.now - queue.now % NS + NS, end if is_settling else plan.duration))
            for observer in self.observers:
                observer.second(queue.now)
            on_second(queue.now)
            if is_settling and is_over(queue.now):
                break
        for observer in self.observers:
            observer.finished(queue.now)

    def _begin(self) -> None:
        """Everything that is known from the start goes into the queue."""
        self.gossip.start(len(self.peers), 0)
        if self.scenario.simulation.replicas == "shared":
            self._share()
        self.lifecycle.schedule()
        self.queue.at(0, self._open, None)
        self.injector.schedule()
        self.workload.schedule()
        for observer in self.observers:
            observer.started(self)

    def _open(self, _: None) -> None:
        """Time 0, when all have started who are up at the beginning."""
        for peer in self.peers:
            if not peer.is_up and self.gossip.overlay.is_up[peer.index]:
                self.gossip.leave(peer.index, 0)
        self.market.distribute([peer for peer in self.peers if peer.keeps_book and peer.is_up])

    def _share(self) -> None:
        """Stewards and providers read the copy of one peer that never fails."""
        owner = self.peers[-1]
        self.lifecycle.start(owner)
        replica = owner.machines.replica
        for peer in self.peers[:-1]:
            if peer.role != "validator":
                peer.shared = replica  # type: ignore[assignment]
