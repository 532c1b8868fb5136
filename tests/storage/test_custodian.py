"""storage/custodian.py against real holders: audits, repairs, leases, sweeps. Failure lists of Tahoe-LAFS and Storj."""

from __future__ import annotations

import re

from protocol.snapshots import Pack
from protocol.units import DAY, HOUR, KIB, MINUTE, SECOND, Digest
from storage.erasure import ANCHOR, ROLLING, Code
from storage.receipts import Custody
from tests.storage.vault_town import Member, Town

USER = "volume/test"


def guarded(town: Town, code: Code = ANCHOR, size: int = 4_000, is_kept_here: bool = False) -> tuple[Member, Pack]:
    """An owner who guards a pack that is placed; the first peer."""
    owner = town.all[0]
    pack = town.put(owner, town.dice.randbytes(size), code)
    town.command(owner, lambda now: owner.vault.custodian.guard(Custody(pack), "volume", USER, now), 2)
    town.run(5 * MINUTE)
    if not is_kept_here:
        for shard in pack.shards:
            owner.blobs.pop(Digest(shard), None)
    return owner, pack


def alive(town: Town, owner: Member, pack: Pack) -> int:
    status = owner.vault.custodian.status(Digest(pack.shards[0]), town.now)
    assert status is not None
    return status.alive


def holders(town: Town, owner: Member, pack: Pack) -> list[Member]:
    """Who gave a receipt, by shard."""
    custody = owner.vault.custodian.custody(Digest(pack.shards[0]))
    assert custody is not None
    return [town.members[peer] for index in sorted(custody.receipts) for peer in sorted(custody.receipts[index])]


def lose(owner: Member, pack: Pack, holder: Member) -> None:
    """A disk forgets a shard."""
    for shard in pack.shards:
        holder.blobs.pop(Digest(shard), None)


def test_a_pack_that_nobody_holds_yet_is_placed() -> None:
    town = Town(24)
    owner, pack = guarded(town)
    assert alive(town, owner, pack) == 20
    assert town.reachable(pack) == 20


def test_one_deletion_is_found_and_waits() -> None:
    """Repair is lazy: one lost shard of 20 is noted, not made again."""
    town = Town(40)
    owner, pack = guarded(town, is_kept_here=True)
    lose(owner, pack, holders(town, owner, pack)[3])
    town.run(HOUR)
    assert alive(town, owner, pack) == 19
    assert len(owner.emitted("holder_lied")) == 1


def test_seven_deletions_are_repaired() -> None:
    town = Town(60)
    owner, pack = guarded(town)
    for holder in holders(town, owner, pack)[:8]:
        lose(owner, pack, holder)
    assert town.reachable(pack) == 12
    town.run(2 * HOUR, lambda: town.reachable(pack) == 20)
    assert town.reachable(pack) == 20
    town.run(MINUTE)
    assert alive(town, owner, pack) == 20
    assert not any(Digest(shard) in owner.blobs for shard in pack.shards)  # what repair brought here is gone again


def test_forty_percent_of_holders_gone_at_once() -> None:
    town = Town(60)
    owner, pack = guarded(town)
    for holder in holders(town, owner, pack)[:8]:
        holder.is_up = False
    town.run(14 * MINUTE)
    assert not owner.emitted("pack_mended")[1:]  # an outage of a quarter of an hour is no loss
    assert town.run(HOUR, lambda: town.reachable(pack) == 20)


def test_who_comes_back_after_a_repair_is_swept() -> None:
    town = Town(60)
    owner, pack = guarded(town)
    gone = holders(town, owner, pack)[:8]
    for holder in gone:
        holder.is_up = False
    town.run(HOUR, lambda: town.reachable(pack) == 20)
    for holder in gone:
        holder.is_up = True
    town.run(10 * MINUTE)
    surplus = sum(town.has(member, pack, index) for member in town.all for index in range(pack.n))
    assert surplus <= pack.n + 1


def test_fewer_than_k_shards_are_told_with_numbers() -> None:
    town = Town(24)
    owner, pack = guarded(town)
    for holder in holders(town, owner, pack)[:14]:
        holder.is_up = False
    town.run(30 * MINUTE)
    told = owner.emitted("pack_unreachable")
    assert told
    assert re.fullmatch("[67] of 20 shards answer, 8 are needed", str(told[0].fields["detail"]))
    for holder in town.all:
        holder.is_up = True
    town.run(30 * MINUTE)
    assert alive(town, owner, pack) == 20


def test_a_holder_that_proves_everything_and_serves_at_1_kb_per_second_loses() -> None:
    town = Town(60)
    owner, pack = guarded(town, ROLLING, 512 * KIB)
    slow = holders(town, owner, pack)[:4]
    for holder in slow:
        holder.rate = 1 * KIB
    known = owner.vault.custodian
    town.run(8 * HOUR, lambda: all(owner.vault.standings.of(holder.id).is_slow for holder in slow))
    assert all(owner.vault.standings.of(holder.id).is_slow for holder in slow)
    assert all(owner.vault.standings.of(holder.id).lies == 0 for holder in slow)
    town.run(HOUR)
    custody = known.custody(Digest(pack.shards[0]))
    assert custody is not None
    assert not {holder.id for holder in slow} & custody.holders


def test_a_holder_that_withholds_is_worth_nothing() -> None:
    town = Town(60)
    owner, pack = guarded(town)
    hostile = holders(town, owner, pack)[:8]
    for holder in hostile:
        holder.is_hung = True
    town.run(90 * MINUTE)
    assert all(owner.vault.standings.of(holder.id).presence < 1 for holder in hostile)
    assert town.reachable(pack, frozenset(holder.id for holder in hostile)) >= pack.k


def test_leases_are_renewed_for_weeks() -> None:
    town = Town(4)
    _, pack = guarded(town, Code(1, 3))
    town.run(8 * DAY)
    assert town.reachable(pack) == 3


def test_the_owner_is_gone_for_72_hours_and_nothing_is_lost() -> None:
    town = Town(24)
    owner, pack = guarded(town)
    town.command(owner, lambda now: owner.vault.custodian.tick(now), 2)
    owner.is_up = False
    town.run(7 * DAY + 71 * HOUR)
    assert town.reachable(pack) == 20
    owner.is_up = True
    town.wire(owner)  # a new process, with the records of the old one
    town.run(HOUR)
    assert alive(town, owner, pack) == 20
    custody = owner.vault.custodian.custody(Digest(pack.shards[0]))
    assert custody is not None
    assert all(kept.until > town.now + 6 * DAY for peers in custody.receipts.values() for kept in peers.values())


def test_an_owner_who_never_comes_back_leaves_no_litter() -> None:
    town = Town(24)
    owner, pack = guarded(town)
    owner.is_up = False
    town.run(11 * DAY)
    assert town.reachable(pack) == 0
    assert all(not member.records for member in town.all[1:])


def test_what_is_dropped_is_swept_even_at_those_who_were_away() -> None:
    town = Town(24)
    owner, pack = guarded(town)
    away = holders(town, owner, pack)[0]
    away.is_up = False
    name = Digest(pack.shards[0])
    town.command(owner, lambda now: owner.vault.custodian.drop(name, USER, False, now), 2)
    town.run(MINUTE)
    assert town.reachable(pack) == 0
    away.is_up = True
    town.run(5 * MINUTE)
    assert not any(town.has(away, pack, index) for index in range(pack.n))
    assert not any(key.startswith("guard/") for key in owner.records)


def test_two_users_of_a_pack_must_both_let_go() -> None:
    town = Town(24)
    owner, pack = guarded(town)
    name = Digest(pack.shards[0])
    town.command(owner, lambda now: owner.vault.custodian.guard(Custody(pack), "volume", "other", now), 2)
    town.command(owner, lambda now: owner.vault.custodian.drop(name, USER, False, now), 2)
    town.run(MINUTE)
    assert town.reachable(pack) == 20
    town.command(owner, lambda now: owner.vault.custodian.drop(name, "other", False, now), 2)
    town.run(10 * SECOND)
    assert town.reachable(pack) == 0
