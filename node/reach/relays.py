"""Keeps this node reachable through relays while it is not public: reservations at the nearest, checked and replaced.

    relays = Relays(client, candidates, is_public, clock, counts)
    nursery.start_soon(relays.run);  relays.addresses();  await relays.changed.wait()

Which relays, and when, is decided by `protocol.overlay.relay_choice`. Spec: specs/20-relays.md.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from node.clock import Clock
from node.reach.relay_client import RelayClient
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.identity import peer_text
from protocol.overlay.relay_choice import RELAYS, Candidate, RelayChoice
from protocol.units import SECOND, Micros, PeerId

LOOK_S: Final = 5.0
"""Candidates and reachability are looked at again after five seconds at most."""

TRY_S: Final = 15.0
"""One reservation with its probe takes no longer."""

log: Final = logging.getLogger("shoal.reach")


class Relays:
    """`candidates()` are the peers that offer to relay and are not shut out; `is_public()` ends all reservations."""

    def __init__(
        self,
        client: RelayClient,
        candidates: Callable[[], Sequence[Candidate]],
        is_public: Callable[[], bool],
        clock: Clock,
        counts: Counter[str],
        wanted: int = RELAYS,
    ) -> None:
        self._client = client
        self._candidates = candidates
        self._is_public = is_public
        self._clock = clock
        self._counts = counts
        self._wanted = wanted
        self._choice = RelayChoice(wanted)
        self._addresses: tuple[str, ...] = ()
        self._poked = trio.Event()
        self.changed = trio.Event()
        """Set and replaced when `addresses()` changes."""
        client.troubled = self.suspect

    def addresses(self) -> tuple[str, ...]:
        """The circuits under which this node is reached, for offers and Hello; empty while it is public."""
        return self._addresses

    def chosen(self) -> tuple[PeerId, ...]:
        """The relays where this node has a place."""
        return tuple(self._choice.held)

    def poke(self) -> None:
        """Something changed (a peer came, reachability is known): look again at once."""
        self._poked.set()

    def disconnected(self, peer: PeerId) -> None:
        """The last direct connection to a peer ended: if it was a relay, another is needed now."""
        if peer in self._choice.held:
            self._counts["relays_lost"] += 1
            log.info("the relay %s is lost", peer_text(peer))
            self._choice.failed(peer, self._clock.now())
            self._drop(peer)
            self.poke()

    def suspect(self, relay: PeerId) -> None:
        """Something went wrong on a circuit through a relay of ours: probe it now, for it may be innocent."""
        if self._choice.suspected(relay, self._clock.now()):
            self.poke()

    async def run(self) -> None:
        """Keep the reservations, for ever."""
        while True:
            self._poked = trio.Event()
            await self._step()
            wait = (self._choice.next_at(self._clock.now()) - self._clock.now()) / SECOND
            with trio.move_on_after(min(max(wait, 0.0), LOOK_S)):
                await self._poked.wait()

    async def _step(self) -> None:
        for peer in self.chosen():
            if not self._client.is_connected(peer):
                self.disconnected(peer)
        self._choice.wanted = 0 if self._is_public() else self._wanted
        plan = self._choice.plan(self._candidates(), self._clock.now())
        for peer in plan.release:
            self._choice.released(peer)
            self._drop(peer)
        async with trio.open_nursery() as nursery:
            for work, peers in (
                (self._reserve, plan.reserve),
                (self._refresh, plan.refresh),
                (self._check, plan.check),
            ):
                for peer in peers:
                    nursery.start_soon(self._try, work, peer)
        self._publish()

    async def _try(self, work: Callable[[PeerId], Awaitable[None]], relay: PeerId) -> None:
        """Do something with a relay; a failure goes into the choice, and the relay out of use."""
        try:
            with trio.move_on_after(TRY_S) as deadline:
                await work(relay)
            if not deadline.cancelled_caught:
                return
            why = f"no answer within {TRY_S:g} s"
            self._choice.failed(relay, self._clock.now())
        except RemoteViolation as error:
            why = error.rule
            self._counts["relays_misbehaved"] += 1
            self._choice.misbehaved(relay, self._clock.now())
        except (Refused, Unavailable) as error:
            why = error.detail
            self._choice.failed(relay, self._clock.now())
        log.info("%s is no relay of ours now: %s", peer_text(relay), why)
        self._drop(relay)

    async def _reserve(self, relay: PeerId) -> None:
        reservation = await self._client.reserve(relay)
        await self._probe(relay)
        self._counts["relays_reserved"] += 1
        self._choice.reserved(relay, reservation.address, reservation.until, self._clock.now())
        self._publish()

    async def _refresh(self, relay: PeerId) -> None:
        reservation = await self._client.reserve(relay)
        self._choice.reserved(relay, reservation.address, reservation.until, self._clock.now())

    async def _check(self, relay: PeerId) -> None:
        began = self._clock.now()
        await self._probe(relay)
        self._choice.checked(relay, began)

    async def _probe(self, relay: PeerId) -> None:
        try:
            took: Micros = await self._client.probe(relay)
        except Refused as error:
            log.debug("%s brings nobody to himself (%s), which proves nothing", peer_text(relay), error.code)
        else:
            log.debug("%s brought a probe back in %d µs", peer_text(relay), took)

    def _drop(self, relay: PeerId) -> None:
        self._client.release(relay)
        self._publish()

    def _publish(self) -> None:
        reserved = self._client.reserved
        found = tuple(reserved[relay].circuit for relay in self._choice.held if relay in reserved)
        if found != self._addresses:
            self._addresses = found
            log.info("reachable through %s", ", ".join(found) or "no relay")
            self.changed.set()
            self.changed = trio.Event()
