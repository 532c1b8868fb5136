"""The plan: every chunk once, in order, fast sources more, slow ones relieved, and nothing lost with a source."""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protocol.bulk.plan import DEPTH_MAX, RACERS_MAX, STALL_US, ChunkPlan
from protocol.errors import LocalError
from protocol.units import MIB, SECOND, Micros


def deliver(rates: dict[int, int], count: int, joins: dict[int, int] | None = None) -> tuple[dict[int, int], int, int]:
    """Sources of some bytes per second bring `count` chunks of 1 MiB: (new chunks by source, duplicates, µs needed)."""
    plan, now = ChunkPlan(count, MIB), 0
    brought, twice = dict.fromkeys(rates, 0), 0
    waiting = dict(joins or {})
    queues: dict[int, list[tuple[int, int]]] = {}
    while not plan.is_complete:
        for name in [name for name in rates if name not in queues and waiting.get(name, 0) <= now]:
            plan.join(name, Micros(now))
            queues[name] = []
        for name, queue in queues.items():
            while (index := plan.next(name, Micros(now))) is not None:
                begins = max(now, queue[-1][0] if queue else 0)
                queue.append((begins + MIB * SECOND // rates[name], index))
        busy = [(queue[0][0], name) for name, queue in queues.items() if queue]
        now, name = min([*busy, *((at, other) for other, at in waiting.items() if other not in queues)])
        if name in queues:
            is_new = plan.got(name, queues[name].pop(0)[1], Micros(now))
            brought[name] += is_new
            twice += not is_new
    return brought, twice, now


def test_one_source_brings_everything_in_order() -> None:
    plan = ChunkPlan(5, MIB, frozenset({1}))
    plan.join(1, Micros(0))
    order = []
    while (index := plan.next(1, Micros(0))) is not None:
        order.append(index)
        assert plan.got(1, index, Micros(1))
    assert order == [0, 2, 3, 4]
    assert plan.is_complete
    assert plan.missing == 0


def test_work_is_shared_by_speed_and_nearly_no_time_is_lost() -> None:
    brought, twice, took = deliver({1: 30 * MIB, 2: 10 * MIB}, 200)
    assert 2.5 < brought[1] / brought[2] < 3.5
    assert twice <= DEPTH_MAX
    assert took < 1.05 * 200 * SECOND / 40


def test_the_last_chunks_of_a_very_slow_source_are_taken_over() -> None:
    brought, twice, took = deliver({1: 20 * MIB, 2: MIB // 20}, 100)
    assert brought[1] >= 99
    assert twice <= 2
    assert took < 6 * SECOND, "20 s for one chunk were not waited for"


def test_a_source_that_appears_later_helps_at_once() -> None:
    alone = deliver({1: 10 * MIB}, 100)[2]
    helped = deliver({1: 10 * MIB, 2: 10 * MIB}, 100, joins={2: 2 * SECOND})[2]
    assert helped < 0.65 * alone


def test_a_source_that_is_lost_leaves_nothing_behind() -> None:
    plan = ChunkPlan(3, MIB)
    plan.join(1, Micros(0))
    assert plan.next(1, Micros(0)) == 0
    plan.leave(1)
    plan.leave(1)
    plan.join(2, Micros(0))
    assert plan.next(2, Micros(0)) == 0
    with pytest.raises(LocalError, match="twice"):
        plan.join(2, Micros(0))


def test_silence_is_noticed_while_something_is_asked_only() -> None:
    plan = ChunkPlan(2, MIB)
    plan.join(1, Micros(0))
    assert plan.stalled(STALL_US) == []
    plan.next(1, STALL_US)
    assert plan.stalled(Micros(2 * STALL_US - 1)) == []
    assert plan.stalled(Micros(2 * STALL_US)) == [1]
    plan.got(1, 0, Micros(2 * STALL_US))
    assert plan.stalled(Micros(9 * STALL_US)) == []


class PlanMachine(RuleBasedStateMachine):
    """Sources that come, deliver, fail and go in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = ChunkPlan(12, MIB, frozenset({3}))
        self.now = 0
        self.asked: dict[int, list[int]] = {}
        self.here = {3}
        self.dice = random.Random(5)

    @rule(name=st.integers(0, 3), later=st.integers(0, SECOND))
    def join(self, name: int, later: int) -> None:
        self.now += later
        if name not in self.asked:
            self.plan.join(name, Micros(self.now))
            self.asked[name] = []

    @precondition(lambda self: self.asked)
    @rule(later=st.integers(0, 20 * SECOND))
    def ask(self, later: int) -> None:
        self.now += later
        name = self.dice.choice(sorted(self.asked))
        index = self.plan.next(name, Micros(self.now))
        if index is not None:
            assert index not in self.here
            assert index not in self.asked[name]
            self.asked[name].append(index)

    @precondition(lambda self: any(self.asked.values()))
    @rule(later=st.integers(0, SECOND))
    def deliver(self, later: int) -> None:
        self.now += later
        name = self.dice.choice(sorted(name for name, queue in self.asked.items() if queue))
        index = self.asked[name].pop(0)
        assert self.plan.got(name, index, Micros(self.now)) == (index not in self.here)
        self.here.add(index)

    @precondition(lambda self: self.asked)
    @rule()
    def leave(self) -> None:
        name = self.dice.choice(sorted(self.asked))
        del self.asked[name]
        self.plan.leave(name)

    @invariant()
    def nothing_is_asked_too_often_or_forgotten(self) -> None:
        every = [index for queue in self.asked.values() for index in queue]
        assert all(every.count(index) <= RACERS_MAX for index in every)
        assert all(len(queue) <= DEPTH_MAX for queue in self.asked.values())
        assert self.plan.missing == 12 - len(self.here)
        free = set(self.plan._free)
        assert free.isdisjoint(self.here)
        assert free | set(every) | self.here == set(range(12))


def test_the_plan_under_any_history() -> None:
    case = PlanMachine.TestCase
    case.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
    case().runTest()
