"""The same gossip twice: what the processes of a live run saw, and what the simulator says they should have seen.

The simulator gets the graph, the delays, when each link came up, the schedule and the node's own parameters. From the
live run it takes one thing only: what a hop costs beside the link's delay (verifying, queueing, encrypting, sending),
measured copy by copy on every link, duplicates included, so that neither the paths nor the latencies that are compared
went into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Final

from msgspec import Struct

from benchmarks import report
from benchmarks.gossip_live import NS, Graph, Run
from benchmarks.gossip_peer import identity_of
from benchmarks.report import Aim, Figure
from protocol.identity import peer_text
from simulations.chance import stream
from simulations.gossip_params import GossipParams
from simulations.gossipsub import Gossip
from simulations.queue import Queue
from simulations.recorder import Recorder

P50_BAR: Final = 10.0
"""Percent by which the simulated median may be off (issue: p50 within 10 %)."""

P99_BAR: Final = 20.0
"""Percent by which the simulated p99 may be off."""

REPEATS: Final = 5
"""Simulated runs: the phases of heartbeats and the choice of mesh peers are drawn anew in each."""


class Hops(Struct, frozen=True):
    """Measured times beside the delays of links, ns, one per event."""

    forward: tuple[int, ...]
    """From the first copy at a forwarder's door to the copy at its neighbour's, less the link's delay. Sorted."""
    publish: tuple[int, ...]
    """From the call of `publish` to the publisher's own door."""
    inbox: tuple[int, ...]
    """From the first copy at the door to the inbox."""


class Heard(Struct, frozen=True):
    """What came of the statements."""

    latencies: tuple[int, ...]
    """ns from publication to the inbox, over every statement and every peer but its publisher."""
    missed: int
    """Pairs of statement and peer that never met."""
    copies: float
    """Copies that a peer received of one statement, in the mean."""


def heard(run: Run) -> tuple[Heard, Hops]:
    """Both from the diaries."""
    names = {peer_text(identity_of(run.seed, peer).peer): peer for peer in range(run.graph.peers)}
    said = {name: (peer, at) for peer, diary in enumerate(run.diaries) for name, at in diary.said}
    delay = {(a, b): d for a, b, d in run.graph.links} | {(b, a): d for a, b, d in run.graph.links}
    doors: list[dict[str, int]] = [{} for _ in run.diaries]
    for peer, diary in enumerate(run.diaries):
        for name, _, at in diary.copies:
            doors[peer].setdefault(name, at)
    forward, publish, inbox, latencies, copies = [], [], [], [], 0
    for peer, diary in enumerate(run.diaries):
        for name, text, at in diary.copies:
            source = names[text]
            if source == peer:
                publish.append(at - said[name][1])
                continue
            copies += 1
            beside = at - doors[source][name] - delay[source, peer]
            if beside < 2 * delay[source, peer]:  # Later ones were asked for: IHAVE and IWANT crossed the link before.
                forward.append(beside)
        for name, at in diary.taken:
            if said[name][0] != peer:
                latencies.append(at - said[name][1])
                inbox.append(at - doors[peer][name])
    pairs = len(said) * (run.graph.peers - 1)
    story = Heard(tuple(sorted(latencies)), pairs - len(latencies), copies / pairs)
    return story, Hops(tuple(sorted(forward)), tuple(publish), tuple(inbox))


class Wires:
    """The simulator's network for this graph: every link has its delay, and sizes cost nothing on loopback."""

    def __init__(self, graph: Graph) -> None:
        self._delay = {(a, b): d for a, b, d in graph.links} | {(b, a): d for a, b, d in graph.links}

    def arrival(self, source: int, target: int, size: int, now: int) -> int:
        """When it arrives, ns; -1 where there is no link."""
        delay = self._delay.get((source, target))
        return -1 if delay is None else now + delay

    def can_reach(self, source: int, target: int, now: int) -> bool:
        """Neighbours reach each other, always."""
        return (source, target) in self._delay


def draw(values: Sequence[int], dice: Random) -> int:
    """One of them."""
    return values[int(dice.random() * len(values))]


def link_times(run: Run) -> list[tuple[int, int, int]]:
    """(ns, dialler, dialled): when both ends of each link saw the other come up. CLOCK_MONOTONIC, in order of time."""
    names = [peer_text(identity_of(run.seed, peer).peer) for peer in range(run.graph.peers)]
    ups = [diary.up for diary in run.diaries]
    return sorted((max(ups[a][names[b]], ups[b][names[a]]), a, b) for a, b, _ in run.graph.links)


def simulate(run: Run, hops: Hops, repeat: int) -> Heard:
    """One run of the simulator, whose meshes form as the links come up in the live one."""
    graph, queue, recorder = run.graph, Queue(), Recorder()
    dice = stream(run.seed, "gossip-match", repeat)
    links = link_times(run)
    origin = links[0][0] - NS
    start = run.start - origin
    said: dict[int, int] = {}
    latencies: list[int] = []

    def deliver(peer: int, origin: int, payload: object) -> None:
        assert isinstance(payload, int)
        if peer != origin:
            beside = draw(hops.publish, dice) + draw(hops.inbox, dice)
            latencies.append(queue.now - said[payload] + beside)

    def link(ends: tuple[int, int]) -> None:
        gossip.link(*ends, queue.now)

    def say(number: int) -> None:
        said[number] = queue.now
        gossip.publish(graph.statements[number][0], "offers", number, run.diaries[0].size, queue.now)

    params = replace(GossipParams.live(), processing=sum(hops.forward) // len(hops.forward))
    gossip = Gossip(queue, Wires(graph), dice, params, deliver, lambda *_: None, recorder)
    gossip.start(graph.peers, 0, links=[()] * graph.peers)
    for at, a, b in links:
        queue.at(at - origin, link, (a, b))
    for number, (_, at) in enumerate(graph.statements):
        queue.at(start + at, say, number)
    queue.run(start + max(at for _, at in graph.statements) + 5 * NS)
    pairs = len(graph.statements) * (graph.peers - 1)
    return Heard(tuple(sorted(latencies)), pairs - len(latencies), gossip.statistics().copies / pairs)


def rank(values: Sequence[int], share: float) -> float:
    """The value below which this share of the sorted values lies, in ms (nearest rank)."""
    return values[min(len(values) - 1, int(share * len(values)))] / 1e6


def mean(values: Sequence[int]) -> float:
    """In ms."""
    return sum(values) / len(values) / 1e6


def figures(run: Run) -> list[Figure]:
    """Live, simulated, and how far apart."""
    real, hops = heard(run)
    models = [simulate(run, hops, repeat) for repeat in range(REPEATS)]
    found = []
    for name, share, bar in (("p50", 0.5, P50_BAR), ("p90", 0.9, None), ("p99", 0.99, P99_BAR)):
        there, here = rank(real.latencies, share), [rank(model.latencies, share) for model in models]
        aim = None if bar is None else Aim("most", bar)
        off = tuple(100 * abs(value - there) / there for value in here)
        found += [
            Figure(f"gossip latency {name}, live", "ms", (there,)),
            Figure(f"gossip latency {name}, simulated", "ms", tuple(here)),
            Figure("  off by", "%", off, aim),
        ]
    meshes = [len(members) for diary in run.diaries for members in diary.mesh]
    pairs = len(run.graph.statements) * (run.graph.peers - 1)
    found += [
        Figure("gossip latency mean, live", "ms", (mean(real.latencies),)),
        Figure("gossip latency mean, simulated", "ms", tuple(mean(model.latencies) for model in models)),
        Figure("gossip coverage, live", "%", (100 * (1 - real.missed / pairs),)),
        Figure("gossip coverage, simulated", "%", tuple(100 * (1 - model.missed / pairs) for model in models)),
        Figure("gossip copies per statement and peer, live", "copies", (real.copies,)),
        Figure("gossip copies per statement and peer, simulated", "copies", tuple(model.copies for model in models)),
        Figure("gossip mesh, live", "peers", (sum(meshes) / len(meshes),), None, "mean of all peers, start and end"),
        Figure("gossip hop beside the link's delay, mean", "ms", (mean(hops.forward),), None, "measured, not fitted"),
        Figure("gossip hop beside the link's delay, p99", "ms", (rank(hops.forward, 0.99),)),
        Figure("relays late, mean", "ms", (run.lateness.mean_ms,), Aim("most", 1.0)),
        Figure("relays late, p99", "ms", (run.lateness.p99_ms,)),
        Figure("connections past the relays", "", (float(run.direct),), Aim("most", 0.0)),
        Figure("busy processors during the run", "%", (100 * run.load,)),
    ]
    return found


def show(run: Run, path: Path) -> int:
    """Table and JSON; 1 when a bar is broken."""
    found, facts = figures(run), report.machine()
    report.write(facts, found, path)
    report.show(facts, found)
    return int(any(one.aim is not None and not one.aim.is_met(one.median) for one in found))
