"""Bringing blobs to a peer, as the node's transport does: one source after the other, then the files of a manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from protocol.completions import Fetched, FetchFailed
from protocol.effects import Fetch
from protocol.units import Digest
from simulations.library import Library
from simulations.network import Network
from simulations.queue import Queue
from simulations.simpeer import SimPeer
from simulations.worker import Give

STALL_NS = 10_000_000_000
"""A source that delivers nothing for so long is given up, ns (node/bulk/channel.py STALL_S)."""

REQUEST_BYTES = 64
"""Bytes of a request for a blob."""

Then = Callable[[str], None]
"""What happens when all of it is here ('') or cannot be had (why)."""


@dataclass(slots=True)
class Errand:
    """What is still to be brought for one request, and from whom."""

    peer: SimPeer
    boot: int
    wanted: list[tuple[Digest, bool]]
    """(digest, whether it is a manifest whose files are wanted too), the next one last."""
    sources: tuple[int, ...]
    then: Then
    turn: int = 0


class Fetching:
    """All transfers of blobs in the world."""

    def __init__(
        self,
        queue: Queue,
        network: Network,
        library: Library,
        peers: list[SimPeer],
        index: dict[bytes, int],
        give: Give,
    ) -> None:
        self._queue = queue
        self._network = network
        self._library = library
        self._peers = peers
        self._index = index
        self._give = give
        self.came: Callable[[Digest, int], None] = lambda digest, size: None
        """A blob of so many bytes has crossed the network."""

    def fetch(self, peer: SimPeer, work: Fetch) -> None:
        """Perform a `Fetch` effect; the same one under way already is not started twice."""
        key = (work.digest, work.is_output)
        if key in peer.fetching:
            return
        peer.fetching.add(key)
        boot = peer.boots

        def then(why: str) -> None:
            peer.fetching.discard(key)
            size = 0 if why else self._library.size(work.digest)
            self._give(peer, boot, FetchFailed(work.digest, why) if why else Fetched(work.digest, size))

        self.bring(peer, [(work.digest, work.is_output)], work.sources, then)

    def bring(self, peer: SimPeer, wanted: list[tuple[Digest, bool]], sources: tuple[bytes, ...], then: Then) -> None:
        """Everything in `wanted`, in order."""
        others = [self._index[source] for source in dict.fromkeys(sources) if source in self._index]
        errand = Errand(peer, peer.boots, wanted[::-1], tuple(one for one in others if one != peer.index), then)
        self._queue.at(self._queue.now, self._step, errand)

    def _step(self, errand: Errand) -> None:
        """Take the next blob that is not here yet."""
        peer, library = errand.peer, self._library
        if not peer.is_up or peer.boots != errand.boot:
            return
        while errand.wanted:
            digest, is_output = errand.wanted[-1]
            if not library.has(peer.index, digest):
                self._ask(errand, digest)
                return
            errand.wanted.pop()
            errand.turn = 0
            if is_output:
                errand.wanted += [(file, False) for file, _ in library.files(digest)]
        errand.then("")

    def _ask(self, errand: Errand, digest: Digest) -> None:
        queue, here = self._queue, errand.peer.index
        if errand.turn >= len(errand.sources):
            errand.then("nobody has it")
            return
        source = errand.sources[errand.turn]
        errand.turn += 1
        there = self._network.arrival(here, source, REQUEST_BYTES, queue.now)
        if there < 0:
            queue.at(queue.now + STALL_NS, self._step, errand)
        else:
            queue.at(there, self._asked, (errand, source, digest))

    def _asked(self, request: tuple[Errand, int, Digest]) -> None:
        """The source has the request: it sends, refuses, or is not there to answer."""
        errand, index, digest = request
        queue, source, here = self._queue, self._peers[index], errand.peer.index
        if not source.is_up:
            queue.at(queue.now + STALL_NS, self._step, errand)
            return
        is_served = queue.now < source.strategy.at or source.strategy.serves(source, digest, here, queue.now)
        if not is_served or not self._library.has(index, digest):
            back = self._network.arrival(index, here, REQUEST_BYTES, queue.now)
            queue.at(back if back >= 0 else queue.now + STALL_NS, self._step, errand)
            return
        size = self._library.size(digest)

        def done(at: int) -> None:
            if at >= 0 and errand.peer.is_up and errand.peer.boots == errand.boot:
                self._library.copy(here, digest)
                self.came(digest, size)
            self._step(errand)

        self._network.bulk(index, here, size, queue.now, done)
