"""Who exchanges whole statements with us: GRAFT, PRUNE, back-off and the heartbeat of GossipSub v1.1.

Nobody with a negative score is a member. Pruning keeps the best by score, some by lot, and enough that we dialled
ourselves (`DEGREE_OUT`), so that whoever dials us from a thousand addresses fills no mesh.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from statistics import median
from typing import Final

from protocol.gossip import params
from protocol.gossip.neighbours import Neighbour
from protocol.gossip.rpc import Prune
from protocol.gossip.scores import Scores
from protocol.units import SECOND, Micros, PeerId

BACKOFFS_MAX: Final = 16_384
"""Back-offs remembered; beyond that the oldest are given up, for peers that come and go by the thousand."""

_ID_PREFIX: Final = bytes.fromhex("002408011220")
"""In front of an Ed25519 key in its libp2p id (`protocol.identity`)."""


@dataclass(slots=True)
class Steering:
    """What neighbours are told about meshes."""

    grafts: dict[PeerId, list[str]] = field(default_factory=dict)
    prunes: dict[PeerId, list[Prune]] = field(default_factory=dict)


class Meshes:
    """The meshes of all topics that we follow. Members are in the order of their coming."""

    def __init__(
        self, topics: tuple[str, ...], neighbours: Mapping[PeerId, Neighbour], scores: Scores, random: Random
    ) -> None:
        self._neighbours = neighbours
        self._scores = scores
        self._random = random
        self._beats = 0
        self._backoff: dict[tuple[str, PeerId], Micros] = {}
        self._pruned: dict[tuple[str, PeerId], Micros] = {}
        """When we pruned somebody, as long as a GRAFT of his is a flood."""
        self.members: dict[str, dict[PeerId, None]] = {topic: {} for topic in topics}

    def subscribed(self, peer: PeerId, topic: str, now: Micros, steering: Steering) -> None:
        """A neighbour follows a topic: a mesh that is too small takes it at once."""
        members = self.members.get(topic)
        if members is not None and len(members) < params.DEGREE_LOW and self._is_eligible(peer, topic, now):
            self._graft(peer, topic, now, steering)

    def grafted(self, peer: PeerId, topic: str, now: Micros) -> Prune | None:
        """GRAFT came. A PRUNE when there is no place; nothing for a topic that we do not follow (that would be an
        invitation to ask for any)."""
        members = self.members.get(topic)
        if members is None or peer in members:
            return None
        if now < self._backoff.get((topic, peer), 0):
            pruned = self._pruned.get((topic, peer))
            self._scores.misbehaved(peer, 2.0 if pruned is not None and now - pruned < params.GRAFT_FLOOD else 1.0)
        elif self._scores.value(peer, now) >= 0 and (
            len(members) < params.DEGREE_HIGH or self._neighbours[peer].is_outbound
        ):
            members[peer] = None
            self._scores.entered_mesh(peer, topic, now)
            return None
        return self._prune(peer, topic, now)

    def pruned(self, peer: PeerId, prune: Prune, now: Micros) -> None:
        """PRUNE came: out, and no GRAFT before its back-off ends."""
        members = self.members.get(prune.topic)
        if members is None:
            return
        if members.pop(peer, peer) is None:
            self._scores.left_mesh(peer, prune.topic, now)
        asked = Micros(prune.backoff_s * SECOND) if prune.backoff_s else params.BACKOFF
        until = now + min(asked, params.BACKOFF_MAX) + params.BACKOFF_SLACK
        self._hold_off(peer, prune.topic, Micros(until))

    def gone(self, peer: PeerId, now: Micros) -> None:
        """The connection is gone. Back-offs stay."""
        for topic in self.members:
            self.dropped(peer, topic, now)

    def dropped(self, peer: PeerId, topic: str, now: Micros) -> None:
        """It follows the topic no more."""
        members = self.members.get(topic)
        if members is not None and members.pop(peer, peer) is None:
            self._scores.left_mesh(peer, topic, now)

    def expel(self, peer: PeerId, now: Micros, steering: Steering) -> None:
        """Out of every mesh, when its score is negative now."""
        topics = [topic for topic, members in self.members.items() if peer in members]
        if topics and self._scores.value(peer, now) < 0:
            for topic in topics:
                steering.prunes.setdefault(peer, []).append(self._prune(peer, topic, now))

    def beat(self, now: Micros) -> Steering:
        """The heartbeat."""
        self._beats += 1
        steering = Steering()
        for times in (self._backoff, self._pruned):
            for key in [key for key, until in times.items() if until + params.GRAFT_FLOOD <= now]:
                del times[key]
        is_look = self._beats % params.OPPORTUNITY_BEATS == 0
        for topic, members in self.members.items():
            for peer in [peer for peer in members if self._scores.value(peer, now) < 0]:
                steering.prunes.setdefault(peer, []).append(self._prune(peer, topic, now))
            if len(members) < params.DEGREE_LOW:
                self._fill(topic, params.DEGREE - len(members), now, steering)
            if len(members) > params.DEGREE_HIGH:
                for peer in self._surplus(members, now):
                    prune = self._prune(peer, topic, now)
                    steering.prunes.setdefault(peer, []).append(prune._replace(peers=self._others(peer, topic, now)))
            if len(members) >= params.DEGREE_LOW:
                self._reach_out(topic, now, steering)
                if is_look:
                    self._improve(topic, now, steering)
        return steering

    def _fill(self, topic: str, wanted: int, now: Micros, steering: Steering) -> None:
        for peer in self._draw(self._candidates(topic, now), wanted):
            self._graft(peer, topic, now, steering)

    def _reach_out(self, topic: str, now: Micros, steering: Steering) -> None:
        """Members that we dialled ourselves, up to the quota."""
        members = self.members[topic]
        lacking = params.DEGREE_OUT - sum(self._neighbours[peer].is_outbound for peer in members)
        if lacking > 0:
            pool = [peer for peer in self._candidates(topic, now) if self._neighbours[peer].is_outbound]
            for peer in self._draw(pool, lacking):
                self._graft(peer, topic, now, steering)

    def _improve(self, topic: str, now: Micros, steering: Steering) -> None:
        """Opportunistic grafting: a mesh whose median is poor takes better peers in."""
        members = self.members[topic]
        middle = median([self._scores.value(peer, now) for peer in members])
        if middle < self._scores.weights.opportunity and len(members) < params.DEGREE_HIGH:
            pool = [peer for peer in self._candidates(topic, now) if self._scores.value(peer, now) > middle]
            for peer in self._draw(pool, params.OPPORTUNITY_PEERS):
                self._graft(peer, topic, now, steering)

    def _surplus(self, members: Mapping[PeerId, None], now: Micros) -> list[PeerId]:
        """Whom to prune: all but the best, some by lot, and enough that we dialled ourselves."""
        order = self._draw(list(members), len(members))
        order.sort(key=lambda peer: -self._scores.value(peer, now))
        best, rest = order[: params.DEGREE_SCORE], order[params.DEGREE_SCORE :]
        rest = self._draw(rest, len(rest))
        kept, out = best + rest[: params.DEGREE - len(best)], rest[params.DEGREE - len(best) :]
        lacking = params.DEGREE_OUT - sum(self._neighbours[peer].is_outbound for peer in kept)
        for peer in [peer for peer in out if self._neighbours[peer].is_outbound][: max(0, lacking)]:
            inbound = [place for place, other in enumerate(kept) if not self._neighbours[other].is_outbound]
            kept[inbound[-1]], out[out.index(peer)] = peer, kept[inbound[-1]]
        return out

    def _others(self, peer: PeerId, topic: str, now: Micros) -> tuple[bytes, ...]:
        """Good peers to name to one that has to leave for want of space."""
        if self._scores.value(peer, now) < 0:
            return ()
        good = [other for other in self.members[topic] if other != peer and self._scores.value(other, now) >= 0]
        return tuple(_ID_PREFIX + other for other in self._draw(good, params.EXCHANGED_MAX))

    def _candidates(self, topic: str, now: Micros) -> list[PeerId]:
        return [peer for peer in self._neighbours if self._is_eligible(peer, topic, now)]

    def _is_eligible(self, peer: PeerId, topic: str, now: Micros) -> bool:
        return (
            topic in self._neighbours[peer].topics
            and peer not in self.members[topic]
            and now >= self._backoff.get((topic, peer), 0)
            and self._scores.value(peer, now) >= 0
        )

    def _graft(self, peer: PeerId, topic: str, now: Micros, steering: Steering) -> None:
        self.members[topic][peer] = None
        self._scores.entered_mesh(peer, topic, now)
        steering.grafts.setdefault(peer, []).append(topic)

    def _prune(self, peer: PeerId, topic: str, now: Micros) -> Prune:
        """Out with it, and what it is told."""
        if self.members[topic].pop(peer, peer) is None:
            self._scores.left_mesh(peer, topic, now)
        self._hold_off(peer, topic, Micros(now + params.BACKOFF))
        self._pruned[topic, peer] = now
        return Prune(topic, params.BACKOFF // SECOND)

    def _hold_off(self, peer: PeerId, topic: str, until: Micros) -> None:
        self._backoff[topic, peer] = max(until, self._backoff.get((topic, peer), until))
        if len(self._backoff) > BACKOFFS_MAX:
            del self._backoff[next(iter(self._backoff))]

    def _draw(self, pool: list[PeerId], wanted: int) -> list[PeerId]:
        return self._random.sample(pool, min(wanted, len(pool)))


def named(peers: tuple[bytes, ...]) -> tuple[PeerId, ...]:
    """The peers behind libp2p ids; ids of other keys than ours are passed over."""
    size = len(_ID_PREFIX) + 32
    return tuple(
        PeerId(peer[len(_ID_PREFIX) :])
        for peer in peers[: params.EXCHANGED_MAX]
        if len(peer) == size and peer.startswith(_ID_PREFIX)
    )
