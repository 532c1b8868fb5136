"""What peers think of their neighbours: the counters P1 to P7 of GossipSub v1.1, per observer.

Records exist only for neighbours about whom there is something to say. Decay is worked out when a record is read, by
repeated multiplication, so that every machine gets the same bits. As in go-libp2p, a score is computed once a second.
"""

from __future__ import annotations

from typing import Final

from simulations.gossip_params import SECOND, GossipParams
from simulations.overlay import Overlay

NEVER: Final = -1
"""Not in the mesh."""


class Record:
    """One neighbour in the eyes of one observer; lists by topic index."""

    __slots__ = (
        "application",
        "beat",
        "behaviour",
        "computed",
        "failed",
        "first",
        "invalid",
        "joined",
        "mesh",
        "value",
    )

    def __init__(self, topics: int, beat: int) -> None:
        self.joined = [NEVER] * topics
        """Since when it is in the observer's mesh, ns."""
        self.first = [0.0] * topics
        self.mesh = [0.0] * topics
        self.failed = [0.0] * topics
        self.invalid = [0.0] * topics
        self.behaviour = 0.0
        self.application = 0.0
        self.beat = beat
        """Decayed up to this heartbeat."""
        self.computed = NEVER
        """Heartbeat for which `value` holds."""
        self.value = 0.0


def faded(value: float, decay: float, beats: int) -> float:
    """`value` times `decay` to the power of `beats`, by squaring."""
    while beats and value:
        if beats & 1:
            value *= decay
        decay *= decay
        beats >>= 1
    return value


class Scores:
    """The records of all observers. `tables[observer]` is empty as long as it thinks nothing of anybody."""

    __slots__ = ("_overlay", "_params", "_topics", "_weights", "tables")

    def __init__(self, params: GossipParams, overlay: Overlay) -> None:
        self._params = params
        self._weights = params.weights
        self._topics = len(params.topics)
        self._overlay = overlay
        self.tables: list[dict[int, Record]] = []

    def grow(self, count: int) -> None:
        """Room for observers 0..count-1."""
        while len(self.tables) < count:
            self.tables.append({})

    def record(self, observer: int, peer: int, now: int) -> Record:
        """The record, decayed up to now, made when there is none; whoever asks will change it."""
        table = self.tables[observer]
        beat = now // self._params.heartbeat
        record = table.get(peer)
        if record is None:
            record = table[peer] = Record(self._topics, beat)
        elif record.beat != beat:
            self._fade(record, beat)
        record.computed = NEVER
        return record

    def value(self, observer: int, peer: int, now: int) -> float:
        """The score over all topics, and P5 to P7. 0 for a neighbour without a record and an address of its own."""
        record = self.tables[observer].get(peer)
        if record is None:
            if self._weights.colocated and self._overlay.conducts[peer].sybil_of >= 0:
                return -self._colocation(observer, peer)
            return 0.0
        beat = now // self._params.heartbeat
        if record.computed != beat:
            if record.beat != beat:
                self._fade(record, beat)
            record.value = self._sum(record, now) - self._colocation(observer, peer)
            record.computed = beat
        return record.value

    def topic_value(self, observer: int, peer: int, topic: int, now: int) -> float:
        """What libp2p 0.8.1 compares with its thresholds for publishing and gossip: one topic and the behaviour."""
        record = self.tables[observer].get(peer)
        if record is None:
            return 0.0
        beat = now // self._params.heartbeat
        if record.beat != beat:
            self._fade(record, beat)
        return self._of_topic(record, topic, now) - self._misbehaviour(record)

    def entered(self, observer: int, peer: int, topic: int, now: int) -> None:
        """The neighbour is in the observer's mesh from now on."""
        if self._weights.watches_deliveries:
            record = self.record(observer, peer, now)
            record.joined[topic] = now
            record.mesh[topic] = 0.0

    def left(self, observer: int, peer: int, topic: int, now: int) -> None:
        """The neighbour is out of the mesh; an open deficit sticks to it (P3b)."""
        if not self._weights.watches_deliveries or peer not in self.tables[observer]:
            return
        record = self.record(observer, peer, now)
        deficit = self._deficit(record, topic, now)
        record.failed[topic] += deficit * deficit
        record.joined[topic] = NEVER

    def delivered(self, observer: int, peer: int, topic: int, now: int, is_first: bool) -> None:
        """A copy arrived in time: P2 when it was the first, and P3 when the bearer is in the mesh."""
        weights = self._weights
        if not weights.watches_deliveries:
            return
        record = self.record(observer, peer, now)
        if is_first:
            record.first[topic] = min(weights.first_cap, record.first[topic] + 1.0)
        if record.joined[topic] != NEVER:
            record.mesh[topic] = min(weights.deficit_cap, record.mesh[topic] + 1.0)

    def brought_invalid(self, observer: int, peer: int, topic: int, now: int) -> None:
        """P4."""
        self.record(observer, peer, now).invalid[topic] += 1.0

    def misbehaved(self, observer: int, peer: int, amount: float, now: int) -> None:
        """P7. Nothing is kept where behaviour has no weight."""
        if self._weights.behaviour:
            self.record(observer, peer, now).behaviour += amount

    def appraise(self, observer: int, peer: int, amount: float, now: int) -> None:
        """P5: the application's own opinion, which stays until it is set again."""
        self.record(observer, peer, now).application = amount

    def forget(self, observer: int, peer: int) -> None:
        """The connection is gone. As in libp2p 0.8.1 the memory goes with it."""
        self.tables[observer].pop(peer, None)

    def _fade(self, record: Record, beat: int) -> None:
        weights, beats = self._weights, beat - record.beat
        for counters, decay in (
            (record.first, weights.first_decay),
            (record.mesh, weights.deficit_decay),
            (record.failed, weights.deficit_decay),
            (record.invalid, weights.invalid_decay),
        ):
            for topic, value in enumerate(counters):
                if value:
                    counters[topic] = value * decay if beats == 1 else faded(value, decay, beats)
        if record.behaviour:
            record.behaviour = faded(record.behaviour, weights.behaviour_decay, beats)
        record.beat = beat

    def _sum(self, record: Record, now: int) -> float:
        total = self._weights.application * record.application
        for topic in range(self._topics):
            if record.joined[topic] != NEVER or record.first[topic] or record.invalid[topic] or record.failed[topic]:
                total += self._of_topic(record, topic, now)
        return total - self._misbehaviour(record) if record.behaviour else total

    def _of_topic(self, record: Record, topic: int, now: int) -> float:
        weights = self._weights
        score = weights.first * record.first[topic] - weights.deficit * record.failed[topic]
        since = record.joined[topic]
        if since != NEVER:
            seconds = (now - since) // SECOND
            score += weights.time_in_mesh * (min(weights.time_in_mesh_cap, seconds))
            if now - since >= weights.deficit_after:
                deficit = self._deficit(record, topic, now)
                score -= weights.deficit * deficit * deficit
        if record.invalid[topic]:
            invalid = min(weights.invalid_cap, record.invalid[topic])
            score -= weights.invalid * (invalid * invalid if weights.is_invalid_squared else invalid)
        return weights.topic * score

    def _deficit(self, record: Record, topic: int, now: int) -> float:
        weights = self._weights
        if record.joined[topic] == NEVER or now - record.joined[topic] < weights.deficit_after:
            return 0.0
        return max(0.0, weights.deficit_threshold - record.mesh[topic])

    def _misbehaviour(self, record: Record) -> float:
        weights = self._weights
        excess = max(0.0, record.behaviour - weights.behaviour_threshold)
        return weights.behaviour * (excess * excess if weights.is_behaviour_squared else excess)

    def _colocation(self, observer: int, peer: int) -> float:
        weights = self._weights
        if not weights.colocated or self._overlay.conducts[peer].sybil_of < 0:
            return 0.0
        excess = max(0, self._overlay.colocated(observer, peer) - weights.colocated_threshold)
        return weights.colocated * excess * excess
