"""IHAVE and IWANT between simulated peers: what a mesh missed is offered by neighbours outside it at each heartbeat.

No message cache is kept per peer: when it received a statement, and when its heart beats, say what its cache holds.
An IHAVE that cannot make anybody ask for something new is counted without becoming an event.
"""

from __future__ import annotations

from typing import TypeAlias

from simulations.conduct import HONEST
from simulations.gossip_params import GossipParams
from simulations.gossip_traffic import ASKED, Agenda, Arrivals, Recorder, Traffic
from simulations.mesh import Mesh, drawn, scrambled
from simulations.overlay import Overlay
from simulations.scores import Scores
from simulations.spread import Spread

Offer: TypeAlias = tuple[int, int, list[Spread], int]
"""IHAVE or IWANT: receiver, sender, statements, and since when the receiver was up (ns)."""


class Announcements:
    """The statements that caches still hold, by topic, and what is said about them."""

    def __init__(
        self,
        queue: Agenda,
        network: Arrivals,
        params: GossipParams,
        overlay: Overlay,
        scores: Scores,
        traffic: Traffic,
        key: int,
    ) -> None:
        self._queue = queue
        self._arrival = network.arrival
        self._params = params
        self._overlay = overlay
        self._scores = scores
        self._traffic = traffic
        self._key = key
        """Seed of the draws, one per (peer, heartbeat, topic), so that an IHAVE left out changes no other."""
        self._is_spec = params.upkeep == "spec"
        self.live: list[list[Spread]] = [[] for _ in params.topics]
        """Statements that some cache may hold, by topic, oldest first."""
        self.phases: list[int] = []
        """When in its period a peer's heart beats, ns."""
        self.retired = 0
        self.expected = 0
        """Peers that were up, summed over the statements that no cache holds any more."""
        self.reached = 0
        """Those of them that had received it."""
        self.worst = 1.0
        """The lowest share of peers that a statement reached."""

    def add(self, spread: Spread) -> None:
        """A new statement."""
        self.live[spread.topic].append(spread)

    def forget(self, peer: int, is_up: bool) -> None:
        """The peer went or came, without memory."""
        for spreads in self.live:
            for spread in spreads:
                spread.forget(peer, is_up)

    def beat(self, peer: int, meshes: list[list[Mesh]], now: int) -> None:
        """The peer's heartbeat, IHAVE part. Its mesh has been looked after already."""
        conduct = self._overlay.conducts[peer]
        is_turned = conduct is not HONEST and conduct.has_turned(now)
        if is_turned and conduct.spam_ihave:
            self._spam(peer, conduct.spam_ihave, now)
        if is_turned and not conduct.announces:
            return
        params, phase, beats = self._params, self.phases[peer], self._params.window
        period = params.heartbeat
        this = (now - phase) // period
        for topic, spreads in enumerate(self.live):
            window = [
                spread
                for spread in spreads
                if spread.has[peer] and this - (spread.at[peer] - phase) // period <= beats and spread.is_valid
            ]
            if is_turned and conduct.censors:
                window = [spread for spread in window if spread.origin not in conduct.censors]
            if window:
                self._announce(peer, topic, meshes[topic][peer], window, now)

    def greet(self, peer: int, newcomer: int, now: int) -> None:
        """libp2p 0.8.1 sends a new neighbour the statements of its window at once."""
        phase, period = self.phases[peer], self._params.heartbeat
        this = (now - phase) // period
        for spreads in self.live:
            for spread in spreads:
                if spread.has[peer] and this - (spread.at[peer] - phase) // period < self._params.window:
                    self._traffic.send(spread, peer, (newcomer,), ASKED, now)

    def retire(self, recorder: Recorder, now: int) -> None:
        """Drop statements that every cache has lost, and take stock of whom they reached."""
        kept_for = (self._params.history + 1) * self._params.heartbeat
        for spreads in self.live:
            while spreads and now - spreads[0].last > kept_for:
                spread = spreads.pop(0)
                if spread.is_valid:
                    population = self._overlay.population
                    reached = population - spread.missing
                    self.retired += 1
                    self.expected += population
                    self.reached += reached
                    if population:
                        self.worst = min(self.worst, reached / population)
                        recorder.observe("gossip/coverage_permille", reached * 1000 // population)

    def _announce(self, peer: int, topic: int, mesh: Mesh, window: list[Spread], now: int) -> None:
        """IHAVE to some neighbours outside the mesh. Only those that may lack something are drawn by name."""
        params, links = self._params, self._overlay.links[peer]
        if self._is_spec:
            pool = [other for other in links if other not in mesh.members]
            if self._scores.tables[peer]:
                bound = params.weights.gossip_threshold
                pool = [other for other in pool if self._scores.value(peer, other, now) >= bound]
        else:
            pool = mesh.pool(links, now)
        share = int((len(links) - len(mesh.members)) * params.lazy_share)
        wanted = min(len(pool), max(params.lazy, share))
        if not wanted:
            return
        self._count(wanted, window)
        if not params.is_reference and not any(spread.missing for spread in window):
            if not params.ids_agree:
                self._count_answers(peer, wanted, window, wanted)
            return
        key = scrambled(self._key ^ scrambled(((now << 20) + peer << 8) + topic))
        for target in drawn(pool, wanted, key):
            self._offer(peer, target, window, now)

    def _offer(self, peer: int, target: int, window: list[Spread], now: int) -> None:
        """One IHAVE. What the target has, or certainly has when it arrives, is not followed up."""
        comes = self._arrival(peer, target, self._params.control_bytes, now)
        if comes < 0:
            self._traffic.tally.lost += 1
            return
        comes += self._params.processing
        lacking = window
        if not self._params.is_reference:
            lacking = [spread for spread in window if not 0 < spread.at[target] <= comes]
            if not self._params.ids_agree and len(lacking) < len(window):
                known = [spread for spread in window if 0 < spread.at[target] <= comes]
                self._count_answers(peer, 1, known, 0 if lacking else 1)
        if lacking:
            self._queue.at(comes, self._asked, (target, peer, lacking, self._overlay.born[target]))

    def _asked(self, offer: Offer) -> None:
        """An IHAVE arrived: ask for what is missing."""
        peer, sender, spreads, born = offer
        now, params = self._queue.now, self._params
        if self._overlay.born[peer] != born or not self._overlay.is_up[peer]:
            return
        bound = params.weights.gossip_threshold
        if self._is_spec and self._scores.tables[peer] and self._scores.value(peer, sender, now) < bound:
            return
        wanted = [spread for spread in spreads if not spread.has[peer]] if params.ids_agree else spreads
        if not wanted:
            return
        size = params.control_bytes + params.identifier_bytes * len(wanted)
        self._traffic.tally.iwant += 1
        self._traffic.tally.bytes += size
        comes = self._arrival(peer, sender, size, now)
        if comes >= 0:
            self._queue.at(comes + params.processing, self._answer, (sender, peer, wanted, self._overlay.born[sender]))
        if self._is_spec and params.weights.behaviour:
            self._queue.at(now + params.follow_up, self._check, (peer, sender, wanted[:1], born))

    def _answer(self, offer: Offer) -> None:
        """An IWANT arrived: send what the cache still holds."""
        peer, asker, spreads, born = offer
        overlay, now = self._overlay, self._queue.now
        conduct = overlay.conducts[peer]
        if overlay.born[peer] != born or not overlay.is_up[peer]:
            return
        is_turned = conduct is not HONEST and conduct.has_turned(now)
        if is_turned and not conduct.answers_iwant:
            return
        phase, period = self.phases[peer], self._params.heartbeat
        this = (now - phase) // period
        for spread in spreads:
            if is_turned and spread.origin in conduct.censors:
                continue
            if spread.has[peer] and this - (spread.at[peer] - phase) // period < self._params.history:
                self._traffic.tally.answers += 1
                self._traffic.send(spread, peer, (asker,), ASKED, now)

    def _check(self, offer: Offer) -> None:
        """A statement that was announced and asked for has not come from anybody: the announcement was a lie."""
        peer, sender, spreads, born = offer
        if self._overlay.born[peer] == born and self._overlay.is_up[peer]:
            for spread in spreads:
                if not spread.has[peer]:
                    self._scores.misbehaved(peer, sender, 1.0, self._queue.now)

    def _spam(self, peer: int, amount: int, now: int) -> None:
        """IHAVEs of nothing: each of those that are answered costs an IWANT, and is a lie."""
        answered = min(amount, self._params.ihave_limit)
        tally, size = self._traffic.tally, self._params.control_bytes + self._params.identifier_bytes
        for other in self._overlay.links[peer]:
            tally.ihave += amount
            tally.iwant += answered
            tally.bytes += (amount + answered) * size
            self._scores.misbehaved(other, peer, float(answered), now)

    def _count(self, targets: int, window: list[Spread]) -> None:
        """So many IHAVEs."""
        tally, params = self._traffic.tally, self._params
        tally.ihave += targets
        tally.bytes += targets * (params.control_bytes + params.identifier_bytes * len(window))

    def _count_answers(self, peer: int, targets: int, spreads: list[Spread], iwants: int) -> None:
        """The peer is asked by so many targets for statements that these have: IWANTs, and superfluous answers."""
        tally, params, count = self._traffic.tally, self._params, targets * len(spreads)
        conduct = self._overlay.conducts[peer]
        tally.iwant += iwants
        tally.bytes += iwants * params.control_bytes + count * params.identifier_bytes
        if conduct is HONEST or conduct.answers_iwant or not conduct.has_turned(self._queue.now):
            tally.answers += count
            tally.copies += count
            tally.duplicates += count
            tally.bytes += targets * sum(spread.size + params.overhead for spread in spreads)
