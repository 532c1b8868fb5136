"""A chunk in units that changes hands: who goes on names who answers for the units before, and shows their traces."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import UNSET

from protocol import wire
from protocol.effects import Send
from protocol.errors import Refused, RemoteViolation
from protocol.identity import Identity
from protocol.job_record import JobRecord
from protocol.jobspec import Checkpoint, JobSpec
from protocol.messages import PrefixOpened, PrefixRequest
from protocol.operations import Claim, Inherited, Signature
from protocol.prefix import root_of, sign_prefix
from protocol.proof import Trace
from protocol.provider_trace import PREFIXES_MAX, LeaseTrace, committed
from protocol.snapshots import Manifest, Pack, PackHolders, SnapshotNotice, receipt
from protocol.trace import decode_trace
from protocol.units import SECOND, Digest, Micros, PeerId
from simulations import units
from tests.protocol.test_steward import MakeTown, finish, start
from tests.protocol.test_unit_jobs import UNITS, unit_spec
from tests.protocol.town import CHAIN, Town
from tests.verifier.test_trace import trace
from verifier.trace import check_opening

PROTECTED = msgspec.structs.replace(unit_spec(samples=UNITS), checkpoint=Checkpoint(every=Micros(SECOND)))
DONE = 3
PACK = Pack(100, 100, "copy", 1, 3, (bytes([7]) * 32,))
JUDGE, OTHER, ME = (PeerId(bytes([number]) * 32) for number in (1, 2, 3))


# ── what is shown ────────────────────────────────────────────────────────────────────────────────────────────────────
def kept(*prefixes: tuple[int, int]) -> tuple[LeaseTrace, Trace, dict[Digest, bytes]]:
    mine = trace(40)
    body = wire.encode(mine)
    inherited = tuple(Inherited(epoch, done, root_of(mine, done), bytes(64)) for epoch, done in prefixes)
    blobs = {wire.digest(body): body}
    return committed(wire.digest(body), 40, ME, blobs.__getitem__, inherited), mine, blobs


def asked(epoch: int, index: int) -> PrefixRequest:
    return PrefixRequest(b"e" * 32, 0, 9, epoch, index)


def test_two_leaves_of_what_an_earlier_lease_committed_to() -> None:
    mine, whole, blobs = kept((2, 5), (4, 30))
    for epoch, done, index in ((2, 5, 0), (2, 5, 4), (4, 30, 4), (4, 30, 29)):
        shown = mine.prefix(JUDGE, asked(epoch, index), blobs.__getitem__)
        before = check_opening(root_of(whole, done), done, shown.before)
        after = check_opening(root_of(whole, done), done, shown.after)
        assert before == whole.leaves[index]
        assert (after.index, after.state) == (index + 1, whole.leaves[index + 1].state)


@pytest.mark.parametrize(("epoch", "index"), [(3, 0), (2, 5), (4, 30)])
def test_nothing_else_is_shown(epoch: int, index: int) -> None:
    mine, _, blobs = kept((2, 5), (4, 30))
    with pytest.raises(RemoteViolation) as caught:
        mine.prefix(JUDGE, asked(epoch, index), blobs.__getitem__)
    assert caught.value.code == "out_of_range"


def test_a_validator_sees_so_many_units_and_no_more() -> None:
    mine, _, blobs = kept((4, 30))
    for index in range(PREFIXES_MAX):
        mine.prefix(JUDGE, asked(4, index), blobs.__getitem__)
    mine.prefix(JUDGE, asked(4, 0), blobs.__getitem__)  # Once more costs nothing.
    with pytest.raises(RemoteViolation) as caught:
        mine.prefix(JUDGE, asked(4, PREFIXES_MAX), blobs.__getitem__)
    assert caught.value.code == "too_many"
    mine.prefix(OTHER, asked(4, PREFIXES_MAX), blobs.__getitem__)


def test_a_trace_that_does_not_begin_with_what_it_inherited_is_not_claimed() -> None:
    mine = trace(9)
    body = wire.encode(mine)
    other = Inherited(1, 4, root_of(trace(9, salt=1), 4), bytes(64))
    with pytest.raises(Refused) as caught:
        committed(wire.digest(body), 9, ME, {wire.digest(body): body}.__getitem__, (other,))
    assert caught.value.code == "no_trace"


# ── among real machines ──────────────────────────────────────────────────────────────────────────────────────────────
def notice(worker: Identity, manifest: Manifest, holder: Identity) -> SnapshotNotice:
    body = wire.encode(manifest)
    signature = Signature(worker.peer, worker.sign(wire.signing_bytes(CHAIN, "snapshot", body)))
    return SnapshotNotice(body, signature, (PackHolders(((0, receipt(holder, CHAIN, PACK.shards[0], 100, 2**60)),)),))


def saved(town: Town, record: JobRecord, name: str, *, done: int = DONE, signer: str = "") -> Manifest:
    """What a worker says of its first units; signed by another, it is a lie."""
    run = next(run for run in reversed(town.citizens[name].runs) if run.lease is not None)
    assert run.lease is not None
    made = units.execute(run)
    whole = decode_trace(made.blobs[made.trace], PeerId(bytes(32)))
    identity = town.citizens[signer or name].identity
    before = (run.resume.manifest.inherited or ()) if run.resume is not None else ()
    own = sign_prefix(identity, CHAIN, *run.lease, done, root_of(whole, done), before)
    return Manifest(record.job, *run.lease, 1, done, 0, "application", 0, 1000, 10, (PACK,), inherited=(*before, own))


def lost(town: Town, record: JobRecord, manifest: Manifest) -> str:
    """The worker tells of a snapshot, and dies; who goes on."""
    name, epoch = town.name(PeerId(record.chunks[0].provider)), record.chunks[0].epoch
    worker = town.citizens[name]
    town.give("steward", worker.identity.peer, notice(worker.identity, manifest, town.citizens["validator"].identity))
    town.run(lambda: record.chunks[0].snapshot_epoch == epoch, 5)
    worker.is_dead = True
    town.run(lambda: record.chunks[0].epoch > epoch and record.chunks[0].state == "running", 60)
    return town.name(PeerId(record.chunks[0].provider))


def begun(make_town: MakeTown, spec: JobSpec = PROTECTED) -> tuple[Town, JobRecord, str]:
    town = make_town(providers=3, auditors=2)
    for citizen in town.citizens.values():
        citizen.seconds = 20.0
    record = start(town, spec)
    town.run(lambda: record.chunks[0].state == "running", 30)
    return town, record, town.name(PeerId(record.chunks[0].provider))


def claim(town: Town, record: JobRecord) -> Claim:
    """The ordered claim of the chunk's last lease."""
    citizen = town.citizens[town.name(PeerId(record.chunks[0].provider))]

    def is_ordered() -> bool:
        return any(lease.phase in ("claimed", "revealed") for lease in citizen.provider.leases.values())

    town.run(is_ordered, 60)
    (lease,) = citizen.provider.leases.values()
    return lease.claim(citizen.identity)


def test_who_goes_on_names_both_before_it_and_is_paid(make_town: MakeTown) -> None:
    town, record, first = begun(make_town)
    second = lost(town, record, saved(town, record, first))
    resumed = next(run for run in town.citizens[second].runs if run.lease is not None)
    assert resumed.resume is not None and resumed.resume.manifest.step == DONE
    third = lost(town, record, saved(town, record, second, done=5))
    made = claim(town, record)
    assert [(item.epoch, item.units) for item in made.inherited or ()] == [(1, DONE), (2, 5)]
    assert_shown(town, third, made)
    finish(town, record)
    assert (record.state, record.chunks[0].code) == ("settled", "units_equal")


def assert_shown(town: Town, name: str, made: Claim) -> None:
    provider, validator = town.citizens[name].provider, town.citizens["validator"].identity.peer
    assert isinstance(made.inherited, tuple)
    for item in made.inherited:
        request = PrefixRequest(made.escrow, made.chunk, made.epoch, item.epoch, item.units - 1)
        (sent,) = provider.receive(validator, request, town.now)
        assert isinstance(sent, Send) and sent.peer == validator and isinstance(sent.message, PrefixOpened)
        check_opening(Digest(item.root), item.units, sent.message.before)
        check_opening(Digest(item.root), item.units, sent.message.after)
        with pytest.raises(RemoteViolation) as caught:
            provider.receive(town.citizens["steward"].identity.peer, request, town.now)
        assert caught.value.code == "out_of_turn"


def test_a_steward_believes_no_snapshot_for_whose_units_its_worker_did_not_sign(make_town: MakeTown) -> None:
    town, record, first = begun(make_town)
    worker, holder = town.citizens[first].identity, town.citizens["validator"].identity
    right = saved(town, record, first)
    own = (right.inherited or ())[0]
    for inherited in (
        UNSET,
        (msgspec.structs.replace(own, units=DONE + 1),),
        saved(town, record, first, signer="steward").inherited,
        (msgspec.structs.replace(own, epoch=2),),
        (msgspec.structs.replace(own, units=1), own),
    ):
        bent = msgspec.structs.replace(right, inherited=inherited)
        faults = len(town.citizens["steward"].faults)
        town.give("steward", worker.peer, notice(worker, bent, holder))
        town.run(lambda faults=faults: len(town.citizens["steward"].faults) > faults, 5)  # type: ignore[misc]
        assert town.citizens["steward"].faults[-1].code == "bad_inheritance"
    assert record.chunks[0].snapshot == b""


def test_a_provider_begins_again_where_a_former_one_did_not_sign(make_town: MakeTown) -> None:
    """Its steward says so: the ledger knows whose lease it was."""
    town, record, first = begun(make_town)
    manifest = saved(town, record, first)
    forged = saved(town, record, first, signer="steward")
    chunk = record.chunks[0]
    worker, holder = town.citizens[first], town.citizens["validator"].identity
    town.give("steward", worker.identity.peer, notice(worker.identity, manifest, holder))
    town.run(lambda: chunk.snapshot != b"", 5)
    chunk.snapshot = wire.encode(notice(worker.identity, forged, holder))
    worker.is_dead = True
    town.run(lambda: chunk.epoch == 2 and chunk.state == "running", 60)
    second = town.citizens[town.name(PeerId(chunk.provider))]
    assert "did not sign" in str(next(event.fields["why"] for event in second.events if event.name == "began_again"))
    assert [run.resume for run in second.runs if run.lease is not None] == [None]
    assert claim(town, record).inherited is UNSET
