"""A GossipSub v1.1 router as a sans-IO machine: RPCs, verdicts and heartbeats in, RPCs and statements out.

    effects = router.receive(peer, rpc, now)     a `Judge` for each statement that is new
    effects = router.decide(name, verdict, now)  what is accepted goes to the mesh and to whoever follows here
    effects = router.tick(now)                   every `HEARTBEAT`

A duplicate costs one hash: nothing is decoded or verified twice. Spec: specs/22-gossip.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from blake3 import blake3

from protocol.errors import Refused
from protocol.gossip import params
from protocol.gossip.caches import History, Seen
from protocol.gossip.effects import Deliver, GossipEffect, Judge, Rank, SendRpc, Suggest, Verdict
from protocol.gossip.meshes import Meshes, Steering, named
from protocol.gossip.neighbours import ANSWER_BYTES_MAX, Neighbour, Promises, parcels
from protocol.gossip.rpc import RPC_BYTES_MAX, Envelope, Prune, Rpc
from protocol.gossip.scores import Scores, Weights
from protocol.units import KIB, Micros, PeerId

ID_BYTES = 20
"""Of a message's name: collisions are out of reach, and an IHAVE of a thousand fits an RPC."""

ENVELOPE_BYTES_MAX = KIB
"""What surrounds a statement in an RPC at most."""


def message_id(topic: str, data: bytes) -> bytes:
    """Topic and content: the same statement is one message, whoever publishes it, and has one verdict for ever."""
    return blake3(topic.encode() + b"\0" + data).digest(length=ID_BYTES)


@dataclass(slots=True)
class _Pending:
    """A statement whose verdict is still to come."""

    envelope: Envelope
    forwarders: list[PeerId]


class Router:
    """One node's router for the topics that it follows. Peers that it is not told about do not exist for it."""

    def __init__(self, topics: Iterable[str], random: Random, weights: Weights | None = None) -> None:
        self.topics = tuple(topics)
        self.counts: Counter[str] = Counter()
        """What came and went, for people: see specs/22-gossip.md."""
        self.scores = Scores(weights or Weights())
        self._random = random
        self._neighbours: dict[PeerId, Neighbour] = {}
        self._meshes = Meshes(self.topics, self._neighbours, self.scores, random)
        self._seen = Seen(params.SEEN, params.SEEN_MAX)
        self._history = History(params.HISTORY, params.CACHE_BYTES_MAX)
        self._promises = Promises(random)
        self._pending: dict[bytes, _Pending] = {}
        self._fanout: dict[str, tuple[Micros, list[PeerId]]] = {}
        """Of topics that we only publish to: until when, and through whom."""

    # ── who is there ─────────────────────────────────────────────────────────────────────────────────────────────────
    def connected(self, peer: PeerId, is_outbound: bool, address: str) -> None:
        """A peer is there, dialled by us or not, at an IP address ("" when unknown)."""
        if peer in self._neighbours or len(self._neighbours) >= params.PEERS_MAX:
            return
        self._neighbours[peer] = Neighbour(is_outbound)
        self.scores.connected(peer, address)

    def opened(self, peer: PeerId) -> list[GossipEffect]:
        """A stream to a neighbour is open, for the first time or again: what we follow is the first thing on it."""
        if peer not in self._neighbours:
            return []
        hello = Rpc(subscriptions=tuple((True, topic) for topic in self.topics))
        mine = tuple(topic for topic, members in self._meshes.members.items() if peer in members)
        return [SendRpc((peer,), hello._replace(graft=mine), Rank.CONTROL)]

    def disconnected(self, peer: PeerId, now: Micros) -> None:
        """The peer is gone."""
        if self._neighbours.pop(peer, None) is None:
            return
        self._meshes.gone(peer, now)
        self._promises.forget(peer)
        self.scores.disconnected(peer, now)

    @property
    def neighbours(self) -> tuple[PeerId, ...]:
        """Everybody we talk to."""
        return tuple(self._neighbours)

    def mesh(self, topic: str) -> tuple[PeerId, ...]:
        """The members of a topic's mesh."""
        return tuple(self._meshes.members.get(topic, ()))

    def holds(self, name: bytes) -> bool:
        """Whether a statement can still be handed out."""
        return self._history.get(name) is not None

    # ── in ───────────────────────────────────────────────────────────────────────────────────────────────────────────
    def receive(self, peer: PeerId, rpc: Rpc, now: Micros) -> list[GossipEffect]:
        """An RPC of a neighbour. Nothing of a graylisted one is read."""
        neighbour = self._neighbours.get(peer)
        if neighbour is None:
            return []
        if self.scores.value(peer, now) < self.scores.weights.graylist_threshold:
            self.counts["rpcs_graylisted"] += 1
            return []
        effects: list[GossipEffect] = []
        steering = Steering()
        for is_in, topic in rpc.subscriptions:
            if neighbour.subscribe(topic, is_in):
                if is_in:
                    self._meshes.subscribed(peer, topic, now, steering)
                else:
                    self._meshes.dropped(peer, topic, now)
        for _ in range(rpc.refused):
            self._blame(peer, self.topics[0], now, steering)
        for envelope in rpc.messages:
            effects += self._take(peer, envelope, now)
        if rpc.idontwant:
            neighbour.refuse(rpc.idontwant)
        if rpc.ihave:
            effects += self._announced(peer, neighbour, rpc.ihave, now)
        if rpc.iwant:
            effects += self._asked(peer, neighbour, rpc.iwant, now)
        refusals = [refusal for topic in rpc.graft if (refusal := self._meshes.grafted(peer, topic, now))]
        if refusals:
            steering.prunes.setdefault(peer, []).extend(refusals)
        for prune in rpc.prune:
            effects += self._pruned(peer, prune, now)
        return effects + self._told(steering)

    def decide(self, name: bytes, verdict: Verdict, now: Micros) -> list[GossipEffect]:
        """What became of a statement that was given out with `Judge`."""
        pending = self._pending.pop(name, None)
        if pending is None:
            return []
        topic, forwarders = pending.envelope.topic, pending.forwarders
        self.counts[f"statements_{verdict.value}"] += 1
        if verdict is Verdict.RETRY:
            self._seen.forget(name)
        if verdict is Verdict.REJECT:
            steering = Steering()
            for peer in forwarders:
                self._blame(peer, topic, now, steering)
            return self._told(steering)
        if verdict is not Verdict.ACCEPT:
            return []
        for number, peer in enumerate(forwarders):
            self.scores.delivered(peer, topic, is_first=not number)
        self._history.put(name, pending.envelope)
        effects: list[GossipEffect] = [Deliver(topic, pending.envelope.data, forwarders[0])]
        targets = [
            peer
            for peer in self._meshes.members[topic]
            if peer not in forwarders and name not in self._neighbours[peer].unwanted
        ]
        return self._sent(targets, pending.envelope, Rank.FORWARD) + effects

    def publish(self, topic: str, data: bytes, now: Micros) -> list[GossipEffect]:
        """Something of our own: to every neighbour that follows the topic and is not too bad (flood publishing).

        Refused when it does not fit an RPC. Nothing is done about a statement that is known."""
        if len(data) > RPC_BYTES_MAX - ENVELOPE_BYTES_MAX:
            raise Refused(
                f"a statement of {len(data)} bytes, {RPC_BYTES_MAX - ENVELOPE_BYTES_MAX} fit",
                code="over_limit",
                fix="Send its body as a blob.",
                numbers={"bytes": len(data), "bytes_max": RPC_BYTES_MAX - ENVELOPE_BYTES_MAX},
            )
        name = message_id(topic, data)
        if not self._seen.add(name, now):
            return []
        envelope = Envelope(topic, data)
        self._history.put(name, envelope)
        self.counts["statements_flooded"] += 1
        bound = self.scores.weights.publish_threshold
        if topic in self._meshes.members:
            targets = [peer for peer in self._following(topic) if self.scores.value(peer, now) >= bound]
            return [*self._sent(targets, envelope, Rank.OWN), Deliver(topic, data, None)]
        return self._sent(self._outlets(topic, now), envelope, Rank.OWN)

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def tick(self, now: Micros) -> list[GossipEffect]:
        """The heartbeat, to be called every `HEARTBEAT`."""
        for peer in self._promises.broken(now):
            self.counts["promises_broken"] += 1
            self.scores.misbehaved(peer)
        for neighbour in self._neighbours.values():
            neighbour.beat()
        self._seen.expire(now)
        self.scores.fade(now)
        effects = self._told(self._meshes.beat(now))
        for topic in [topic for topic, (until, _) in self._fanout.items() if until <= now]:
            del self._fanout[topic]
        for topic in (*self.topics, *self._fanout):
            effects += self._announce(topic, now)
        self._history.shift()
        return effects

    # ── statements ───────────────────────────────────────────────────────────────────────────────────────────────────
    def _take(self, peer: PeerId, envelope: Envelope, now: Micros) -> list[GossipEffect]:
        """A message came. Only one that is new is looked at."""
        topic, data = envelope
        if topic not in self._meshes.members:
            self.counts["messages_foreign"] += 1
            return []
        name = message_id(topic, data)
        if name in self._seen:
            self._again(peer, name, topic, now)
            return []
        self._promises.keep(name)
        if not self._has_room(peer):
            self.counts["messages_dropped"] += 1
            return []
        self._seen.add(name, now)
        self._pending[name] = _Pending(envelope, [peer])
        return [Judge(name, topic, data, peer)]

    def _has_room(self, peer: PeerId) -> bool:
        """Whether one more statement of a neighbour may wait for its verdict."""
        if len(self._pending) < params.PENDING_MAX // 2:
            return True
        mine = sum(pending.forwarders[0] == peer for pending in self._pending.values())
        return len(self._pending) < params.PENDING_MAX and mine < params.PENDING_SHARE

    def _again(self, peer: PeerId, name: bytes, topic: str, now: Micros) -> None:
        self.counts["duplicates"] += 1
        pending = self._pending.get(name)
        if pending is not None:
            if len(pending.forwarders) < params.FORWARDERS_MAX and peer not in pending.forwarders:
                pending.forwarders.append(peer)
        elif self.scores.weights.deficit and self._seen.age(name, now) <= self.scores.weights.deficit_window:
            self.scores.delivered(peer, topic, is_first=False)

    def forwarders(self, name: bytes) -> tuple[PeerId, ...]:
        """Who brought a statement whose verdict is still to come."""
        pending = self._pending.get(name)
        return tuple(pending.forwarders) if pending is not None else ()

    def _blame(self, peer: PeerId, topic: str, now: Micros, steering: Steering) -> None:
        """It brought something wrong: it is out of every mesh at once, not at the next heartbeat."""
        self.scores.brought_invalid(peer, topic)
        self._meshes.expel(peer, now, steering)

    # ── IHAVE and IWANT ──────────────────────────────────────────────────────────────────────────────────────────────
    def _announce(self, topic: str, now: Micros) -> list[GossipEffect]:
        """IHAVE to some neighbours outside the mesh."""
        names = self._history.window(topic, params.WINDOW)
        if not names:
            return []
        names = self._random.sample(names, min(len(names), params.IDS_MAX, (RPC_BYTES_MAX - 1024) // (ID_BYTES + 2)))
        members = self._meshes.members.get(topic, {})
        bound = self.scores.weights.gossip_threshold
        pool = [p for p in self._following(topic) if p not in members and self.scores.value(p, now) >= bound]
        wanted = min(len(pool), max(params.LAZY, int(params.LAZY_SHARE * len(pool))))
        if not wanted:
            return []
        self.counts["ihave_sent"] += wanted
        peers = tuple(self._random.sample(pool, wanted))
        return [SendRpc(peers, Rpc(ihave=((topic, tuple(names)),)), Rank.CONTROL)]

    def _announced(
        self, peer: PeerId, neighbour: Neighbour, ihave: tuple[tuple[str, tuple[bytes, ...]], ...], now: Micros
    ) -> list[GossipEffect]:
        """IHAVE came: ask for what is missing, within the limits of a heartbeat."""
        if self.scores.value(peer, now) < self.scores.weights.gossip_threshold:
            return []
        missing: list[bytes] = []
        for topic, names in ihave:
            neighbour.ihaves += 1
            if neighbour.ihaves > params.IHAVES_MAX:
                if neighbour.ihaves == params.IHAVES_MAX + 1:
                    self.scores.misbehaved(peer)
                self.counts["ihave_ignored"] += 1
                continue
            if topic in self._meshes.members:
                missing += [name for name in dict.fromkeys(names) if len(name) == ID_BYTES and name not in self._seen]
        missing = [name for name in missing if self._promises.asked[name] < 2]
        missing = missing[: params.IDS_MAX - neighbour.wanted]
        if not missing:
            return []
        neighbour.wanted += len(missing)
        self._promises.add(peer, missing, now)
        self.counts["iwant_sent"] += 1
        at_once = (RPC_BYTES_MAX - 1024) // (ID_BYTES + 2)
        return [
            SendRpc((peer,), Rpc(iwant=tuple(missing[at : at + at_once])), Rank.CONTROL)
            for at in range(0, len(missing), at_once)
        ]

    def _asked(self, peer: PeerId, neighbour: Neighbour, names: tuple[bytes, ...], now: Micros) -> list[GossipEffect]:
        """IWANT came: hand out what is here, within the limits of a heartbeat."""
        if self.scores.value(peer, now) < self.scores.weights.gossip_threshold:
            return []
        found: list[Envelope] = []
        for name in names[: max(0, params.IDS_MAX - neighbour.asked)]:
            envelope = self._history.ask(name, peer, params.REPEATS_MAX)
            if envelope is None or neighbour.answered + len(envelope.data) > ANSWER_BYTES_MAX:
                continue
            neighbour.answered += len(envelope.data)
            found.append(envelope)
        neighbour.asked += len(names)
        self.counts["iwant_answered"] += len(found)
        return [SendRpc((peer,), Rpc(messages=batch), Rank.FORWARD) for batch in parcels(found)]

    def _pruned(self, peer: PeerId, prune: Prune, now: Micros) -> list[GossipEffect]:
        self._meshes.pruned(peer, prune, now)
        if prune.peers and self.scores.value(peer, now) >= self.scores.weights.exchange_threshold:
            others = tuple(other for other in named(prune.peers) if other not in self._neighbours)
            return [Suggest(others)] if others else []
        return []

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _sent(self, targets: list[PeerId], envelope: Envelope, rank: Rank) -> list[GossipEffect]:
        if not targets:
            return []
        self.counts["copies_sent"] += len(targets)
        return [SendRpc(tuple(targets), Rpc(messages=(envelope,)), rank)]

    def _told(self, steering: Steering) -> list[GossipEffect]:
        """GRAFT and PRUNE, one RPC per neighbour."""
        effects: list[GossipEffect] = []
        for peer in {**steering.grafts, **steering.prunes}:
            grafts, prunes = steering.grafts.get(peer, ()), steering.prunes.get(peer, ())
            effects.append(SendRpc((peer,), Rpc(graft=tuple(grafts), prune=tuple(prunes)), Rank.CONTROL))
        return effects

    def _following(self, topic: str) -> list[PeerId]:
        return [peer for peer, neighbour in self._neighbours.items() if topic in neighbour.topics]

    def _outlets(self, topic: str, now: Micros) -> list[PeerId]:
        """Through whom we say something on a topic that we do not follow: the same peers for a while."""
        bound = self.scores.weights.publish_threshold
        known = self._fanout.get(topic, (now, []))[1]
        peers = [peer for peer in known if peer in self._neighbours and topic in self._neighbours[peer].topics]
        pool = [p for p in self._following(topic) if p not in peers and self.scores.value(p, now) >= bound]
        peers += self._random.sample(pool, min(len(pool), max(0, params.DEGREE - len(peers))))
        if topic in self._fanout or len(self._fanout) < params.SUBSCRIPTIONS_MAX:
            self._fanout[topic] = (Micros(now + params.FANOUT), peers)
        return peers
