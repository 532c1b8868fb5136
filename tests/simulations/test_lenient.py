"""A checker that may go on: its first finding is kept, then it rests, and nothing of it is lost on the way."""

from __future__ import annotations

import inspect

import pytest

from simulations.lenient import Lenient
from simulations.observer import Observer
from simulations.scenario import NS
from simulations.violation import Violation
from simulations.world import World
from tests.simulations.small import PROVIDER, kill, planned, scenario

HOOKS = [name for name, _ in inspect.getmembers(Observer, inspect.isfunction) if not name.startswith("_")]


class Picky(Observer):
    """Objects on the third second, and each second from then on."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def __getattribute__(self, name: str) -> object:
        if name in HOOKS:
            object.__getattribute__(self, "heard").append(name)
        return object.__getattribute__(self, name)

    def second(self, now: int) -> None:
        if now >= 3 * NS:
            raise Violation("picky", f"after {now // NS} s", now=now)


def test_every_hook_is_passed_on() -> None:
    assert set(HOOKS) == {name for name in vars(Lenient) if not name.startswith("_")}
    picky, found = Picky(), list[Violation]()
    world = World(scenario(plan=planned(2, 0)), 1, [kill(1, 0.5, PROVIDER)], [Lenient(picky, found.append)])
    world.run()
    assert set(picky.heard) == set(HOOKS) - {"crashed", "resumed"} and found == []


def test_a_crash_is_passed_on_too() -> None:
    picky = Picky()
    lenient = Lenient(picky, lambda violation: None)
    world = World(scenario(), 1, ())
    lenient.crashed(world.peers[0], KeyError("bug"), 5)
    assert picky.heard == ["crashed"]


def test_the_first_finding_is_kept_and_the_run_goes_on() -> None:
    picky, found = Picky(), list[Violation]()
    world = World(scenario(jobs=None, plan=planned(10, 0)), 1, (), [Lenient(picky, found.append)])
    world.run()
    assert [str(violation) for violation in found] == ["picky: after 3 s, after 3.000 s"]
    assert world.queue.now == 10 * NS and picky.heard.count("second") == 3 and "finished" not in picky.heard


def test_what_is_no_violation_is_not_swallowed() -> None:
    class Broken(Observer):
        def second(self, now: int) -> None:
            raise KeyError("bug of the checker")

    world = World(scenario(jobs=None), 1, (), [Lenient(Broken(), lambda violation: None)])
    with pytest.raises(KeyError):
        world.run()
