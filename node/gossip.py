"""Statements to everyone: our own GossipSub router on libp2p's streams, with a judge that opens every statement.

Nothing that is forged, malformed or of the wrong kind is passed on, so whoever hands us such a thing made it or did not
look. The same statement is the same message, whoever publishes it. Spec: specs/22-gossip.md.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final

import trio
from libp2p.abc import IHost

from node import entropy
from node.arrivals import Statement
from node.clock import Clock
from node.gossip_bodies import Bodies
from node.gossip_streams import GossipStreams
from node.libp2p_rim import peer_of
from node.requests import Requests
from protocol import wire
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.gossip import params
from protocol.gossip import rpc as rpcs
from protocol.gossip.announcement import STATEMENT_BYTES_MAX, Announcement, content, envelope
from protocol.gossip.buckets import Buckets
from protocol.gossip.effects import GossipEffect, Judge, SendRpc, Suggest, Verdict
from protocol.gossip.router import Router
from protocol.messages import STATEMENT_KINDS, Head, JobNotice, Offer, message_decoder
from protocol.units import SECOND, Micros, PeerId

TOPICS: Final[dict[str, str]] = {"offers": "offer", "jobs": "notice", "heads": "head"}
"""What is gossiped: topic, and the kind under which its statements are signed."""

OWN_RATE: Final = 9
"""Our own statements per second and topic: a tenth below what others allow, for delays bunch them."""

OWN_BURST: Final = 90
"""As many at once."""

PACE_S: Final = 5.0
"""Longest wait of our own statement for its turn; one that would have to wait longer is refused."""

STALE: Final = Micros(90 * SECOND)
"""Microseconds after its end from which a statement is passed on no more: clocks differ by seconds."""

log: Final = logging.getLogger("shoal.transport")


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
        self.punish = punish
        self._clock = Clock()
        self._counts = counts
        self._me = peer_of(host.get_id())
        self._names = {f"/shoal/{network}/{topic}": topic for topic in TOPICS}
        self._buckets = Buckets(params.AUTHOR_RATE, params.AUTHOR_BURST, params.AUTHORS_MAX)
        self._own = Buckets(OWN_RATE, OWN_BURST, params.AUTHORS_MAX)
        self._nursery: trio.Nursery | None = None
        self.bodies: Bodies | None = None
        self.suggest: Callable[[tuple[PeerId, ...]], None] = lambda peers: None
        """Hears about peers that a neighbour names who has no place for us."""
        self.router = Router(self._names, entropy.dice())
        self.streams = GossipStreams(host, self, counts)

    def carry_bodies(self, requests: Requests) -> None:
        """Statements larger than an envelope travel as answers to the question `statement`; without, they cannot."""
        self.bodies = Bodies(requests, self._counts)

    @asynccontextmanager
    async def serving(self, nursery: trio.Nursery) -> AsyncIterator[None]:
        """Follow all topics until the end, in tasks of `nursery`."""
        self._nursery = nursery
        self.streams.serve(nursery)
        nursery.start_soon(self._beat)
        yield

    async def publish(self, topic: str, signed: wire.Signed) -> None:
        """Say something to everyone, ourselves included, in its turn.

        LocalError: no valid statement of the topic. Refused: our own rate is exceeded for longer than `PACE_S`."""
        if topic not in TOPICS:
            raise LocalError(f"{topic!r} is no topic; there are {', '.join(TOPICS)}", code="bad_topic")
        try:
            body = self._open(topic, signed, PeerId(signed.signer))
        except RemoteViolation as violation:
            raise LocalError(f"our own statement is invalid: {violation.rule}", code=violation.code) from violation
        data, large = envelope(signed)
        if large is not None and (self.bodies is None or len(large) > STATEMENT_BYTES_MAX):
            raise LocalError(f"our own statement has {len(large)} bytes", code="over_limit")
        await self._turn(topic, PeerId(signed.signer))
        if large is not None and self.bodies is not None:
            self.bodies.keep(large)
        self._counts["statements_published"] += 1
        effects = self.router.publish(f"/shoal/{self._network}/{topic}", data, now())
        self._perform(effects)
        if effects:
            await self._hand_over(Statement(topic, signed, self._me, body))

    async def _turn(self, topic: str, author: PeerId) -> None:
        """Wait until our own bucket has a token: others would drop what we say beyond it."""
        wait = self._own.wait((topic, author), now()) / SECOND
        if wait > PACE_S:
            self._counts["statements_too_fast"] += 1
            raise Refused(
                f"on {topic!r} {OWN_RATE} statements per second may be said, {OWN_BURST} at once",
                code="too_fast",
                fix="Say less, or later.",
                numbers={"wait_ms": int(wait * 1000)},
            )
        self._own.take((topic, author), Micros(now() + int(wait * SECOND)))
        if wait:
            await trio.sleep(wait)

    # ── what streams hear ────────────────────────────────────────────────────────────────────────────────────────────
    def connected(self, peer: PeerId, is_outbound: bool, address: str) -> None:
        """A peer is there."""
        self.router.connected(peer, is_outbound, address)

    def opened(self, peer: PeerId) -> None:
        """A stream to it is open."""
        self._perform(self.router.opened(peer))

    def disconnected(self, peer: PeerId) -> None:
        """It is gone."""
        self.router.disconnected(peer, now())

    async def heard(self, peer: PeerId, rpc: rpcs.Rpc) -> None:
        """It said something. Waits while our own inbox is full, and with us the peer."""
        if rpc.refused:
            self._counts["statements_refused"] += rpc.refused
            self.punish(RemoteViolation(peer, "a message that breaks StrictNoSign", code="signed_envelope"))
        for effect in self._perform(self.router.receive(peer, rpc, now())):
            statement = self._judge(effect)
            if statement is not None:
                await self._hand_over(statement)

    # ── verdicts ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def _judge(self, judge: Judge) -> Statement | None:
        """Decide about a statement at once; one whose body must be fetched is decided later."""
        topic, peer = self._names[judge.topic], judge.forwarder
        try:
            found = content(judge.data, peer)
            if not self._buckets.has((topic, PeerId(found.signer)), now()):
                self._counts["statements_over_rate"] += 1
                self._decide(judge, Verdict.IGNORE)
                return None
            if isinstance(found, Announcement):
                self._fetch(judge, topic, found)
                return None
            body = self._open(topic, found, peer)
        except RemoteViolation as violation:
            self._refuse(judge, violation)
            return None
        if is_stale(body, self._clock.now()):
            self._counts["statements_stale"] += 1
            self._decide(judge, Verdict.IGNORE)
            return None
        self._buckets.take((topic, PeerId(found.signer)), now())
        self._decide(judge, Verdict.ACCEPT)
        return Statement(topic, found, peer, body)

    def _fetch(self, judge: Judge, topic: str, announcement: Announcement) -> None:
        if self._nursery is None or self.bodies is None or not self.bodies.has_room:
            self._decide(judge, Verdict.RETRY)
            return
        self._nursery.start_soon(self._bring, judge, topic, announcement, self.bodies)

    async def _bring(self, judge: Judge, topic: str, announcement: Announcement, bodies: Bodies) -> None:
        """Fetch a body from whoever announced it, look at it, pass the announcement on."""
        tried: set[PeerId] = set()
        while peer := next((peer for peer in self.router.forwarders(judge.name) if peer not in tried), None):
            tried.add(peer)
            try:
                signed = await bodies.fetch(peer, announcement)
            except RemoteViolation as violation:  # Of this one alone: others may have the right body.
                self.router.scores.brought_invalid(peer, judge.topic)
                self.punish(violation)
                continue
            if signed is None:
                self.router.scores.misbehaved(peer)
                continue
            try:
                body = self._open(topic, signed, peer)
            except RemoteViolation as violation:
                self._refuse(judge, violation)
                return
            bodies.keep(wire.encode(signed))
            self._buckets.take((topic, PeerId(signed.signer)), now())
            self._decide(judge, Verdict.ACCEPT)
            await self._hand_over(Statement(topic, signed, peer, body))
            return
        self._decide(judge, Verdict.RETRY)

    def _refuse(self, judge: Judge, violation: RemoteViolation) -> None:
        self._counts["statements_refused"] += 1
        self._decide(judge, Verdict.REJECT)
        self.punish(violation)

    def _decide(self, judge: Judge, verdict: Verdict) -> None:
        self._perform(self.router.decide(judge.name, verdict, now()))

    async def _hand_over(self, statement: Statement) -> None:
        self._counts["statements_received"] += 1
        await self._deliver(statement)

    def _open(self, topic: str, signed: wire.Signed, sender: PeerId) -> Offer | JobNotice | Head:
        """The body of a statement: right signature, right kind, every field within its bounds."""
        kind = TOPICS[topic]
        body = wire.open_signed(signed, self._network, kind, message_decoder, sender)
        if not isinstance(body, Offer | JobNotice | Head) or STATEMENT_KINDS[type(body)] != kind:
            raise RemoteViolation(sender, f"a {type(body).__name__} signed as {kind}", code="bad_kind")
        return body

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _perform(self, effects: Iterable[GossipEffect]) -> list[Judge]:
        """Send what is to be sent, encoded once; what is to be judged is left."""
        judges: list[Judge] = []
        for effect in effects:
            match effect:
                case SendRpc(peers, rpc, rank):
                    frame = rpcs.frame(rpc)
                    for peer in peers:
                        self.streams.send(peer, frame, rank)
                case Judge():
                    judges.append(effect)
                case Suggest(peers):
                    self.suggest(peers)
        return judges

    async def _beat(self) -> None:
        """The heartbeat, for ever."""
        period = params.HEARTBEAT / SECOND
        await trio.sleep(entropy.dice().random() * period)
        while True:
            self._perform(self.router.tick(now()))
            await trio.sleep(period)


def is_stale(body: Offer | JobNotice | Head, at: Micros) -> bool:
    """Dead for so long that nobody waits for it: a repeated one must not use up its author's share.

    One that has just expired is news: that is how a peer withdraws."""
    return not isinstance(body, Head) and body.expires + STALE < at


def now() -> Micros:
    """µs on the clock that never jumps: the router compares times only with each other."""
    return Micros(int(trio.current_time() * SECOND))
