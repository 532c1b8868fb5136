"""Kills, power cuts, disks and churn: what comes back, when, and with what."""

from __future__ import annotations

from itertools import pairwise

import pytest

from protocol.effects import Store
from protocol.errors import LocalError, Refused
from protocol.job_record import JobRecord
from simulations import chance
from simulations.observer import Observer
from simulations.scenario import NS, Churn, Group
from simulations.simpeer import SimPeer
from simulations.world import World
from tests.simulations.small import (
    PROVIDER,
    STEWARD,
    VALIDATOR,
    awake,
    built,
    ends,
    kill,
    load,
    planned,
    ran,
    records,
    scenario,
    spoil,
)

RECOVERED_S = 15.0
"""Seconds within which lost work goes on elsewhere, where hosts are free (docs/operations.md)."""


class Moves(Observer):
    """When peers start and end: (ns, peer, is up)."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, bool]] = []

    def moved(self, peer: SimPeer, is_up: bool, now: int) -> None:
        self.seen.append((now, peer.index, is_up))

    def of(self, index: int) -> list[tuple[int, bool]]:
        """Those of one peer."""
        return [(now, is_up) for now, peer, is_up in self.seen if peer == index]


def settled(world: World) -> JobRecord:
    """The one job, which is done and paid for."""
    (record,) = records(world)
    assert record.state == "settled" and all(chunk.is_done for chunk in record.chunks)
    world.peers[VALIDATOR].machines.ledger.check()
    return record


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_work_of_a_killed_provider_goes_on_elsewhere(seed: int) -> None:
    world = built(scenario(), seed)
    world.queue.at(9 * NS, lambda _: _kill_a_worker(world), None)
    world.run()
    record = settled(world)
    assert sorted(len(attempts) for attempts in ends(record)) == [1, 1, 1, 2]
    (lost,) = (chunk for chunk in record.chunks if len(chunk.attempts) == 2)
    assert [attempt.end for attempt in lost.attempts] == ["dead", "accepted"]
    assert lost.attempts[0].provider != lost.attempts[1].provider
    (recovery,) = world.recorder.values("job/recovery")
    assert 1.0 < recovery < RECOVERED_S


def _kill_a_worker(world: World) -> None:
    provider = records(world)[0].chunks[0].provider
    index = next(peer.index for peer in world.peers if peer.id == provider)
    world.lifecycle.stop(index, world.queue.now + 60 * NS, torn=False)


@pytest.mark.parametrize("torn", [False, True], ids=["killed", "power cut"])
@pytest.mark.parametrize("who", [STEWARD, VALIDATOR], ids=["steward", "validator"])
@pytest.mark.parametrize("at", [5.12, 9.0, 13.3])
def test_the_job_ends_though_its_steward_or_the_only_validator_dies(who: int, at: float, torn: bool) -> None:
    """`built` holds the run to the rule that no acknowledged operation is lost."""
    world = ran(scenario(), 1, [kill(at, 4, who, torn=torn)])
    assert world.peers[who].boots == 2
    if torn and at != 9.0:  # While chunks are computed nobody writes, and the power goes away between two writes.
        assert world.recorder.counts["disk/power_cut"] == 1
    settled(world)


def test_everybody_dies_at_once() -> None:
    world = ran(scenario(plan=planned(60, 60)), 1, [kill(9, 5, *range(8))])
    assert [peer.boots for peer in world.peers] == [2] * 8
    settled(world)


def test_a_power_cut_waits_for_a_write_but_not_for_long() -> None:
    moves = Moves()
    world = ran(scenario(jobs=None, plan=planned(10, 0)), 1, [kill(3, 0.5, PROVIDER, torn=True)], moves)
    assert moves.of(PROVIDER) == [(0, True), (4 * NS, False), (4 * NS, True)], "it comes back though its time is over"
    assert "disk/power_cut" not in world.recorder.counts


def test_a_power_cut_does_not_reach_into_the_settle_phase() -> None:
    moves = Moves()
    ran(scenario(jobs=None, plan=planned(10, 10)), 1, [kill(9.5, 0.5, PROVIDER, torn=True)], moves)
    assert moves.of(PROVIDER) == [(0, True)]


def test_a_power_cut_that_waits_for_a_write_does_not_come_in_the_settle_phase() -> None:
    world = awake(scenario(jobs=None))
    peer = world.peers[PROVIDER]
    world.lifecycle.stop(PROVIDER, NS, torn=True)
    world.lifecycle.settle()
    world.driver.perform(peer, [Store("key", b"value")])
    world.queue.run(5 * NS)
    assert peer.is_up and peer.disk.get("key") == b"value"


def test_of_two_kills_the_later_end_counts() -> None:
    moves = Moves()
    ran(scenario(jobs=None, plan=planned(40, 0)), 1, [kill(5, 20, PROVIDER), kill(10, 5, PROVIDER)], moves)
    assert moves.of(PROVIDER) == [(0, True), (5 * NS, False), (25 * NS, True)]


def test_the_settle_phase_starts_everybody() -> None:
    moves = Moves()
    ran(scenario(jobs=None, plan=planned(10, 10)), 1, [kill(5, 60, PROVIDER)], moves)
    assert moves.of(PROVIDER) == [(0, True), (5 * NS, False), (10 * NS, True)]


@pytest.mark.parametrize("who", [VALIDATOR, STEWARD])
def test_a_full_disk_ends_the_node_which_comes_back_when_there_is_room(who: int) -> None:
    moves = Moves()
    world = ran(scenario(plan=planned(60, 60)), 1, [spoil("full", 9, 15, who)], moves)
    assert world.recorder.counts["disk/disk_full"] >= 1
    (_, first), (died, second), *_, (last, third) = moves.of(who)
    assert (first, second, third) == (True, False, True) and 9 * NS < died < 24 * NS and died < last < 35 * NS
    settled(world)


def test_a_torn_write_ends_the_node_and_leaves_the_old_value_or_the_new() -> None:
    found = set()
    for seed in range(1, 9):
        world = awake(scenario(jobs=None), seed)
        peer = world.peers[PROVIDER]
        peer.disk.put("key", b"old")
        world.lifecycle.stop(PROVIDER, 5 * NS, torn=True)
        world.driver.command(peer, peer.machines.maker, lambda now: [Store("key", b"new")])
        assert (peer.is_up, peer.boots) == (False, 1)
        world.queue.run(6 * NS)
        assert (peer.is_up, peer.boots) == (True, 2)
        found.add(peer.disk.get("key"))
    assert found == {b"old", b"new"}


def test_a_lying_disk_loses_its_last_writes_when_the_power_goes() -> None:
    world = ran(
        scenario(plan=planned(60, 60), jobs=load(limit=2)),
        3,
        [spoil("lost", 6, 10, STEWARD), kill(10, 5, STEWARD, torn=True)],
    )
    assert world.peers[STEWARD].boots == 2


@pytest.mark.parametrize(("key", "who"), [("job/", STEWARD), ("lease/", None)])
def test_a_node_with_a_rotten_record_does_not_start(key: str, who: int | None) -> None:
    world = World(scenario(), 1, ())
    hit: list[int] = []

    def rot(_: None) -> None:
        peer = next(peer for peer in world.peers if peer.disk.records(key) and who in (None, peer.index))
        peer.disk.put(peer.disk.records(key)[0][0], b"\xc1")
        hit.append(peer.index)
        world.lifecycle.stop(peer.index, world.queue.now + NS, torn=False)

    world.queue.at(9 * NS, rot, None)
    world.run()
    assert not world.peers[hit[0]].is_up
    assert world.recorder.counts["peers/unbootable"] == 2, "at the end of the fault, and when all start to settle"


def test_a_rotten_journal_keeps_a_validator_down() -> None:
    world = World(scenario(), 1, ())
    validator, random = world.peers[VALIDATOR], chance.stream(1, "rot")

    def rot(_: None) -> None:
        while _is_sound(validator):
            validator.disk.rot(random)
        world.lifecycle.stop(VALIDATOR, world.queue.now + NS, torn=False)

    world.queue.at(9 * NS, rot, None)
    world.run()
    assert not validator.is_up and world.recorder.counts["peers/unbootable"] == 2
    assert [record.state for record in records(world)] == ["running"]


def _is_sound(peer: SimPeer) -> bool:
    try:
        peer.disk.blocks()
    except (LocalError, Refused):
        return False
    return True


def test_churn_brings_and_takes_peers() -> None:
    moves = Moves()
    churn = Churn(model="exponential", scale=5 * NS, down=5 * NS)
    world = ran(
        scenario(jobs=None, plan=planned(60, 10), providers=Group(n=6, gpus="uniform", churn=churn)), 1, (), moves
    )
    for index in range(PROVIDER, 8):
        states = [is_up for _, is_up in moves.of(index)]
        assert all(one != other for one, other in pairwise(states)), "starts and ends alternate"
        assert states[-1], "all are there to settle"
    assert world.recorder.counts["peers/killed"] > 10
    assert [now for now, _, is_up in moves.seen if not is_up and now > 60 * NS] == []


def test_the_end_of_a_fault_does_not_bring_back_who_is_away() -> None:
    churn = Churn(model="exponential", scale=5 * NS, down=10**6 * NS)
    given = scenario(jobs=None, plan=planned(60, 10), providers=Group(n=3, gpus="uniform", churn=churn))
    kept, faulty = Moves(), Moves()
    ran(given, 1, (), kept)
    ran(given, 1, [kill(20 + number, 2, 2, 3, 4) for number in range(10)], faulty)
    assert not [move for move in kept.seen if 20 * NS < move[0] < 60 * NS]
    assert faulty.seen == kept.seen


def test_the_peer_whose_ledger_is_shared_never_leaves() -> None:
    moves = Moves()
    churn = Churn(model="exponential", scale=5 * NS, down=5 * NS)
    given = scenario(plan=planned(60, 60, replicas="shared"), stewards=Group(n=2, slots=0, churn=churn))
    world = ran(given, 1, (), moves)
    assert moves.of(len(world.peers) - 1) == [(0, True)]
    assert len(moves.of(STEWARD)) > 2
