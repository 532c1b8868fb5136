"""What neighbours did, as one number each: the score of GossipSub v1.1, with caps on both sides.

Good deeds can earn little (`CREDIT_MAX`), so that nobody can save up for an attack: who behaved for an hour and then
hands over rubbish is out as fast as a stranger. Records of peers that left are kept for `RETAIN` when they are bad, so
that leaving and coming back washes nothing off. Spec: specs/22-gossip.md.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from protocol.units import MINUTE, SECOND, Micros, PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What deeds weigh. Decays are per heartbeat; penalties are positive numbers and are subtracted."""

    time_in_mesh: float = 0.01
    """P1: per second in the mesh of a topic."""
    time_in_mesh_cap: float = 100.0
    """Seconds: one point at most."""
    first: float = 0.5
    """P2: per statement that it brought first."""
    first_decay: float = 0.97
    """Half is forgotten in 23 s."""
    first_cap: float = 20.0
    """Statements: ten points per topic at most."""
    deficit: float = 0.0
    """P3: times the square of missing deliveries. 0: topics of a few statements per minute say nothing about a member
    that delivers none, and a threshold that fits one size of the network punishes honest peers of another. What drops
    statements is found by opportunistic grafting instead (P2 fades), and gets around by flood publishing and IHAVE."""
    deficit_threshold: float = 2.0
    deficit_decay: float = 0.97
    deficit_cap: float = 20.0
    deficit_after: Micros = Micros(30 * SECOND)
    """In the mesh before a deficit counts."""
    deficit_window: Micros = Micros(10_000)
    """Behind the first copy within which another one still counts as a delivery."""
    invalid: float = 10.0
    """P4: times the square of invalid statements: two end IHAVE, three the right to be sent ours, four its place."""
    invalid_decay: float = 0.99
    """Half is forgotten in 69 s."""
    invalid_cap: float = 10.0
    colocated: float = 5.0
    """P6: times the square of how many peers of its address exceed `colocated_threshold`."""
    colocated_threshold: int = 8
    """A laboratory behind one router is welcome; a hundred identities there do not fill a mesh."""
    colocated_cap: float = 45.0
    """Crowded peers lose meshes and IHAVE, never their voice: a crowd is no crime."""
    behaviour: float = 5.0
    """P7: times the square of faults of behaviour above `behaviour_threshold`."""
    behaviour_threshold: float = 4.0
    """So many broken promises happen to honest peers: a copy that was asked for is lost with a connection."""
    behaviour_decay: float = 0.98
    behaviour_cap: float = 40.0
    gossip_threshold: float = -20.0
    """Below: no IHAVE and no IWANT, in either direction."""
    publish_threshold: float = -50.0
    """Below: our own statements are not sent to it."""
    graylist_threshold: float = -100.0
    """Below: nothing of it is read."""
    exchange_threshold: float = 10.0
    """Above: peers that it names in a PRUNE are listened to."""
    opportunity: float = 2.0
    """A mesh whose median is below looks for better members: nobody brings anything first any more."""


CREDIT_MAX: Final = 20.0
"""Points that good deeds can earn: two invalid statements cost twice as much."""

APPRAISAL_MIN: Final = -200.0
"""P5, what the application may say about a peer: enough for the graylist whatever it has earned."""

RETAIN: Final = Micros(10 * MINUTE)
"""How long the score of a bad peer that left is kept."""

RECORDS_MAX: Final = 4_096
"""Records, connected or not, 1 kB each: the oldest of those that left go first."""

NOTHING: Final = 0.01
"""A counter below is zero."""


@dataclass(slots=True)
class TopicRecord:
    """Deeds of one peer on one topic."""

    since: Micros | None = None
    """In the mesh since; None: not a member."""
    first: float = 0.0
    delivered: float = 0.0
    failed: float = 0.0
    """Square of the deficit when it left a mesh."""
    invalid: float = 0.0


@dataclass(slots=True)
class Record:
    """Deeds of one peer."""

    group: str = ""
    """Address group, "" where colocation means nothing."""
    topics: dict[str, TopicRecord] = field(default_factory=dict)
    behaviour: float = 0.0
    application: float = 0.0
    left: Micros | None = None
    """Since when it is not connected."""

    @property
    def is_blank(self) -> bool:
        """Nothing to remember."""
        return not self.topics and not self.behaviour and not self.application

    def topic(self, name: str) -> TopicRecord:
        """Its deeds on a topic."""
        found = self.topics.get(name)
        if found is None:
            found = self.topics[name] = TopicRecord()
        return found


class Scores:
    """The scores of all peers that one router met."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self._records: dict[PeerId, Record] = {}
        self._groups: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._records)

    def connected(self, peer: PeerId, address: str) -> None:
        """A connection from or to this IP address ("" when unknown)."""
        record = self._records.get(peer)
        if record is None:
            self._make_room()
            record = self._records[peer] = Record()
        elif record.left is None:
            return
        record.left = None
        record.group = group_of(address)
        if record.group:
            self._groups[record.group] += 1

    def disconnected(self, peer: PeerId, now: Micros) -> None:
        """The last connection is gone. A good or blank record goes with it."""
        record = self._records.get(peer)
        if record is None or record.left is not None:
            return
        for topic in list(record.topics):
            self.left_mesh(peer, topic, now)
        is_bad = self.value(peer, now) < 0
        if record.group:
            self._groups[record.group] -= 1
            if not self._groups[record.group]:
                del self._groups[record.group]
        record.left, record.group = now, ""
        if not is_bad:
            del self._records[peer]

    def value(self, peer: PeerId, now: Micros) -> float:
        """The score. A stranger has 0."""
        record = self._records.get(peer)
        if record is None or (record.is_blank and not record.group):
            return 0.0
        weights = self.weights
        good, bad = 0.0, 0.0
        for deeds in record.topics.values():
            good += weights.first * deeds.first
            if deeds.since is not None:
                good += weights.time_in_mesh * min(weights.time_in_mesh_cap, (now - deeds.since) / SECOND)
            if weights.deficit:
                bad += weights.deficit * (self._deficit(deeds, now) ** 2 + deeds.failed)
            if deeds.invalid:
                bad += weights.invalid * deeds.invalid**2
        excess = record.behaviour - weights.behaviour_threshold
        if excess > 0:
            bad += weights.behaviour * excess**2
        if record.group:
            crowd = self._groups[record.group] - weights.colocated_threshold
            if crowd > 0:
                bad += min(weights.colocated_cap, weights.colocated * crowd**2)
        return min(CREDIT_MAX, good) - bad + record.application

    def entered_mesh(self, peer: PeerId, topic: str, now: Micros) -> None:
        """It is a member now."""
        if peer in self._records:
            deeds = self._records[peer].topic(topic)
            deeds.since, deeds.delivered = now, 0.0

    def left_mesh(self, peer: PeerId, topic: str, now: Micros) -> None:
        """It is a member no more; a deficit stays with it (P3b)."""
        record = self._records.get(peer)
        deeds = None if record is None else record.topics.get(topic)
        if deeds is not None and deeds.since is not None:
            if self.weights.deficit:
                deeds.failed += self._deficit(deeds, now) ** 2
            deeds.since = None

    def delivered(self, peer: PeerId, topic: str, *, is_first: bool) -> None:
        """It brought a valid statement, first (P2) or just behind the first (P3)."""
        record = self._records.get(peer)
        if record is None:
            return
        weights, deeds = self.weights, record.topic(topic)
        if is_first:
            deeds.first = min(weights.first_cap, deeds.first + 1.0)
        if weights.deficit and deeds.since is not None:
            deeds.delivered = min(weights.deficit_cap, deeds.delivered + 1.0)

    def brought_invalid(self, peer: PeerId, topic: str) -> None:
        """It brought a statement that is wrong (P4)."""
        record = self._records.get(peer)
        if record is not None:
            deeds = record.topic(topic)
            deeds.invalid = min(self.weights.invalid_cap, deeds.invalid + 1.0)

    def misbehaved(self, peer: PeerId, amount: float = 1.0) -> None:
        """A fault of behaviour (P7): a broken promise, a GRAFT in the back-off, a flood of IHAVE."""
        record = self._records.get(peer)
        if record is not None:
            record.behaviour = min(self.weights.behaviour_cap, record.behaviour + amount)

    def appraise(self, peer: PeerId, points: float) -> None:
        """P5: what the application thinks of it, until it says otherwise."""
        record = self._records.get(peer)
        if record is not None:
            record.application = min(CREDIT_MAX, max(APPRAISAL_MIN, points))

    def fade(self, now: Micros) -> None:
        """One heartbeat: everything is forgotten a little, and whoever left long ago wholly."""
        weights = self.weights
        gone: list[PeerId] = []
        for peer, record in self._records.items():
            if record.behaviour:
                record.behaviour = faded(record.behaviour, weights.behaviour_decay)
            blank: list[str] = []
            for topic, deeds in record.topics.items():
                deeds.first = faded(deeds.first, weights.first_decay)
                deeds.invalid = faded(deeds.invalid, weights.invalid_decay)
                if weights.deficit:
                    deeds.delivered = faded(deeds.delivered, weights.deficit_decay)
                    deeds.failed = faded(deeds.failed, weights.deficit_decay)
                if deeds.since is None and not (deeds.first or deeds.invalid or deeds.failed):
                    blank.append(topic)
            for topic in blank:
                del record.topics[topic]
            if record.left is not None and (record.is_blank or now - record.left >= RETAIN):
                gone.append(peer)
        for peer in gone:
            del self._records[peer]

    def _deficit(self, deeds: TopicRecord, now: Micros) -> float:
        if deeds.since is None or now - deeds.since < self.weights.deficit_after:
            return 0.0
        return max(0.0, self.weights.deficit_threshold - deeds.delivered)

    def _make_room(self) -> None:
        if len(self._records) >= RECORDS_MAX:
            absent = [(record.left, peer) for peer, record in self._records.items() if record.left is not None]
            if absent:
                del self._records[min(absent)[1]]


def faded(value: float, decay: float) -> float:
    """A counter after a heartbeat."""
    value *= decay
    return value if value >= NOTHING else 0.0


def group_of(address: str) -> str:
    """Whom to count together: an IPv4 address or an IPv6 /64, which is what one connection to the Internet has. "" for
    loopback, private and unknown addresses, where many peers behind one address are the rule.

    >>> group_of("11.22.33.44"), group_of("192.168.1.7")
    ('0b16212c', '')
    """
    try:
        found = ip_address(address)
    except ValueError:
        return ""
    mapped = getattr(found, "ipv4_mapped", None)
    if mapped is not None:
        found = mapped
    if not found.is_global:
        return ""
    return found.packed[:8].hex()
