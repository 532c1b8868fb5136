"""One peer is hostile while an honest job runs: it is named, costs little, and the job goes on protected.

The hostile peer speaks the protocol with its own key; what a hostile job may do to its node is tested in
tests/node/protection/test_hostile_guests.py, and every attack on the wire itself in tests/attacks.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import msgspec
import pytest

from protocol import operations, secret_box, wire
from protocol.errors import RemoteViolation
from protocol.job_record import JobRecord
from protocol.messages import Grant, Message, message_decoder
from protocol.operations import Assign, Signature
from protocol.snapshots import (
    Challenge,
    ChallengeAnswer,
    Keep,
    Kept,
    Manifest,
    NotKept,
    Pack,
    PackHolders,
    Release,
    Renew,
    SnapshotNotice,
    Spread,
    SpreadDone,
    StandBy,
    StandbyChange,
    StandDown,
    receipt,
)
from protocol.units import HOUR, MIB, Digest
from storage.holder import PENDING_MAX, PROOFS_MAX
from tests.failures.village import CHAIN, Village
from tests.failures.villager import Villager


class Siege:
    """An honest job under way, and a hostile peer, the last of all."""

    def __init__(self) -> None:
        self.village = Village(14)
        self.record: JobRecord = self.village.submit(40, every=5)
        assert self.village.run(60, lambda: self.step >= 5)
        self.worker = self.village.worker(self.record)
        standby = self.village.standby(self.record)
        assert standby is not None
        self.standby = standby
        self.stranger = next(one for one in reversed(list(self.village.people.values())) if not one.executions)
        self.holder = next(
            one
            for one in self.village.people.values()
            if one.vault.holder.usage.shards and one not in (self.worker, self.standby, self.stranger)
        )

    @property
    def step(self) -> int:
        return self.village.record(self.record.job).chunks[0].step

    def attack(self, target: Villager, *messages: Message) -> None:
        """As the wire would bring them: what it cannot carry never arrives."""
        for message in messages:
            try:
                self.village.send(
                    self.stranger.name,
                    target.name,
                    wire.decode(wire.encode(message), message_decoder, self.stranger.id),
                )
            except RemoteViolation as violation:
                target.errors.append(violation)

    def pack(self) -> Pack:
        lease = next(iter(self.worker.machines.provider.leases.values()))
        return self.worker.vault.protector.snapshots(lease.task)[-1].packs[0].pack

    def goes_on(self) -> None:
        """The job ends at its first provider, with later snapshots than before; then the ledger's rules hold."""
        before = self.step
        assert self.village.run(20, lambda: self.step > before), "no snapshot became durable under attack"
        self.village.until_done(self.record)
        assert self.village.begun() == [0]

    def named(self, target: Villager, code: str) -> int:
        """Violations that name the hostile peer."""
        found = [one for one in target.errors if isinstance(one, RemoteViolation) and one.peer == self.stranger.id]
        return sum(1 for one in found if one.code == code)


@pytest.fixture
def siege() -> Siege:
    return Siege()


# ── floods ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_flood_of_keeps_beyond_every_quota(siege: Siege) -> None:
    """Each names a shard that does not exist: what is promised is bounded by number, bytes and owner."""
    until = siege.village.now + HOUR
    sources = (siege.stranger.id,)
    floods = [Keep(index.to_bytes(32, "big"), 200 * MIB, until, "rolling", sources) for index in range(1, 2_500)]
    before = siege.holder.vault.holder.usage
    tracemalloc.start()
    siege.attack(siege.holder, *floods)
    siege.village.run(4)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert siege.holder.vault.holder.usage.used <= before.used + 100_000
    assert len(siege.holder.vault.holder._coming) <= PENDING_MAX
    assert grown < 64 * MIB
    siege.goes_on()


def test_a_flood_of_shards_that_exist_fills_half_at_most() -> None:
    """A greedy owner with all the bandwidth there is leaves half of every quota to others."""
    siege = Siege()
    small = 3_000_000
    siege.holder.vault.holder._book.quota = small
    blobs = {wire.digest(index.to_bytes(8, "big") * 1_000): index.to_bytes(8, "big") * 1_000 for index in range(600)}
    siege.stranger.blobs.update(blobs)
    until = siege.village.now + HOUR
    siege.attack(siege.holder, *(Keep(one, 8_000, until, "rolling", (siege.stranger.id,)) for one in blobs))
    siege.village.run(10)
    assert siege.holder.vault.holder.usage.used <= small // 2 + 200_000
    siege.goes_on()


def test_a_spread_of_a_terabyte(siege: Siege) -> None:
    shards = tuple(index.to_bytes(32, "big") for index in range(1, 15))
    huge = Pack(1 << 40, (1 << 40) // 8, "rs", 8, 14, shards)
    until = siege.village.now + HOUR
    where = (bytes(32), 0, 1)
    siege.attack(siege.standby, Spread(*where, huge, until))
    impossible = msgspec.structs.replace(huge, shard_size=1)
    siege.attack(siege.standby, Spread(*where, impossible, until))
    siege.village.run(2)
    assert siege.standby.vault.holder._hot.waiting(siege.stranger.id) == 0
    assert siege.named(siege.standby, "malformed") == 1
    siege.goes_on()


def test_a_flood_of_challenges(siege: Siege) -> None:
    """About shards of others: answered with nothing. About its own: so many at once, the rest is refused."""
    siege.stranger.blobs[shard := wire.digest(b"x" * 500_000)] = b"x" * 500_000
    siege.attack(siege.holder, Keep(shard, 500_000, siege.village.now + HOUR, "rolling", (siege.stranger.id,)))
    siege.village.run(2)
    nonces = [index.to_bytes(32, "big") for index in range(500)]
    siege.attack(siege.holder, *(Challenge(shard, nonce, (0,) * 8, 65_536) for nonce in nonces))
    siege.attack(siege.holder, *(Challenge(siege.pack().shards[0], nonce, (0,), 64) for nonce in nonces))
    siege.attack(siege.holder, Challenge(shard, bytes(32), (1 << 40,), 64))
    siege.village.run(0.05)
    assert all(count <= PROOFS_MAX for count in siege.holder.vault.holder._proving.values())
    siege.village.run(2)
    assert siege.named(siege.holder, "malformed") == 1
    siege.goes_on()


def test_answers_that_nobody_asked_for(siege: Siege) -> None:
    """Of every kind: they change nothing, and nothing grows."""
    pack, name = siege.pack(), siege.pack().shards[0]
    forged = Kept(name, pack.shard_size, siege.village.now + HOUR, Signature(siege.stranger.id, bytes(64)))
    own = receipt(siege.stranger.identity, CHAIN, name, pack.shard_size, siege.village.now + HOUR)
    stranger = receipt(siege.stranger.identity, CHAIN, bytes(32), 5, siege.village.now + HOUR)
    flood: list[Message] = [
        forged,
        own,
        stranger,
        NotKept(name, "full", "none"),
        SpreadDone(name, ""),
        SpreadDone(name, "too_large"),
        ChallengeAnswer(name, bytes(32), bytes(32)),
        Release((name,)),
        Renew((name,), siege.village.now + HOUR),
    ]
    before = siege.worker.vault.protector.snapshots(next(iter(siege.worker.machines.provider.leases.values())).task)[
        -1
    ].packs[0]
    held = {index: set(peers) for index, peers in before.receipts.items()}
    its = {index for index, peers in held.items() if siege.stranger.id in peers}
    for target in (siege.worker, siege.standby, siege.holder):
        siege.attack(target, *flood * 50)
    siege.village.run(1)
    assert {index for index, peers in before.receipts.items() if siege.stranger.id in peers} == its
    assert all(set(before.receipts.get(index, {})) >= peers for index, peers in held.items())
    siege.goes_on()


# ── lies about a job ─────────────────────────────────────────────────────────────────────────────────────────────────
def notice_of(siege: Siege) -> SnapshotNotice:
    return siege.village.notices[-1][1]


def forgeries(siege: Siege) -> dict[str, SnapshotNotice]:
    """Notices that would move a chunk's restore point, if they were believed."""
    honest = notice_of(siege)
    manifest = msgspec.msgpack.decode(honest.body, type=Manifest)
    later = wire.encode(msgspec.structs.replace(manifest, number=manifest.number + 100, step=39))
    mine = Signature(siege.stranger.id, siege.stranger.identity.sign(wire.signing_bytes(CHAIN, "snapshot", later)))
    return {
        "replayed by a stranger": honest,
        "signed by a stranger": SnapshotNotice(later, mine, honest.holders),
        "under the worker's name": SnapshotNotice(later, Signature(siege.worker.id, mine.signature), honest.holders),
        "no manifest": SnapshotNotice(b"\xc1" * 32_768, mine, ()),
        "oversized": SnapshotNotice(bytes(32_769), mine, ()),
        "without holders": SnapshotNotice(honest.body, honest.signature, ()),
        "receipts of nobody": SnapshotNotice(later, mine, (PackHolders(()),)),
    }


@pytest.mark.parametrize(
    "kind",
    [
        "replayed by a stranger", "signed by a stranger", "under the worker's name", "no manifest", "oversized",
        "without holders", "receipts of nobody",
    ],
)  # fmt: skip
def test_a_snapshot_notice_from_a_stranger(siege: Siege, kind: str) -> None:
    before = siege.step
    for target in (siege.village["steward"], siege.standby, siege.worker):
        siege.attack(target, *[forgeries(siege)[kind]] * 20)
    siege.village.run(0.2)
    chunk = siege.village.record(siege.record.job).chunks[0]
    assert chunk.step <= before + 5
    assert chunk.snapshot_number < 100
    siege.goes_on()


def test_a_manifest_rolled_back_by_its_own_worker_or_by_a_restarted_steward(siege: Siege) -> None:
    """The oldest notice again, in the worker's name, before and after the steward's restart."""
    oldest = siege.village.notices[0][1]
    siege.village.run(10)
    number = siege.village.record(siege.record.job).chunks[0].snapshot_number
    assert number >= 3
    siege.village.send(siege.worker.name, "steward", oldest)
    siege.village.run(1)
    siege.village.restart("steward")
    siege.village.send(siege.worker.name, "steward", oldest)
    siege.village.run(1)
    assert siege.village.record(siege.record.job).chunks[0].snapshot_number >= number
    siege.goes_on()


def test_orders_to_stand_by_from_a_stranger(siege: Siege) -> None:
    """To stand by, to stand down, and to take another standby: only the steward of the job is obeyed."""
    record, me = siege.record, siege.stranger.id
    where = (record.job, record.escrow, 0, 1)
    parked = set(siege.standby.parked)
    lease = next(iter(siege.worker.machines.provider.leases.values()))
    orders: list[Message] = [
        StandBy(*where, me, (), (me,)),
        StandBy(bytes(16), bytes(32), 0, 1, me, (), (me,)),
        StandDown(record.job, 0, 1),
        StandbyChange(record.job, 0, 1, (me,)),
        StandbyChange(record.job, 0, 1),
    ]
    for target in (siege.standby, siege.holder, siege.worker):
        siege.attack(target, *orders)
    siege.village.run(1)
    assert siege.standby.parked == parked and len(parked) == 1
    assert siege.holder.parked == set()
    assert lease.standby == siege.standby.id
    siege.goes_on()


def grant(siege: Siege, secret: bytes, resume: tuple[SnapshotNotice, ...] = ()) -> Grant:
    """A lease for the standby, signed by the stranger as if it were the steward."""
    known = next(iter(siege.worker.machines.provider.leases.values())).assign
    assign: Assign = msgspec.structs.replace(known, provider=siege.standby.id, epoch=2)
    return Grant(
        siege.record.job, operations.signed_op(CHAIN, assign, siege.stranger.identity), (), (), (), secret, resume
    )


def boxed(siege: Siege) -> bytes:
    assign = grant(siege, b"").assign
    return secret_box.seal(siege.stranger.identity, siege.standby.id, assign.op_id, b"m" * 32)


SECRETS: dict[str, Callable[[Siege], bytes]] = {
    "no secret": lambda _: b"",
    "a box of the stranger's": boxed,
    "a box for somebody else": lambda siege: secret_box.seal(
        siege.stranger.identity, siege.holder.id, Digest(bytes(32)), b"m" * 32
    ),
}


@pytest.mark.parametrize("kind", list(SECRETS))
def test_a_grant_with_a_foreign_secret_box(siege: Siege, kind: str) -> None:
    siege.attack(siege.standby, grant(siege, SECRETS[kind](siege)))
    siege.village.run(1)
    assert not siege.standby.machines.provider.leases
    siege.goes_on()


def test_a_steward_s_own_grant_whose_box_does_not_open(siege: Siege) -> None:
    """The real steward's signature around a box that was made for another: a violation that names the steward."""
    village, steward = siege.village, siege.village["steward"]
    known = next(iter(siege.worker.machines.provider.leases.values())).assign
    assign: Assign = msgspec.structs.replace(known, provider=siege.standby.id, epoch=2)
    signed = operations.signed_op(CHAIN, assign, steward.identity)
    foreign = secret_box.seal(steward.identity, siege.holder.id, signed.op_id, b"m" * 32)
    village.send("steward", siege.standby.name, Grant(siege.record.job, signed, (), (), (), foreign))
    village.run(1)
    found = [one for one in siege.standby.errors if isinstance(one, RemoteViolation) and one.peer == steward.id]
    assert found, siege.standby.errors
    siege.goes_on()


# ── hostages ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_shards_withheld_when_they_are_needed(siege: Siege) -> None:
    """Six of fourteen holders gave receipts, pass every audit, and hand nothing out when the worker is dead."""
    village, pack = siege.village, siege.pack()
    hold = [one for one in village.people.values() if one not in (siege.worker, siege.standby)]
    hostile = [one for one in hold if any(Digest(shard) in one.blobs for shard in pack.shards)][:3]
    for one in hostile:
        one.serves = False
    before = siege.step
    village.kill(siege.worker.name)
    village.kill(siege.standby.name)
    assert village.run(90, lambda: any(first >= before for first in village.begun()[1:]))
    village.until_done(siege.record)


def test_a_job_s_neighbours_are_not_told_its_secret(siege: Siege) -> None:
    """A holder and a watcher see ciphertext: no message or record of theirs holds the secret or the state."""
    lease = next(iter(siege.worker.machines.provider.leases.values()))
    for one in siege.village.people.values():
        if one is not siege.worker:
            assert lease.secret not in b"".join([*one.records.values(), *one.blobs.values()])
