"""Large transfers that share last miles: max–min fair rates by progressive filling, as many TCP streams come close to.

Each peer has two links, up and down. Rates change only when a flow starts, ends, stalls or goes on, and only those
of flows that are tied to it by shared links are computed anew. Arithmetic is exact: integer bits times nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import Final

from simulations.queue import Queue
from simulations.scenario import NS

UNLIMITED: Final = 10**18
"""Bits per second of a flow that nothing slows down: a gibibyte takes 9 ns, far below any latency."""


class Flow:
    """One transfer on its way."""

    __slots__ = (
        "done", "lag", "left", "limit", "number", "path", "peers", "rate", "since", "size", "stalled", "wake",
    )  # fmt: skip

    def __init__(self, number: int, peers: tuple[int, ...], size: int, lag: int, done: Callable[[int], None]) -> None:
        self.number = number
        self.peers = peers
        """Source, relay if any, target."""
        self.size = size
        """Bytes."""
        self.lag = lag
        """One-way delay, ns: the last byte arrives so much after it was sent."""
        self.done = done
        self.path: tuple[int, ...] = ()
        """The links with limits that it goes over."""
        self.left = size * 8 * NS
        """Bits still to send, in billionths."""
        self.limit = UNLIMITED
        """Bits per second that its own path allows; 0: cut."""
        self.rate = 0
        """Bits per second that it gets."""
        self.since = 0
        """When `left` was right, ns."""
        self.stalled = -1
        """When it last stopped for a cut, ns; -1: it runs."""
        self.wake = -1
        """Time of the event that looks after it, ns; -1: none."""


def fill(paths: Sequence[tuple[int, ...]], limits: Sequence[int], capacity: Sequence[int]) -> list[int]:
    """Max–min fair rates: nobody's can be raised without lowering one that is not greater. Bit/s, rounded down.

    `paths[i]` holds the links that flow i goes over, `limits[i]` what it takes at most, `capacity` is by link.
    Progressive filling: the link that leaves its flows the least is full first; they get that, and the others share the
    rest (Bertsekas, Gallager: Data Networks, 2nd ed. 1992, §6.5.2). Shares of a link never fall as others are
    settled, which is why a heap of stale shares may serve as order. Where a link has more flows than bits per second,
    each gets one, which is too much, but ends.
    """
    users: dict[int, list[int]] = {}
    for index, path in enumerate(paths):
        for link in path:
            users.setdefault(link, []).append(index)
    left = {link: capacity[link] for link in users}
    for index, limit in enumerate(limits):  # What a flow takes at most is a link of its own, numbered below zero.
        users[-1 - index] = [index]
        left[-1 - index] = limit
    waiting = {link: len(flows) for link, flows in users.items()}
    rates = [-1] * len(paths)
    heap = [(left[link] // count, link) for link, count in waiting.items()]
    heapify(heap)
    while heap:
        share, link = heappop(heap)
        if not waiting[link]:
            continue
        fresh = left[link] // waiting[link]
        if fresh > share:
            heappush(heap, (fresh, link))
            continue
        share = max(1, share)
        for index in users[link]:
            if rates[index] < 0:
                rates[index] = share
                for crossed in (*paths[index], -1 - index):
                    left[crossed] -= share
                    waiting[crossed] -= 1
    return rates


class Bulk:
    """All transfers of a world.

    `capacity` holds the links in bits per second: of peer i the uplink at 2i, the downlink at 2i+1; 0: unlimited.
    `limit(peers)` says what the path over these peers carries for one flow (0: cut); after a change of its answers
    `review` must be called. `survives`: a flow that stalls for so many ns fails. `moved(source, bytes)` hears what was
    sent when a flow ends.
    """

    __slots__ = ("_capacity", "_flows", "_limit", "_moved", "_number", "_queue", "_survives", "_users")

    def __init__(
        self,
        queue: Queue,
        capacity: Sequence[int],
        limit: Callable[[tuple[int, ...]], int],
        survives: int,
        moved: Callable[[int, int], None],
    ) -> None:
        self._queue = queue
        self._capacity = capacity
        self._limit = limit
        self._survives = survives
        self._moved = moved
        self._number = 0
        self._flows: dict[int, Flow] = {}
        self._users: dict[int, dict[int, Flow]] = {}
        """By link: the flows that run over it now, by number."""

    def __len__(self) -> int:
        return len(self._flows)

    def start(self, peers: tuple[int, ...], size: int, lag: int, now: int, done: Callable[[int], None]) -> Flow:
        """Send `size` bytes over these peers; `done` is called with the time of arrival, or with -1 when it fails."""
        self._number += 1
        flow = Flow(self._number, peers, size, lag, done)
        flow.path = tuple(
            link for source, target in pairwise(peers) for link in (2 * source, 2 * target + 1) if self._capacity[link]
        )
        flow.since = now
        self._flows[flow.number] = flow
        flow.limit = self._limit(peers)
        if flow.limit:
            self._join(flow)
            self._share([flow], now)
        else:
            self._stall(flow, now)
        return flow

    def review(self, now: int) -> None:
        """Ask for every flow what its path carries now: some stall, some go on, some change their pace."""
        changed: list[Flow] = []
        for flow in self._flows.values():
            limit = self._limit(flow.peers)
            if limit == flow.limit:
                continue
            changed.append(flow)
            self._settle(flow, now)
            before, flow.limit = flow.limit, limit
            if not limit:
                self._leave(flow)
                self._stall(flow, now)
            elif not before:
                flow.stalled = -1
                self._join(flow)
        if changed:
            self._share(changed, now)

    def drop(self, peer: int, now: int) -> None:
        """A peer died: what it sends, takes or relays fails; the other end learns it after the way's delay."""
        ended = [flow for flow in self._flows.values() if peer in flow.peers]
        for flow in ended:
            self._end(flow, now)
            self._queue.at(now + flow.lag, flow.done, -1)
        self._share(ended, now)

    def rates(self) -> list[tuple[tuple[int, ...], int]]:
        """(peers, bits per second) of every flow, oldest first."""
        return [(flow.peers, flow.rate) for flow in self._flows.values()]

    # ── one flow ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def _join(self, flow: Flow) -> None:
        for link in flow.path:
            self._users.setdefault(link, {})[flow.number] = flow

    def _leave(self, flow: Flow) -> None:
        for link in flow.path:
            users = self._users.get(link)
            if users is not None:
                users.pop(flow.number, None)
                if not users:
                    del self._users[link]

    def _settle(self, flow: Flow, now: int) -> None:
        """Take off what was sent since."""
        flow.left = max(0, flow.left - flow.rate * (now - flow.since))
        flow.since = now

    def _stall(self, flow: Flow, now: int) -> None:
        flow.rate = 0
        flow.stalled = now
        self._queue.at(now + self._survives, self._give_up, (flow, now))

    def _give_up(self, stalled: tuple[Flow, int]) -> None:
        """The connection of a flow that has been stalled since then is lost, unless it went on meanwhile."""
        flow, since = stalled
        if flow.number in self._flows and flow.stalled == since:
            self._end(flow, self._queue.now)
            flow.done(-1)

    def _end(self, flow: Flow, now: int) -> None:
        self._settle(flow, now)
        self._leave(flow)
        del self._flows[flow.number]
        self._moved(flow.peers[0], flow.size - -(-flow.left // (8 * NS)))

    def _look(self, flow: Flow) -> None:
        """The event at `wake`: done, or slower than expected."""
        now = self._queue.now
        if flow.wake != now or flow.number not in self._flows:
            return
        flow.wake = -1
        self._settle(flow, now)
        if flow.left:
            self._expect(flow)
            return
        self._end(flow, now)
        self._queue.at(now + flow.lag, flow.done, now + flow.lag)
        self._share([flow], now)

    def _expect(self, flow: Flow) -> None:
        """Look again when it should be done. One that got slower keeps its early event, which then moves itself."""
        if flow.rate:
            at = flow.since - (-flow.left // flow.rate)
            if flow.wake < 0 or at < flow.wake:
                flow.wake = at
                self._queue.at(at, self._look, flow)

    # ── all that hang together ───────────────────────────────────────────────────────────────────────────────────────
    def _share(self, changed: list[Flow], now: int) -> None:
        """New rates for the changed flows and for those tied to them by links, over any number of steps."""
        flows = self._tied(changed)
        rates = fill([flow.path for flow in flows], [flow.limit for flow in flows], self._capacity)
        for flow, rate in zip(flows, rates, strict=True):
            if rate != flow.rate:
                self._settle(flow, now)
                flow.rate = rate
            self._expect(flow)

    def _tied(self, changed: list[Flow]) -> list[Flow]:
        found = {flow.number: flow for flow in changed if flow.number in self._flows and flow.limit}
        links = dict.fromkeys(link for flow in changed for link in flow.path)
        open_links = list(links)
        while open_links:
            for number, flow in self._users.get(open_links.pop(), {}).items():
                if number not in found:
                    found[number] = flow
                    fresh = [link for link in flow.path if link not in links]
                    links.update(dict.fromkeys(fresh))
                    open_links += fresh
        return [found[number] for number in sorted(found)]
