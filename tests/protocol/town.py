"""A small town of real machines on virtual time, for tests that steer every step; simulations/ has whole worlds.

One validator, one steward, any number of providers. Computing is a pure function of the specification; everything else
(offers, bids, leases, beats, claims, audits, blocks) is done by the machines that a node runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import Final, Literal

from msgspec import UNSET, UnsetType

from protocol import genesis, matching, operations, reputation, wire
from protocol.bidding import Counter
from protocol.completions import Completion, Examined, Fetched, FetchFailed, RunDone, RunLog, RunStarted
from protocol.desk import Desk
from protocol.effects import (
    Compute,
    Effect,
    Emit,
    Examine,
    Fail,
    Fetch,
    LetGo,
    Machine,
    Publish,
    Run,
    Score,
    Send,
    Stop,
    Store,
)
from protocol.errors import ShoalError
from protocol.follower import Follower
from protocol.identity import Identity
from protocol.jobspec import ZERO_DIGEST, Chunk, JobSpec, Manifest, OutputFile
from protocol.ledger import Ledger
from protocol.ledger_client import LedgerClient
from protocol.messages import Capability, Message, Offer, Runtime, message_decoder
from protocol.offers import OfferBook, OfferMaker, Terms
from protocol.peer import Peer
from protocol.policy import Policy
from protocol.proof import Numeric, Proof
from protocol.provider import Provider
from protocol.ranking import rank, standing_record
from protocol.steward import Steward
from protocol.units import CREDIT, GIB, SECOND, Credits, Digest, Micros, PeerId
from protocol.watcher import Watcher
from simulations import units
from simulations.units import EXACT, Conduct, Execution
from verifier.auditor import Auditor
from verifier.judge import Judge
from verifier.orderer import Orderer

CHAIN = "town"
START = Micros(1_800_000_000 * SECOND)
LATENCY = Micros(2_000)
RUNTIME = Runtime("python", wire.digest(b"python 3"))
TORCH = Runtime("torch", wire.digest(b"torch"))
"""What unit programs run on."""
MONEY = 1_000 * CREDIT


def compute(spec: JobSpec, chunk: int, outputs: tuple[Digest, ...]) -> tuple[Manifest, dict[Digest, bytes]]:
    """What the town's honest hosts find: one file, a function of what the chunk reads."""
    content = wire.encode((wire.encode(spec), chunk, outputs))
    file = OutputFile("out.bin", wire.digest(content), len(content))
    return Manifest((file,)), {Digest(file.digest): content}


@dataclass
class Citizen:
    """One peer of the town."""

    identity: Identity
    peer: Peer
    steward: Steward
    provider: Provider
    maker: OfferMaker
    client: LedgerClient
    replica: Orderer | Follower
    is_dead: bool = False
    lies: bool = False
    seconds: float = 1.0
    stopped: set[str] = field(default_factory=set)
    records: dict[str, bytes] = field(default_factory=dict)
    events: list[Emit] = field(default_factory=list)
    faults: list[ShoalError] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    fails: str = ""
    own_check: str = ""
    """How the job's own check ends over a result of its own; empty: it holds."""
    units: Conduct = EXACT
    """How it computes units, of its own leases and of audits."""
    looks: list[Examine] = field(default_factory=list)
    """Snapshots that it was to open, in order."""
    sees: Literal["", "snapshot_missing", "snapshot_bad", "not_examined"] | None = ""
    """What it finds in them; None: it is not done with them."""
    let_go: list[Digest] = field(default_factory=list)
    """Shards that it need not keep any more."""
    deaf: tuple[type, ...] = ()
    """Messages that it does not answer."""
    bends: Callable[[Message], Message] = lambda message: message
    """What it makes of its own messages before they leave."""


HELD_PAY: Final = Policy(dispute_window=15 * SECOND, rule_time=60 * SECOND)
"""Pay is held for a while that a test lives to see, and a ruling takes no longer than a chunk."""


class Town:
    """One validator, one steward, providers. `run` delivers until a condition holds or the time is over."""

    def __init__(self, providers: int, seed: int = 1, auditors: int = 0, policy: Policy | UnsetType = UNSET) -> None:
        """`auditors`: peers that only audit, beside the validator who does so too. `policy`: economics in force."""
        self.now = START
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0
        self.dice = Random(seed)
        self.blobs: dict[Digest, bytes] = {}
        self.slow: dict[tuple[str, str], int] = {}
        """(from, to) -> microseconds that messages take, where it is not LATENCY."""
        self.cut: set[str] = set()
        """To whom the steward knows of no connection."""
        helping = [f"a{index}" for index in range(auditors)]
        names = ["validator", "steward", *(f"p{index}" for index in range(providers)), *helping]
        keys = {name: Identity(wire.digest(name.encode())) for name in names}
        self.auditing = {keys[name].peer: 1 for name in ("validator", *helping)}
        self.genesis = genesis.Genesis(
            CHAIN,
            START,
            ((keys["validator"].peer, 1),),
            tuple((cls, key.peer, MONEY) for key in keys.values() for cls in ("U", "S")),
            policy=policy,
        )
        self.citizens = {name: self._citizen(name, key) for name, key in keys.items()}
        for name, citizen in self.citizens.items():
            slots = 2 if name.startswith("p") else 0
            terms = Terms(
                ("provider",),
                Capability(8000, 8 * GIB, 8 * GIB, 1, 1),
                (),
                ("bwrap",),
                (RUNTIME, TORCH),
                slots,
                slots,
                Credits(CREDIT),
            )
            self.command(name, citizen.maker, partial(citizen.maker.change, terms))
            self._schedule(self.now, name)

    # ── wiring ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _citizen(self, name: str, identity: Identity) -> Citizen:
        is_validator = name == "validator"
        replica: Orderer | Follower = Orderer(identity, self.genesis, []) if is_validator else Follower(self.genesis)
        client = LedgerClient(self.genesis.validator_set)
        offers, maker = OfferBook(), OfferMaker(identity, CHAIN)

        def ledger() -> Ledger:
            return replica.ledger

        def plan(spec: JobSpec, renter: PeerId, now: Micros) -> matching.Plan:
            known = offers.offers(now)
            ranks = {peer: reputation.rank(standing_record(ledger(), peer)) for peer in known}
            return matching.plan(known, spec, renter, ranks, now, self.dice)

        def exclusion(spec: JobSpec, renter: PeerId, now: Micros) -> tuple[str, str] | None:
            offer = maker.offer(now)
            why = matching.exclusion(offer, spec, renter, now) if offer else None
            return (why.code, why.detail) if why else None

        desk = Desk(
            identity,
            CHAIN,
            client,
            ledger,
            lambda: True,
            self.dice,
            lambda peer: rank(ledger(), peer),
            lambda now: list(offers.offers(now)),
            is_cut=lambda peer: self.name(peer) in self.cut,
        )
        counter = Counter(
            lambda: maker.terms or Terms((), Capability(0, 0, 0, 0, 0)),
            exclusion,
            self.blobs.__getitem__,
            lambda *_: "bwrap",
            ledger,
        )
        steward, provider = Steward(desk, plan), Provider(identity, CHAIN, client, counter)
        client.listeners += [steward, provider]
        machines: list[Machine] = [replica, client, offers, maker, Watcher(identity, CHAIN), steward, provider]
        validators = self.genesis.validator_set.peers
        if is_validator:
            judge = Judge(identity, CHAIN, ledger, lambda: validators, lambda *_: self.auditing, self.blobs.__getitem__)
            machines.append(judge)
        if identity.peer in self.auditing:
            machines.append(Auditor(identity, CHAIN, lambda: validators, self.blobs.__getitem__))
        return Citizen(identity, Peer(machines), steward, provider, maker, client, replica)

    def replace_steward(self) -> Citizen:
        """The steward's process is started again: same key, empty machines."""
        old = self.citizens["steward"]
        fresh = self._citizen("steward", old.identity)
        self.citizens["steward"] = fresh
        self.command(
            "steward", fresh.maker, lambda now: fresh.maker.change(old.maker.terms, now) if old.maker.terms else []
        )
        self._schedule(self.now, "steward")
        return fresh

    def name(self, peer: PeerId) -> str:
        return next(name for name, citizen in self.citizens.items() if citizen.identity.peer == peer)

    @property
    def ledger(self) -> Ledger:
        """The validator's."""
        return self.citizens["validator"].replica.ledger

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def at(self, delay: float, act: Callable[[], None]) -> None:
        """Do something in so many microseconds."""
        self._number += 1
        heappush(self._heap, (int(self.now + delay), self._number, act))

    def run(self, until: Callable[[], bool], seconds: float = 120.0) -> None:
        """Events in order of time until the condition holds; fails the test when the time is over."""
        end = self.now + seconds * SECOND
        while not until():
            assert self._heap and self._heap[0][0] <= end, f"nothing more happens within {seconds} s"
            time, _, act = heappop(self._heap)
            self.now = Micros(max(self.now, time))
            act()

    def _schedule(self, at: int, name: str) -> None:
        def tick() -> None:
            citizen = self.citizens[name]
            due = citizen.peer.next_wake
            if not citizen.is_dead and due is not None and due <= self.now:
                self._perform(name, citizen.peer.tick(self.now))

        self.at(max(0, at - self.now), tick)

    # ── what machines do ─────────────────────────────────────────────────────────────────────────────────────────────
    def command(self, name: str, machine: Machine, act: Callable[[Micros], list[Effect]]) -> None:
        """A method of a machine, as its owner calls it."""
        citizen = self.citizens[name]
        self._perform(name, citizen.peer.absorb(citizen.peer.index(machine), act(self.now)))

    def order(self, operation: operations.Operation, *signers: str) -> None:
        """An operation that no machine of the town makes by itself, signed by these citizens, to the ledger."""
        keys = [self.citizens[name].identity for name in signers]
        signed = operations.signed_op(CHAIN, operation, *keys)
        client = self.citizens[signers[0]].client
        self.command(signers[0], client, lambda now: client.submit(signed, now))

    def give(self, name: str, sender: PeerId, message: Message | Completion, delay: float = LATENCY) -> None:
        """A message on its way; the dead neither send nor hear."""

        def deliver() -> None:
            citizen = self.citizens[name]
            if not citizen.is_dead and not isinstance(message, citizen.deaf):
                self._perform(name, citizen.peer.receive(sender, message, self.now))

        self.at(delay, deliver)

    def _perform(self, name: str, effects: list[Effect]) -> None:
        citizen = self.citizens[name]
        me = citizen.identity.peer
        for effect in effects:
            match effect:
                case Send(peer, message):
                    again = wire.decode(wire.encode(citizen.bends(message)), message_decoder, me)
                    delay = 0 if peer == me else self.slow.get((name, self.name(peer)), LATENCY)
                    self.give(self.name(peer), me, again, delay)
                case Publish(_, statement):
                    body = wire.decode(statement.body, message_decoder, me)
                    for other in self.citizens:
                        if other != name or isinstance(body, Offer):
                            self.give(other, PeerId(statement.signer), body)
                case Store(key, None):
                    citizen.records.pop(key, None)
                case Store(key, value) if value is not None:
                    citizen.records[key] = value
                case Compute(Fetch(digest)):
                    found = self.blobs.get(digest)
                    self.give(
                        name,
                        me,
                        Fetched(digest, len(found)) if found is not None else FetchFailed(digest, "nobody has it"),
                    )
                case Compute(Run() as run):
                    self._execute(name, run)
                case Compute(Score() as score):
                    self.give(name, me, units.compare(score, self.blobs.__getitem__))
                case Compute(Examine() as look):
                    self._look(name, look)
                case Compute(LetGo(shards)):
                    citizen.let_go += shards
                case Compute(Stop(task)):
                    citizen.stopped.add(task)
                case Emit():
                    citizen.events.append(effect)
                case Fail(error):
                    citizen.faults.append(error)
        due = citizen.peer.next_wake
        if due is not None:
            self._schedule(due, name)

    def _look(self, name: str, look: Examine) -> None:
        citizen = self.citizens[name]
        citizen.looks.append(look)
        if citizen.sees is not None:
            self.give(name, citizen.identity.peer, seen(look, citizen.sees))

    def _execute(self, name: str, run: Run) -> None:
        citizen = self.citizens[name]
        citizen.runs.append(run)
        me = citizen.identity.peer
        found = self._find(citizen, run)
        self.give(name, me, RunStarted(run.task, "bwrap"), 1000)
        self.give(name, me, RunLog(run.task, (f"chunk {run.chunk}",)), 2000)

        def done() -> None:
            if citizen.is_dead:
                return
            reason = "stopped" if run.task in citizen.stopped else citizen.fails or "ok"
            if isinstance(found, str) and reason == "ok":
                reason = found
            if reason != "ok" or isinstance(found, str):
                self.give(name, me, RunDone(run.task, reason, 1, ZERO_DIGEST, 0, 1.0, "it failed"), 0)
                return
            self.blobs |= found.blobs
            begun = run.resume.manifest.step if run.resume is not None and run.spec.units_of(run.chunk) else 0
            ended = RunDone(run.task, "ok", 0, found.output, found.size, 1.0, "", found.trace, begun)
            self.give(name, me, ended, 0)

        self.at(citizen.seconds * SECOND, done)

    def _find(self, citizen: Citizen, run: Run) -> Execution | str:
        """What a citizen gets for a run, or why it gets nothing."""
        if run.last is not None:
            return units.finish(run, self.blobs.__getitem__)
        if run.units:
            try:
                return units.replay(run, self.blobs.__getitem__, citizen.units)
            except LookupError:
                return "inputs"
        if run.result != ZERO_DIGEST and not run.task.startswith(("audit-", "check-")):
            return citizen.own_check or Execution(run.result, 0)  # Who is honest passes; who is not says so.
        if run.result != ZERO_DIGEST:
            honest = units.execute(run) if run.spec.units else found_by_all(run)
            return Execution(run.result, 0) if run.result == honest.output else "exit"
        if run.spec.units_of(run.chunk):
            return units.execute(run, citizen.units)
        if citizen.lies:
            content = b"a lie"
            manifest = Manifest((OutputFile("out.bin", wire.digest(content), 5),))
            return as_execution(manifest, {wire.digest(content): content})
        return found_by_all(run)


def open_town(providers: int = 3, seed: int = 1, auditors: int = 0, policy: Policy | UnsetType = UNSET) -> Town:
    """A town whose offers are out and whose ledger runs."""
    town = Town(providers, seed, auditors, policy)
    town.run(lambda: town.now > START + 5 * SECOND, 30)
    return town


def seen(look: Examine, code: Literal["", "snapshot_missing", "snapshot_bad", "not_examined"]) -> Examined:
    """That somebody has looked; what opens has come whole."""
    packs = look.resume.manifest.packs
    kept = tuple(Digest(shard) for pack in packs for shard in pack.shards[: pack.k])
    return Examined(look.task, look.lease, code, "so it is", () if code else kept)


def found_by_all(run: Run) -> Execution:
    """What honest hosts find for a chunk without units."""
    return as_execution(*compute(run.spec, run.chunk, run.outputs))


def as_execution(manifest: Manifest, blobs: dict[Digest, bytes]) -> Execution:
    """A manifest with the files that it names."""
    body = wire.encode(manifest)
    return Execution(wire.digest(body), manifest.size, {**blobs, wire.digest(body): body})


def job_spec(
    chunks: int = 4,
    *,
    reduce: bool = False,
    audit_ppm: int = 100_000,
    proof: Proof | UnsetType = UNSET,
    numeric: Numeric = "D2",
) -> JobSpec:
    """A job that the town can run."""
    return JobSpec(
        name="work",
        runtime="torch" if isinstance(proof, Proof) else "python",
        commands=("work",),
        chunks=tuple(Chunk() for _ in range(chunks)),
        reduce=("join",) if reduce else (),
        estimate=Micros(3 * SECOND),
        price_per_hour_max=Credits(2 * CREDIT),
        audit_ppm=audit_ppm,
        proof=proof,
        numeric=numeric,
    )
