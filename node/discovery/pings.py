"""Round trips to neighbours, and what follows from them: where we are, how far others are, how wrong our clock is.

A ping stream is opened once per measurement and carries a few exchanges: opening it takes round trips of its own, which
are no part of the figure. Spec: specs/23-discovery.md.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final

import trio
from libp2p.abc import INetStream

from node.clock import Clock
from node.dialer import Dialer
from node.libp2p_rim import remote_of, rim
from node.streams import FrameReader, frame, reset, write_all
from protocol import wire
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.identity import peer_text
from protocol.overlay.clock_skew import SKEW_WARN, ClockSkew
from protocol.overlay.place import Coordinate, Place
from protocol.overlay.questions import Ping, Pong, ping_decoder, pong_decoder
from protocol.overlay.vivaldi import LatencyMap
from protocol.units import SECOND, Micros, PeerId

PING_EVERY_S: Final = 15.0
"""Seconds between measurements of one neighbour: less than a message a second for sixteen of them."""

PING_WARM_S: Final = 3.0
"""The same during the first half minute: a coordinate is worth something after a few rounds."""

WARM_S: Final = 30.0
"""Seconds of the hurried start."""

EXCHANGES: Final = 3
"""Pings of one measurement; the shortest counts, as nothing makes a round trip shorter than it is."""

SERVED_MAX: Final = 64
"""Ping streams answered at a time."""

FRAMES_MAX: Final = 8
"""Pings answered on one stream."""

MEASURE_S: Final = 10.0
"""Deadline of one measurement, and of answering one."""

MEASURED_MAX: Final = 16
"""Neighbours measured per round; the others have their turn in the next."""

log: Final = logging.getLogger("shoal.discovery")


@dataclass(frozen=True, slots=True)
class Exchange:
    """The four times of one ping, microseconds: ours, theirs, theirs, ours; and where they say they are."""

    sent: Micros
    heard: Micros
    said: Micros
    back: Micros
    place: Place

    @property
    def rtt(self) -> Micros:
        """The whole round trip: subtracting the time that the other side says it took would let it lie."""
        return Micros(self.back - self.sent)


class Pings:
    """Measures neighbours, and answers those that measure us."""

    def __init__(
        self,
        network: str,
        region: str,
        dialer: Dialer,
        clock: Clock,
        register: Callable[[str, Callable[[INetStream], Awaitable[None]]], None],
        punish: Callable[[RemoteViolation], Awaitable[None]],
    ) -> None:
        self.protocol = f"/shoal/{network}/ping/1"
        self._region = region
        self._dialer = dialer
        self._clock = clock
        self._punish = punish
        self._slots = trio.CapacityLimiter(SERVED_MAX)
        self._places: dict[PeerId, Place] = {}
        self.map = LatencyMap(dialer.dice)
        self._skew = ClockSkew()
        self._is_clock_wrong = False
        register(self.protocol, self._answer)

    @property
    def coordinate(self) -> Coordinate:
        """Where we are, as well as we know."""
        return self.map.coordinate

    @property
    def place(self) -> Place:
        """What we say about it."""
        return Place(self._region, self.map.coordinate)

    def rtt_us(self, peer: PeerId) -> Micros | None:
        """Median round trip to a neighbour; None when it was not measured."""
        return self.map.rtt(peer)

    def skew_us(self) -> Micros | None:
        """Microseconds by which the clocks of others are ahead of ours; None before three neighbours answered."""
        return self._skew.skew()

    def place_of(self, peer: PeerId) -> Place | None:
        """What a neighbour said last about where it is."""
        return self._places.get(peer)

    async def run(self, neighbours: Callable[[], Collection[PeerId]]) -> None:
        """Measure everybody who is up, again and again, for ever."""
        started = trio.current_time()
        while True:
            peers = sorted(neighbours())
            for gone in [peer for peer in self._places if peer not in peers]:
                del self._places[gone]
                self.map.forget(gone)
                self._skew.forget(gone)
            async with trio.open_nursery() as nursery:
                for peer in self._dialer.dice.sample(peers, min(MEASURED_MAX, len(peers))):
                    nursery.start_soon(self.measure, peer)
            pause = PING_WARM_S if trio.current_time() < started + WARM_S else PING_EVERY_S
            await trio.sleep(pause * self._dialer.dice.uniform(0.75, 1.25))

    async def measure(self, peer: PeerId) -> Exchange | None:
        """One measurement; None when the peer does not answer."""
        if self._dialer.is_relayed(peer):
            return None  # The relay's round trip is no distance.
        try:
            with trio.move_on_after(MEASURE_S):
                best = min(await self._exchanges(peer), key=lambda one: one.rtt)
                self._places[peer] = best.place
                self.map.sample(peer, best.rtt, best.place.coordinate)
                self._skew.sample(peer, best.sent, best.heard, best.said, best.back)
                self._judge_clock()
                return best
        except RemoteViolation as violation:
            await self._punish(violation)
        except Unavailable as error:
            log.debug("ping to %s: %s", peer_text(peer), error.detail)
        return None

    def _judge_clock(self) -> None:
        """Say so when our clock turns out to be wrong, and when it is right again."""
        skew = self._skew.skew()
        if skew is None or self._is_clock_wrong == (abs(skew) > SKEW_WARN):
            return
        self._is_clock_wrong = not self._is_clock_wrong
        if not self._is_clock_wrong:
            log.info("the clock agrees with those of %d neighbours again", self._skew.count)
            return
        log.warning(
            "this machine's clock is %.1f s %s those of %d neighbours (median): what it signs looks %s to them, and it "
            "gets no work from half a minute on. Set the clock by NTP (timedatectl set-ntp true).",
            abs(skew) / SECOND,
            "behind" if skew > 0 else "ahead of",
            self._skew.count,
            "expired" if skew > 0 else "not yet valid",
        )

    async def _exchanges(self, peer: PeerId) -> list[Exchange]:
        stream = await self._dialer.open_stream(peer, self.protocol)
        try:
            frames = FrameReader(stream, peer)
            return [await self._exchange(stream, frames, peer) for _ in range(EXCHANGES)]
        finally:
            await reset(stream)

    async def _exchange(self, stream: INetStream, frames: FrameReader, peer: PeerId) -> Exchange:
        sent = self._clock.now()
        await write_all(stream, frame(wire.encode(Ping(sent, self.place))))
        body = await frames.read()
        back = self._clock.now()
        if body is None:
            raise Unavailable("the stream ended", code="no_answer")
        pong = wire.decode(body, pong_decoder, peer)
        return Exchange(sent, Micros(pong.heard), Micros(pong.said), back, pong.place)

    async def _answer(self, stream: INetStream) -> None:
        try:
            peer = remote_of(stream)
        except Refused:
            await reset(stream)
            return
        try:
            with trio.move_on_after(MEASURE_S):
                self._slots.acquire_on_behalf_of_nowait(stream)
                try:
                    await self._pong(stream, FrameReader(stream, peer), peer)
                finally:
                    self._slots.release_on_behalf_of(stream)
                with rim("close"):
                    await stream.close()
                return
        except RemoteViolation as violation:
            await self._punish(violation)
        except (Unavailable, trio.WouldBlock) as error:
            log.debug("ping of %s: %s", peer_text(peer), error)
        await reset(stream)

    async def _pong(self, stream: INetStream, frames: FrameReader, peer: PeerId) -> None:
        for _ in range(FRAMES_MAX):
            body = await frames.read()
            heard = self._clock.now()
            if body is None:
                return
            wire.decode(body, ping_decoder, peer)
            await write_all(stream, frame(wire.encode(Pong(heard, self._clock.now(), self.place))))
