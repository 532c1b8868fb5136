"""What threatens a host: each source with injected readings, the real ones where this machine has them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import trio
import trio.testing

from node import triggers
from node.gpu_processes import GpuProcess, Strangers, XidEvents, nvml_processes
from node.thermal import DAY_MINUTES, minutes_left
from node.triggers import (
    BATTERY_LOW_PERCENT,
    HOURS_NOTICE,
    XID_JOB,
    XID_LOST,
    Battery,
    Charge,
    Hours,
    Owner,
    Suspicion,
    Trigger,
    Xid,
)
from tests.node.waiting import SECONDS


def said(found: Trigger | None) -> tuple[str, str] | None:
    return None if found is None else (found.kind, found.act)


def listed(*processes: GpuProcess) -> Callable[[], list[GpuProcess]]:
    return lambda: list(processes)


# ── battery ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_pulled_plug_saves_and_a_low_battery_leaves_each_once() -> None:
    readings: list[Charge | None] = [
        Charge(90, True), Charge(90, False), Charge(89, False), Charge(BATTERY_LOW_PERCENT, False),
        Charge(20, False), Charge(21, True), Charge(21, False), Charge(60, True), None,
    ]  # fmt: skip
    battery = Battery(lambda: readings.pop(0))
    told = [said(battery.look()) for _ in range(9)]
    cut, leave = ("battery", "cut"), ("battery", "handover")
    assert told == [None, cut, None, leave, None, None, leave, None, None]


def test_a_machine_that_starts_on_battery_saves_at_once() -> None:
    assert said(Battery(lambda: Charge(80, False)).look()) == ("battery", "cut")


def test_the_real_battery_is_read_or_there_is_none() -> None:
    found = triggers.charge()
    sensed = getattr(psutil, "sensors_battery", lambda: None)()
    assert (found is None) == (sensed is None or sensed.power_plugged is None)


# ── the driver's errors ──────────────────────────────────────────────────────────────────────────────────────────────
class Reports(XidEvents):
    """A driver that reports these."""

    def __init__(self, *numbers: int) -> None:
        self._numbers = list(numbers)

    def next(self, wait_ms: int) -> int:
        return self._numbers.pop(0) if self._numbers else 0


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, None), (31, None), (63, ("xid", "cut")), (79, ("xid", "handover")), (999, ("xid", "cut"))],
)
def test_a_jobs_own_mistakes_are_no_threat_and_a_lost_card_is(number: int, expected: tuple[str, str] | None) -> None:
    assert said(Xid(Reports(number)).look()) == expected
    assert not XID_JOB & XID_LOST


def test_a_host_without_a_driver_reports_nothing() -> None:
    events = XidEvents()
    if not events.is_open:
        assert events.next(1) == 0
        assert nvml_processes() == []
    events.close()


# ── the owner ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_only_what_others_do_in_earnest_is_the_owner() -> None:
    mib = 1 << 20
    desktop = GpuProcess(1, "graphics", 300 * mib)
    monitor = GpuProcess(1, "compute", 20 * mib)
    game = GpuProcess(1, "graphics", 3_000 * mib)
    train = GpuProcess(1, "compute", 500 * mib)
    assert Strangers(listed(desktop, monitor)).at_work() is None
    assert Strangers(listed(desktop, game)).at_work() == game
    assert Strangers(listed(train)).at_work() == train
    assert Strangers(listed(GpuProcess(1, "compute"))).at_work() is not None, "the driver does not say how much"


def test_our_own_jobs_are_not_the_owner() -> None:
    """A real child of this process, and a process in a container of ours as the kernel shows it."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        ours = GpuProcess(child.pid, "compute", 1 << 30)
        assert Strangers(listed(ours)).at_work() is None
        child.communicate(b"\n")


def test_a_container_of_ours_is_told_by_its_group(tmp_path: Path) -> None:
    proc = tmp_path
    (proc / "7").mkdir()
    (proc / "7" / "cgroup").write_text("0::/system.slice/docker-abc123.scope\n")
    busy = listed(GpuProcess(7, "compute", 1 << 30))
    assert Strangers(busy, lambda: ("abc123",), proc).at_work() is None
    assert Strangers(busy, lambda: ("other",), proc).at_work() is not None
    gone = listed(GpuProcess(8, "compute", 1 << 30))
    assert Strangers(gone, lambda: ("abc123",), proc).at_work() is None, "nothing is stopped for a guess"


def test_the_owners_command_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "COMMAND_TIMEOUT_S", SECONDS)
    nobody = Strangers(listed())
    assert not Owner(nobody).is_here()
    assert not Owner(nobody, ("false",)).is_here()
    assert not Owner(nobody, ("/nonexistent/command",)).is_here()
    asked = Owner(nobody, ("true",))
    assert asked.is_here()
    assert asked.reason == "true says so"
    playing = Owner(Strangers(listed(GpuProcess(1, "graphics", 4 << 30))))
    assert playing.is_here()
    assert playing.reason == "process 1 uses a card (graphics)"


# ── hours and suspicion ──────────────────────────────────────────────────────────────────────────────────────────────
def test_minutes_left_of_the_owners_hours() -> None:
    night = ((22 * 60, 6 * 60),)
    assert minutes_left((), 5) is None
    assert minutes_left(((0, DAY_MINUTES),), 5) is None
    assert [minutes_left(night, minute) for minute in (22 * 60, 23 * 60 + 59, 0, 359, 360, 21 * 60)] == [
        480, 361, 360, 1, 0, 0,
    ]  # fmt: skip


def test_work_leaves_in_the_last_minute_of_the_hours_once_a_day() -> None:
    clock = [357, 358, 359, 359, 360, 1_320, 359]
    hours = Hours(((22 * 60, 6 * 60),), lambda: clock.pop(0))
    told = [hours.look() for _ in range(7)]
    assert [said(item) for item in told] == [None, None, ("hours", "handover"), None, None, None, ("hours", "handover")]
    assert told[2] is not None
    assert told[2].notice == HOURS_NOTICE


def test_rising_suspicion_saves_once_until_it_is_calm_again() -> None:
    readings = [0.2, 2.9, 3.0, 4.0, 2.0, 5.0, 0.9, 3.1]
    suspicion = Suspicion(lambda: readings.pop(0))
    told = [said(suspicion.look()) for _ in range(8)]
    cut = ("suspicion", "cut")
    assert told == [None, None, cut, None, None, None, None, cut]


# ── the task ─────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_source_is_looked_at_until_the_task_ends(autojump_clock: trio.testing.MockClock) -> None:
    readings = [Charge(90, True), Charge(90, False), Charge(10, False)]
    fired: list[Trigger] = []
    with trio.CancelScope() as scope:

        def fire(trigger: Trigger) -> None:
            fired.append(trigger)
            if trigger.act == "handover":
                scope.cancel()

        await triggers.watch(Battery(lambda: readings.pop(0)), fire)
    assert [item.act for item in fired] == ["cut", "handover"]
    assert readings == []
