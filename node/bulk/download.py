"""One blob on its way here: lanes to several sources, in order at first, side by side when it is large.

Lanes fail and are replaced; chunks that came stay, here and after a restart. Who lied is found out at once for chunks,
at the end for lists, and told.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from node.blobs import BlobStore
from node.bulk.assembly import Assembly
from node.bulk.channel import in_worker
from node.bulk.gate import Gate
from node.bulk.link import Link
from node.bulk.lists import ChunkLists
from node.bulk.partial import PartialFile
from node.bulk.pulling import Pull
from node.bulk.tally import Moved, Tally
from node.clock import Clock
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.identity import peer_text
from protocol.units import MIB, SECOND, Digest, PeerId

PAUSE_S: Final = 0.3
"""Seconds before all sources are asked again, twice as long before the third time: a busy one has ended something."""

ROUNDS: Final = 3
"""How often all sources are asked before a fetch fails; a proven liar does not count as a round."""

LANES_MAX: Final = 4
"""Connections of one transfer."""

PARALLEL_BYTES: Final = 4 * MIB
"""Larger blobs come from several sources at once."""

TWIN_BYTES: Final = 64 * MIB
"""Larger blobs that only one source has come over two connections: one thread each on both sides."""

DESCRIBE_S: Final = 3.0
"""Head start of the first source; then a second one is asked beside it."""

GRACE_S: Final = 0.05
"""Time for lanes to end by themselves when everything is here, so that their connections can be used again."""

WATCH_S: Final = 1.0
"""How often lanes that deliver nothing are looked for."""

log: Final = logging.getLogger("shoal.bulk")


@dataclass(frozen=True, slots=True)
class Shop:
    """What all transfers of a node share."""

    store: BlobStore
    lists: ChunkLists
    gate: Gate
    tally: Tally
    clock: Clock
    lanes: trio.CapacityLimiter
    hashers: trio.CapacityLimiter
    open_link: Callable[[PeerId, tuple[Digest, ...]], Awaitable[Link | None]]
    """None: one that is open already may be used by now."""
    idle_link: Callable[[PeerId, Digest], Link | None]
    keep_link: Callable[[Link], Awaitable[None]]
    punish: Callable[[RemoteViolation], Awaitable[None]]


class Download:
    """One transfer. Callers who want the same blob share it and may add their sources."""

    def __init__(self, shop: Shop, digest: Digest, size_max: int, job: bytes, scope: tuple[Digest, ...]) -> None:
        self._shop = shop
        self._digest = digest
        self._job = job
        self._scope = scope
        self._has_twin = False
        self._partial = PartialFile(shop.store.partial(digest))
        self._assembly = Assembly(digest, size_max, self._partial, shop.clock)
        self._sources: list[PeerId] = []
        self._queue: deque[PeerId] = deque()
        self._reasons: dict[PeerId, str] = {}
        self._refusals: list[Refused] = []
        self._fatal: list[Refused] = []
        self._liars: set[PeerId] = set()
        self._links: dict[int, Link] = {}
        self._numbers = 0
        self._lanes = 0
        self._space = ExitStack()
        self._have = 0
        self._news = trio.Event()

    def add_sources(self, sources: Sequence[PeerId]) -> None:
        """More peers that may have it; they join at once when the blob is large."""
        fresh = [source for source in sources if source not in self._sources]
        self._sources.extend(fresh)
        self._queue.extend(fresh)
        self._tell()

    async def run(self) -> None:
        """Have the blob in the store. Unavailable with everybody's reasons; Refused where nobody could help."""
        started = self._shop.clock.now()
        try:
            with self._space:
                self._have = await trio.to_thread.run_sync(self._assembly.load)
                chunks = self._assembly.chunks
                if chunks is not None:
                    self._space.enter_context(self._shop.store.space(chunks.total))
                await self._rounds()
                await self._settle((self._shop.clock.now() - started) / SECOND)
        finally:
            self._assembly.stop()
            self._partial.close()

    async def _rounds(self) -> None:
        rounds = 0
        while rounds < ROUNDS:
            rounds += 1
            known_liars = len(self._liars)
            if not self._assembly.is_complete:
                await self._round()
            if self._fatal:
                raise self._fatal[0]
            if self._assembly.is_complete:
                if await self._is_right():
                    return
            elif self._assembly.dissented:
                self._start_over()
            elif self._refusals:
                raise self._refusals[0]
            elif rounds < ROUNDS:
                await trio.sleep(PAUSE_S * rounds)
            rounds -= len(self._liars) > known_liars
        said = "; ".join(f"{peer_text(peer)}: {reason}" for peer, reason in self._reasons.items())
        raise Unavailable(
            f"blob {self._digest.hex()} could not be fetched: {said or 'there is no source'}", code="no_source"
        )

    async def _is_right(self) -> bool:
        """The whole decides. When it is wrong, everybody who stated its list lied; when right, those who did not."""
        is_right = await trio.to_thread.run_sync(self._assembly.is_right)
        liars = self._assembly.dissented if is_right else self._assembly.agreed
        for liar in sorted(liars - self._liars):
            self._liars.add(liar)
            rule = f"its list of chunks is not that of blob {self._digest.hex()}"
            await self._shop.punish(RemoteViolation(liar, rule, code="wrong_list"))
            self._reasons[liar] = rule
        if not is_right:
            self._start_over()
        return is_right

    def _start_over(self) -> None:
        """Another list has to be believed: that of somebody who disagreed with this one, if there is one."""
        others = self._assembly.dissented
        self._sources.sort(key=lambda source: source not in others)
        self._assembly.reset()
        self._space.close()

    async def _round(self) -> None:
        """Ask every source that is no liar, once each."""
        self._queue = deque(source for source in self._sources if source not in self._liars)
        self._has_twin = False
        self._assembly.start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.to_thread.run_sync, self._assembly.hash_along, limiter=self._shop.hashers))
            nursery.start_soon(self._watch)
            try:
                await self._run_lanes()
            finally:
                self._assembly.stop()
            nursery.cancel_scope.cancel()

    async def _run_lanes(self) -> None:
        """Keep as many lanes as the blob deserves until it is complete, or all sources were asked."""
        async with trio.open_nursery() as nursery:
            patience = trio.current_time() + DESCRIBE_S
            while not self._assembly.is_complete and not self._fatal:
                while self._queue and self._lanes < self._width(patience):
                    self._lanes += 1
                    nursery.start_soon(self._lane, self._queue.popleft())
                if not self._lanes:
                    break
                with trio.move_on_after(DESCRIBE_S):
                    await self._news.wait()
            with trio.move_on_after(GRACE_S):
                while self._lanes and not self._fatal:
                    await self._news.wait()
            nursery.cancel_scope.cancel()

    def _width(self, patience: float) -> int:
        """How many lanes there should be now."""
        chunks = self._assembly.chunks
        if chunks is None:
            return 2 if trio.current_time() >= patience else 1
        if chunks.total > TWIN_BYTES and len(self._sources) == 1 and not self._has_twin:
            self._has_twin = True
            self._queue.append(self._sources[0])
        return LANES_MAX if chunks.total > PARALLEL_BYTES else 1

    async def _lane(self, source: PeerId) -> None:
        """One source, until it has nothing more to do or fails."""
        try:
            while not await self._has_reused(source):
                link = await self._shop.open_link(source, (self._digest, *self._scope))
                if link is not None:
                    await self._pull(link)
                    break
        except Unavailable as error:
            self._reasons[source] = error.detail
        except Refused as error:
            self._reasons[source] = error.detail
            (self._fatal if error.code == "disk_full" else self._refusals).append(error)
        except RemoteViolation as violation:
            self._liars.add(source)
            self._reasons[source] = violation.rule
            with trio.CancelScope(shield=True):
                await self._shop.punish(violation)
        finally:
            self._lanes -= 1
            self._tell()

    async def _has_reused(self, source: PeerId) -> bool:
        """Use a connection that is open already; False when there is none, or it broke."""
        link = self._shop.idle_link(source, self._digest)
        if link is None:
            return False
        try:
            await self._pull(link)
        except Unavailable:
            return False
        return True

    async def _pull(self, link: Link) -> None:
        self._numbers += 1
        number = self._numbers

        def reserve(size: int) -> None:
            trio.from_thread.run_sync(self._reserve, size)

        joined = partial(trio.from_thread.run_sync, self._tell)
        pull = Pull(number, link, self._assembly, self._allow, self._shop.tally, reserve, joined)
        self._links[number] = link
        try:
            await in_worker(link.channel, self._shop.lanes, pull.run, self._assembly.stop)
        finally:
            del self._links[number]
            if not pull.is_clean:
                with trio.CancelScope(shield=True):
                    await link.channel.close()
        await self._shop.keep_link(link)

    def _allow(self, size: int) -> None:
        self._shop.gate.wait(self._job, size, lambda: not self._assembly.is_stopped)

    def _reserve(self, size: int) -> None:
        """A list was adopted: the disk has to have room."""
        self._space.enter_context(self._shop.store.space(size))

    async def _watch(self) -> None:
        """Give up lanes that were asked and deliver nothing."""
        while True:
            await trio.sleep(WATCH_S)
            for number in self._assembly.stalled():
                if number in self._links:
                    self._links[number].channel.abort()

    async def _settle(self, seconds: float) -> None:
        """Keep the blob under its name."""
        chunks = self._assembly.chunks
        assert chunks is not None
        await trio.to_thread.run_sync(self._partial.settle, chunks.total)
        self._shop.lists.keep(self._digest, chunks)
        if not self._shop.store.has(self._digest):
            self._shop.store.adopt(self._partial.path, self._digest, chunks.total)
        self._shop.tally.ended(Moved(self._digest, chunks.total, seconds, dict(self._assembly.by_source)))

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()
