"""Who reaches whom, how, and how soon: every node of a village is asked again and again while the network forms."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from benchmarks.netlab.routers import Kind, can_punch
from benchmarks.netlab.village import WAYS, Village, Way
from node.clock import Clock
from protocol.errors import ShoalError
from protocol.units import SECOND

LOOK_S: Final = 0.2
"""Between two rounds of questions."""

Pair = tuple[str, str]


@dataclass(slots=True)
class Reached:
    """What became of a pair; seconds since both nodes answered their control socket."""

    first: Way
    first_s: float
    best: Way
    best_s: float


class Watch:
    """Asks in a thread of its own, from before the nodes start until the block ends."""

    def __init__(self, village: Village) -> None:
        self._village = village
        self._clock = Clock()
        self._answered: dict[str, int] = {}
        self.pairs: dict[Pair, Reached] = {}
        self._ends = threading.Event()
        self._error: ShoalError | None = None
        self._thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def is_settled(self, seconds: float) -> bool:
        """True when nothing has changed for a while."""
        times = [self._answered.get(name, 0) for name in self._village.names]
        newest = max(times) + int(max((one.best_s for one in self.pairs.values()), default=0) * SECOND)
        return self._clock.now() - newest > seconds * SECOND

    def _run(self) -> None:
        try:
            while not self._ends.wait(LOOK_S):
                for name in self._village.names:
                    self._look(name)
        except ShoalError as error:
            self._error = error

    def _look(self, name: str) -> None:
        ways = self._village.ways(name)
        if ways is None:
            return
        now = self._clock.now()
        self._answered.setdefault(name, now)
        for other, way in ways.items():
            if other not in self._answered:
                continue
            pair = (min(name, other), max(name, other))
            seconds = (now - max(self._answered[name], self._answered[other])) / SECOND
            known = self.pairs.setdefault(pair, Reached(way, seconds, way, seconds))
            if WAYS.index(way) < WAYS.index(known.best):
                known.best, known.best_s = way, seconds


def expected(one: Kind, other: Kind) -> Way:
    """The best way that TCP has between two kinds of routers: to a public one it dials, else it punches or is relayed.

    >>> expected("symmetric", "public"), expected("cgnat", "remapping"), expected("symmetric", "cgnat")
    ('direct', 'punched', 'relayed')
    """
    if "public" in (one, other):
        return "direct"
    return "punched" if can_punch(one, other, "tcp") else "relayed"


def cell(reached: Reached | None) -> str:
    """One field of the matrix: the best way and its seconds, and what there was before it.

    >>> cell(Reached("relayed", 0.4, "punched", 1.31))
    'punched 1.3 (relayed 0.4)'
    >>> cell(None)
    'none'
    """
    if reached is None:
        return "none"
    before = f" ({reached.first} {reached.first_s:.1f})" if reached.first != reached.best else ""
    return f"{reached.best} {reached.best_s:.1f}{before}"


def matrix(pairs: dict[Pair, Reached], names: Sequence[str]) -> str:
    """All pairs as a table of markdown, the upper half."""
    lines = ["| |" + "".join(f" {name} |" for name in names), "|---|" + "---|" * len(names)]
    for row, one in enumerate(names):
        fields = [
            "" if column <= row else cell(pairs.get((min(one, other), max(one, other))))
            for column, other in enumerate(names)
        ]
        lines.append(f"| **{one}** |" + "".join(f" {field} |" for field in fields))
    return "\n".join(lines)
