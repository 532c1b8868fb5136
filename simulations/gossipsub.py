"""GossipSub v1.1 among simulated peers, at message level: meshes, IHAVE and IWANT, scores, adversaries.

The default parameters copy the live node: node/gossip.py on py-libp2p 0.8.1, with what that does differently from the
specification (see `EagerUpkeep` and `GossipParams.ids_agree`). Spec: specs/17-simulator.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, TypeAlias

from protocol.errors import Refused
from simulations.announcements import Announcements
from simulations.conduct import HONEST, Conduct
from simulations.gossip_params import GossipParams
from simulations.gossip_traffic import Agenda, Arrivals, Recorder, Traffic
from simulations.mesh import Mesh
from simulations.mesh_upkeep import Control, EagerUpkeep, SpecUpkeep, Upkeep
from simulations.overlay import Overlay, checked_links
from simulations.scores import Scores
from simulations.spread import Spread

SWEEPS: Final = 64
"""Sweeps in a heartbeat: the phases of hearts are rounded to 1/64 of a period, so that one event serves many peers."""

Steering: TypeAlias = tuple[int, int, tuple[int, ...], tuple[int, ...], int]
"""GRAFT and PRUNE under way: receiver, sender, topics of both kinds, and since when the receiver was up (ns)."""


@dataclass(frozen=True, slots=True)
class GossipStatistics:
    """How gossip fares so far. Coverage is taken when no cache holds a statement any more."""

    published: int
    delivered: int
    copies: int
    """Statements sent, duplicates and answers to IWANT included."""
    duplicates: int
    finished: int
    """Statements whose spread is over."""
    coverage: float
    """Share of the peers that are up which a finished statement reached, on average."""
    worst_coverage: float
    degrees: dict[int, int]
    """How many meshes of peers that are up have so many members, by members."""
    scores: dict[int, int]
    """How many neighbours have such a score, by score rounded down; those without a record are left out."""


class Gossip:
    """All routers of the network. `deliver(peer, origin, payload)` is called once per peer and statement."""

    def __init__(
        self,
        queue: Agenda,
        network: Arrivals,
        random: Random,
        params: GossipParams,
        deliver: Callable[[int, int, object], None],
        note: Callable[[int, int, int], None],
        recorder: Recorder,
    ) -> None:
        self.params = params
        self.overlay = Overlay(random, params.connect)
        self.scores = Scores(params, self.overlay)
        rules = EagerUpkeep if params.upkeep == "libp2p-0.8.1" else SpecUpkeep
        self.upkeep: Upkeep = rules(params, self.overlay, self.scores, random)
        self._queue = queue
        self._network = network
        self._random = random
        self._recorder = recorder
        self._traffic = Traffic(
            queue, network, params, self.overlay, self.scores, self.upkeep.meshes, (deliver, note, recorder)
        )
        self._announcements = Announcements(
            queue, network, params, self.overlay, self.scores, self._traffic, random.getrandbits(64)
        )
        self._note = note
        self.met: Callable[[int, int], None] = lambda peer, other: None
        """Called at both ends of each connection that comes after the start."""
        self._topics = {name: number for number, name in enumerate(params.topics)}
        self._number = 0
        self._totals: dict[str, int] = {}
        self._sweeps: list[list[int]] = [[] for _ in range(SWEEPS)]
        period = params.heartbeat
        for sweep in range(SWEEPS):
            queue.at((queue.now // period + 1) * period + sweep * period // SWEEPS, self._sweep, sweep)

    def start(self, count: int, now: int, links: Sequence[Collection[int]] | None = None) -> None:
        """Peers 0..count-1 come up together and connect: by lot, or as `links[peer]` says (edges go both ways)."""
        if links is not None and len(links) != count:
            raise Refused(
                f"links are given for {len(links)} peers, but {count} start",
                code="bad_links",
                fix="Give one collection of neighbours per peer.",
                numbers={"links": len(links), "peers": count},
            )
        edges = checked_links(links) if links is not None else []
        for peer in range(count):
            self._come(peer, now)
        for peer, other in edges:
            self.link(peer, other, now)
        for peer in range(count):
            if links is not None:
                self.overlay.is_fixed[peer] = 1
            else:
                self._dial(peer, self.params.connect, now)

    def join(self, peer: int, now: int) -> None:
        """The peer comes up, without any memory, and dials."""
        self._come(peer, now)
        self._dial(peer, self.params.connect, now)

    def leave(self, peer: int, now: int) -> None:
        """The peer is killed: its links are gone at once, and what is under way to it is lost. No PRUNE is sent."""
        if peer >= len(self.overlay) or not self.overlay.is_up[peer]:
            raise Refused(f"peer {peer} is not up", code="is_down", fix="Let it join first.", numbers={"peer": peer})
        for other in self.overlay.go(peer):
            self._part(other, peer)
            self._part(peer, other)
        for meshes in self.upkeep.meshes:
            meshes[peer].reset()
        self._announcements.forget(peer, False)
        self._note(now, peer, 1)

    def link(self, peer: int, other: int, now: int) -> bool:
        """Connect two peers, dialled by the first. False when they are connected, or one is down."""
        if not self.overlay.link(peer, other):
            return False
        self._greet(peer, other, now)
        self._greet(other, peer, now)
        return True

    def unlink(self, peer: int, other: int) -> None:
        """The connection between two peers is closed. Refused when there is none."""
        if other not in self.overlay.links[peer]:
            raise Refused(
                f"peers {peer} and {other} are not connected",
                code="no_link",
                fix="Link them first.",
                numbers={"peer": peer, "other": other},
            )
        self.overlay.unlink(peer, other)
        self._part(peer, other)
        self._part(other, peer)

    def surround(self, target: int, attackers: Sequence[int], now: int) -> None:
        """Eclipse: all links of the target are closed, from now on it knows the attackers only, and dials nobody."""
        for other in self.overlay.links[target][:]:
            self.unlink(target, other)
        self.overlay.is_fixed[target] = 1
        for attacker in attackers:
            self.link(attacker, target, now)

    def conduct(self, peer: int, conduct: Conduct) -> None:
        """From now on the peer behaves like this. It need not be up."""
        self._grow(peer + 1)
        self.overlay.conducts[peer] = conduct

    def appraise(self, observer: int, peer: int, amount: float, now: int) -> None:
        """P5: what the observer's application thinks of a neighbour."""
        self.scores.appraise(observer, peer, amount, now)

    def publish(self, peer: int, topic: str, payload: object, size: int, now: int, *, is_valid: bool = True) -> None:
        """The peer says something to everyone, itself included. `size`: bytes of the payload."""
        number = self._topics.get(topic)
        if number is None:
            raise Refused(
                f"{topic!r} is no topic of this world; there are {', '.join(self.params.topics)}",
                code="bad_topic",
                fix="Name it in GossipParams.topics.",
            )
        if peer >= len(self.overlay) or not self.overlay.is_up[peer]:
            raise Refused(f"peer {peer} is not up", code="is_down", fix="Let it join first.", numbers={"peer": peer})
        self._number += 1
        spread = Spread(self._number, number, peer, payload, size, is_valid)
        spread.begin(len(self.overlay), self.overlay.population, now)
        self._announcements.add(spread)
        self._traffic.publish(spread, now)

    def statistics(self) -> GossipStatistics:
        """Counters, coverage, degrees and scores as they are now."""
        self._traffic.tally.flush(self._recorder, self._totals)
        degrees: dict[int, int] = {}
        for meshes in self.upkeep.meshes:
            for peer, mesh in enumerate(meshes):
                if self.overlay.is_up[peer]:
                    size = len(mesh.members)
                    degrees[size] = degrees.get(size, 0) + 1
        scores: dict[int, int] = {}
        for observer, table in enumerate(self.scores.tables):
            for subject in table:
                value = int(self.scores.value(observer, subject, self._queue.now) // 1)
                scores[value] = scores.get(value, 0) + 1
        totals, news = self._totals, self._announcements
        return GossipStatistics(
            published=totals.get("published", 0),
            delivered=totals.get("delivered", 0),
            copies=totals.get("copies", 0),
            duplicates=totals.get("duplicates", 0),
            finished=news.retired,
            coverage=news.reached / news.expected if news.expected else 0.0,
            worst_coverage=news.worst if news.retired else 0.0,
            degrees=dict(sorted(degrees.items())),
            scores=dict(sorted(scores.items())),
        )

    def _grow(self, count: int) -> None:
        """Room for peers 0..count-1, each with the phase of its heart."""
        phases, period = self._announcements.phases, self.params.heartbeat
        for peer in range(len(phases), count):
            sweep = int(self._random.random() * SWEEPS)
            self._sweeps[sweep].append(peer)
            phases.append(sweep * period // SWEEPS)
        self.overlay.grow(count)
        self.scores.grow(count)
        for meshes in self.upkeep.meshes:
            meshes.extend(Mesh() for _ in range(count - len(meshes)))

    def _come(self, peer: int, now: int) -> None:
        self._grow(peer + 1)
        self.overlay.come(peer, now)
        self._announcements.forget(peer, True)
        self._note(now, peer, 2)

    def _dial(self, peer: int, wanted: int, now: int) -> None:
        def is_open(source: int, target: int) -> bool:
            return self._network.can_reach(source, target, now)

        for other in self.overlay.dial(peer, wanted, is_open):
            self._greet(peer, other, now)
            self._greet(other, peer, now)

    def _greet(self, peer: int, other: int, now: int) -> None:
        """A connection is new: GRAFT and recent statements go to the other end, as far as the rules want it."""
        for meshes in self.upkeep.meshes:
            meshes[peer].changed()
        if now:
            self.met(peer, other)
        topics = self.upkeep.linked(peer, other, now)
        if topics:
            self._steer(peer, Control(other, topics, ()), now)
        if self.params.replays:
            self._announcements.greet(peer, other, now)

    def _part(self, peer: int, other: int) -> None:
        """A connection is gone at this end."""
        for meshes in self.upkeep.meshes:
            meshes[peer].forget(other)
        self.scores.forget(peer, other)

    def _steer(self, peer: int, control: Control, now: int) -> None:
        """Send GRAFT and PRUNE."""
        target, grafts, prunes = control
        tally, size = self._traffic.tally, self.params.control_bytes + 32 * (len(grafts) + len(prunes))
        tally.graft += len(grafts)
        tally.prune += len(prunes)
        tally.bytes += size
        comes = self._network.arrival(peer, target, size, now)
        if comes < 0:
            tally.lost += 1
            return
        steering = (target, peer, grafts, prunes, self.overlay.born[target])
        self._queue.at(comes + self.params.processing, self._steered, steering)

    def _steered(self, steering: Steering) -> None:
        """GRAFT and PRUNE arrived."""
        peer, sender, grafts, prunes, born = steering
        overlay, now = self.overlay, self._queue.now
        if overlay.born[peer] != born or not overlay.is_up[peer] or sender not in overlay.links[peer]:
            return
        conduct = overlay.conducts[peer]
        is_sullen = conduct is not HONEST and conduct.has_turned(now) and not conduct.grafts_back
        grafted = self.upkeep.grafted
        refused = tuple(topic for topic in grafts if is_sullen or not grafted(peer, sender, topic, now))
        if refused:
            self._steer(peer, Control(sender, (), refused), now)
        for topic in prunes:
            self.upkeep.pruned(peer, sender, topic, now)
        self._note(now, peer, (sender << 16) + (len(grafts) << 12) + (len(prunes) << 8) + len(refused) + 3)

    def _sweep(self, sweep: int) -> None:
        """The heartbeat of every peer with this phase."""
        now, overlay, news = self._queue.now, self.overlay, self._announcements
        is_up, links, is_fixed, wants = overlay.is_up, overlay.links, overlay.is_fixed, overlay.wants
        beat, meshes = self.upkeep.beat, self.upkeep.meshes
        has_news = any(news.live)
        for peer in self._sweeps[sweep]:
            if not is_up[peer]:
                continue
            if len(links[peer]) < wants and not is_fixed[peer]:
                self._dial(peer, 1, now)
            conduct = overlay.conducts[peer]
            if conduct is HONEST or conduct.keeps_mesh or not conduct.has_turned(now):
                for control in beat(peer, now):
                    self._steer(peer, control, now)
            if has_news or conduct is not HONEST:
                news.beat(peer, meshes, now)
        news.retire(self._recorder, now)
        self._traffic.tally.flush(self._recorder, self._totals)
        self._queue.at(now + self.params.heartbeat, self._sweep, sweep)
