"""Work leaves this machine: the owner's command waits for it, triggers begin it, and everybody is told."""

from __future__ import annotations

from collections.abc import Callable

import trio
import trio.testing

from node.events import EventLog
from node.handing import Handing, Row
from node.triggers import Trigger
from protocol.effects import Effect, Emit, Machine
from protocol.reclaim import NOTICE
from protocol.units import SECOND, Micros
from shoal.commands.reclaim import text
from tests.protocol.ledger_world import PRICE, STANDBY
from tests.protocol.test_reclaim import Story


class Node:
    """A driver and a provider, as far as handing over needs them; its machine is the real one on a real ledger."""

    def __init__(self, leases: int = 1) -> None:
        self.story = Story(leases)
        self.events = EventLog()
        self.drained: list[bool] = []
        self.saved = 0

    def handing(self, has_machine: bool = True) -> Handing:
        story = self.story
        reclaim = story.reclaim if has_machine else None
        return Handing(self, self.drained.append, lambda: story.leases, self.events, reclaim, self.save)

    def save(self) -> None:
        self.saved += 1

    def command(self, machine: Machine, act: Callable[[Micros], list[Effect]]) -> None:
        self.perform(act(self.story.now))

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Emit):
                self.events.emit(effect.name, effect.fields, self.story.now)

    async def hand_over(self, number: int) -> None:
        """The snapshot of a lease becomes durable, the steward signs, the ledger orders: a little later each."""
        lease = self.story.leases[number]
        await self._act(lambda: self.story.sealed(lease))
        proposed = await self._act(lambda: self.story.durable(lease))
        await self._act(lambda: self.story.order(self.story.steward(lease, proposed)))

    async def _act(self, act: Callable[[], list[Effect]]) -> list[Effect]:
        await trio.sleep(0.25)  # Of the mock clock.
        effects = act()
        self.perform(effects)
        return effects


async def test_the_command_comes_back_when_everything_is_out(autojump_clock: trio.testing.MockClock) -> None:
    node = Node(leases=2)
    rows: list[Row] = []

    async def ask() -> None:
        rows.extend(await node.handing().out(NOTICE))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(node.hand_over, 0)
        nursery.start_soon(node.hand_over, 1)
    assert trio.current_time() < 3, "not the whole notice"
    assert node.drained == [True], "no new work, and nothing given back"
    assert [(row["phase"], row["step"], row["done_ppm"]) for row in rows] == [("handed", 7, 400_000)] * 2
    share = PRICE * 4 // 10 // 10 * 10
    assert [row["pay"] for row in rows] == [share - share // 10] * 2
    said = text({"leaving": rows}, NOTICE)
    assert "2 of 2 handed over within 10.0 s; 2.16 credits are paid to you when their chunks are accepted" in said
    assert "handed over" in said
    assert "40.0 %" in said
    assert str(rows[0]["to"])[-8:] in said


async def test_a_node_that_hears_nothing_comes_back_all_the_same(autojump_clock: trio.testing.MockClock) -> None:
    node = Node()
    rows = await node.handing().out(Micros(2 * SECOND))
    assert [row["phase"] for row in rows] == ["cutting"]


async def test_without_snapshots_what_runs_is_given_back(autojump_clock: trio.testing.MockClock) -> None:
    node = Node()
    rows = await node.handing(has_machine=False).out(NOTICE)
    assert node.drained == [False]
    assert [(row["phase"], row["pay"]) for row in rows] == [("given_back", 0)]
    assert "0 of 1 handed over" in text({"leaving": rows}, NOTICE)


async def test_an_idle_machine_is_free_at_once(autojump_clock: trio.testing.MockClock) -> None:
    node = Node(leases=0)
    assert await node.handing().out(NOTICE) == []
    assert trio.current_time() == 0
    assert text({"leaving": []}, NOTICE) == "nothing was running"


def test_a_trigger_saves_or_begins_to_leave() -> None:
    node = Node()
    handing = node.handing()
    handing.fire(Trigger("battery", "cut", "mains power is gone"))
    assert (node.saved, node.drained) == (1, [])
    handing.fire(Trigger("xid", "handover", "Xid 79", Micros(3 * SECOND)))
    assert node.drained == [True]
    (item,) = node.story.reclaim.leaving.values()
    assert item.deadline == node.story.now + 3 * SECOND
    assert item.to == STANDBY.peer
