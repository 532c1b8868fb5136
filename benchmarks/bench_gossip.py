"""Gossip at full size: python -m benchmarks.bench_gossip [--hosts 50] [--processes 4] [--rate 20] [--seconds 15].

So many hosts in so many processes, each with a router, on one random graph; small signed statements, each verified by
every host. Delivery ratio, latency and processor time per delivery of the node's router, of py-libp2p's (`libp2p`), and
of js-libp2p's (`js`, where node and the packages of tests/interop are installed). All in one run, so that they compare.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from benchmarks import js_packages, report
from benchmarks.gossip_crowd import Dials, Doors, Notes, Plan
from benchmarks.report import Aim, Figure

ROOT: Final = Path(__file__).parents[1]
SCRIPT: Final = ROOT / "tests" / "interop" / "crowd.mjs"
KINDS: Final = ("ours", "libp2p", "js")
NS: Final = 1_000_000_000
SETTLE_S: Final = 4.0
"""From the last connection to the first statement: meshes are there."""
LINGER_S: Final = 5.0
"""From the last statement to the end: what IHAVE brings has come."""
DIALS: Final = 8
"""Links that each host opens; it has twice as many."""

T = TypeVar("T")


class Setup(Struct, frozen=True):
    """What is measured."""

    kind: str
    hosts: int
    processes: int
    rate: float
    seconds: float


class Worker:
    """A child that talks in lines of JSON."""

    def __init__(self, setup: Setup, first: int, count: int, stack: ExitStack) -> None:
        words = [str(first), str(count)]
        if setup.kind == "js":
            command = ["node", str(SCRIPT), *words]
        else:
            command = [sys.executable, "-m", "benchmarks.gossip_crowd", setup.kind, *words]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.count = count
        stack.callback(self.popen.wait)
        stack.callback(self.popen.kill)

    def tell(self, value: Struct) -> None:
        """One line."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(msgspec.json.encode(value).decode() + "\n")
        self.popen.stdin.flush()

    def hear(self, kind: type[T]) -> T:
        """The next line."""
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.popen.args!r} ended with status {self.popen.wait()}")
        return msgspec.json.decode(line, type=kind)


def links(hosts: int, dice: Random) -> list[tuple[int, int]]:
    """A ring and random chords."""
    pairs = {frozenset((one, (one + 1) % hosts)): (one, (one + 1) % hosts) for one in range(hosts)}
    for one in range(hosts):
        for other in dice.sample(range(hosts), min(hosts, DIALS)):
            if other != one and sum(pair[0] == one for pair in pairs.values()) < DIALS:
                pairs.setdefault(frozenset((one, other)), (one, other))
    return list(pairs.values())


def run(setup: Setup) -> tuple[list[Notes], float]:
    """(what every process noted, seconds from plan to end)."""
    dice = Random(5)
    shares = [
        setup.hosts * (n + 1) // setup.processes - setup.hosts * n // setup.processes for n in range(setup.processes)
    ]
    firsts = [sum(shares[:n]) for n in range(setup.processes)]
    homes = [(n, place) for n, share in enumerate(shares) for place in range(share)]
    with ExitStack() as stack:
        workers = [Worker(setup, first, share, stack) for first, share in zip(firsts, shares, strict=True)]
        doors = [door for worker in workers for door in worker.hear(Doors).doors]
        pairs = links(setup.hosts, dice)
        degrees = Counter(end for pair in pairs for end in pair)
        for n, worker in enumerate(workers):
            mine = tuple((homes[a][1], *doors[b]) for a, b in pairs if homes[a][0] == n)
            wanted = tuple(degrees[host] for host in range(setup.hosts) if homes[host][0] == n)
            worker.tell(Dials(mine, wanted))
        for worker in workers:
            worker.hear(Doors)
        began = time.monotonic_ns()
        start = began + int(SETTLE_S * NS)
        count = int(setup.rate * setup.seconds)
        plan = [
            (dice.randrange(setup.hosts), n + 1, start + int((n + dice.random()) / setup.rate * NS))
            for n in range(count)
        ]
        end = start + int((setup.seconds + LINGER_S) * NS)
        for n, worker in enumerate(workers):
            worker.tell(Plan(tuple((homes[who][1], number, at) for who, number, at in plan if homes[who][0] == n), end))
        notes = [worker.hear(Notes) for worker in workers]
        return notes, (time.monotonic_ns() - began) / NS


def figures(setup: Setup, notes: Sequence[Notes], seconds: float) -> list[Figure]:
    """Ratio, latency, processor time."""
    said = {number: at for note in notes for number, at in note.said}
    heard = [(number, at) for note in notes for number, at in note.heard if number in said]
    latencies = sorted((at - said[number]) / 1e6 for number, at in heard)
    expected = len(said) * setup.hosts
    cpu = sum(note.cpu_s for note in notes)
    totals = sum((Counter(note.statistics) for note in notes), Counter[str]())
    is_ours = setup.kind == "ours"
    name = f"gossip {setup.kind}, N={setup.hosts}, {setup.rate:g}/s:"
    others = len(heard) - len(said)

    def rank(share: float) -> float:
        return latencies[min(len(latencies) - 1, int(share * len(latencies)))] if latencies else float("inf")

    found = [
        Figure(f"{name} delivered", "share", (len(heard) / expected,), Aim("least", 1.0) if is_ours else None),
        Figure(f"{name} latency p50", "ms", (rank(0.5),)),
        Figure(f"{name} latency p99", "ms", (rank(0.99),), Aim("most", 300.0) if is_ours else None),
        Figure(
            f"{name} processor time per delivery",
            "ms",
            (1000 * cpu / max(1, others),),
            Aim("most", 2.0) if is_ours else None,
            f"{cpu / seconds:.2f} processors busy, statements of {notes[0].size} B, own ones not counted",
        ),
    ]
    if is_ours:
        copies = totals["copies_sent"] / max(1, others)
        found.append(Figure(f"{name} copies per delivery", "copies", (copies,)))
        found.append(Figure(f"{name} members per mesh", "peers", (totals["mesh_members"] / setup.hosts,)))
    return found


def usual() -> list[Setup]:
    """What is measured unless somebody says otherwise: fifty hosts, twenty statements a second."""
    return [Setup(kind, 50, 4, 20.0, 15.0) for kind in KINDS]


def measure(setups: Sequence[Setup], say: Callable[[str], None]) -> list[Figure]:
    """One after the other; js is left out where it cannot be had."""
    found: list[Figure] = []
    for setup in setups:
        if setup.kind == "js" and (why := js_packages.missing()):
            say(f"gossip js is skipped: {why}")
            continue
        say(f"gossip {setup.kind}: {setup.hosts} hosts")
        found += figures(setup, *run(setup))
    return found


def main(words: Sequence[str]) -> int:
    """Measure, tell; status 1 when the node's own router misses an aim."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_gossip", description=__doc__)
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--rate", type=float, default=20.0, help="statements per second, by all hosts together")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--old-rate", type=float, default=20.0, help="the same for py-libp2p")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    options = parser.parse_args(words)
    facts = report.machine()
    setups = [
        Setup(kind, options.hosts, options.processes, rates.get(kind, options.rate), options.seconds)
        for kind in options.kinds
        for rates in ({"libp2p": options.old_rate},)
    ]
    found = measure(setups, lambda text: print(f"· {text}", file=sys.stderr, flush=True))
    report.write(facts, found, report.FOLDER / "bench_gossip.json")
    report.show(facts, found)
    return int(any(one.aim is not None and not one.aim.is_met(one.median) for one in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
