"""Simulated gossip against the node's own: python -m benchmarks.gossip_live [--peers 30] [--seconds 40] [--seed 1].

Starts so many processes, each with the node's own transport, on a random graph whose links are relays with a known
delay (`benchmarks/delay_proxy.py`). Statements are published on a schedule. The simulator then plays the same graph,
the same delays and the same schedule; only the time that a real node needs for one hop is taken from the live run
(`benchmarks/gossip_match.py`). Prints a table and writes build/gossip_live.json.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Final, TypeVar

import msgspec
import psutil
from msgspec import Struct

from benchmarks import report
from benchmarks.delay_proxy import Lateness, Links, Ports, Stop
from benchmarks.gossip_peer import Diary, Opened, Schedule, Wiring, identity_of
from protocol.identity import peer_text
from simulations.chance import stream

ROOT: Final = Path(__file__).parents[1]
NS: Final = 1_000_000_000
SETTLE_S: Final = 10.0
"""From the last connection to the first statement: ten heartbeats, after which the meshes are what they will be."""

LINGER_S: Final = 4.0
"""From the last statement to the end: what a heartbeat's IHAVE brings has arrived by then."""

LEAD_S: Final = 0.5
"""From writing the schedules to the moment they count from."""

PEERS_MAX: Final = 100
"""Processes of 75 MB each; beyond that a workstation measures its own scheduler."""

T = TypeVar("T")


class Graph(Struct, frozen=True):
    """Who dials whom over which delay, and who says something when. The simulator gets the same."""

    peers: int
    links: tuple[tuple[int, int, int], ...]
    """(dialler, dialled, one-way delay in ns)."""
    statements: tuple[tuple[int, int], ...]
    """(publisher, ns after the start of the schedule)."""


class Run(Struct, frozen=True):
    """A live run as it was."""

    seed: int
    graph: Graph
    start: int
    """CLOCK_MONOTONIC of time 0 of the schedule, ns."""
    diaries: tuple[Diary, ...]
    lateness: Lateness
    direct: int
    """Connections that bypassed the relays: must be 0."""
    connections: int
    load: float
    """Share of this machine's processors that was busy during the measurement, ours and others'."""


def make_graph(peers: int, dials: int, rate: float, seconds: float, seed: int, delays_ms: tuple[int, int]) -> Graph:
    """A ring and random chords: every peer dials its successor and `dials - 1` others that have no link to it yet."""
    dice = stream(seed, "gossip-live", "graph")
    linked = {frozenset((peer, (peer + 1) % peers)) for peer in range(peers)}
    pairs = [(peer, (peer + 1) % peers) for peer in range(peers)]
    for peer in range(peers):
        for _ in range(dials - 1):
            others = [one for one in range(peers) if one != peer and frozenset((peer, one)) not in linked]
            if others:
                pairs.append((peer, others[int(dice.random() * len(others))]))
                linked.add(frozenset(pairs[-1]))
    low, high = (bound * 1_000_000 for bound in delays_ms)
    links = tuple((a, b, low + int(dice.random() * (high - low))) for a, b in pairs)
    return Graph(peers, links, tuple(_statements(peers, rate, seconds, stream(seed, "gossip-live", "statements"))))


def _statements(peers: int, rate: float, seconds: float, dice: Random) -> Iterator[tuple[int, int]]:
    """Evenly spread over time with a jitter of half an interval, by peers drawn at random."""
    for number in range(int(rate * seconds)):
        at = (number + dice.random() / 2) / rate
        yield int(dice.random() * peers), int(at * NS)


class Process:
    """A child that talks in lines of JSON."""

    def __init__(self, module: str, *words: str) -> None:
        command = [sys.executable, "-m", module, *words]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def tell(self, value: Struct) -> None:
        """One line."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(msgspec.json.encode(value).decode() + "\n")
        self.popen.stdin.flush()

    def hear(self, kind: type[T]) -> T:
        """The next line; RuntimeError when the child has ended instead."""
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.popen.args!r} ended with status {self.popen.wait()}")
        return msgspec.json.decode(line, type=kind)

    def end(self) -> None:
        """Its standard input ends, and so does it."""
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.popen.stdin.close()
        self.popen.stdout.close()
        try:
            self.popen.wait(5)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


@contextmanager
def process(module: str, *words: str) -> Iterator[Process]:
    """A child for the length of the block."""
    child = Process(module, *words)
    try:
        yield child
    finally:
        child.end()


def live(graph: Graph, seed: int, settle_s: float = SETTLE_S, linger_s: float = LINGER_S) -> Run:
    """Run the real thing once. RuntimeError when one of its processes dies."""
    with ExitStack() as stack:
        every = range(graph.peers)
        peers = [stack.enter_context(process("benchmarks.gossip_peer", str(seed), str(peer))) for peer in every]
        relay = stack.enter_context(process("benchmarks.delay_proxy"))
        opened = [peer.hear(Opened) for peer in peers]
        _connect(graph, seed, peers, relay, [one.port for one in opened])
        start = time.monotonic_ns() + int((settle_s + LEAD_S) * NS)
        end = start + max(at for _, at in graph.statements) + int(linger_s * NS)
        for index, peer in enumerate(peers):
            peer.tell(Schedule(tuple(start + at for who, at in graph.statements if who == index), end))
        time.sleep(max(0.0, (start - time.monotonic_ns()) / NS))
        psutil.cpu_percent()
        ports = {one.port for one in opened}
        direct, connections = _connections(peers, ports)
        time.sleep(max(0.0, (end - time.monotonic_ns()) / NS))
        load = round(float(psutil.cpu_percent()) / 100, 3)
        diaries = tuple(peer.hear(Diary) for peer in peers)
        relay.tell(Stop())
        return Run(seed, graph, start, diaries, relay.hear(Lateness), direct, connections, load)


def _connect(graph: Graph, seed: int, peers: Sequence[Process], relay: Process, ports: Sequence[int]) -> None:
    """Give every peer the relays to its neighbours, and wait until all are up."""
    relay.tell(Links(tuple((ports[b], delay) for _, b, delay in graph.links)))
    doors = relay.hear(Ports).ports
    names = [peer_text(identity_of(seed, peer).peer) for peer in range(graph.peers)]
    dial: list[dict[str, str]] = [{} for _ in peers]
    degree = [0] * graph.peers
    for (a, b, _), door in zip(graph.links, doors, strict=True):
        dial[a][names[b]] = f"/ip4/127.0.0.1/tcp/{door}"
        degree[a] += 1
        degree[b] += 1
    for peer, child in enumerate(peers):
        child.tell(Wiring(dial[peer], degree[peer]))
    for child in peers:
        child.hear(Opened)


def _connections(peers: Sequence[Process], ports: set[int]) -> tuple[int, int]:
    """(connections from a peer straight to another's port, connections accepted by peers)."""
    direct = accepted = 0
    for peer in peers:
        for one in psutil.Process(peer.popen.pid).net_connections(kind="tcp"):
            if one.status == psutil.CONN_ESTABLISHED and one.raddr:
                direct += int(one.raddr.port in ports)
                accepted += int(one.laddr.port in ports)
    return direct, accepted


def main(words: Sequence[str]) -> int:
    """Measure, compare, tell; status 1 when the simulator is off by more than its bars."""
    from benchmarks import gossip_match

    parser = argparse.ArgumentParser(prog="python -m benchmarks.gossip_live", description=__doc__)
    parser.add_argument("--peers", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=40.0, help="how long statements are published")
    parser.add_argument("--dials", type=int, default=5, help="links that each peer opens; it has twice as many")
    parser.add_argument("--rate", type=float, default=3.0, help="statements per second, by all peers together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--delays", type=int, nargs=2, default=(20, 120), metavar="MS", help="one way, least and most")
    parser.add_argument("--run", type=Path, default=report.FOLDER / "gossip_run.json", help="where the raw run goes")
    parser.add_argument("--again", action="store_true", help="compare the raw run that is there, without a new one")
    options = parser.parse_args(words)
    low, high = options.delays
    if not 1 <= options.dials < options.peers <= PEERS_MAX or options.rate * options.seconds < 1 or not 0 < low < high:
        parser.error(f"needs 1 <= dials < peers <= {PEERS_MAX}, one statement at least, and 0 < least < most delay")
    if options.again:
        run = msgspec.json.decode(options.run.read_bytes(), type=Run)
    else:
        graph = make_graph(options.peers, options.dials, options.rate, options.seconds, options.seed, (low, high))
        run = live(graph, options.seed)
        options.run.parent.mkdir(parents=True, exist_ok=True)
        options.run.write_bytes(msgspec.json.encode(run))
    return gossip_match.show(run, report.FOLDER / "gossip_live.json")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
