"""storage/protector.py against real holders: durable by receipts, never less, whatever the others do."""

from __future__ import annotations

import pytest

from protocol.effects import Effect, Fail
from protocol.messages import Grant
from protocol.operations import SignedOp
from protocol.provider_lease import Lease
from protocol.snapshots import Kept, Manifest, Release
from protocol.succession import resume_of
from protocol.units import HOUR, MINUTE, SECOND, Digest, Micros
from tests.storage.vault_town import Member, Town


class Ears:
    """A listener that writes down what it hears."""

    def __init__(self) -> None:
        self.durable_steps: list[tuple[int, bool]] = []
        self.reasons: list[str] = []

    def durable(self, lease: Lease, manifest: Manifest, is_held: bool, now: Micros) -> list[Effect]:
        self.durable_steps.append((manifest.step, is_held))
        return []

    def failed(self, lease: Lease, reason: str, now: Micros) -> list[Effect]:
        self.reasons.append(reason)
        return []


def codes(effects: list[Effect]) -> list[str]:
    """Of the errors among effects."""
    return [effect.error.code for effect in effects if isinstance(effect, Fail)]


def protected(town: Town) -> tuple[Member, Member, Member]:
    """Worker, standby, steward: the first three."""
    worker, standby, steward = town.all[:3]
    return worker, standby, steward


def durable_steps(worker: Member) -> list[int]:
    return [int(one.fields["step"]) for one in worker.emitted("snapshot_durable")]


def test_a_snapshot_is_spread_by_the_standby_and_told_to_the_steward() -> None:
    town = Town(20)
    worker, standby, steward = protected(town)
    lease = town.begin(worker, standby, steward)
    assert town.run(2 * MINUTE, lambda: lease.durable_step >= 20)
    town.run(5 * SECOND)
    manifest = town.newest(steward, worker)
    assert manifest is not None
    assert manifest.step == lease.durable_step
    pack = manifest.packs[0]
    assert (pack.k, pack.n) == (8, 14)
    holders = worker.vault.protector.snapshots(lease.task)[-1].packs[0].holders
    assert len({worker.vault.neighbourhood.domain(peer) for peer in holders}) == pack.n
    assert sum(town.has(standby, pack, index) for index in range(8)) == 8  # hot: it could go on by itself
    assert town.has(worker, pack, 0)
    assert not any(town.has(worker, pack, index) for index in range(8, pack.n))  # the standby made the parity
    assert worker.vault.protector.uplink(lease.task) > 0


def test_parity_is_let_go_where_nobody_needs_it() -> None:
    town = Town(20)
    worker, standby, steward = protected(town)
    lease = town.begin(worker, standby, steward)
    town.run(2 * MINUTE, lambda: lease.durable_step >= 10)
    town.run(5 * SECOND)
    pack = worker.vault.protector.snapshots(lease.task)[-1].packs[0].pack
    assert sum(town.has(standby, pack, index) for index in range(8, pack.n)) <= 1


def test_without_a_standby_the_worker_does_it_itself() -> None:
    town = Town(20)
    worker, _, steward = protected(town)
    lease = town.begin(worker, None, steward)
    assert town.run(2 * MINUTE, lambda: lease.durable_step > 0)
    town.run(5 * SECOND)
    manifest = town.newest(steward, worker)
    assert manifest is not None
    assert town.reachable(manifest.packs[0], frozenset([worker.id])) == manifest.packs[0].n
    assert not any(town.has(worker, manifest.packs[0], index) for index in range(8, manifest.packs[0].n))


def test_few_peers_get_whole_copies_and_the_renter_is_told() -> None:
    town = Town(4)
    worker, standby, steward = protected(town)
    lease = town.begin(worker, standby, steward)
    assert town.run(2 * MINUTE, lambda: lease.durable_step > 0)
    town.run(5 * SECOND)
    manifest = town.newest(steward, worker)
    assert manifest is not None
    assert (manifest.packs[0].code, manifest.packs[0].n) == ("copy", 3)
    verdict = worker.vault.protector.verdict(lease.task)
    assert verdict is not None
    assert not verdict.is_durable
    assert "3 peers in 3 failure domains" in verdict.text


def test_nobody_there_is_said_once() -> None:
    town = Town(1)
    lease = town.begin(town.all[0], None, town.all[0])
    town.run(5 * MINUTE)
    assert len(town.all[0].emitted("snapshot_failed")) == 1
    town.add(77)
    assert town.run(2 * MINUTE, lambda: lease.durable_step > 0)


def test_one_machine_with_ten_peers_is_one_failure_domain() -> None:
    town = Town(1)
    worker = town.all[0]
    for number in range(10):
        town.add(50 + number, f"/ip4/9.9.9.{number}/udp/1/quic-v1")
    lease = town.begin(worker, None, worker)
    assert town.run(2 * MINUTE, lambda: lease.durable_step > 0)
    verdict = worker.vault.protector.verdict(lease.task)
    assert verdict is not None
    assert verdict.text == "kept by 1 peer in 1 failure domain: not durable"


@pytest.mark.parametrize("fault", ["is_lying", "is_hung", "is_withholding", "down"])
def test_a_standby_that_is_no_help_is_left_out(fault: str) -> None:
    town = Town(22)
    worker, standby, steward = protected(town)
    if fault == "down":
        standby.is_up = False
    else:
        setattr(standby, fault, True)
    lease = town.begin(worker, standby, steward)
    assert town.run(5 * MINUTE, lambda: lease.durable_step > 0)
    town.run(MINUTE)
    manifest = town.newest(steward, worker)
    assert manifest is not None
    assert town.reachable(manifest.packs[0], frozenset([worker.id, standby.id])) >= manifest.packs[0].k
    if fault == "is_lying":
        assert worker.emitted("standby_no_help")
        assert worker.vault.standings.of(standby.id).lies > 0


def test_two_are_kept_and_older_ones_go() -> None:
    town = Town(18)
    worker, standby, steward = protected(town)
    lease = town.begin(worker, standby, steward)
    town.run(8 * MINUTE)
    kept = worker.vault.protector.snapshots(lease.task)
    assert len(durable_steps(worker)) > 15
    assert len(kept) <= 4
    data = sum(snapshot.packs[0].pack.k for snapshot in kept)
    assert len(worker.blobs) - worker.vault.holder.usage.shards <= data
    for member in town.all[3:]:
        assert member.vault.holder.usage.shards <= len(kept) + 1  # surplus is bounded


def test_an_anchor_is_cut_every_ten_minutes_and_guarded() -> None:
    town = Town(24)
    worker, standby, steward = protected(town)
    lease = town.begin(worker, standby, steward)
    town.run(12 * MINUTE)
    anchors = [one for one in worker.vault.protector.snapshots(lease.task) if one.purpose == "anchor"]
    assert len(anchors) == 1
    assert not worker.emitted("standby_no_help")
    status = worker.vault.custodian.status(anchors[0].packs[0].name, town.now)
    assert status is not None
    assert status.alive == anchors[0].packs[0].pack.n
    lease.output = Digest(bytes(range(32)))
    town.command(worker, lambda now: worker.vault.protector.ended(lease, now))
    town.run(10 * SECOND)
    assert all(member.vault.holder.usage.shards == 0 for member in town.all)
    assert not any(member.blobs for member in town.all)


def test_what_ends_unfinished_stays_for_a_successor_who_takes_it_over() -> None:
    town = Town(20)
    worker, standby, steward = protected(town)
    lease = town.begin(worker, standby, steward)
    town.run(2 * MINUTE, lambda: lease.durable_step >= 20)
    town.run(5 * SECOND)
    manifest = town.newest(steward, worker)
    assert manifest is not None
    notice = [one for _, one in steward.notices][-1]
    worker.is_up = False
    resume = resume_of(steward.id, Grant(bytes(16), SignedOp(b"", ()), resume=(notice,)))
    successor = town.begin(standby, town.all[5], steward, epoch=2, resume=resume)
    standby.step = manifest.step
    town.run(9 * MINUTE, lambda: successor.durable_step > manifest.step)
    assert successor.durable_step > manifest.step  # never behind the last durable step
    town.run(60 * MINUTE)
    old = manifest.packs[0]
    assert not any(town.has(member, old, 3) for member in town.all if member.is_up)  # and swept in the end


def test_a_chunk_that_cannot_be_cut_goes_on_and_is_asked_less_often() -> None:
    town = Town(16)
    worker, standby, steward = protected(town)
    worker.cut_fails = "a while loop holds the script"
    lease = town.begin(worker, standby, steward)
    town.run(HOUR)
    failed = worker.emitted("snapshot_failed")
    assert 10 < len(failed) < 25
    worker.cut_fails = ""
    assert town.run(6 * MINUTE, lambda: lease.durable_step > 0)


def test_cut_now_with_hold_preempts_what_is_under_way() -> None:
    town = Town(20)
    worker, standby, steward = protected(town)
    lease = town.begin(worker, standby, steward)
    town.run(12 * SECOND)
    before = worker.step
    ears = Ears()
    worker.vault.protector.listeners.append(ears)
    town.command(worker, lambda now: worker.vault.protector.cut_now(lease.task, True, now))
    assert town.run(8 * SECOND, lambda: any(is_held for _, is_held in ears.durable_steps))
    assert max(step for step, is_held in ears.durable_steps if is_held) > before


def test_what_stands_still_is_not_cut_again_while_its_steward_looks_at_it() -> None:
    """A newer snapshot of the same steps would take the place of the one that is to be handed over."""
    town = Town(20)
    worker, standby, steward = protected(town)
    lease = town.begin(worker, standby, steward)
    ears = Ears()
    worker.vault.protector.listeners.append(ears)
    town.command(worker, lambda now: worker.vault.protector.cut_now(lease.task, True, now))
    assert town.run(20 * SECOND, lambda: any(is_held for _, is_held in ears.durable_steps))
    said = len(ears.durable_steps)
    town.run(10 * SECOND)
    town.command(worker, lambda now: worker.vault.protector.cut_now(lease.task, False, now))
    town.run(2 * MINUTE)
    assert len(ears.durable_steps) == said and not ears.reasons


def test_a_forged_receipt_is_a_violation_and_counts_for_nothing() -> None:
    town = Town(20)
    worker, standby, steward = protected(town)
    lease = town.begin(worker, standby, steward)
    town.run(2 * MINUTE, lambda: lease.durable_step > 0)
    pack = worker.vault.protector.snapshots(lease.task)[-1].packs[0]
    index, holder, honest = next((i, peer, kept) for i, peers in pack.receipts.items() for peer, kept in peers.items())
    longer = Kept(honest.shard, honest.size, honest.until + HOUR, honest.signature)
    assert codes(worker.peer.receive(holder, longer, town.now)) == ["bad_receipt"]
    assert pack.receipts[index][holder] == honest
    assert worker.vault.standings.of(holder).lies > 0


def test_the_receipt_of_another_holder_counts_for_nobody() -> None:
    town = Town(20)
    worker, standby, steward = protected(town)
    lease = town.begin(worker, standby, steward)
    town.run(2 * MINUTE, lambda: lease.durable_step > 0)
    pack = worker.vault.protector.snapshots(lease.task)[-1].packs[0]
    (thief, _), (_, stolen) = [next(iter(pack.receipts[index].items())) for index in list(pack.receipts)[:2]]
    before = {index: set(peers) for index, peers in pack.receipts.items()}
    assert codes(worker.peer.receive(thief, stolen, town.now)) == ["bad_receipt"]
    assert {index: set(peers) for index, peers in pack.receipts.items()} == before


def test_release_by_a_stranger_is_refused() -> None:
    town = Town(20)
    worker, standby, steward = protected(town)
    lease = town.begin(worker, standby, steward)
    town.run(2 * MINUTE, lambda: lease.durable_step > 0)
    town.run(5 * SECOND)
    pack = worker.vault.protector.snapshots(lease.task)[-1].packs[0]
    index, holder = next((i, peer) for i, peers in pack.receipts.items() for peer in peers)
    stranger = town.all[-1]
    effects = town.members[holder].peer.receive(stranger.id, Release((pack.shard(index),)), town.now)
    assert codes(effects) == ["not_owner"]
    assert town.has(town.members[holder], pack.pack, index)


def test_a_new_standby_gets_the_newest_snapshot() -> None:
    town = Town(20)
    worker, standby, steward = protected(town)
    lease = town.begin(worker, standby, steward)
    town.run(2 * MINUTE, lambda: lease.durable_step > 0)
    town.run(3 * SECOND)
    other = town.all[7]
    lease.standby = other.id
    town.run(5 * SECOND)
    pack = worker.vault.protector.snapshots(lease.task)[-1].packs[0].pack
    assert sum(town.has(other, pack, index) for index in range(pack.k)) == pack.k


def test_when_nobody_has_room_the_renter_reads_numbers_within_seconds() -> None:
    town = Town(20, quota=800)
    worker, _, steward = protected(town)
    lease = town.begin(worker, None, steward)
    ears = Ears()
    worker.vault.protector.listeners.append(ears)
    assert town.run(15 * SECOND, lambda: bool(ears.reasons))
    assert ears.reasons == ["receipts from 0 failure domains, 11 are needed"]
    assert lease.durable_step == 0
    town.run(10 * MINUTE)
    assert len(worker.blobs) <= 8  # one snapshot that failed, until the next one


def test_who_keeps_nothing_is_counted_on_once() -> None:
    """Eight others keep shards, nine do not, and no offer tells them apart: the first chunk of a worker learns it, and
    the next is cut for as many as there are."""
    town = Town(9)
    town.quota = 0
    for number in range(9):
        town.add(400 + number)
    worker, standby, steward = protected(town)
    first = town.begin(worker, standby, steward)
    assert town.run(6 * MINUTE, lambda: first.durable_step > 0)
    assert len(worker.emitted("snapshot_failed")) == 1
    second = town.begin(worker, standby, steward, epoch=2)
    assert town.run(2 * MINUTE, lambda: second.durable_step > 0)
    assert len(worker.emitted("snapshot_failed")) == 1
    town.run(HOUR + 5 * MINUTE)  # They are asked again, and remembered again.
    assert len(worker.emitted("snapshot_failed")) == 2


def test_two_chunks_of_one_worker_do_not_disturb_each_other() -> None:
    town = Town(20)
    worker, standby, steward = protected(town)
    first = town.begin(worker, standby, steward, epoch=1)
    second = town.begin(worker, None, steward, epoch=2)
    assert first.task != second.task
    assert town.run(2 * MINUTE, lambda: min(first.durable_step, second.durable_step) > 0)
    town.command(worker, lambda now: worker.vault.protector.ended(first, now))
    step = second.durable_step
    assert town.run(2 * MINUTE, lambda: second.durable_step > step)


def test_a_snapshot_that_comes_when_its_chunk_has_ended_leaves_nothing() -> None:
    town = Town(20)
    worker, standby, steward = protected(town)
    lease = town.begin(worker, standby, steward)
    town.run(10 * SECOND + SECOND // 10)  # cut, and not sealed yet
    lease.output = Digest(bytes(range(32)))
    town.command(worker, lambda now: worker.vault.protector.ended(lease, now))
    town.run(5 * SECOND)
    assert worker.step == 10
    assert not worker.blobs


def test_a_handover_without_anybody_to_hand_over_to_is_told() -> None:
    town = Town(1)
    worker = town.all[0]
    lease = town.begin(worker, None, worker)
    town.run(MINUTE)
    ears = Ears()
    worker.vault.protector.listeners.append(ears)
    town.command(worker, lambda now: worker.vault.protector.cut_now(lease.task, True, now))
    assert ears.reasons == ["no other peer is there to keep a snapshot"]


def test_what_an_urgent_cut_overtook_still_counts_when_that_cut_fails() -> None:
    town = Town(20)
    worker, _, steward = protected(town)
    lease = town.begin(worker, None, steward)
    town.run(10 * SECOND + SECOND // 4)  # the first snapshot is on its way
    assert worker.step == 10
    assert lease.durable_step == 0
    worker.cut_fails = "the script is stuck"
    town.command(worker, lambda now: worker.vault.protector.cut_now(lease.task, True, now))
    assert town.run(5 * SECOND, lambda: lease.durable_step == 10)
    town.run(SECOND)
    assert [one.fields["reason"] for one in worker.emitted("snapshot_failed")] == ["the script is stuck"]


def test_a_standby_that_lost_its_disk_is_given_everything_again() -> None:
    town = Town(20)
    town.every = Micros(5 * MINUTE)
    worker, standby, steward = protected(town)
    lease = town.begin(worker, standby, steward)
    town.run(MINUTE, lambda: lease.durable_step > 0)
    town.run(10 * SECOND)
    standby.blobs.clear()
    town.wire(standby)
    pack = worker.vault.protector.snapshots(lease.task)[-1].packs[0].pack
    assert town.run(4 * MINUTE, lambda: sum(town.has(standby, pack, index) for index in range(8)) == 8)
