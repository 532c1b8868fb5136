"""Peers with vaults on an in-memory network: real machines, a real erasure code, virtual time, and faults to order."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from blake3 import blake3

from protocol import wire
from protocol.completions import Completion, CutFailed, Encoded, Fetched, FetchFailed, Proved, Sealed
from protocol.effects import Compute, Cut, Effect, Emit, Encode, Fail, Fetch, Forget, Prove, Resume, Send, Store
from protocol.errors import ShoalError
from protocol.identity import Identity
from protocol.messages import Message
from protocol.operations import Assign
from protocol.peer import Peer
from protocol.provider_lease import Lease
from protocol.snapshots import Manifest, Pack, SnapshotNotice, proof_of, shard_of
from protocol.succession import check_notice
from protocol.units import DAY, MIB, SECOND, Digest, Micros, PeerId
from storage.erasure import NUMPY, Code
from storage.hazard import Hazard
from storage.interval import Cadence
from storage.neighbourhood import Seen
from storage.parity import protect, reconstruct, shard_size
from storage.wiring import StorageOutside, Vault, wire_storage
from tests.protocol.town import job_spec

NETWORK = "test"
START = Micros(1_000 * DAY)
LATENCY = Micros(SECOND // 50)
HUNG_FETCH = Micros(15 * SECOND)
"""How long the data plane waits for a source that accepts and sends nothing."""
DISK = 1 << 40


@dataclass
class Member:
    """One peer, its disk, and what is wrong with it."""

    identity: Identity
    addresses: tuple[str, ...]
    region: str = ""
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    records: dict[str, bytes] = field(default_factory=dict)
    notices: list[tuple[PeerId, SnapshotNotice]] = field(default_factory=list)
    emits: list[Emit] = field(default_factory=list)
    errors: list[ShoalError] = field(default_factory=list)
    disk: int = DISK
    rate: int = 10 * MIB
    """Bytes per second that it serves."""
    is_up: bool = True
    is_hung: bool = False
    """It takes everything and answers nothing."""
    is_lying: bool = False
    """Its parity is garbage, and it says that all is well."""
    is_withholding: bool = False
    """It proves what it has, and serves none of it."""
    cut_fails: str = ""
    step: int = 0
    vault: Vault = field(init=False)
    peer: Peer = field(init=False)

    @property
    def id(self) -> PeerId:
        return self.identity.peer

    def emitted(self, name: str) -> list[Emit]:
        return [one for one in self.emits if one.name == name]


class Town:
    """Everybody, and a clock."""

    def __init__(self, count: int, seed: int = 0, quota: int = DISK, state_bytes: int = 4_000) -> None:
        self.now = START
        self.dice = Random(seed)
        self.quota = quota
        self.state_bytes = state_bytes
        self.every = Micros(20 * SECOND)
        self.after: Callable[[Town], None] = lambda _town: None
        """Called after every event."""
        self._heap: list[tuple[Micros, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.members: dict[PeerId, Member] = {}
        self.all = [self.add(seed * 1_000 + number) for number in range(count)]

    def add(self, number: int, address: str = "") -> Member:
        """A new peer, in a /16 of its own unless told otherwise."""
        where = address or f"/ip4/{20 + number % 100}.{number // 100 % 250}.1.1/udp/1/quic-v1"
        member = Member(Identity(blake3(number.to_bytes(8, "big")).digest()), (where,), f"region-{number % 7}")
        self.members[member.id] = member
        self.wire(member)
        return member

    def wire(self, member: Member) -> None:
        """Machines for a peer; called again, they are those of a process that was started again."""
        outside = StorageOutside(
            peers=self.book,
            dice=lambda: Random(self.dice.randrange(1 << 30)),
            has=lambda digest: digest in member.blobs,
            free_bytes=lambda: member.disk - sum(map(len, member.blobs.values())),
            quota=self.quota,
            pace=lambda lease, now: Cadence("min-loss", self.every, Hazard(), now, now),
        )
        member.vault = wire_storage(member.identity, NETWORK, outside)
        member.peer = Peer(member.vault.listed)
        for machine, act in member.vault.restored(list(member.records.items())):
            self.command(member, lambda now, act=act: act(now), member.peer.index(machine))  # type: ignore[misc]

    def book(self) -> list[Seen]:
        """Offers of those who are there."""
        return [Seen(one.id, one.addresses, one.region, LATENCY) for one in self.members.values() if one.is_up]

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def at(self, delay: int, act: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (Micros(self.now + delay), next(self._order), act))

    def run(self, span: int, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; True as soon as `until` holds."""
        end = self.now + span
        while not until():
            wakes = [(one.peer.next_wake, one) for one in self.members.values() if one.is_up and not one.is_hung]
            due = min((at for at, _ in wakes if at is not None), default=None)
            first = self._heap[0][0] if self._heap else None
            if min(item for item in (due, first, end) if item is not None) >= end:
                self.now = Micros(end)
                return until()
            if first is not None and (due is None or first <= due):
                self.now, _, act = heapq.heappop(self._heap)
                act()
            else:
                assert due is not None
                self.now = max(self.now, due)
                for at, one in wakes:
                    if at is not None and at <= self.now:
                        self.perform(one, one.peer.tick(self.now))
            self.after(self)
        return True

    # ── effects ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def command(self, member: Member, act: Callable[[Micros], list[Effect]], index: int = 1) -> None:
        self.perform(member, member.peer.absorb(index, act(self.now)))

    def perform(self, member: Member, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(peer, message):
                    self.at(LATENCY, lambda p=peer, m=message: self.deliver(p, member.id, m))  # type: ignore[misc]
                case Store(key, value):
                    member.records.pop(key, None) if value is None else member.records.__setitem__(key, value)
                case Emit():
                    member.emits.append(effect)
                case Fail(error):
                    member.errors.append(error)
                case Compute(Fetch() as work):
                    self.fetch(member, work)
                case Compute(Encode(pack)):
                    self.at(SECOND // 100, lambda p=pack: self.encode(member, p))  # type: ignore[misc]
                case Compute(Prove(peer, challenge)):
                    blob = member.blobs.get(Digest(challenge.shard), b"")
                    pieces = [blob[at : at + challenge.span] for at in challenge.offsets]
                    proof = proof_of(challenge, pieces) if blob else bytes(32)
                    self.give(member, Proved(peer, Digest(challenge.shard), challenge.nonce, proof))
                case Compute(Forget(digest)):
                    member.blobs.pop(digest, None)
                case Compute(Cut() as cut):
                    self.at(SECOND // 5, lambda c=cut: self.cut(member, c))  # type: ignore[misc]
                case _:
                    raise AssertionError(f"{effect} has no place here")

    def deliver(self, to: PeerId, sender: PeerId, message: Message) -> None:
        member = self.members[to]
        wire.decode(wire.encode(message), wire.decoder(type(message)), sender)
        if not member.is_up or member.is_hung or not self.members[sender].is_up:
            return
        if isinstance(message, SnapshotNotice):
            member.notices.append((sender, message))
            return
        self.perform(member, member.peer.receive(sender, message, self.now))

    def give(self, member: Member, completion: Completion, delay: int = 1_000) -> None:
        def come() -> None:
            if member.is_up and not member.is_hung:
                self.perform(member, member.peer.receive(member.id, completion, self.now))

        self.at(delay, come)

    def fetch(self, member: Member, work: Fetch) -> None:
        """One source after the other, as the data plane would: it verifies what comes."""
        if work.digest in member.blobs:
            self.give(member, Fetched(work.digest, len(member.blobs[work.digest])))
            return
        delay = 0
        for source in (self.members[peer] for peer in work.sources if peer != member.id):
            blob = source.blobs.get(work.digest)
            if source.is_hung or source.is_withholding:
                delay += HUNG_FETCH
            elif source.is_up and blob is not None and blake3(blob).digest() == work.digest:
                delay += 2 * LATENCY + len(blob) * SECOND // source.rate
                self.at(delay, lambda b=blob: self.written(member, work, b))  # type: ignore[misc]
                return
        self.give(member, FetchFailed(work.digest, "no source delivered it"), delay + LATENCY)

    def written(self, member: Member, work: Fetch, blob: bytes) -> None:
        if len(blob) > work.size_max:
            self.give(member, FetchFailed(work.digest, f"{len(blob)} bytes, {work.size_max} are allowed"))
        elif sum(map(len, member.blobs.values())) + len(blob) > member.disk:
            self.give(member, FetchFailed(work.digest, f"the disk is full: {len(blob)} bytes could not be written"))
        else:
            member.blobs[work.digest] = blob
            self.give(member, Fetched(work.digest, len(blob)))

    def encode(self, member: Member, pack: Pack) -> None:
        """All shards of a pack from any k."""
        here = {index: member.blobs.get(Digest(shard)) for index, shard in enumerate(pack.shards)}
        views = {index: memoryview(blob) for index, blob in here.items() if blob is not None}
        try:
            found = reconstruct(views, pack, NUMPY)
        except ShoalError as error:
            self.give(member, Encoded(Digest(pack.shards[0]), error.code))
            return
        for index, shard in found.items():
            member.blobs[Digest(pack.shards[index])] = b"garbage" if member.is_lying else bytes(shard)
        self.give(member, Encoded(Digest(pack.shards[0]), ""))

    def cut(self, member: Member, cut: Cut) -> None:
        """What the agent does: a snapshot of some state, in one pack of shards."""
        if member.cut_fails:
            self.give(member, CutFailed(cut.task, member.cut_fails))
            return
        member.step += 10
        pack = self.put(member, self.dice.randbytes(self.state_bytes), Code(cut.k, cut.n))
        number = member.step // 10
        self.give(member, Sealed(cut.task, number, member.step, 0, "framework", self.state_bytes, 2_000, 100, (pack,)))

    def put(self, member: Member, content: bytes, code: Code) -> Pack:
        """The data shards of a pack, as blobs of a peer."""
        size = shard_size(len(content), code.k)
        padded = content.ljust(code.k * size, b"\0")
        data = [padded[index * size : (index + 1) * size] for index in range(code.k)]
        parity = [bytearray(size) for _ in range(0 if code.k == 1 else code.n - code.k)]
        shards = protect([memoryview(one) for one in data], [memoryview(one) for one in parity], NUMPY)
        member.blobs.update(zip(shards, data, strict=False))
        return Pack(len(content), size, code.kind, code.k, code.n, shards)

    # ── a protected chunk ────────────────────────────────────────────────────────────────────────────────────────────
    def begin(
        self, worker: Member, standby: Member | None, steward: Member, epoch: int = 1, resume: Resume | None = None
    ) -> Lease:
        """A lease that runs at `worker` from now on."""
        assign = Assign(bytes(32), 0, epoch, worker.id, 1, 1, 2**60, 2**61, (steward.id,))
        lease = Lease(
            Digest(bytes(32)), assign, bytes(16), steward.id, steward.id, job_spec(), (), (), "running", self.now,
            standby=standby.id if standby else None, secret=bytes(32), resume=resume,
        )  # fmt: skip
        self.command(worker, lambda now: worker.vault.protector.began(lease, now))
        return lease

    def newest(self, steward: Member, worker: Member) -> Manifest | None:
        """What the steward would hand to a successor; every notice is checked as the steward checks it."""
        manifests = [check_notice(NETWORK, worker.id, one) for sender, one in steward.notices if sender == worker.id]
        return max(manifests, key=lambda one: (one.epoch, one.number), default=None)

    def reachable(self, pack: Pack, without: frozenset[PeerId] = frozenset()) -> int:
        """Shards of a pack that could be had now from peers that are there."""
        found: set[int] = set()
        for member in self.members.values():
            if member.is_up and not member.is_hung and member.id not in without and not member.is_withholding:
                found |= {index for index in range(pack.n) if self.has(member, pack, index)}
        return len(found)

    @staticmethod
    def has(member: Member, pack: Pack, index: int) -> bool:
        digest = Digest(shard_of(pack, index))
        blob = member.blobs.get(digest)
        return blob is not None and blake3(blob).digest() == digest
