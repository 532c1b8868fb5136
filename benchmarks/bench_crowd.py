"""A crowd of real peers on one machine: python -m benchmarks.bench_crowd [--sizes 25 50 100 200] [--processes 8].

Every peer has the whole transport: sockets, sessions, gossip, directory, pings, reachability. The first peer of the
crowd lives in a process of its own and is everybody's bootstrap, the others share processes and arrive at a steady pace
(`--pace` per second; a huge one: all at once). Seconds are counted from the arrival of the last. How each figure grows
with the size of the crowd is fitted at the end: 0 = not at all, 1 = in proportion.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from benchmarks import report
from benchmarks.crowd_peers import (
    NETWORK,
    Figures,
    Find,
    Gather,
    Gathered,
    Heard,
    Look,
    Looked,
    Open,
    Order,
    Quiet,
    Say,
    Stop,
)
from benchmarks.report import Figure

__all__ = ["NETWORK", "main", "measure"]

ROOT: Final = Path(__file__).parents[1]
NS: Final = 1_000_000_000
SIZES: Final = (25, 50, 100, 200)
PROCESSES: Final = 8
PACE: Final = 20.0
"""Peers that arrive per second. One costs the machine some 0.3 s of a core, so four cores are fully busy beyond 13."""
CALM_S: Final = 35.0
"""From the last offer to the idle measurement: searches and the hurried pings of the first half minute are over."""
IDLE_S: Final = 15.0
RATE: Final = 2.0
"""Statements per second, by all peers together."""
TALK_S: Final = 15.0
LINGER_S: Final = 4.0
LOOKUPS: Final = 24
LATE_SHOWN: Final = 3
PATIENCE_S: Final = 60.0
"""For the crowd to find itself."""

T = TypeVar("T")


class Worker:
    """A process of peers."""

    def __init__(self, first: int, count: int, crowd: int, stack: ExitStack) -> None:
        command = [sys.executable, "-m", "benchmarks.crowd_peers", str(first), str(count), str(crowd)]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.first = first
        self.count = count
        stack.callback(self.popen.wait)
        stack.callback(self.popen.kill)

    def tell(self, order: Order) -> None:
        """One line."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(msgspec.json.encode(order).decode() + "\n")
        self.popen.stdin.flush()

    def hear(self, kind: type[T]) -> T:
        """The next line. RuntimeError when the process is gone."""
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.popen.args!r} ended with status {self.popen.wait()}")
        return msgspec.json.decode(line, type=kind)


class Crowd:
    """All processes of one run."""

    def __init__(self, size: int, processes: int, stack: ExitStack) -> None:
        self.size = size
        rest = size - 1
        shares = [rest * (n + 1) // processes - rest * n // processes for n in range(processes)]
        self.workers = [Worker(0, 1, size, stack)]
        for n, share in enumerate(shares):
            if share:
                self.workers.append(Worker(1 + sum(shares[:n]), share, size, stack))

    def all(self, order: Order, kind: type[T]) -> list[T]:
        """Give an order to everybody; the answers."""
        for worker in self.workers:
            worker.tell(order)
        return [worker.hear(kind) for worker in self.workers]

    def home(self, number: int) -> tuple[int, int]:
        """(process, place within it) of a peer."""
        place = next(n for n in reversed(range(len(self.workers))) if self.workers[n].first <= number)
        return place, number - self.workers[place].first

    def shared(self, order: Callable[[int], Order], kind: type[T]) -> list[T]:
        """An order of its own to every process; the answers."""
        for n, worker in enumerate(self.workers):
            worker.tell(order(n))
        return [worker.hear(kind) for worker in self.workers]


def crowd(size: int, processes: int, pace: float, say: Callable[[str], None]) -> dict[str, tuple[float, ...]]:
    """One crowd from its beginning to its end; quantities by name."""
    with ExitStack() as stack:
        people = Crowd(size, processes, stack)
        empty = [worker.hear(Figures) for worker in people.workers]
        founder, others = people.workers[0], people.workers[1:]
        say(f"{size} peers: they open")
        founder.tell(Open((), 0.0))
        opened = [founder.hear(Figures)]
        seeds = tuple(opened[0].addresses)
        for worker in others:
            worker.tell(Open(seeds, len(others) / pace))
        opened += [worker.hear(Figures) for worker in others]
        last = time.monotonic_ns()
        say(f"{size} peers: they gather")
        gathered = people.all(Gather(size, PATIENCE_S), Gathered)
        late = sorted(item for one in gathered for item in one.late.items())
        for number, standing in late[:LATE_SHOWN]:
            say(f"peer {number} of {len(late)} that had not heard everybody after {PATIENCE_S:g} s: {standing}")
        found: dict[str, tuple[float, ...]] = {
            "seconds to 8 neighbours": ((max(one.neighbours_at for one in gathered) - last) / NS,),
            "peers that hear all": (float(size - len(late)),),
            "seconds until all hear all": ((max(one.heard_at for one in gathered) - last) / NS,),
        }
        joined = people.all(Quiet(), Figures)
        found["CPU to gather per peer"] = (1e3 * (_cpu(joined) - _cpu(empty)) / size,)
        time.sleep(CALM_S)
        say(f"{size} peers: they idle")
        before, at = people.all(Look(), Figures), time.monotonic()
        time.sleep(IDLE_S)
        after, took = people.all(Look(), Figures), time.monotonic() - at
        found |= _idle(people, empty, before, after, took)
        say(f"{size} peers: they talk")
        idle = (_cpu(after) - _cpu(before)) / took
        found |= _talk(people, size, idle * (1 + TALK_S + LINGER_S))
        say(f"{size} peers: they look each other up")
        found |= _find(people, size)
        for worker in people.workers:
            worker.tell(Stop())
        return found


def _cpu(figures: Sequence[Figures]) -> float:
    return sum(one.cpu_s for one in figures)


def _idle(
    people: Crowd, empty: Sequence[Figures], before: Sequence[Figures], after: Sequence[Figures], took: float
) -> dict[str, tuple[float, ...]]:
    """Memory, connections and processor time of peers that have nothing to do."""
    spread = list(zip(people.workers, empty, after, strict=True))[1:]
    ends = [number for one in after for number in one.connections]
    return {
        "connections per peer": tuple(map(float, ends)),
        "peers up per peer": tuple(float(number) for one in after for number in one.up),
        "idle CPU per peer": (100 * (_cpu(after) - _cpu(before)) / took / people.size,),
        "memory per peer, shared process": tuple((b.rss - a.rss) / 1e6 / worker.count for worker, a, b in spread),
        "memory of a process with one peer": (after[0].rss / 1e6,),
        "memory of an empty process": (empty[0].rss / 1e6,),
    }


def _talk(people: Crowd, size: int, idle_cpu_s: float) -> dict[str, tuple[float, ...]]:
    """Some statements from all over the crowd; `idle_cpu_s` is what that time costs without any."""
    dice = Random(size)
    start = time.monotonic_ns() + NS
    base = 10_000_000
    plan = [
        (*people.home(dice.randrange(size)), base + n, start + int(n / RATE * NS)) for n in range(int(RATE * TALK_S))
    ]
    end = start + int((TALK_S + LINGER_S) * NS)
    notes = people.shared(
        lambda n: Say(tuple((place, number, at) for home, place, number, at in plan if home == n), end), Heard
    )
    said = {number: at for note in notes for number, at in note.said}
    delays = sorted((at - said[number]) / 1e6 for note in notes for number, at in note.heard if number in said)
    others = max(1, len(delays) - len(said))
    used = sum(note.cpu_s for note in notes)
    return {
        "gossip delivered": (len(delays) / (len(said) * size),),
        "gossip p50": (delays[len(delays) // 2],),
        "gossip p99": (delays[int(len(delays) * 0.99)],),
        "CPU per delivery": (1e3 * max(0.0, used - idle_cpu_s) / others,),
        "CPU per delivery, idling included": (1e3 * used / others,),
    }


def _find(people: Crowd, size: int) -> dict[str, tuple[float, ...]]:
    """Searches for peers drawn by lot, one after the other in three processes at a time."""
    dice = Random(size)
    homes = range(len(people.workers))
    pairs = [(dice.choice(homes), *dice.sample(range(size), 2)) for _ in range(LOOKUPS)]
    orders: list[list[tuple[int, int]]] = [[] for _ in homes]
    for home, _, wanted in pairs:
        orders[home].append((dice.randrange(people.workers[home].count), wanted))
    looked = people.shared(lambda n: Find(tuple(orders[n])), Looked)
    found = [one for each in looked for one in each.found]
    missed = sum(each.missed for each in looked)
    return {
        "directory, found": (len(found) / max(1, len(found) + missed),),
        "directory, time": tuple(took for took, _, _ in found) or (math.inf,),
        "directory, hops": tuple(float(hops) for _, hops, _ in found) or (0.0,),
        "directory, questions": tuple(float(asks) for _, _, asks in found) or (0.0,),
    }


UNITS: Final = {
    "seconds to 8 neighbours": "s",
    "peers that hear all": "peers",
    "seconds until all hear all": "s",
    "CPU to gather per peer": "ms",
    "connections per peer": "ends",
    "peers up per peer": "peers",
    "idle CPU per peer": "% of a core",
    "memory per peer, shared process": "MB",
    "memory of a process with one peer": "MB",
    "memory of an empty process": "MB",
    "gossip delivered": "share",
    "gossip p50": "ms",
    "gossip p99": "ms",
    "CPU per delivery": "ms",
    "CPU per delivery, idling included": "ms",
    "directory, found": "share",
    "directory, time": "ms",
    "directory, hops": "hops",
    "directory, questions": "questions",
}


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """The b of y = a·n^b by least squares of the logarithms.

    >>> round(exponent([(10, 2.0), (20, 4.0), (40, 8.0)]), 6)
    1.0
    """
    logs = [(math.log(n), math.log(y)) for n, y in points if y > 0 and math.isfinite(y)]
    if len(logs) < 2:
        return 0.0
    return statistics.linear_regression([x for x, _ in logs], [y for _, y in logs]).slope


class Measured(Struct, frozen=True):
    """One crowd."""

    size: int
    found: dict[str, tuple[float, ...]]


def measure(
    say: Callable[[str], None], sizes: Sequence[int] = SIZES, processes: int = PROCESSES, pace: float = PACE
) -> list[Figure]:
    """Crowds one after the other, and how everything grows."""
    crowds = [Measured(size, crowd(size, processes, pace, say)) for size in sizes]
    figures = []
    for name, unit in UNITS.items():
        points = [(float(one.size), statistics.median(one.found[name])) for one in crowds]
        growth = f"∝ N^{exponent(points):.2f} over {len(points)} sizes" if len(points) > 1 else ""
        for one in crowds:
            note = growth if one is crowds[-1] else ""
            figures.append(Figure(f"crowd of {one.size}: {name}", unit, one.found[name], note=note))
    return figures + end_of_a_connection(crowds)


def end_of_a_connection(crowds: Sequence[Measured]) -> list[Figure]:
    """What one more connection costs a peer that is in the network, from crowds in which peers have more or fewer."""
    ends = [statistics.mean(one.found["connections per peer"]) for one in crowds]
    memory = [statistics.mean(one.found["memory per peer, shared process"]) for one in crowds]
    if len(set(ends)) < 2:
        return []
    slope = 1e3 * statistics.linear_regression(ends, memory).slope
    return [Figure("crowd: memory per connection end", "kB", (slope,), note="sessions, gossip and directory included")]


def main(words: Sequence[str]) -> int:
    """Measure, tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_crowd", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument("--pace", type=float, default=PACE, help="peers that arrive per second")
    options = parser.parse_args(words)
    facts = report.machine()

    def say(text: str) -> None:
        print(f"· {text}", file=sys.stderr, flush=True)

    figures = measure(say, options.sizes, options.processes, options.pace)
    report.write(facts, figures, report.FOLDER / "bench_crowd.json")
    report.show(facts, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
