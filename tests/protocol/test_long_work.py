"""Short work next to long work on one host: it waits behind its like, and goes elsewhere otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from msgspec.structs import replace

from protocol.job_record import JobRecord
from protocol.provider_lease import RESUME_WAIT, Lease, Phase, comes_free
from protocol.units import SECOND, Micros, PeerId
from tests.protocol.test_steward import finish, start
from tests.protocol.test_takeover import lease
from tests.protocol.town import Town, job_spec

MakeTown = Callable[..., Town]

SLOTS: Final = 2
"""Of each provider in the town."""

LONG_S: Final = 60


def trained(town: Town, estimate: int) -> JobRecord:
    """A job of that estimate, in µs, that works for a minute in every slot of the only provider."""
    host = town.citizens["p0"]
    host.seconds = LONG_S
    record = start(town, replace(job_spec(SLOTS), estimate=Micros(estimate)))
    town.run(lambda: host.provider.running == SLOTS, 30)
    host.seconds = 1
    return record


def test_work_does_not_wait_behind_what_takes_much_longer(make_town: MakeTown) -> None:
    town = make_town(providers=1)
    host, spec = town.citizens["p0"].provider, job_spec(1)
    long = trained(town, 2 * spec.estimate + 1)
    short, began = start(town, spec, "b"), town.now
    seen: set[str] = set()

    def passed() -> bool:
        seen.add(host.phase(short.job, 0))
        return town.now > began + 30 * SECOND

    town.run(passed, 40)
    assert host.running == SLOTS and seen == {""}, "it is nobody's, and any other may have it"
    finish(town, short)
    assert short.state == "settled" and [chunk.epoch for chunk in short.chunks] == [1]
    finish(town, long)
    assert long.state == "settled"


@pytest.mark.parametrize("times", [1, 2])
def test_it_waits_behind_its_like(make_town: MakeTown, times: int) -> None:
    """So the next work is there when a slot becomes free."""
    town = make_town(providers=1)
    host, spec = town.citizens["p0"].provider, job_spec(1)
    trained(town, times * spec.estimate)
    short = start(town, spec, "b")
    town.run(lambda: host.phase(short.job, 0) == "waiting", 30)
    finish(town, short)
    assert short.state == "settled"


def test_another_host_takes_it_at_once(make_town: MakeTown) -> None:
    town = make_town(providers=2)
    other = town.citizens["p1"]
    other.is_dead = True
    spec = job_spec(1)
    trained(town, 4 * spec.estimate)
    other.is_dead = False
    short, began = start(town, spec, "b"), town.now
    finish(town, short, 30)
    assert short.state == "settled" and town.now < began + 30 * SECOND
    assert town.name(PeerId(short.chunks[0].provider)) == "p1"


def test_what_is_half_done_goes_before_what_waits(make_town: MakeTown) -> None:
    town = make_town(providers=1)
    host, spec = town.citizens["p0"].provider, job_spec(1)
    trained(town, spec.estimate)
    first, half = start(town, spec, "b"), start(town, spec, "c")
    town.run(lambda: {host.phase(job.job, 0) for job in (first, half)} == {"waiting"}, 30)
    ends = next(one for one in host.leases.values() if one.phase == "running").since + LONG_S * SECOND
    town.run(lambda: town.now > ends - RESUME_WAIT, 90)
    taken = next(one for one in host.leases.values() if one.job == half.job)
    taken.resume, taken.since = lease(resumes=True).resume, town.now
    order: list[bytes] = []

    def began() -> bool:
        order.extend(job.job for job in (half, first) if host.phase(job.job, 0) == "running" and job.job not in order)
        return half.job in order

    town.run(began, 90)
    assert order[0] == half.job


def at(phase: Phase, since: int, *, resumes: bool = False) -> Lease:
    """A lease of ten minutes."""
    one = lease(resumes)
    one.phase, one.since, one.spec = phase, Micros(since), replace(one.spec, estimate=Micros(600 * SECOND))
    return one


def test_it_is_taken_where_a_slot_comes_free_in_time() -> None:
    now, ten = Micros(1_000 * SECOND), RESUME_WAIT
    end = now - 600 * SECOND
    begun, ending, overdue = at("running", end + ten), at("running", end + ten - 1), at("running", end - ten)
    waiting, ahead = at("waiting", 0), at("waiting", 0, resumes=True)
    assert comes_free([], 1, now) and comes_free([ending], 1, now) and comes_free([ending, waiting], 1, now)
    assert comes_free([begun, ending], 2, now) and comes_free([waiting, at("claimed", 0)], 1, now)
    assert not comes_free([begun], 1, now) and not comes_free([overdue], 1, now), "it may run for ever"
    assert not comes_free([ending, ahead], 1, now) and not comes_free([begun, ahead, ending], 2, now)


def test_it_is_given_back_where_none_came_free() -> None:
    long = 2 * RESUME_WAIT
    assert at("waiting", 5, resumes=True).waits_in_vain(Micros(5 + long))
    assert not at("waiting", 5, resumes=True).waits_in_vain(Micros(4 + long))
    assert not at("waiting", 5).waits_in_vain(Micros(5 + long))
    assert not at("running", 5, resumes=True).waits_in_vain(Micros(5 + long))
