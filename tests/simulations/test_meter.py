"""What every run measures, against what happened in it."""

from __future__ import annotations

import pytest

from simulations.clock import START
from simulations.scenario import NS, Group
from simulations.world import World
from tests.simulations.small import PROVIDER, VALIDATOR, built, kill, load, planned, ran, records, scenario


def test_jobs_are_measured_as_their_stewards_see_them() -> None:
    world = ran(scenario(load(limit=2, seconds=3, chunks=3), planned(60, 60)))
    recorder = world.recorder
    makespans = [(record.finished - record.confirmed) / 1e6 for record in records(world)]
    assert recorder.values("job/makespan") == makespans and recorder.values("job/chunks") == [3, 3]
    assert recorder.counts["jobs/settled"] == 2
    assert len(recorder.values("chunk/wait")) == len(recorder.values("chunk/run")) == 6
    assert all(0 < wait < 60 for wait in recorder.values("chunk/wait"))
    assert all(3 <= run < makespan + 1 for run in recorder.values("chunk/run") for makespan in [max(makespans)])


def test_a_job_is_sampled_when_it_ends() -> None:
    world = ran(scenario())
    (record,) = records(world)
    ((_, at, peer, _),) = [row for row in world.recorder.rows() if row[0] == "job/makespan"]
    assert at == (record.finished - START) * 1_000 and peer == world.workload.submitted[0][0].index


def test_finality_is_the_time_from_a_submission_to_its_receipt() -> None:
    world = ran(scenario())
    finality = world.recorder.values("ledger/finality")
    assert len(finality) > 10 and all(0 < value < 2 for value in finality)


def test_a_time_line_has_a_point_per_minute() -> None:
    world = ran(scenario(plan=planned(150, 30)), 1, [kill(55, 30, PROVIDER)])
    rows = list(world.recorder.rows())
    up = [(at, value) for name, at, _, value in rows if name == "peers/up"]
    assert up == [(60 * NS, 7.0), (120 * NS, 8.0), (180 * NS, 8.0)]
    assert [value for name, _, _, value in rows if name == "jobs/done"] == [1.0] * 3
    assert [value for name, _, _, value in rows if name == "jobs/running"] == [0.0] * 3


def test_a_kill_is_told_from_a_provider_that_only_seemed_dead() -> None:
    world = built(scenario())
    victims: list[int] = []

    def cut(_: None) -> None:
        provider = records(world)[0].chunks[0].provider
        victims.append(next(peer.index for peer in world.peers if peer.id == provider))
        world.network.cut(victims, 40 * NS, False, world.queue.now)

    world.queue.at(9 * NS, cut, None)
    world.run()
    assert ["dead", "accepted"] in [[attempt.end for attempt in chunk.attempts] for chunk in records(world)[0].chunks]
    assert world.recorder.values("job/recovery") == []


def test_recovery_runs_from_the_kill_to_the_next_lease() -> None:
    world = built(scenario())
    killed: list[int] = []

    def end(_: None) -> None:
        provider = records(world)[0].chunks[0].provider
        victim = next(peer for peer in world.peers if peer.id == provider)
        world.lifecycle.stop(victim.index, 60 * NS, torn=False)
        killed.append(world.queue.now)

    world.queue.at(9 * NS, end, None)
    world.run()
    (lost,) = (chunk for chunk in records(world)[0].chunks if len(chunk.attempts) == 2)
    expected = (lost.attempts[1].started - START) / 1e6 - killed[0] / NS
    assert world.recorder.values("job/recovery") == [pytest.approx(expected)]


def test_pay_is_what_the_ledger_says() -> None:
    world = ran(scenario(providers=Group(n=4, gpus="uniform")))
    ledger = world.peers[VALIDATOR].machines.ledger
    pay = [ledger.available("U", peer.id) / 1e6 for peer in world.peers if peer.role == "provider"]
    assert world.recorder.values("payout/honest") == pay and sum(pay) > 0


def test_nothing_is_measured_where_nothing_happened() -> None:
    world = World(scenario(jobs=None, plan=planned(2, 0)), 1, ())
    world.run()
    assert len(world.recorder) == 0, "without a meter"
    measured = ran(scenario(jobs=None, plan=planned(2, 0)))
    assert {row[0] for row in measured.recorder.rows()} <= {"payout/honest", "ledger/finality"}
