"""Runs a violation or a run directory again and tells every event; and the fewest faults with which it still fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from protocol.effects import Effect
from protocol.errors import Refused
from simulations import scenario_file, swarm
from simulations.checkers.registry import checkers
from simulations.minimise import minimise
from simulations.quiet import ending
from simulations.recent import Recent
from simulations.run_directory import SCENARIO, RunDirectory
from simulations.scenario import Injection, Scenario
from simulations.violation import Violation, read_report
from simulations.world import World

if TYPE_CHECKING:
    from simulations.observer import Observer
    from simulations.subject import Subject

REPORT: Final = "report.json"
MINIMAL: Final = "minimal"
"""Folder beside a violation's report in which the smaller one is written."""


@dataclass(frozen=True, slots=True)
class Again:
    """What a folder says about a run."""

    scenario: Scenario
    seed: int
    injections: tuple[Injection, ...] | None
    """The faults; None: those that the scenario gives."""
    auditor: str
    """What its auditor was; empty where it ended in a violation."""
    checker: str
    """The rule that was broken; empty where none was."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How the run went this time."""

    auditor: str
    events: int
    now: int
    """Simulated ns at its end."""
    violation: Violation | None


class _EnoughError(Exception):
    """The time that was asked for is reached."""


class _Teller(Recent):
    """Tells each event when it happens, as one line."""

    def __init__(self, tell: Callable[[str], None], node: str, until: int) -> None:
        super().__init__(kept=1)
        self._tell = tell
        self._node = node
        self._until = until
        self._names: list[str] = []

    def started(self, world: World) -> None:
        self._names = [peer.name for peer in world.peers]
        if self._node and self._node not in self._names:
            raise Refused(
                f"there is no peer {self._node!r}", code="bad_peer", fix=f"Peers are {', '.join(self._names[:8])} …"
            )

    def handled(self, peer: Subject, cause: object, effects: list[Effect], now: int) -> None:
        super().handled(peer, cause, effects, now)
        self._next(now, peer.index)

    def sent(self, source: int, target: int, message: object, now: int, arrives: int) -> None:
        super().sent(source, target, message, now, arrives)
        self._next(now, source, target)

    def moved(self, peer: Subject, is_up: bool, now: int) -> None:
        super().moved(peer, is_up, now)
        self._next(now, peer.index)

    def injected(self, injection: Injection, now: int) -> None:
        super().injected(injection, now)
        self._next(now, *injection.peers)

    def _next(self, now: int, *peers: int) -> None:
        if now > self._until:
            raise _EnoughError
        if not self._node or self._node in (self._names[peer] for peer in peers):
            for line in self.lines(self._names):
                self._tell(line)
        self.events.clear()


def opened(folder: Path) -> Again:
    """What a violation's folder or a run directory says. `Refused` (`no_run`, `bad_run`) when it is neither."""
    if (folder / REPORT).exists():
        try:
            report = read_report(folder)
        except (OSError, msgspec.DecodeError) as error:
            fix = "Run the scenario with this seed again."
            raise Refused(f"{folder / REPORT} cannot be read: {error}", code="bad_run", fix=fix) from error
        return Again(report.scenario, report.seed, report.injections, "", report.checker)
    manifest = RunDirectory(folder).read_manifest()
    return Again(scenario_file.load(folder / SCENARIO), manifest.seed, None, manifest.auditor, "")


def replay(again: Again, tell: Callable[[str], None], node: str = "", until: int | None = None) -> Ended:
    """Run it again, with a line for every event, or for those of one peer; to the end, or up to `until` (ns)."""
    plan = again.scenario.simulation
    end = plan.duration + plan.settle if until is None else until
    rules: list[Observer] = [*checkers(plan.checks)]
    world = World(again.scenario, again.seed, again.injections, [_Teller(tell, node, end), *rules])
    violation = None
    try:
        world.run(is_over=ending(rules, world))
    except Violation as found:
        violation = found
    except _EnoughError:
        pass
    return Ended(world.driver.auditor.hexdigest(), world.queue.executed, world.queue.now, violation)


def minimal(again: Again, folder: Path, on_try: Callable[[int], None]) -> tuple[list[Injection], Path]:
    """The fewest faults that break the same rule, and the folder of their report. `on_try` is told how many are tried.

    `Refused`: `no_violation` for a run in which none was, `does_not_fail` when this program no longer breaks the rule.
    """
    if not again.checker or again.injections is None:
        fix = "Name the folder of a violation, such as run/violations/1."
        raise Refused(f"{folder} holds no violation", code="no_violation", fix=fix)

    def fails(part: Sequence[Injection]) -> bool:
        on_try(len(part))
        violation = swarm.run_seed(again.seed, again.scenario, part).violation
        return violation is not None and violation.checker == again.checker

    left = minimise(fails, again.injections)
    return left, Path(swarm.run_seed(again.seed, again.scenario, left, folder / MINIMAL).folder)
