"""How a simulated GossipSub router is set: the live node's values, the specification's, and the hardened evaluation's.

Sources: protocol/gossip (live); py-libp2p 0.8.1 (unpatched); GossipSub v1.1 specification, libp2p/specs 2020 (plain);
Vyzovitis et al., "GossipSub: Attack-Resilient Message Propagation", 2020, configurations of
libp2p/gossipsub-hardening (hardened).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Literal

from protocol.errors import Refused

SECOND: Final = 1_000_000_000
"""Nanoseconds in a second."""

EVALUATED_RATE: Final = 120.0
"""Statements per second and topic in the evaluation of 2020: its thresholds on deliveries were chosen for this rate."""

Upkeep = Literal["libp2p-0.8.1", "spec"]
"""Who looks after a mesh: py-libp2p as it is installed, or the specification (as go-libp2p-pubsub does it)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreWeights:
    """What a neighbour's deeds weigh. Decays are per heartbeat, counters are events; penalties are positive numbers."""

    topic: float = 1.0
    time_in_mesh: float = 0.0
    """P1: per second in the mesh, up to `time_in_mesh_cap` seconds."""
    time_in_mesh_cap: float = 0.0
    first: float = 0.0
    """P2: per statement that it brought first."""
    first_decay: float = 1.0
    first_cap: float = 0.0
    deficit: float = 0.0
    """P3: times the square of how far its deliveries stay below `deficit_threshold`; P3b the same when it leaves."""
    deficit_decay: float = 1.0
    deficit_cap: float = 0.0
    deficit_threshold: float = 0.0
    deficit_after: int = 60 * SECOND
    """Nanoseconds in the mesh before a deficit counts."""
    deficit_window: int = 0
    """Nanoseconds behind the first copy within which another one still counts as a delivery."""
    invalid: float = 0.0
    """P4: per invalid statement."""
    invalid_decay: float = 1.0
    invalid_cap: float = float("inf")
    is_invalid_squared: bool = False
    application: float = 0.0
    """P5: times the number that the application gave the peer."""
    colocated: float = 0.0
    """P6: times the square of how many neighbours of its address group exceed `colocated_threshold`."""
    colocated_threshold: int = 1
    behaviour: float = 0.0
    """P7: per fault of behaviour beyond `behaviour_threshold`."""
    behaviour_decay: float = 1.0
    behaviour_threshold: float = 0.0
    is_behaviour_squared: bool = False
    gossip_threshold: float = float("-inf")
    publish_threshold: float = float("-inf")
    graylist_threshold: float = float("-inf")
    graft_median: float = 0.0
    """Opportunistic grafting starts when the median score of a mesh is below this (specification only)."""
    graft_ticks: int = 60
    """Heartbeats between two looks at that median."""

    @property
    def watches_deliveries(self) -> bool:
        """Whether good deeds count, so that every delivery and duplicate must be looked at when it arrives."""
        return bool(self.time_in_mesh or self.first or self.deficit)


LIVE_WEIGHTS: Final = ScoreWeights(
    time_in_mesh=0.01,
    time_in_mesh_cap=100.0,
    first=0.5,
    first_decay=0.97,
    first_cap=20.0,
    invalid=10.0,
    invalid_decay=0.99,
    invalid_cap=10.0,
    is_invalid_squared=True,
    application=1.0,
    colocated=5.0,
    colocated_threshold=8,
    behaviour=5.0,
    behaviour_decay=0.98,
    behaviour_threshold=4.0,
    is_behaviour_squared=True,
    gossip_threshold=-20.0,
    publish_threshold=-50.0,
    graylist_threshold=-100.0,
    graft_median=2.0,
)
"""As protocol/gossip/scores.py has them."""

FAULT_WEIGHTS: Final = replace(LIVE_WEIGHTS, time_in_mesh=0.0, first=0.0, colocated=0.0, graft_median=0.0)
"""The same without good deeds, so that a copy which changes nothing needs no event: a world of a thousand peers runs
several times as fast. Among honest peers good deeds only say who survives the pruning of a full mesh."""

LIBP2P_WEIGHTS: Final = ScoreWeights(
    invalid=10.0,
    invalid_decay=0.99,
    invalid_cap=100.0,
    gossip_threshold=-20.0,
    publish_threshold=-50.0,
    graylist_threshold=-100.0,
)
"""What py-libp2p 0.8.1 can count: invalid statements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GossipParams:
    """One router's settings, the same for all peers. Times are nanoseconds, sizes bytes."""

    topics: tuple[str, ...] = ("offers", "jobs", "heads")
    upkeep: Upkeep = "spec"
    degree: int = 6
    low: int = 5
    high: int = 12
    kept_by_score: int = 4
    """Members with the best scores that survive the pruning of a full mesh (specification only)."""
    outbound: int = 2
    """Members that the peer dialled itself, kept by pruning (specification only)."""
    lazy: int = 6
    """Least number of peers outside the mesh that hear IHAVE in a heartbeat."""
    lazy_share: float = 0.25
    """Share of the peers outside the mesh that hear it, when that is more."""
    heartbeat: int = SECOND
    history: int = 5
    """Heartbeats during which a statement can be asked for."""
    window: int = 3
    """Heartbeats in which a statement is announced."""
    backoff: int = 60 * SECOND
    flood: int = 10 * SECOND
    """A GRAFT sooner than this after a PRUNE is a fault of behaviour."""
    seen: int = 120 * SECOND
    follow_up: int = 3 * SECOND
    """An IHAVE whose statement is still missing so long after the IWANT was a lie (specification only)."""
    ihave_limit: int = 10
    """IHAVEs of one peer and heartbeat that are answered."""
    connect: int = 20
    """Peers that each peer dials."""
    processing: int = 0
    """From the last byte of a frame to its handling: decoding, signature, queue of the process."""
    spacing: int = 0
    """Between two copies that a peer sends off at once."""
    overhead: int = 40
    """Of a statement in its RPC: topic, lengths, frame."""
    control_bytes: int = 40
    """Of an RPC that only controls, without the identifiers that it lists."""
    identifier_bytes: int = 22
    ids_agree: bool = True
    """False: libp2p 0.8.1 as it comes, which announces `origin + number` but remembers the node's own identifiers as
    seen: every IHAVE is answered with an IWANT, and that with statements the asker has. True: only what is missing is
    asked for."""
    grafts_eagerly: bool = False
    """True: libp2p 0.8.1 as it comes, which grafts two peers more each heartbeat while scores are equal."""
    grafts_at_once: bool = True
    """A mesh below `low` takes a newcomer when it comes, not at the next heartbeat (specification only)."""
    floods: bool = True
    """A peer's own statements go to all neighbours instead of to its mesh."""
    replays: bool = False
    """A new neighbour is sent the statements of the window at once."""
    weights: ScoreWeights = field(default=FAULT_WEIGHTS)
    is_reference: bool = False
    """Every copy and every IHAVE is an event, also those that cannot change anything. Slow; for tests of the model."""

    def __post_init__(self) -> None:
        """Refuse what cannot work. Refused names the key."""
        if not 0 < self.low <= self.degree <= self.high:
            raise Refused(
                f"gossip degrees must satisfy 0 < low <= degree <= high, not {self.low}, {self.degree}, {self.high}",
                code="bad_degrees",
                fix="Raise degree or high, or lower low.",
                numbers={"low": self.low, "degree": self.degree, "high": self.high},
            )
        if not 0 < self.window <= self.history or self.heartbeat <= 0:
            raise Refused(
                f"gossip window {self.window} must lie within 1 and the history of {self.history} heartbeats",
                code="bad_window",
                fix="Choose 0 < window <= history and a heartbeat above 0.",
                numbers={"window": self.window, "history": self.history, "heartbeat": self.heartbeat},
            )
        if self.seen < (self.history + 2) * self.heartbeat:
            raise Refused(
                f"statements would be forgotten after {self.seen} ns while neighbours still offer them",
                code="bad_seen",
                fix="Make `seen` longer than history + 2 heartbeats.",
                numbers={"seen": self.seen, "history": self.history, "heartbeat": self.heartbeat},
            )
        if not self.topics or len(set(self.topics)) != len(self.topics):
            raise Refused("gossip topics must be named once each, at least one", code="bad_topics", fix="Name topics.")

    @classmethod
    def live(cls, *, is_scored: bool = True) -> GossipParams:
        """What protocol/gossip does. `is_scored=False` leaves good deeds out, as worlds do: see `FAULT_WEIGHTS`."""
        return cls(weights=LIVE_WEIGHTS if is_scored else FAULT_WEIGHTS)

    @classmethod
    def unpatched(cls) -> GossipParams:
        """libp2p 0.8.1 as it comes."""
        return cls(
            upkeep="libp2p-0.8.1",
            ids_agree=False,
            grafts_eagerly=True,
            floods=False,
            replays=True,
            overhead=370,
            control_bytes=220,
            identifier_bytes=46,
            weights=LIBP2P_WEIGHTS,
        )

    @classmethod
    def plain(cls) -> GossipParams:
        """The specification with the node's degrees, and no scores."""
        return cls(floods=False, grafts_at_once=False, weights=ScoreWeights())

    @classmethod
    def hardened(cls, per_second: float = EVALUATED_RATE) -> GossipParams:
        """The evaluation of 2020; `per_second` is the rate of a topic, to which the delivery threshold is scaled.

        P7 is not in the evaluation's files; its values are those of Filecoin's Lotus (2020).
        """
        weights = ScoreWeights(
            topic=0.25,
            time_in_mesh=0.0027,
            time_in_mesh_cap=3600.0,
            first=0.664,
            first_decay=0.9916,
            first_cap=1500.0,
            deficit=0.25,
            deficit_decay=0.997,
            deficit_cap=400.0,
            deficit_threshold=10.0 * min(1.0, per_second / EVALUATED_RATE),
            deficit_window=5_000_000,
            invalid=99.0,
            invalid_decay=0.9994,
            is_invalid_squared=True,
            application=1.0,
            colocated=100.0,
            behaviour=10.0,
            behaviour_decay=0.99872,
            behaviour_threshold=6.0,
            is_behaviour_squared=True,
            gossip_threshold=-4000.0,
            publish_threshold=-5000.0,
            graylist_threshold=-10000.0,
        )
        return cls(
            degree=8,
            low=6,
            high=12,
            kept_by_score=6,
            lazy=12,
            grafts_at_once=False,
            weights=weights,
        )
