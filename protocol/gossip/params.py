"""How a router is set. Sources: GossipSub v1.1 (libp2p/specs, 2020), Filecoin's Lotus and go-libp2p-pubsub for limits.

Times are microseconds. The simulator's `GossipParams.live()` has the same values; tests/specs compares them.
"""

from __future__ import annotations

from typing import Final

from protocol.units import MINUTE, SECOND, Micros

HEARTBEAT: Final = Micros(SECOND)
"""Upkeep of meshes, IHAVE, decay of scores."""

DEGREE: Final = 6
"""Members of a mesh: the specification's D."""

DEGREE_LOW: Final = 5
"""Below that, the heartbeat grafts up to `DEGREE`."""

DEGREE_HIGH: Final = 12
"""Above that, the heartbeat prunes down to `DEGREE`."""

DEGREE_SCORE: Final = 4
"""Members that survive pruning because of their score; the others are drawn by lot."""

DEGREE_OUT: Final = 2
"""Members that we dialled ourselves, kept or sought: who only waits to be dialled cannot fill a mesh."""

LAZY: Final = 6
"""Peers outside the mesh that hear IHAVE in a heartbeat, at least."""

LAZY_SHARE: Final = 0.25
"""Share of the peers outside the mesh that hear IHAVE, when that is more."""

HISTORY: Final = 5
"""Heartbeats during which a statement can be asked for."""

WINDOW: Final = 3
"""Heartbeats during which it is announced."""

SEEN: Final = Micros(120 * SECOND)
"""How long the same statement counts as a duplicate."""

SEEN_MAX: Final = 65_536
"""Identifiers remembered, 150 bytes each: 500 statements a second fit."""

BACKOFF: Final = Micros(MINUTE)
"""After a PRUNE, no GRAFT."""

BACKOFF_MAX: Final = Micros(10 * MINUTE)
"""A neighbour that names a longer back-off gets this one."""

BACKOFF_SLACK: Final = Micros(SECOND)
"""We wait so much longer than we ask of others, so that clocks and delays make no fault of it."""

GRAFT_FLOOD: Final = Micros(10 * SECOND)
"""A GRAFT so soon after a PRUNE counts twice."""

FANOUT: Final = Micros(MINUTE)
"""How long the peers for a topic that we only publish to stay the same."""

IHAVES_MAX: Final = 10
"""IHAVEs of one peer that are looked at in one heartbeat."""

IDS_MAX: Final = 5_000
"""Identifiers that one peer is asked for in one heartbeat."""

FOLLOW_UP: Final = Micros(3 * SECOND)
"""What was announced and asked for has to come within this time."""

REPEATS_MAX: Final = 3
"""How often one peer may ask for the same statement."""

PROMISES_MAX: Final = 4_096
"""Open questions to all peers together; beyond that they are asked but not followed up."""

UNWANTED_MAX: Final = 1_024
"""Identifiers that one peer said it does not want and that are remembered, for a heartbeat or two."""

PENDING_MAX: Final = 1_024
"""Statements whose verdict is still to come; beyond that, new ones are not looked at."""

PENDING_SHARE: Final = 128
"""Of those so many may have come from one neighbour once half of the room is full: the rest is kept for the others."""

FORWARDERS_MAX: Final = 4
"""Peers remembered that brought the same statement while its verdict is still to come."""

SUBSCRIPTIONS_MAX: Final = 64
"""Topics of one peer. We have three."""

TOPIC_BYTES_MAX: Final = 256
"""A longer name is not remembered."""

PEERS_MAX: Final = 1_024
"""Peers that a router talks to; the transport allows half of that."""

CACHE_BYTES_MAX: Final = 8 << 20
"""Statements kept for IWANT."""

OPPORTUNITY_BEATS: Final = 60
"""Heartbeats between two looks at the median score of a mesh."""

OPPORTUNITY_PEERS: Final = 2
"""Better peers grafted when that median is poor."""

EXCHANGED_MAX: Final = 16
"""Peers named in a PRUNE, sent and read."""

AUTHOR_RATE: Final = 10
"""Statements per second and topic of one author, whoever forwards them: twice what a validator says about heads."""

AUTHOR_BURST: Final = 100
"""As many at once."""

AUTHORS_MAX: Final = 8_192
"""Authors whose rate is remembered."""
