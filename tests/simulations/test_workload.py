"""What the world has to do: jobs for stewards that are up, again later when nobody takes them, and chatter."""

from __future__ import annotations

from protocol.units import PPM, SECOND
from simulations.scenario import NS, Arrival, Chatter, Duration, Group, Jobs, Population, Scenario, Workload
from simulations.workload import AGAIN_NS, job_spec
from simulations.world import World
from tests.simulations.small import (
    PROVIDER,
    STEWARD,
    TOPOLOGY,
    kill,
    load,
    planned,
    ran,
    records,
    scenario,
    spoil,
)


def test_a_job_says_what_the_load_says() -> None:
    spec = job_spec(load(chunks=7, seconds=90, audit=0.25, reduce=True), "name")
    assert (len(spec.chunks), spec.estimate, spec.timeout) == (7, 90 * SECOND, 45 * 60 * SECOND)
    assert spec.audit_ppm == PPM // 4 and spec.reduce and not job_spec(load(), "name").reduce


def test_time_limits_have_a_floor_and_a_ceiling() -> None:
    arrival = Arrival(model="regular", per_hour=1)
    for seconds, limit in ((1, 60), (10**5, 86_400)):
        time = Duration(model="fixed", value=seconds * NS)
        assert job_spec(Jobs(arrival=arrival, chunk_time=time), "name").timeout == limit * SECOND
    tiny = job_spec(Jobs(arrival=arrival, chunk_time=Duration(model="fixed", value=1)), "name")
    assert tiny.estimate == 1_000, "a millisecond at least"


def test_jobs_go_round_the_stewards() -> None:
    world = ran(scenario(load(limit=4, seconds=1), planned(60, 60), stewards=Group(n=2, slots=0)))
    assert [peer.index for peer, _, _ in world.workload.submitted] == [1, 2, 1, 2]
    assert [record.state for record in records(world)] == ["settled"] * 4
    assert [at for _, _, at in world.workload.submitted] == sorted(at for _, _, at in world.workload.submitted)


def test_a_job_waits_for_a_steward() -> None:
    world = ran(scenario(plan=planned(60, 60)), 1, [kill(2, 10, STEWARD)])
    ((_, _, at),) = world.workload.submitted
    assert 12 * NS <= at <= 25 * NS and at % AGAIN_NS == 0 and world.workload.refused == 0
    assert [record.state for record in records(world)] == ["settled"]


def test_a_job_that_finds_no_steward_before_the_end_is_refused() -> None:
    world = World(scenario(plan=planned(20, 20)), 1, [kill(2, 18, STEWARD)])
    world.run()
    assert world.workload.submitted == [] and world.workload.refused == 1


def test_a_job_that_no_provider_takes_at_its_price_is_tried_until_the_end() -> None:
    dear = Group(n=3, gpus="uniform", price=50_000_000)
    world = World(scenario(plan=planned(30, 10), providers=dear), 1, ())
    world.run()
    assert world.workload.submitted == [] and world.workload.refused == 1
    refusals = {name: count for name, count in world.recorder.counts.items() if name.startswith("refused/")}
    assert sum(refusals.values()) == 5, refusals


def test_a_steward_whose_disk_is_full_takes_no_job_and_the_renter_comes_again() -> None:
    world = ran(scenario(plan=planned(60, 60)), 1, [spoil("full", 4, 4, STEWARD)])
    ((_, _, at),) = world.workload.submitted
    assert at > 8 * NS and world.recorder.counts["disk/disk_full"] == 1
    assert [record.state for record in records(world)] == ["settled"]


def test_chatter_is_heard_by_all_and_disturbs_no_machine() -> None:
    given = Scenario(
        name="chatter",
        simulation=planned(60, 0, gossip="gossipsub"),
        topology=TOPOLOGY,
        population=Population(providers=Group(n=18, gpus="uniform")),
        workload=Workload(messages=Chatter(per_second=2.0, size=512)),
    )
    world = World(given, 1, ())
    world.run()
    latency = world.recorder.histograms()
    deliveries = sum(found.count for name, found in latency.items() if "latency" in name)
    assert deliveries > 60 * 18, latency.keys()
    assert "peers/crashed" not in world.recorder.counts


def test_only_who_is_up_chatters() -> None:
    given = Scenario(
        name="silence",
        simulation=planned(20, 0, gossip="gossipsub"),
        topology=TOPOLOGY,
        population=Population(providers=Group(n=2, gpus="uniform")),
        workload=Workload(messages=Chatter(per_second=5.0)),
    )
    world = World(given, 1, [kill(1, 19, 0, STEWARD, PROVIDER, PROVIDER + 1)])
    world.run()
    assert world.queue.now == 20 * NS and world.recorder.counts["peers/killed"] == 4
