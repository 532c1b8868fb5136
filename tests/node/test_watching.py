"""A host is looked after with everything that this machine really has: sensors, battery, command, clock."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from node.clock import Clock
from node.gpu import HostSource
from node.thermal import DAY_MINUTES, Decision, Level, Policy
from node.triggers import Trigger
from node.watching import Watched, hours_of, minute_of_day, watch_host
from protocol.errors import Refused
from tests.node.test_heat import Node
from tests.node.waiting import SECONDS


async def test_an_owner_who_says_so_gets_the_machine(tmp_path: Path) -> None:
    """A real command that begins to succeed: the file that it looks for appears."""
    flag, node, fired = tmp_path / "playing", Node(), list[Trigger]()
    decisions: list[Decision] = []
    watched = Watched(HostSource(), owner_command=("test", "-e", str(flag)))
    with trio.move_on_after(SECONDS) as scope:

        def fire(trigger: Trigger) -> None:
            fired.append(trigger)
            if trigger.kind == "owner":
                scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_host, watched, node, Clock(), decisions.append, fire)
            assert not node.is_held
            flag.touch()
    assert [(item.kind, item.act) for item in fired if item.kind == "owner"] == [("owner", "handover")]
    assert decisions[-1].level == Level.PAUSE
    assert node.asked == ["finish"]


async def test_a_quiet_host_is_left_alone() -> None:
    node, fired = Node(), list[Trigger]()
    with trio.move_on_after(1.5):
        await watch_host(Watched(HostSource(), Policy()), node, Clock(), lambda _: None, fired.append)
    assert [item for item in fired if item.kind != "battery"] == []
    assert node.asked == []


def test_the_minute_of_the_day() -> None:
    assert 0 <= minute_of_day(Clock()) < DAY_MINUTES


def test_hours_as_an_owner_writes_them() -> None:
    assert hours_of("") == ()
    assert hours_of("22:00-06:00,12:00-13:30") == ((1_320, 360), (720, 810))
    assert hours_of("18:00-00:00") == ((1_080, DAY_MINUTES),)
    for wrong in ("25:00-26:00", "12:61-13:00", "12:00-12:00"):
        with pytest.raises(Refused):
            hours_of(wrong)
