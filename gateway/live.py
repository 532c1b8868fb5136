"""What the page shows, read once for all viewers: peers, jobs, market and events of the node.

The node's event stream says when to look again. The node is asked while somebody watches, at most four times a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from gateway import clock
from gateway.answers import node_value
from gateway.node_client import NodeClient, Plain
from gateway.peers import peers_of
from gateway.schemas import JobStatus, JobSummary, Peer
from protocol.errors import ShoalError

REFRESH_GAP_S: Final = 0.25
"""Least time between two readings: an eye sees no more, and a burst of events becomes one."""

REFRESH_MAX_S: Final = 3.0
"""Longest time between two readings while somebody watches: liveness changes without an event."""

EVENTS_KEPT: Final = 40
JOBS_SHOWN: Final = 12
PUBLIC_FIELDS: Final = (
    "job",
    "chunk",
    "epoch",
    "peer",
    "provider",
    "auditor",
    "height",
    "outcome",
    "code",
    "state",
    "phase",
    "slots",
)
"""Fields of an event that anyone may see; the rest may hold a renter's words."""

PULSE: Final = frozenset({"followed", "block", "log"})
"""Events that come with every block or line: they refresh the page, but say nothing by themselves."""

_HEX_ID: Final = re.compile(r"[0-9a-f]{32}")


class Event(msgspec.Struct):
    """Something that the node emitted."""

    sequence: int
    time: int = 0
    name: str = ""
    fields: dict[str, object] = {}

    def public(self) -> list[tuple[str, str]]:
        """What may be shown, in a fixed order."""
        found = [(name, str(self.fields[name])) for name in PUBLIC_FIELDS if self.fields.get(name) not in (None, "")]
        return [
            (name, f"job_{value}" if name == "job" and _HEX_ID.fullmatch(value) else value) for name, value in found
        ]


@dataclass(frozen=True, slots=True)
class View:
    """One reading of the node. `error` says why a newer one is missing."""

    version: int = 0
    time: int = 0
    error: str = "not read yet"
    node: Plain = field(default_factory=dict)
    peers: tuple[Peer, ...] = ()
    jobs: tuple[JobStatus, ...] = ()
    cluster: Plain = field(default_factory=dict)
    pricing: Plain = field(default_factory=dict)
    queue: Plain = field(default_factory=dict)
    events: tuple[Event, ...] = ()

    @property
    def own_peer(self) -> str:
        """The peer id of the node behind this gateway."""
        return str(self.node.get("peer") or "")

    @property
    def height(self) -> int | None:
        """Height of the ledger as the node knows it."""
        ledger = self.node.get("ledger")
        found = ledger.get("height") if isinstance(ledger, dict) else None
        return found if isinstance(found, int) else None


class Live:
    """Keeps the newest view and wakes its watchers."""

    def __init__(self, node: NodeClient, stopping: asyncio.Event) -> None:
        self._node = node
        self._stopping = stopping
        self._view = View()
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()
        self._reading = asyncio.Lock()
        self._watchers = 0
        self._is_stale = True

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the node until the block ends."""
        tasks = [asyncio.create_task(self._follow_events()), asyncio.create_task(self._keep_reading())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def nudge(self) -> None:
        """Something changed: look again soon."""
        self._is_stale = True
        self._wanted.set()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While somebody watches, views stay fresh by themselves."""
        self._watchers += 1
        self.nudge()
        try:
            yield
        finally:
            self._watchers -= 1

    async def fresh(self) -> View:
        """A view that knows of everything that this gateway did, and is at most one refresh gap old."""
        if self._is_old():
            await self._read()
        return self._view

    def _is_old(self) -> bool:
        return self._is_stale or clock.wall() - self._view.time > REFRESH_GAP_S * 1_000_000

    async def after(self, version: int) -> View:
        """The first view newer than `version`."""
        while self._view.version <= version:
            await self._changed.wait()
        return self._view

    async def _keep_reading(self) -> None:
        while True:
            timeout = REFRESH_MAX_S if self._watchers else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._wanted.wait()
            self._wanted.clear()
            if self._watchers:
                await self._read()
            await asyncio.sleep(REFRESH_GAP_S)

    async def _read(self) -> None:
        async with self._reading:
            if not self._is_old():
                return
            self._is_stale = False
            try:
                view = await self._ask()
            except ShoalError as error:
                view = replace(self._view, error=error.detail, time=clock.wall())
            self._view = replace(view, version=self._view.version + 1, events=tuple(reversed(self._events)))
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    async def _ask(self) -> View:
        methods = ("node.status", "node.peers", "market.cluster", "market.pricing", "market.queue")
        answers = await asyncio.gather(
            *(self._node.call(method) for method in methods), self._node.call("job.list", {"limit": JOBS_SHOWN})
        )
        node, peers, cluster, pricing, queue, listed = answers
        found = listed.get("jobs")
        summaries = [node_value(one, JobSummary) for one in found] if isinstance(found, list) else []
        statuses = await asyncio.gather(
            *(self._node.call("job.status", {"job": one.job}) for one in summaries[:JOBS_SHOWN])
        )
        jobs = tuple(node_value(status, JobStatus) for status in statuses)
        return View(0, clock.wall(), "", node, tuple(peers_of(peers)), jobs, cluster, pricing, queue)

    async def _follow_events(self) -> None:
        since = 0
        while True:
            with contextlib.suppress(ShoalError, msgspec.ValidationError):
                async with aclosing(self._node.stream("node.events", {"since": since})) as items:
                    async for item in items:
                        event = msgspec.convert(item, Event)
                        since = self._take(event, since)
            since = 0
            self.nudge()
            await asyncio.sleep(1.0)

    def _take(self, event: Event, since: int) -> int:
        is_known = any((event.sequence, event.time) == (known.sequence, known.time) for known in self._events)
        if event.name not in PULSE and not is_known:
            self._events.append(event)
        if event.name != "log":
            self.nudge()
        return max(since, event.sequence)
