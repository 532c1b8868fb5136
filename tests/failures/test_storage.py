"""Holders vanish, rot, fill up and lie; packs and manifests are damaged field by field. What was durable stays.

Machine-level tests of single rules are in tests/storage; docs/failures.md says which failure is tested where.
"""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import wire
from protocol.errors import RemoteViolation
from protocol.identity import Identity
from protocol.operations import Inherited, Signature
from protocol.snapshots import Manifest, Pack, PackHolders, SnapshotNotice
from protocol.succession import check_notice
from protocol.units import HOUR, MINUTE, SECOND, Digest
from storage import records
from storage.cutting import Part
from storage.erasure import ANCHOR, NUMPY, Code
from storage.ids import Place
from storage.pipeline import seal
from storage.receipts import Custody
from tests.storage.vault_town import NETWORK, Member, Town

STATE = 30_000


def durable(town: Town, step: int = 20) -> tuple[Member, Member, Manifest, SnapshotNotice]:
    """(worker, steward, newest durable manifest, its notice) of a chunk that runs."""
    worker, standby, steward = town.all[:3]
    lease = town.begin(worker, standby, steward)
    assert town.run(4 * MINUTE, lambda: lease.durable_step >= step)
    town.run(5 * SECOND)
    manifest = town.newest(steward, worker)
    assert manifest is not None
    return worker, steward, manifest, steward.notices[-1][1]


# ── many at once ─────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("seed", range(4))
def test_forty_percent_of_holders_gone_at_once_beside_the_worker(seed: int) -> None:
    town = Town(40, seed=seed)
    worker, _, manifest, _ = durable(town)
    worker.is_up = False
    pack = manifest.packs[0]
    holders = [one for one in town.all if one.is_up and any(town.has(one, pack, at) for at in range(pack.n))]
    for one in town.dice.sample(holders, len(holders) * 2 // 5):
        one.is_up = False
    assert town.reachable(pack) >= pack.k


def test_a_whole_sixteenth_of_the_address_space_is_gone() -> None:
    """A region's provider fails: peers of one /16 hold too little of any pack to matter."""
    town = Town(3)
    for number in range(12):
        town.add(200 + number, f"/ip4/77.7.{number}.1/udp/1/quic-v1")
    for number in range(12):
        town.add(300 + number)
    worker, _, manifest, _ = durable(town)
    assert manifest.packs[0].k > 1
    worker.is_up = False
    for one in town.members.values():
        if one.addresses[0].startswith("/ip4/77.7."):
            one.is_up = False
    assert all(town.reachable(pack) >= pack.k for pack in manifest.packs)


def test_holders_with_full_disks_are_passed_over() -> None:
    town = Town(30)
    for one in town.all[3:]:
        if one.id[0] % 3 == 0:
            one.disk = 0
    worker, _, manifest, _ = durable(town)
    assert town.reachable(manifest.packs[0]) >= manifest.packs[0].k
    assert worker.errors == []


def test_the_worker_s_disk_is_full_for_a_while() -> None:
    """Each cut fails in words; the last durable snapshot stays; when there is room again it goes on."""
    town = Town(20)
    worker, steward, manifest, _ = durable(town)
    worker.cut_fails = "a snapshot of 4000 bytes does not fit: 0 bytes are free on the node's disk"
    town.run(3 * MINUTE)
    assert town.newest(steward, worker) == manifest
    assert "0 bytes are free" in str(worker.emitted("snapshot_failed")[-1].fields["reason"])
    assert town.reachable(manifest.packs[0], frozenset([worker.id])) >= manifest.packs[0].k
    worker.cut_fails = ""
    assert town.run(6 * MINUTE, lambda: (town.newest(steward, worker) or manifest).step > manifest.step)


def test_holders_that_always_refuse_do_not_keep_a_chunk_unprotected() -> None:
    """Eleven willing ones would do for 8 of 14; there are nine, and as many whose disks are full: fewer must do."""
    town = Town(12)
    for number in range(9):
        town.add(400 + number).disk = 0
    worker, standby, steward = town.all[:3]
    for one in town.all[10:]:
        one.disk = 0
    lease = town.begin(worker, standby, steward)
    assert town.run(6 * MINUTE, lambda: lease.durable_step > 0), worker.emitted("snapshot_failed")[-1:]


# ── rot and garbage collection ───────────────────────────────────────────────────────────────────────────────────────
@settings(max_examples=3)
@given(st.integers(0, 1 << 20))
def test_whatever_happens_the_newest_durable_snapshot_can_be_had(seed: int) -> None:
    """Peers die, hang, rot and come back in any order, at most (n−k)/2 of those that keep shards at a time: at every
    event k shards can be had, so neither garbage collection nor a repair ever lets go of a live one."""
    town, dice = Town(24, seed=seed % 97), random.Random(seed)
    worker, standby, steward = town.all[:3]
    town.begin(worker, standby, steward)
    assert town.run(2 * MINUTE, lambda: bool(steward.notices))
    harmed: list[Member] = []

    looked = [0]

    def look(town: Town) -> None:
        if town.now < looked[0]:
            return
        looked[0] = town.now + SECOND // 2
        newest = town.newest(steward, worker)
        assert newest is not None
        assert all(town.reachable(pack) >= pack.k for pack in newest.packs), newest.number

    def harm() -> None:
        while len(harmed) > 2:
            healed = harmed.pop(0)
            healed.is_up, healed.is_hung, healed.is_withholding = True, False, False
        one = dice.choice(town.all[3:])
        kind = dice.randrange(4)
        if kind == 3:
            rot(dice, one)
        else:
            setattr(one, ("is_up", "is_hung", "is_withholding")[kind], kind > 0)
        harmed.append(one)
        town.at(dice.randrange(5, 40) * SECOND, harm)

    town.after = look
    town.at(SECOND, harm)
    town.run(6 * MINUTE)


def rot(dice: random.Random, one: Member) -> None:
    """One of its shards is no longer what it was."""
    if one.blobs:
        digest = dice.choice(sorted(one.blobs))
        blob = one.blobs[digest]
        one.blobs[digest] = bytes([blob[0] ^ 1]) + blob[1:]


def test_bit_rot_is_found_by_proofs_and_repaired() -> None:
    """Eleven of twenty disks lose a bit of a pack that is guarded; their owner has no copy of it any more."""
    town = Town(60)
    owner = town.all[0]
    pack = town.put(owner, town.dice.randbytes(STATE), ANCHOR)
    town.command(owner, lambda now: owner.vault.custodian.guard(Custody(pack), "volume", "volume/x", now), 2)
    town.run(5 * MINUTE)
    for shard in pack.shards:
        owner.blobs.pop(Digest(shard), None)
    for one in [one for one in town.all if any(town.has(one, pack, at) for at in range(pack.n))][:11]:
        for digest, blob in one.blobs.items():
            one.blobs[digest] = bytes([blob[0] ^ 1]) + blob[1:]
    assert town.reachable(pack) == pack.n - 11
    assert town.run(3 * HOUR, lambda: town.reachable(pack) >= pack.n - 3)
    assert owner.emitted("holder_lied")


def test_a_pack_that_is_let_go_while_it_is_repaired_leaves_no_litter() -> None:
    """The job ends in the middle of a repair: nothing is made again for nobody."""
    town = Town(26)
    worker, standby, steward = town.all[:3]
    lease = town.begin(worker, standby, steward)
    town.run(12 * MINUTE)
    anchor = next(one for one in worker.vault.protector.snapshots(lease.task) if one.purpose == "anchor")
    pack = anchor.packs[0].pack
    gone = [one for one in town.all[3:] if any(town.has(one, pack, at) for at in range(pack.n))][:10]
    for one in gone:
        one.is_up = False
    town.run(16 * MINUTE)
    lease.output = Digest(bytes(range(32)))
    town.command(worker, lambda now: worker.vault.protector.ended(lease, now))
    town.run(10 * MINUTE)
    assert not any(one.blobs for one in town.all if one.is_up)


# ── every field ──────────────────────────────────────────────────────────────────────────────────────────────────────
def signed(worker: Identity, manifest: Manifest, holders: tuple[PackHolders, ...]) -> SnapshotNotice:
    body = wire.encode(manifest)
    signature = Signature(worker.peer, worker.sign(wire.signing_bytes(NETWORK, "snapshot", body)))
    return SnapshotNotice(body, signature, holders)


def changed_pack(pack: Pack, field: str) -> Pack:
    value = getattr(pack, field)
    if field == "code":
        return msgspec.structs.replace(pack, code="copy" if value == "rs" else "rs")
    if field == "shards":
        return msgspec.structs.replace(pack, shards=tuple(bytes(32 - len(b"x")) + b"x" for _ in value))
    return msgspec.structs.replace(pack, **{field: value + 1})


def change(manifest: Manifest, field: str) -> Manifest:
    """The same manifest with one field that says something else."""
    part, _, inner = field.partition(".")
    if inner:
        return msgspec.structs.replace(manifest, packs=(changed_pack(manifest.packs[0], inner), *manifest.packs[1:]))
    value = getattr(manifest, part)
    if part == "inherited":
        return msgspec.structs.replace(manifest, inherited=(Inherited(1, 1, bytes(32), bytes(64)),))
    if isinstance(value, bytes):
        return msgspec.structs.replace(manifest, **{part: bytes([value[0] ^ 1]) + value[1:]})
    if isinstance(value, str):
        return msgspec.structs.replace(manifest, tier="process")
    if isinstance(value, tuple):
        return msgspec.structs.replace(manifest, packs=value * 2)
    return msgspec.structs.replace(manifest, **{part: value + 1})


FIELDS = [
    *(field.name for field in msgspec.structs.fields(Manifest)),
    *(f"packs.{field.name}" for field in msgspec.structs.fields(Pack)),
]


@pytest.fixture(scope="module")
def honest() -> tuple[Member, SnapshotNotice]:
    worker, _, _, notice = durable(Town(20))
    check_notice(NETWORK, worker.id, notice)
    return worker, notice


@pytest.mark.parametrize("field", FIELDS)
def test_a_manifest_that_was_changed_on_the_way(honest: tuple[Member, SnapshotNotice], field: str) -> None:
    worker, notice = honest
    manifest = change(msgspec.msgpack.decode(notice.body, type=Manifest), field)
    with pytest.raises(RemoteViolation) as violation:
        check_notice(NETWORK, worker.id, msgspec.structs.replace(notice, body=wire.encode(manifest)))
    assert (violation.value.peer, violation.value.code) == (worker.id, "bad_signature")


@pytest.mark.parametrize("field", ["packs", "packs.shard_size", "packs.shards", "packs.k", "packs.n", "packs.code"])
def test_a_worker_that_signs_what_its_receipts_do_not_say(honest: tuple[Member, SnapshotNotice], field: str) -> None:
    """What the steward relies on, it can check by receipts; what is encrypted, the next worker checks when it opens."""
    worker, notice = honest
    manifest = change(msgspec.msgpack.decode(notice.body, type=Manifest), field)
    if field == "packs.k":  # More than there are receipts for.
        manifest = msgspec.structs.replace(manifest, packs=(msgspec.structs.replace(manifest.packs[0], k=14),))
    forged = signed(worker.identity, manifest, tuple(PackHolders(one.receipts[:11]) for one in notice.holders))
    if field == "packs.n":
        check_notice(NETWORK, worker.id, forged)  # One shard more that nobody holds takes nothing away.
        return
    with pytest.raises(RemoteViolation) as violation:
        check_notice(NETWORK, worker.id, forged)
    assert violation.value.peer == worker.id


def test_one_holder_cannot_vouch_for_every_shard(honest: tuple[Member, SnapshotNotice]) -> None:
    """Receipts for duplicate shards count once, however often they are listed."""
    worker, notice = honest
    manifest = msgspec.msgpack.decode(notice.body, type=Manifest)
    one = notice.holders[0].receipts[0]
    forged = signed(worker.identity, manifest, (PackHolders((one,) * 14),))
    with pytest.raises(RemoteViolation, match="1 shards of a pack have receipts"):
        check_notice(NETWORK, worker.id, forged)


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_no_key_ever_meets_a_nonce_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector at the cipher itself, over epochs, snapshots, restarts of the worker and equal contents."""
    used: Counter[tuple[bytes, bytes]] = Counter()
    make = records.aead

    class Detector:
        def __init__(self, cipher: records.CipherName, key: bytes) -> None:
            self._inner, self._key = make(cipher, key), key

        def encrypt_into(self, nonce: bytes, data: object, bound: object, into: object) -> int:
            used[self._key, bytes(nonce)] += 1
            return self._inner.encrypt_into(nonce, data, bound, into)  # type: ignore[arg-type]

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

    monkeypatch.setattr(records, "aead", Detector)
    dice = random.Random(3)
    frozen = dice.randbytes(STATE)
    for epoch, restarts in ((1, 1), (2, 2), (3, 1)):
        for _ in range(restarts):
            known = None
            for number in range(1, 4):
                # A worker that was started again within an epoch numbers from 1, with another state under that number.
                parts = [Part("frozen@0", 4, memoryview(frozen)), Part("live@0", 4, memoryview(dice.randbytes(STATE)))]
                sealing = seal(parts, Place(bytes(32), 0, epoch, number), b"s" * 32, Code(1, 3), NUMPY, known)
                for _pack in sealing:
                    pass
                known = sealing.sealed.known
    assert len(used) > 20
    assert [times for times in used.values() if times > 1] == []
