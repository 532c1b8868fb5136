"""Statements to everyone: GossipSub v1.1 with a validator per topic that checks the statement's own signature.

Nothing that is forged, malformed or of the wrong kind is passed on, so whoever hands us such a thing made it or did not
look. The same statement is the same message, whoever publishes it. Spec: specs/12-transport.md.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio
from blake3 import blake3
from libp2p.abc import IHost, ISubscriptionAPI
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.score import ScoreParams, TopicScoreParams
from libp2p.tools.anyio_service import background_trio_service

from node import libp2p_patches
from node.arrivals import Statement
from node.libp2p_rim import peer_of, rim
from protocol import wire
from protocol.errors import LocalError, Refused, RemoteViolation, Unavailable
from protocol.messages import STATEMENT_KINDS, Head, JobNotice, Offer, message_decoder
from protocol.units import KIB, PeerId

TOPICS: Final[dict[str, str]] = {"offers": "offer", "jobs": "notice", "heads": "head"}
"""What is gossiped: topic, and the kind under which its statements are signed."""

HEARTBEAT_S: Final = 1
"""Mesh upkeep each second; libp2p 0.8.1 waits 120 s unless told."""

DEGREE: Final = 6
"""Peers in the mesh of a topic, kept between 5 and 12 (GossipSub's own recommendation)."""

STATEMENT_BYTES_MAX: Final = 48 * KIB
"""One statement; with its envelope it stays below `RPC_BYTES_MAX`. Offers have about 1 KB."""

RPC_BYTES_MAX: Final = 64 * KIB
"""One GossipSub RPC frame."""

SEEN_S: Final = 120
"""How long the same statement counts as a duplicate."""

HISTORY: Final = 5
"""Heartbeats during which a statement can be asked for again by a peer that missed it."""

_SCORES: Final = ScoreParams(
    p4_invalid_messages=TopicScoreParams(weight=10.0, cap=100.0, decay=0.99),
    publish_threshold=-50.0,
    gossip_threshold=-20.0,
    graylist_threshold=-100.0,
)
"""Five invalid statements end a peer's right to publish here, ten its place; a fault is half forgotten in 69 s."""

log: Final = logging.getLogger("shoal.transport")

_signed: Final = wire.decoder(wire.Signed)


class Gossip:
    """The topics of one network. `punish` hears about peers that hand over rubbish."""

    def __init__(
        self,
        host: IHost,
        network: str,
        deliver: Callable[[Statement], Awaitable[None]],
        punish: Callable[[RemoteViolation], None],
        counts: Counter[str],
    ) -> None:
        self._network = network
        self._deliver = deliver
        self._punish = punish
        self._counts = counts
        self._names = {f"/shoal/{network}/{topic}": topic for topic in TOPICS}
        self._checked: dict[bytes, Statement] = {}
        self._router = GossipSub(
            protocols=[PROTOCOL_ID_V11],
            degree=DEGREE,
            degree_low=5,
            degree_high=12,
            gossip_history=HISTORY,
            heartbeat_interval=HEARTBEAT_S,
            score_params=_SCORES,
            adaptive_gossip_enabled=False,
            spam_protection_enabled=False,
            eclipse_protection_enabled=False,
        )
        libp2p_patches.agree_on_ids(self._router, _message_id)
        self._pubsub = Pubsub(
            host,
            self._router,
            seen_ttl=SEEN_S,
            strict_signing=True,
            msg_id_constructor=_message_id,
            validation_cache_ttl=SEEN_S,
            max_inbound_rpc_size=RPC_BYTES_MAX,
            allowed_topics=set(self._names),
        )

    @asynccontextmanager
    async def serving(self, nursery: trio.Nursery) -> AsyncIterator[None]:
        """Follow all topics until the end, in tasks of `nursery`; the thread of the seen-cache ends here too."""
        try:
            async with background_trio_service(self._pubsub), background_trio_service(self._router):
                await self._pubsub.wait_until_ready()
                for name in self._names:
                    self._pubsub.set_topic_validator(name, self._is_valid, is_async_validator=False)
                    subscription = await self._pubsub.subscribe(name)
                    nursery.start_soon(self._follow, subscription)
                yield
        finally:
            libp2p_patches.stop_seen_cache(self._pubsub)

    async def publish(self, topic: str, signed: wire.Signed) -> None:
        """Say something to everyone, ourselves included. LocalError when it is not a valid statement of the topic."""
        if topic not in TOPICS:
            raise LocalError(f"{topic!r} is no topic; there are {', '.join(TOPICS)}", code="bad_topic")
        data = wire.encode(signed)
        try:
            self._open(topic, data, PeerId(signed.signer))
        except RemoteViolation as violation:
            raise LocalError(f"our own statement is invalid: {violation.rule}", code=violation.code) from violation
        self._counts["statements_published"] += 1
        try:
            with rim(f"publish to {topic}"):
                await self._pubsub.publish(f"/shoal/{self._network}/{topic}", data)
        except Unavailable as error:
            self._counts["statements_lost"] += 1
            log.warning("%s", error.detail)

    async def _follow(self, subscription: ISubscriptionAPI) -> None:
        while True:
            message = await subscription.get()
            statement = self._checked.pop(_message_id(message), None)
            if statement is not None:
                self._counts["statements_received"] += 1
                await self._deliver(statement)

    def _is_valid(self, forwarder: ID, message: rpc_pb2.Message) -> bool:
        """libp2p asks before it passes a message on. Synchronous and quick (one signature), and it never raises."""
        try:
            peer = peer_of(forwarder)
            topic = self._names[message.topicIDs[0]] if len(message.topicIDs) == 1 else ""
            signed, body = self._open(topic, message.data, peer)
        except RemoteViolation as violation:
            self._counts["statements_refused"] += 1
            self._punish(violation)
            return False
        except (Refused, KeyError):
            return False
        while len(self._checked) >= libp2p_patches.QUEUE_ITEMS:
            del self._checked[next(iter(self._checked))]
        self._checked[_message_id(message)] = Statement(topic, signed, peer, body)
        return True

    def _open(self, topic: str, data: bytes, sender: PeerId) -> tuple[wire.Signed, Offer | JobNotice | Head]:
        kind = TOPICS.get(topic)
        if kind is None:
            raise RemoteViolation(sender, f"a message for {topic!r}, which is no topic", code="bad_topic")
        signed = wire.decode(data, _signed, sender, STATEMENT_BYTES_MAX)
        body = wire.open_signed(signed, self._network, kind, message_decoder, sender)
        if not isinstance(body, Offer | JobNotice | Head) or STATEMENT_KINDS[type(body)] != kind:
            raise RemoteViolation(sender, f"a {type(body).__name__} signed as {kind}", code="bad_kind")
        return signed, body


def _message_id(message: rpc_pb2.Message) -> bytes:
    """Topic and content: the same statement is one message, and one verdict of the validator fits it for ever."""
    return blake3("\0".join(message.topicIDs).encode() + b"\0" + message.data).digest(length=20)
