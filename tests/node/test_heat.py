"""The thermal policy acts on a node that has cards: with a scripted sensor and a clock that waits for nobody."""

from __future__ import annotations

import trio
import trio.testing

from node import heat
from node.clock import Clock
from node.gpu import GpuFact, GpuReport
from node.thermal import Decision, Level, Policy, ThermalMachine
from node.triggers import HEAT_NOTICE, NOTICE, Owner, Trigger


class Sensor:
    """A card whose temperature follows a list; then the test is over."""

    def __init__(self, degrees: list[int], over: trio.CancelScope) -> None:
        self._degrees = degrees
        self._over = over

    def read(self) -> GpuReport:
        if not self._degrees:
            trio.from_thread.run_sync(self._over.cancel)
            return GpuReport("found", ())
        fact = GpuFact("nvidia", "RTX 4090", "GPU-1", 24 << 30, temperature_c=self._degrees.pop(0))
        return GpuReport("found", (fact,))


class Node:
    """What the policy asks of a node."""

    def __init__(self) -> None:
        self.is_held = False
        self.asked: list[str] = []

    def hold(self, finish_running: bool) -> None:
        self.is_held = True
        self.asked.append("finish" if finish_running else "give back")

    def release(self) -> None:
        self.is_held = False
        self.asked.append("release")


async def play(degrees: list[int], node: Node) -> list[Level]:
    """Let the policy see these temperatures; the first is read to find out whether there are cards."""
    levels: list[Level] = []

    def tell(decision: Decision) -> None:
        levels.append(decision.level)

    with trio.CancelScope() as scope:
        await heat.watch(Sensor([degrees[0], *degrees], scope), ThermalMachine(), node, Clock(), tell)
    return levels


async def test_hot_stops_new_work_hotter_gives_all_back_and_cool_resumes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    node = Node()
    levels = await play([60, 76, 86, 96, 60, 60], node)
    assert levels == [Level.WARN, Level.THROTTLE, Level.STOP, Level.RUN]
    assert node.asked == ["finish", "give back", "release"]


async def test_an_owner_who_drained_stays_drained(autojump_clock: trio.testing.MockClock) -> None:
    node = Node()
    node.is_held = True
    await play([60, 96, 60, 60], node)
    assert node.asked == ["give back"]


async def test_a_host_without_cards_is_left_alone() -> None:
    class Nothing:
        def read(self) -> GpuReport:
            return GpuReport("none")

    node = Node()
    await heat.watch(Nothing(), ThermalMachine(), node, Clock(), lambda _: None)
    assert node.asked == []


# ── with senses: work leaves by a handover instead ───────────────────────────────────────────────────────────────────
class Desk(Owner):
    """An owner who is at the machine when the list says so."""

    def __init__(self, here: list[bool]) -> None:
        self._here = here
        self.reason = "a game"

    def is_here(self) -> bool:
        return self._here.pop(0) if self._here else False


async def sense(degrees: list[int], node: Node, here: list[bool], policy: Policy, minute: int = 0) -> list[Trigger]:
    """Let the policy see these temperatures, with an owner and a clock on the wall."""
    fired: list[Trigger] = []
    with trio.CancelScope() as scope:
        senses = heat.Senses(Desk(here), lambda: minute, fired.append)
        machine = ThermalMachine(policy)
        await heat.watch(Sensor(degrees, scope), machine, node, Clock(), lambda _: None, senses)
    return fired


async def test_heat_saves_first_and_hands_over_when_it_is_too_much(autojump_clock: trio.testing.MockClock) -> None:
    node = Node()
    fired = await sense([60, 76, 86, 96, 60], node, [], Policy())
    assert [(item.kind, item.act) for item in fired] == [("heat", "cut"), ("heat", "handover")]
    assert fired[1].notice == HEAT_NOTICE
    assert node.asked == ["finish", "finish", "release"], "nothing is given back: it leaves with a snapshot"


async def test_the_owner_at_the_machine_gets_it_with_ten_seconds_notice(
    autojump_clock: trio.testing.MockClock,
) -> None:
    node, clock = Node(), Clock()
    began = clock.now()
    (fired,) = await sense([60, 60, 60, 60], node, [False, True, True, True], Policy())
    assert (fired.kind, fired.act, fired.detail) == ("owner", "handover", "a game")
    assert 0 < NOTICE - fired.notice <= clock.now() - began
    assert node.asked == ["finish"]


async def test_outside_the_owners_hours_work_leaves_on_a_host_without_cards_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    node = Node()
    fired = await sense([0, 0], node, [], Policy(hours=((0, 60),)), minute=61)
    assert [(item.kind, item.act) for item in fired] == [("hours", "handover")]
