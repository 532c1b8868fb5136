"""storage/wiring.py: the machines behind one door, and what a restart finds."""

from __future__ import annotations

from protocol.units import MINUTE, SECOND, Digest
from storage.erasure import ANCHOR
from storage.receipts import Custody
from tests.storage.vault_town import Town


def test_messages_reach_every_machine_that_takes_them() -> None:
    vault = Town(1).all[0].vault
    assert vault.listed == [vault.holder, vault.protector, vault.custodian]
    taken = {kind.__name__ for machine in vault.listed for kind in machine.accepts}
    words = "Keep Kept NotKept Renew Release Spread SpreadDone Challenge ChallengeAnswer"
    assert set(words.split()) <= taken


def test_a_worker_that_is_started_again_leaves_no_data_behind() -> None:
    town = Town(16)
    worker, standby, steward = town.all[:3]
    lease = town.begin(worker, standby, steward)
    town.run(2 * MINUTE, lambda: lease.durable_step > 0)
    mine = {Digest(shard) for shard in worker.vault.protector.snapshots(lease.task)[-1].packs[0].pack.shards[:8]}
    assert mine <= set(worker.blobs)
    town.wire(worker)
    town.run(SECOND)
    assert not mine & set(worker.blobs)
    assert not [key for key in worker.records if key.startswith("snapshot/")]


def test_everything_kept_for_others_survives_a_restart() -> None:
    town = Town(16)
    worker, standby, steward = town.all[:3]
    lease = town.begin(worker, standby, steward)
    town.run(2 * MINUTE, lambda: lease.durable_step > 0)
    pack = worker.vault.protector.snapshots(lease.task)[-1].packs[0].pack
    for member in town.all[1:]:
        town.wire(member)
    town.run(SECOND)
    assert town.reachable(pack, frozenset([worker.id])) >= 11


def test_volumes_are_guarded_after_a_restart_and_anchors_are_left_to_successors() -> None:
    town = Town(30)
    owner = town.all[0]
    packs = [Custody(town.put(owner, town.dice.randbytes(900), ANCHOR)) for _ in range(2)]
    town.command(owner, lambda now: owner.vault.custodian.guard(packs[0], "volume", "volume/x", now), 2)
    town.command(owner, lambda now: owner.vault.custodian.guard(packs[1], "anchor", "anchor/t/1", now), 2)
    town.run(5 * MINUTE)
    town.wire(owner)
    assert owner.vault.custodian.status(packs[0].name, town.now) is not None
    assert owner.vault.custodian.status(packs[1].name, town.now) is None
    assert town.reachable(packs[1].pack, frozenset([owner.id])) >= 8
