"""Who goes on when a worker is lost: what a steward believes of snapshots, and whom it lets wait."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from protocol import operations, secret_box, succession, wire
from protocol.effects import Emit, Send
from protocol.errors import RemoteViolation
from protocol.identity import Identity
from protocol.job_record import ChunkRecord, JobRecord
from protocol.jobspec import Checkpoint, Chunk, JobSpec
from protocol.messages import Grant
from protocol.operations import Assign, Signature
from protocol.snapshots import (
    Kept,
    Manifest,
    Pack,
    PackHolders,
    SnapshotNotice,
    StandBy,
    StandbyChange,
    StandDown,
    receipt,
)
from protocol.succession import STANDBY_AFTER, TOLD_AGAIN, Succession
from protocol.units import SECOND, Micros, PeerId

NETWORK = "test"
STEWARD, WORKER, OTHER, *HOLDERS = (Identity(bytes([number]) * 32) for number in range(1, 8))
SPEC = JobSpec(
    name="job", runtime="python", commands=("true",), chunks=(Chunk(),), checkpoint=Checkpoint(every=Micros(SECOND))
)
ESCROW, SHARD = bytes([9]) * 32, bytes([7]) * 32
PACK = Pack(100, 100, "copy", 1, 3, (SHARD,))


def record(spec: JobSpec = SPEC) -> JobRecord:
    made = JobRecord(bytes(16), STEWARD.peer, "key", spec, bytes(32), 1, 0, 0, 1, 1, [ChunkRecord(0)], escrow=ESCROW)
    made.chunks[0].provider, made.chunks[0].epoch, made.chunks[0].state = WORKER.peer, 2, "running"
    return made


def manifest(number: int = 1, step: int = 50, **changed: object) -> Manifest:
    made = Manifest(bytes(16), ESCROW, 0, 2, number, step, 0, "framework", 0, 1000, 10, (PACK,))
    return msgspec.structs.replace(made, **changed)


def notice(
    of: Manifest, signer: Identity = WORKER, receipts: tuple[tuple[int, Kept], ...] | None = None
) -> SnapshotNotice:
    body = wire.encode(of)
    signature = Signature(signer.peer, signer.sign(wire.signing_bytes(NETWORK, "snapshot", body)))
    given = receipts
    if given is None:
        given = tuple((index, receipt(holder, NETWORK, SHARD, 100, 10**12)) for index, holder in enumerate(HOLDERS[:2]))
    return SnapshotNotice(body, signature, (PackHolders(given),) * len(of.packs))


def assign(epoch: int = 2, provider: Identity = WORKER) -> Assign:
    return Assign(ESCROW, 0, epoch, provider.peer, 10, 10, 10**12, 10**13, (STEWARD.peer, OTHER.peer))


def live(gone: Callable[[PeerId], bool] = lambda peer: False) -> succession.Live:
    return {0: (assign(), Micros(0), gone)}


def test_a_durable_snapshot_is_remembered_and_told() -> None:
    job = record()
    (told,) = Succession(job, STEWARD, NETWORK).noticed(WORKER.peer, notice(manifest()))
    assert isinstance(told, Emit) and told.name == "snapshot" and told.fields["step"] == 50
    assert (job.chunks[0].step, job.chunks[0].snapshot_number, job.chunks[0].is_protected) == (50, 1, False)


@pytest.mark.parametrize(
    ("made", "sender"),
    [
        (manifest(number=1, step=50), WORKER),  # Once more.
        (manifest(number=2, step=49), WORKER),  # Further back.
        (manifest(number=2, epoch=1), WORKER),  # Of an epoch that was fenced.
        (manifest(number=2, escrow=bytes(32)), WORKER),
        (manifest(number=2), OTHER),  # Signed by who does not hold the lease.
    ],
)
def test_what_is_old_or_not_its_own_changes_nothing(made: Manifest, sender: Identity) -> None:
    job = record()
    known = Succession(job, STEWARD, NETWORK)
    known.noticed(WORKER.peer, notice(manifest()))
    before = wire.encode(job)
    assert known.noticed(sender.peer, notice(made, sender)) == []
    assert wire.encode(job) == before


def test_more_receipts_for_the_same_snapshot_are_kept() -> None:
    """A cold restore must know every holder, not only those that made it durable."""
    job = record()
    known = Succession(job, STEWARD, NETWORK)
    known.noticed(WORKER.peer, notice(manifest()))
    three = tuple((index, receipt(holder, NETWORK, SHARD, 100, 10**12)) for index, holder in enumerate(HOLDERS[:3]))
    (told,) = known.noticed(WORKER.peer, notice(manifest(), receipts=three))
    assert isinstance(told, Emit) and (told.name, told.fields["receipts"]) == ("snapshot_held", 3)
    assert known.noticed(WORKER.peer, notice(manifest())) == []  # Fewer.
    assert known.noticed(WORKER.peer, notice(manifest(taken=7), receipts=three)) == []  # Another manifest.
    newest = known.newest(job.chunks[0])
    assert newest is not None and newest[1].step == 50


def test_who_had_to_begin_again_is_believed() -> None:
    """The old shards were gone: what the next worker keeps is all there is."""
    job = record()
    known = Succession(job, STEWARD, NETWORK)
    known.noticed(WORKER.peer, notice(manifest()))
    job.chunks[0].epoch = 3
    assert known.noticed(WORKER.peer, notice(manifest(number=0, step=10, epoch=3)))
    assert job.chunks[0].step == 10


def forged() -> Kept:
    real = receipt(HOLDERS[0], NETWORK, SHARD, 100, 10**12)
    return msgspec.structs.replace(real, signature=Signature(HOLDERS[1].peer, real.signature.signature))


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (notice(manifest(), OTHER), "bad_signature"),
        (notice(manifest(), receipts=()), "not_durable"),
        (notice(manifest(), receipts=((0, forged()),)), "not_durable"),
        (notice(manifest(), receipts=((5, receipt(HOLDERS[0], NETWORK, SHARD, 100, 1)),)), "not_durable"),
        (notice(manifest(), receipts=((0, receipt(HOLDERS[0], NETWORK, bytes(32), 100, 1)),)), "not_durable"),
        (msgspec.structs.replace(notice(manifest()), holders=()), "malformed"),
        (notice(manifest(chunk=1)), "malformed"),
        (msgspec.structs.replace(notice(manifest()), body=b"\xc1"), "bad_signature"),
    ],
)
def test_a_notice_that_proves_nothing_is_the_workers_fault(bad: SnapshotNotice, code: str) -> None:
    job = record()
    before = wire.encode(job)
    with pytest.raises(RemoteViolation) as caught:
        Succession(job, STEWARD, NETWORK).noticed(WORKER.peer, bad)
    assert (caught.value.peer, caught.value.code) == (WORKER.peer, code)
    assert wire.encode(job) == before


def test_a_grant_carries_the_secret_for_one_peer_and_where_to_go_on() -> None:
    job = record()
    known = Succession(job, STEWARD, NETWORK)
    op = operations.signed_op(NETWORK, assign(3, OTHER), STEWARD)
    first = known.fill(job.chunks[0], Grant(bytes(16), op), OTHER.peer)
    assert first.resume == ()
    known.noticed(WORKER.peer, notice(manifest()))
    second = known.fill(job.chunks[0], Grant(bytes(16), op), OTHER.peer)
    resume = succession.resume_of(STEWARD.peer, second)
    assert resume is not None and resume.manifest.step == 50
    assert resume.holders == (((0, HOLDERS[0].peer), (1, HOLDERS[1].peer)),)
    secret = secret_box.unseal(OTHER, STEWARD.peer, op.op_id, second.secret)
    assert secret == succession.job_secret(STEWARD, job.job) and len(secret) == 32
    assert succession.job_secret(STEWARD, b"another") != secret != succession.job_secret(OTHER, job.job)


def test_a_job_without_snapshots_gets_neither() -> None:
    job = record(msgspec.structs.replace(SPEC, checkpoint=Checkpoint(is_on=False)))
    known = Succession(job, STEWARD, NETWORK)
    op = operations.signed_op(NETWORK, assign(), STEWARD)
    assert known.fill(job.chunks[0], Grant(bytes(16), op), WORKER.peer) == Grant(bytes(16), op)
    assert known.tick(live(), lambda lease: OTHER.peer, Micros(10 * SECOND)) == []


def test_a_wrong_result_takes_its_snapshots_with_it() -> None:
    job = record()
    known = Succession(job, STEWARD, NETWORK)
    known.noticed(WORKER.peer, msgspec.structs.replace(notice(manifest()), is_rehearsed=True))
    assert job.chunks[0].is_protected
    known.distrust(job.chunks[0])
    assert (job.chunks[0].snapshot, job.chunks[0].step, job.chunks[0].is_protected) == (b"", 0, False)


def test_the_standby_is_told_once_the_lease_has_lived_and_told_again() -> None:
    known = Succession(record(), STEWARD, NETWORK)
    known.choose(0, OTHER.peer, WORKER.peer)
    assert known.tick(live(), lambda lease: None, Micros(STANDBY_AFTER - 1)) == []
    (order,) = known.tick(live(), lambda lease: None, STANDBY_AFTER)
    assert isinstance(order, Send) and order.peer == OTHER.peer and isinstance(order.message, StandBy)
    assert known.tick(live(), lambda lease: None, Micros(STANDBY_AFTER + TOLD_AGAIN - 1)) == []
    assert len(known.tick(live(), lambda lease: None, Micros(STANDBY_AFTER + TOLD_AGAIN))) == 1


def test_a_standby_that_is_gone_is_replaced_and_the_worker_hears_of_it() -> None:
    known = Succession(record(), STEWARD, NETWORK)
    known.choose(0, OTHER.peer, WORKER.peer)
    known.tick(live(), lambda lease: None, STANDBY_AFTER)
    next_one = HOLDERS[0].peer
    told, order = known.tick(live(lambda peer: peer == OTHER.peer), lambda lease: next_one, Micros(3 * SECOND))
    assert told == Send(WORKER.peer, StandbyChange(bytes(16), 0, 2, (next_one,)))
    assert isinstance(order, Send) and order.peer == next_one and known.standby(0) == next_one
    (nobody,) = known.tick(live(lambda peer: True), lambda lease: None, Micros(4 * SECOND))
    assert nobody == Send(WORKER.peer, StandbyChange(bytes(16), 0, 2, ()))


def test_who_takes_over_is_not_sent_home() -> None:
    known = Succession(record(), STEWARD, NETWORK)
    known.choose(0, OTHER.peer, WORKER.peer)
    known.tick(live(), lambda lease: None, STANDBY_AFTER)
    assert known.choose(0, HOLDERS[0].peer, OTHER.peer) == []
    assert known.standby(0) == HOLDERS[0].peer


def test_who_waits_in_vain_is_sent_home() -> None:
    known = Succession(record(), STEWARD, NETWORK)
    known.choose(0, OTHER.peer, WORKER.peer)
    assert known.ended(0) == []  # It was never told.
    known.choose(0, OTHER.peer, WORKER.peer)
    known.tick(live(), lambda lease: None, STANDBY_AFTER)
    assert known.ended(0) == [Send(OTHER.peer, StandDown(bytes(16), 0, 2))]
    assert known.standby(0) is None
