"""A checker whose findings are collected instead of ending the run: its first violation is kept, then it rests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from protocol.effects import Effect
from simulations.observer import Observer
from simulations.scenario import Injection
from simulations.violation import Violation

if TYPE_CHECKING:
    from simulations.simpeer import SimPeer
    from simulations.tasks import Task
    from simulations.world import World


class Lenient(Observer):
    """Passes every hook on to a checker until that finds something."""

    def __init__(self, checker: Observer, found: Callable[[Violation], None]) -> None:
        self._checker = checker
        self._found = found
        self._rests = False

    def started(self, world: World) -> None:
        self._try(lambda: self._checker.started(world))

    def handled(self, peer: SimPeer, cause: object, effects: list[Effect], now: int) -> None:
        self._try(lambda: self._checker.handled(peer, cause, effects, now))

    def sent(self, source: int, target: int, message: object, now: int, arrives: int) -> None:
        self._try(lambda: self._checker.sent(source, target, message, now, arrives))

    def crashed(self, peer: SimPeer, error: Exception, now: int) -> None:
        self._try(lambda: self._checker.crashed(peer, error, now))

    def injected(self, injection: Injection, now: int) -> None:
        self._try(lambda: self._checker.injected(injection, now))

    def moved(self, peer: SimPeer, is_up: bool, now: int) -> None:
        self._try(lambda: self._checker.moved(peer, is_up, now))

    def resumed(self, task: Task, why: str, waited: int, brought: int, now: int) -> None:
        self._try(lambda: self._checker.resumed(task, why, waited, brought, now))

    def second(self, now: int) -> None:
        self._try(lambda: self._checker.second(now))

    def finished(self, now: int) -> None:
        self._try(lambda: self._checker.finished(now))

    def _try(self, hook: Callable[[], None]) -> None:
        if self._rests:
            return
        try:
            hook()
        except Violation as violation:
            self._rests = True
            self._found(violation)
