"""Whole peers on an in-memory network and virtual time: every machine that a node wires, real shards, faults to order.

Messages are ordered per pair and lost only with a connection: packet loss and blackouts delay them, a cut line and a
sleeping machine lose them. Jobs take one step a second; a snapshot says which step it was cut at, and what goes on
elsewhere goes on from there only if k shards of every pack could really be had.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Final, Literal

import msgspec

from protocol import genesis, wire
from protocol.completions import (
    Completion,
    CutFailed,
    Encoded,
    Fetched,
    FetchFailed,
    Guest,
    Proved,
    RunDone,
    RunStarted,
    Sealed,
)
from protocol.effects import (
    Compute,
    Cut,
    Effect,
    Emit,
    Encode,
    Fail,
    Fetch,
    Forget,
    Hear,
    Machine,
    Park,
    Prove,
    Publish,
    Run,
    Send,
    Stop,
    Store,
    Unpark,
)
from protocol.errors import ShoalError
from protocol.identity import Identity
from protocol.job_record import JobRecord
from protocol.jobspec import ZERO_DIGEST, Checkpoint, JobSpec, Manifest, OutputFile
from protocol.messages import Message, Offer, message_decoder
from protocol.snapshots import Pack, SnapshotNotice, proof_of, shard_of
from protocol.units import CREDIT, SECOND, Digest, JobId, Micros, PeerId
from storage.erasure import NUMPY, Code
from storage.parity import protect, reconstruct, shard_size
from tests.failures.villager import STEP, Execution, Villager
from tests.protocol.town import job_spec

CHAIN: Final = "village"
START: Final = Micros(1_800_000_000 * SECOND)
LATENCY: Final = Micros(20_000)
AGAIN: Final = Micros(200_000)
"""A lost packet is sent again after so long."""
HUNG: Final = Micros(5 * SECOND)
"""How long the data plane waits for a source that sends nothing."""
RESTORE: Final = Micros(2 * SECOND)
"""Opening a snapshot and laying it out."""
STATE_BYTES: Final = 2_000
INSTANT: Final = Micros(1_000)


class Village:
    """A validator, a steward, and providers, each in a /16 of its own."""

    def __init__(self, providers: int = 9, seed: int = 1) -> None:
        self.now = START
        self.dice = Random(seed)
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0
        self._last: dict[tuple[str, str], int] = {}
        self.loss = 0.0
        """Share of packets that are lost, everywhere."""
        self.cuts: set[tuple[str, str]] = set()
        """(from, to): lines on which nothing arrives."""
        self.notices: list[tuple[str, SnapshotNotice]] = []
        names = ["validator", "steward", *(f"p{index}" for index in range(providers))]
        keys = {name: Identity(wire.digest(name.encode())) for name in names}
        classes: tuple[Literal["U", "S"], ...] = ("U", "S")
        balances = tuple((kind, bytes(key.peer), 1_000 * CREDIT) for key in keys.values() for kind in classes)
        self.genesis = genesis.Genesis(CHAIN, START, ((keys["validator"].peer, 1),), balances)
        self.people = {
            name: Villager(name, key, f"/ip4/{20 + index}.{index + 1}.1.1/udp/1/quic-v1", 2 if index > 1 else 0)
            for index, (name, key) in enumerate(keys.items())
        }
        self._names = {key.peer: name for name, key in keys.items()}
        for name in names:
            self.start(name)
        self.run(8)

    def __getitem__(self, name: str) -> Villager:
        return self.people[name]

    def name(self, peer: bytes) -> str:
        return self._names[PeerId(peer)]

    # ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────
    def start(self, name: str) -> None:
        """Start a peer's program on what its disk holds."""
        one = self.people[name]
        one.boot(self.genesis, lambda: self.now, self.dice)
        machines = one.machines
        for machine, act in (
            *one.vault.restored(list(one.records.items())),
            *machines.restored(one.records.items(), one.id),
        ):
            self.command(name, machine, act)
        self.command(name, machines.maker, lambda now: machines.offer(one.terms, now))

        def keep_offer(boot: int = one.boots) -> None:
            if one.boots == boot and one.is_up:
                if not self._delayed(one):
                    self.command(name, machines.maker, lambda now: machines.offer(one.terms, now))
                self.at(SECOND, keep_offer)

        self.at(SECOND, keep_offer)

    def kill(self, name: str) -> None:
        """SIGKILL of the node and all it runs; its disk stays."""
        one = self.people[name]
        one.is_up = False
        for execution in one.running():
            execution.is_over = True

    def restart(self, name: str) -> None:
        self.kill(name)
        self.start(name)

    def sleep(self, name: str, seconds: float) -> None:
        """The lid is closed: its processes stand still, its clock goes on."""
        one = self.people[name]
        one.asleep_until = Micros(int(self.now + seconds * SECOND))
        for execution in one.running():
            execution.at, execution.since = execution.step(self.now), one.asleep_until
            self._end_later(one, execution)

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def at(self, delay: float, act: Callable[[], None]) -> None:
        self._number += 1
        heappush(self._heap, (int(self.now + delay), self._number, act))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; True as soon as `until` holds."""
        end = self.now + int(seconds * SECOND)
        while not until():
            if not self._heap or self._heap[0][0] > end:
                self.now = Micros(end)
                return until()
            at, _, act = heappop(self._heap)
            self.now = Micros(max(self.now, at))
            act()
        return True

    def _tick_later(self, one: Villager) -> None:
        due = one.peer.next_wake
        if due is None:
            return

        def tick(boot: int = one.boots) -> None:
            if not one.is_up or one.boots != boot:
                return
            if wait := self._delayed(one):
                self.at(wait, tick)
            elif (wake := one.peer.next_wake) is not None and wake <= self.now + one.skew:
                self._perform(one, one.peer.tick(Micros(self.now + one.skew)))

        self.at(max(0, due - one.skew - self.now), tick)

    def _delayed(self, one: Villager) -> int:
        """Microseconds until its process runs again."""
        return max(0, max(one.starved_until, one.asleep_until) - self.now)

    # ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def command(self, name: str, machine: Machine, act: Callable[[Micros], list[Effect]]) -> None:
        one = self.people[name]
        self._perform(one, one.peer.absorb(one.peer.index(machine), act(Micros(self.now + one.skew))))

    def send(self, sender: str, to: str, message: Message) -> None:
        """One message on its way."""
        source, target = self.people[sender], self.people[to]
        if (sender, to) in self.cuts and sender != to:
            return
        delay = int(LATENCY) if sender != to else 0
        while sender != to and self.dice.random() < self.loss:
            delay += AGAIN
        ready = max(self.now, source.dark_until, target.dark_until) if sender != to else self.now
        arrives = max(ready + delay, self._last.get((sender, to), 0))
        self._last[sender, to] = arrives

        def deliver(boot: int = target.boots) -> None:
            if target.is_up and target.boots == boot and target.asleep_until <= self.now:
                self._receive(target, source.id, message)

        self.at(arrives - self.now, deliver)

    def _receive(self, one: Villager, sender: PeerId, message: Message | Completion) -> None:
        """Now, or when the process gets to it."""

        def take(boot: int = one.boots) -> None:
            if not one.is_up or one.boots != boot:
                return
            if wait := self._delayed(one):
                self.at(wait, take)
                return
            if isinstance(message, SnapshotNotice) and one.name == "steward":
                self.notices.append((self.name(sender), message))
            self._perform(one, one.peer.receive(sender, message, Micros(self.now + one.skew)))

        take()

    def give(self, one: Villager, completion: Completion, delay: int = INSTANT) -> None:
        boot = one.boots

        def come() -> None:
            if one.is_up and one.boots == boot:
                self._receive(one, one.id, completion)

        self.at(delay, come)

    def _perform(self, one: Villager, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(peer, message):
                    self.send(one.name, self.name(peer), wire.decode(wire.encode(message), message_decoder, one.id))
                case Publish(_, statement):
                    body = wire.decode(statement.body, message_decoder, one.id)
                    for other in self.people:
                        if other != one.name or isinstance(body, Offer):
                            self._publish(one, other, PeerId(statement.signer), body)
                case Hear(statement, body):
                    self._perform(one, one.peer.receive(PeerId(statement.signer), body, Micros(self.now + one.skew)))
                case Store(key, value):
                    one.records.pop(key, None) if value is None else one.records.__setitem__(key, value)
                case Compute(work):
                    self._work(one, work)
                case Emit():
                    one.events.append(effect)
                case Fail(error):
                    one.errors.append(error)
        self._tick_later(one)

    def _publish(self, one: Villager, to: str, signer: PeerId, body: Message) -> None:
        if (one.name, to) in self.cuts and one.name != to:
            return
        target = self.people[to]
        delay = max(0, max(one.dark_until, target.dark_until) - self.now) + (LATENCY if to != one.name else 0)

        def deliver(boot: int = target.boots) -> None:
            if target.is_up and target.boots == boot and target.asleep_until <= self.now:
                self._receive(target, signer, body)

        self.at(delay, deliver)

    # ── work ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _work(self, one: Villager, work: object) -> None:
        match work:
            case Fetch():
                self._fetch(one, work)
            case Run():
                self._begin(one, work)
            case Stop(task):
                if (execution := one.executions.get(task)) and not execution.is_over:
                    self._over(one, execution, "stopped")
            case Park(run):
                one.parked.add(run.task)
            case Unpark(task):
                one.parked.discard(task)
            case Cut():
                self.at(SECOND // 20, lambda: self._cut(one, work))
            case Encode(pack):
                self._encode(one, pack)
            case Prove(peer, challenge):
                blob = one.blobs.get(Digest(challenge.shard), b"")
                pieces = [blob[at : at + challenge.span] for at in challenge.offsets]
                proof = proof_of(challenge, pieces) if blob else bytes(32)
                self.give(one, Proved(peer, Digest(challenge.shard), challenge.nonce, proof))
            case Forget(digest):
                one.blobs.pop(digest, None)

    def reaches(self, one: Villager, source: Villager) -> bool:
        """Whether bytes come from there now."""
        is_there = source.is_up and source.asleep_until <= self.now and source.dark_until <= self.now
        is_cut = (source.name, one.name) in self.cuts or (one.name, source.name) in self.cuts
        return is_there and source.serves and not is_cut and one.dark_until <= self.now

    def find(self, one: Villager, digest: Digest, sources: tuple[PeerId, ...]) -> tuple[bytes | None, int]:
        """(the bytes, microseconds that they take) from the first source that has them."""
        if digest in one.blobs:
            return one.blobs[digest], 0
        delay = 0
        for source in (self.people[self.name(peer)] for peer in sources if peer != one.id):
            if not self.reaches(one, source):
                delay += HUNG
            elif (blob := source.blobs.get(digest)) is not None and wire.digest(blob) == digest:
                return blob, delay + 2 * LATENCY + len(blob) * SECOND // source.rate
        return None, delay + LATENCY

    def _fetch(self, one: Villager, work: Fetch) -> None:
        blob, delay = self.find(one, work.digest, work.sources)
        found = {} if blob is None else {work.digest: blob}
        if blob is not None and work.is_output:
            for file in msgspec.msgpack.decode(blob, type=Manifest).files:
                content, more = self.find(one, Digest(file.digest), work.sources)
                delay += more
                found |= {} if content is None else {Digest(file.digest): content}
        if blob is None or len(blob) > work.size_max:
            self.give(one, FetchFailed(work.digest, "no source delivered it"), delay)
            return

        def arrive(boot: int = one.boots) -> None:
            if one.is_up and one.boots == boot:
                one.blobs.update(found)
                self.give(one, Fetched(work.digest, len(blob)))

        self.at(delay, arrive)

    def _encode(self, one: Villager, pack: Pack) -> None:
        name = Digest(pack.shards[0])
        here = {index: one.blobs.get(Digest(shard)) for index, shard in enumerate(pack.shards)}
        try:
            views = {index: memoryview(blob) for index, blob in here.items() if blob is not None}
            found = reconstruct(views, pack, NUMPY)
        except ShoalError as error:
            self.give(one, Encoded(name, error.code))
            return
        one.blobs.update((Digest(pack.shards[index]), bytes(shard)) for index, shard in found.items())
        self.give(one, Encoded(name, ""), SECOND // 100)

    # ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _begin(self, one: Villager, run: Run) -> None:
        """From its beginning, or from a snapshot when it can be had."""
        steps = max(1, run.spec.estimate // STEP)
        if run.lease is None:
            steps, first = 1, 0  # An audit: its time is nothing to these tests.
        else:
            first = self._restored(one, run)
        wait = RESTORE if first else INSTANT

        def begin(boot: int = one.boots) -> None:
            if not one.is_up or one.boots != boot or not one.restores(first):
                return
            execution = Execution(run, first, steps, self.now, first)
            one.executions[run.task] = execution
            if run.lease is not None:
                one.begun.append((run.task, first))
            self.give(one, RunStarted(run.task, "bwrap"))
            self.give(one, Guest(run.task, "restored" if first else "running", "", first))
            self._end_later(one, execution)

        self.at(wait, begin)

    def _restored(self, one: Villager, run: Run) -> int:
        """The step of the snapshot that a run goes on from; 0 when it cannot be had."""
        if run.resume is None:
            return 0
        content = b""
        for pack, holders in zip(run.resume.manifest.packs, run.resume.holders, strict=True):
            shards: dict[int, memoryview] = {}
            for index in range(pack.n):
                sources = tuple(peer for at, peer in holders if at == index)
                blob, _ = self.find(one, Digest(shard_of(pack, index)), sources)
                if blob is not None and len(shards) < pack.k:
                    shards[index] = memoryview(blob)
            if len(shards) < pack.k:
                return 0
            if pack.code == "copy":
                content += next(iter(shards.values()))
                continue
            data = reconstruct(shards, pack, NUMPY)
            whole = {index: bytes(view) for index, view in {**shards, **data}.items()}
            content += b"".join(whole[index] for index in range(pack.k))[: pack.size]
        step: int = struct.unpack_from(">Q", content)[0]
        assert step == run.resume.manifest.step
        return step

    def _end_later(self, one: Villager, execution: Execution) -> None:
        execution.turn += 1
        turn = execution.turn
        left = execution.since - self.now + (execution.steps - execution.at) * STEP

        def end(boot: int = one.boots) -> None:
            if one.is_up and one.boots == boot and execution.turn == turn and not execution.is_over:
                self._over(one, execution, "ok")

        if not execution.is_held:
            self.at(max(0, left), end)

    def _over(self, one: Villager, execution: Execution, reason: str) -> None:
        execution.is_over = True
        run = execution.run
        if reason != "ok":
            done = RunDone(run.task, reason, -9, ZERO_DIGEST, 0, 1.0, reason)
        else:
            content = wire.encode((wire.encode(run.spec), run.chunk, run.outputs))
            manifest = Manifest((OutputFile("out.bin", wire.digest(content), len(content)),))
            body = wire.encode(manifest)
            one.blobs |= {wire.digest(content): content, wire.digest(body): body}
            done = RunDone(run.task, "ok", 0, wire.digest(body), manifest.size, 1.0, "")
        one.done.append(done)
        self.give(one, done, 0)

    def _cut(self, one: Villager, work: Cut) -> None:
        execution = one.executions.get(work.task)
        if execution is None or execution.is_over or not one.is_up or one.asleep_until > self.now:
            self.give(one, CutFailed(work.task, "the task does not run here"))
            return
        step = execution.step(self.now)
        if work.hold:
            execution.at, execution.is_held = step, True
        execution.number += 1
        content = struct.pack(">Q", step) + self.dice.randbytes(STATE_BYTES)
        pack = put(one, content, Code(work.k, work.n))
        steps = execution.steps
        sealed = Sealed(
            work.task, execution.number, step, step * 1_000_000 // steps, "framework", STATE_BYTES, 3_000, 100, (pack,),
            is_rehearsed=True,
        )  # fmt: skip
        one.sealed.append(sealed)
        self.give(one, sealed, SECOND // 20)

    # ── a renter ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def submit(self, seconds: int = 60, *, every: int = 5, chunks: int = 1) -> JobRecord:
        """A protected job of so many steps, confirmed; a snapshot every so many seconds."""
        spec = protected_spec(seconds, every, chunks)
        one = self["steward"]
        record, _, effects = one.machines.steward.submit(spec, one.id, f"k{self._number}", self.now)
        one.blobs[wire.digest(wire.encode(spec))] = wire.encode(spec)
        steward = one.machines.steward
        self.command("steward", steward, lambda now: effects)
        self.command("steward", steward, lambda now: steward.confirm(JobId(record.job), now))
        return record

    def record(self, job: bytes) -> JobRecord:
        """As the steward's program of now has it."""
        return self["steward"].machines.steward.job(JobId(job)).record

    def worker(self, record: JobRecord, chunk: int = 0) -> Villager:
        """Who has the lease of a chunk; the steward itself while nobody has."""
        provider = self.record(record.job).chunks[chunk].provider
        return self[self.name(provider)] if provider else self["steward"]

    def standby(self, record: JobRecord, chunk: int = 0) -> Villager | None:
        """Who stands by, as the worker knows it."""
        lease = next(iter(self.worker(record, chunk).machines.provider.leases.values()))
        return self[self.name(lease.standby)] if lease.standby else None

    def begun(self) -> list[int]:
        """Steps at which protected runs began, wherever, in no order."""
        return [first for one in self.people.values() for _, first in one.begun]

    def until_done(self, record: JobRecord, seconds: float = 300) -> None:
        """Until the job is settled; then the ledger's invariants hold."""
        assert self.run(seconds, lambda: self.record(record.job).is_final), self.record(record.job).state
        self["validator"].machines.ledger.check()
        assert self.record(record.job).state == "settled"


def protected_spec(seconds: int, every: int, chunks: int) -> JobSpec:
    return msgspec.structs.replace(
        job_spec(chunks, audit_ppm=100_000),
        estimate=Micros(seconds * SECOND),
        timeout=Micros(10 * seconds * SECOND),
        checkpoint=Checkpoint(every=Micros(every * SECOND)),
    )


def put(one: Villager, content: bytes, code: Code) -> Pack:
    """The data shards of a pack, as blobs of a peer."""
    size = shard_size(len(content), code.k)
    padded = content.ljust(code.k * size, b"\0")
    data = [padded[index * size : (index + 1) * size] for index in range(code.k)]
    parity = [bytearray(size) for _ in range(0 if code.k == 1 else code.n - code.k)]
    shards = protect([memoryview(part) for part in data], [memoryview(part) for part in parity], NUMPY)
    one.blobs.update((Digest(shard), part) for shard, part in zip(shards, data, strict=False))
    return Pack(len(content), size, code.kind, code.k, code.n, shards)
