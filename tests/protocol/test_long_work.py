"""Short work next to long work on one host: it waits behind its like, and goes elsewhere otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from msgspec.structs import replace

from protocol.job_record import JobRecord
from protocol.units import SECOND, Micros, PeerId
from tests.protocol.test_steward import finish, start
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
