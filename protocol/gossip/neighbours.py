"""The peers that a router talks to: what they follow, and what they may still ask for in this heartbeat."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from random import Random

from protocol.gossip import params
from protocol.gossip.rpc import RPC_BYTES_MAX, Envelope
from protocol.units import MIB, Micros, PeerId

ANSWER_BYTES_MAX = 1 * MIB
"""Bytes of statements that one peer gets for its IWANTs in one heartbeat."""


@dataclass(slots=True)
class Neighbour:
    """One connected peer."""

    is_outbound: bool
    """We dialled it."""
    topics: dict[str, None] = field(default_factory=dict)
    """What it follows."""
    unwanted: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    """IDONTWANT."""
    ihaves: int = 0
    wanted: int = 0
    """Identifiers that we asked it for in this heartbeat."""
    asked: int = 0
    """Identifiers that it asked us for."""
    answered: int = 0
    """Bytes that it got for them."""

    def subscribe(self, topic: str, is_in: bool) -> bool:
        """Note what it follows. False when nothing changed, or it follows too much to be true."""
        if not is_in:
            return self.topics.pop(topic, topic) is None
        if topic in self.topics or len(self.topics) >= params.SUBSCRIPTIONS_MAX:
            return False
        if len(topic) > params.TOPIC_BYTES_MAX:
            return False
        self.topics[topic] = None
        return True

    def refuse(self, names: tuple[bytes, ...]) -> None:
        """IDONTWANT came: the newest are remembered."""
        for name in names[: params.UNWANTED_MAX]:
            self.unwanted[name[:64]] = None
        while len(self.unwanted) > params.UNWANTED_MAX:
            self.unwanted.popitem(last=False)

    def beat(self) -> None:
        """A heartbeat has passed: allowances are full again."""
        self.ihaves = self.wanted = self.asked = self.answered = 0
        for _ in range(len(self.unwanted) // 2 + len(self.unwanted) % 2):
            self.unwanted.popitem(last=False)


class Promises:
    """Whoever announces a statement and is asked for it owes it. One of each IHAVE is followed up, drawn by lot."""

    __slots__ = ("_due", "_random", "asked")

    def __init__(self, random: Random) -> None:
        self._random = random
        self._due: dict[bytes, dict[PeerId, Micros]] = {}
        self.asked: Counter[bytes] = Counter()
        """How many peers were asked for a statement in this heartbeat."""

    def __len__(self) -> int:
        return sum(len(peers) for peers in self._due.values())

    def add(self, peer: PeerId, names: list[bytes], now: Micros) -> None:
        """The peer was asked for these."""
        self.asked.update(names)
        if len(self._due) < params.PROMISES_MAX:
            name = names[self._random.randrange(len(names))]
            self._due.setdefault(name, {}).setdefault(peer, Micros(now + params.FOLLOW_UP))

    def keep(self, name: bytes) -> None:
        """The statement came, from whomever."""
        self._due.pop(name, None)

    def forget(self, peer: PeerId) -> None:
        """A connection is gone; nobody is blamed for that."""
        for name in [name for name, peers in self._due.items() if peer in peers]:
            del self._due[name][peer]
            if not self._due[name]:
                del self._due[name]

    def broken(self, now: Micros) -> list[PeerId]:
        """Whose word is overdue, once per word."""
        self.asked.clear()
        blamed: list[PeerId] = []
        for name in list(self._due):
            peers = self._due[name]
            late = [peer for peer, due in peers.items() if due <= now]
            blamed += late
            for peer in late:
                del peers[peer]
            if not peers:
                del self._due[name]
        return blamed


def parcels(envelopes: list[Envelope]) -> list[tuple[Envelope, ...]]:
    """As many RPCs as are needed to carry these."""
    batches: list[tuple[Envelope, ...]] = []
    batch: list[Envelope] = []
    size = 0
    for envelope in envelopes:
        more = len(envelope.data) + len(envelope.topic) * 4 + 32
        if batch and size + more > RPC_BYTES_MAX:
            batches.append(tuple(batch))
            batch, size = [], 0
        batch.append(envelope)
        size += more
    return [*batches, tuple(batch)] if batch else batches
