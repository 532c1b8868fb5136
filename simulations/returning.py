"""Bringing a snapshot back to whoever goes on with a chunk, pack by pack, as `node/protection/fetching.py` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.effects import Resume
from protocol.errors import Refused
from protocol.snapshots import shard_of
from protocol.units import Digest, Micros
from simulations.fetching import Fetching
from simulations.library import Library
from simulations.queue import Queue
from simulations.scenario import NS
from simulations.simpeer import SimPeer
from storage.restoring import Ask, Restoring

LOOK_NS: Final = NS // 2
"""Between two looks at shards that may be slow, ns (node/protection/fetching.py)."""

PATIENCE_NS: Final = 1_800 * NS
"""A snapshot that is not here after so many ns is given up (node/protection/fetching.py)."""

OVER: Final = -2
"""The place of what has ended."""

Then = Callable[[str, list[Digest]], None]
"""What happens when enough of it is here ('' and what was brought), or not (why)."""


class Returning:
    """One snapshot on its way back."""

    def __init__(
        self,
        peer: SimPeer,
        resume: Resume,
        fetching: Fetching,
        library: Library,
        queue: Queue,
        then: Then,
        patience: int = PATIENCE_NS,
    ) -> None:
        self._peer = peer
        self._boot = peer.boots
        self._resume = resume
        self._fetching = fetching
        self._library = library
        self._queue = queue
        self._then = then
        self._until = queue.now + patience
        self._place = -1
        self._is_looking = False
        self._brought: list[Digest] = []
        self._plan: Restoring
        self._next()

    def _next(self) -> None:
        """The next pack, or the end."""
        self._place += 1
        packs = self._resume.manifest.packs
        if self._place >= len(packs):
            self._place = OVER
            self._then("", self._brought)
            return
        pack, index = packs[self._place], self._peer.index
        here = [at for at in range(pack.n) if self._library.has(index, Digest(shard_of(pack, at)))]
        self._plan = Restoring(pack, self._resume.holders[self._place], here, lambda peer: 1.0)
        self._go_on(self._place)

    def _go_on(self, place: int) -> None:
        """Ask for what is missing; come back when something has happened, or soon."""
        if place != self._place or not self._peer.is_up or self._peer.boots != self._boot:
            return
        if self._plan.is_done:
            self._next()
            return
        now = Micros(self._queue.now // 1_000)
        self._plan.look(now)
        try:
            asks = self._plan.asks(now)
        except Refused as refusal:
            self._place = OVER
            self._then(refusal.code, self._brought)
            return
        if self._queue.now >= self._until:
            self._place = OVER
            self._then("too_slow", self._brought)
            return
        for ask in asks:
            self._fetch(ask, place)
        if not self._is_looking:
            self._is_looking = True
            self._queue.at(self._queue.now + LOOK_NS, self._look, None)

    def _look(self, _: None) -> None:
        self._is_looking = False
        if self._place >= 0:
            self._go_on(self._place)

    def _fetch(self, ask: Ask, place: int) -> None:
        def then(why: str) -> None:
            if place != self._place:
                return
            if why:
                self._plan.failed(ask.index)
            else:
                self._brought.append(ask.shard)
                self._plan.arrived(ask.index)
            self._go_on(place)

        self._fetching.bring(self._peer, [(ask.shard, False)], ask.sources, then)
