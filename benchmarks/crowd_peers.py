"""Some peers of bench_crowd in one process, each with everything that a node's transport has.

`python -m benchmarks.crowd_peers FIRST COUNT`, steered by lines of JSON: an order in, an answer out. Times are
CLOCK_MONOTONIC in ns, which all processes of a machine share.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import logging
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Final

import msgspec
import psutil
import trio
from msgspec import Struct

from node.arrivals import Statement
from node.blobs import BlobStore
from node.transport import Transport, TransportConfig
from protocol import identity as identities
from protocol import wire
from protocol.errors import Refused, Unavailable
from protocol.identity import Identity
from protocol.messages import Capability, Offer
from protocol.offers import OFFER_LIFE
from protocol.overlay.peer_record import key_of
from protocol.units import GIB, MIB, Micros, PeerId

NETWORK: Final = "crowd"
DEGREE: Final = 8
"""Neighbours that everybody is to have; in a smaller crowd, everybody."""

AGAIN_S: Final = 10.0
"""Least seconds between the offers of one peer while not everybody has heard everybody."""

OFFERS_PER_S: Final = 4.0
"""Offers of the whole crowd per second: everybody verifies each, so a fixed pace of one peer would cost the square."""

LOOK_S: Final = 0.1
"""Seconds between looks at how far we are."""


class Open(Struct, frozen=True, tag=True):
    """Open all transports, one every `gap_s`; `Figures` at the end."""

    bootstraps: tuple[str, ...]
    gap_s: float


class Gather(Struct, frozen=True, tag=True):
    """Say an offer when there are neighbours, and again, until everybody of `crowd` was heard by all; `Gathered`."""

    crowd: int
    patience_s: float


class Quiet(Struct, frozen=True, tag=True):
    """Everybody heard everybody: say no more offers. `Figures`."""


class Look(Struct, frozen=True, tag=True):
    """`Figures`, now."""


class Say(Struct, frozen=True, tag=True):
    """Say statements: (place, number, when); `Heard` at the end."""

    publish: tuple[tuple[int, int, int], ...]
    end: int


class Find(Struct, frozen=True, tag=True):
    """Look up peers by name, each from a peer of ours; `Looked`."""

    pairs: tuple[tuple[int, int], ...]


class Stop(Struct, frozen=True, tag=True):
    """The end."""


Order = Open | Gather | Quiet | Look | Say | Find | Stop


class Figures(Struct, frozen=True):
    """How things stand in this process."""

    rss: int
    cpu_s: float
    connections: list[int]
    up: list[int]
    addresses: list[str]
    counts: dict[str, int]


class Gathered(Struct, frozen=True):
    """When the last of ours had its neighbours, and had heard everybody."""

    neighbours_at: int
    heard_at: int
    late: dict[int, dict[str, int]]
    """Peers that had not heard everybody when patience ended, and how they stood."""


class Heard(Struct, frozen=True):
    """(number, ns) of what was said and heard."""

    said: list[tuple[int, int]]
    heard: list[tuple[int, int]]
    cpu_s: float


class Looked(Struct, frozen=True):
    """(milliseconds, hops, questions) of every search that found its peer; how many did not."""

    found: list[tuple[float, int, int]]
    missed: int


class Forgetful(dict[bytes, bool]):
    """Every peer of a process verifies by itself, as if it were alone."""

    def __setitem__(self, key: bytes, value: bool) -> None:
        """Nothing is kept."""


def identity_of(number: int) -> Identity:
    """The same keys in every run."""
    return Identity(hashlib.blake2b(f"crowd/{number}".encode(), digest_size=32).digest())


def cpu_s() -> float:
    """Seconds of processor time used so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rss() -> int:
    """Resident bytes, after rubbish was collected and handed back to the kernel."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


def offer(number: int) -> Offer:
    """A small offer; `slots_free` keeps apart what numbers alone would not."""
    now = Micros(time.time_ns() // 1000)
    return Offer(
        sequence=number, issued=now, expires=now + OFFER_LIFE, roles=("provider",), addresses=(),
        capability=Capability(4_000, 8 * GIB, 64 * GIB, 30_000, 900), executors=("child",), runtimes=(), slots=1,
        slots_free=1, price_per_hour=500_000, serves=(),
    )  # fmt: skip


class Peer:
    """One transport, and what it heard."""

    def __init__(self, number: int, folder: Path, bootstraps: tuple[str, ...]) -> None:
        self.identity = identity_of(number)
        self.number = number
        config = TransportConfig(listen=("/ip4/127.0.0.1/tcp/0",), bootstraps=bootstraps)
        self.transport = Transport(self.identity, NETWORK, config, BlobStore(folder, 64 * MIB))
        self.authors: set[PeerId] = set()
        self.heard: list[tuple[int, int]] = []
        self.neighbours_at = self.heard_at = 0

    async def read(self, crowd: int) -> None:
        """The inbox, as the node's driver reads it."""
        async for arrival in self.transport.inbox:
            if isinstance(arrival, Statement) and isinstance(arrival.body, Offer):
                self.heard.append((arrival.body.sequence, time.monotonic_ns()))
                self.authors.add(PeerId(arrival.signed.signer))
                if len(self.authors) == crowd and not self.heard_at:
                    self.heard_at = time.monotonic_ns()

    async def say(self, number: int) -> None:
        """One offer."""
        await self.transport.publish("offers", wire.sign(self.identity, NETWORK, "offer", offer(number)))

    def standing(self) -> dict[str, int]:
        """For finding out why somebody hears nothing."""
        parts = self.transport._parts
        assert parts is not None
        router = parts.gossip.router
        neighbours = router._neighbours.values()
        return (
            {
                "authors": len(self.authors),
                "up": len(self.transport.connected()),
                "router_knows": len(neighbours),
                "subscribed": sum(len(one.topics) > 0 for one in neighbours),
                "mesh": len(router.mesh(f"/shoal/{NETWORK}/offers")),
                "queued": parts.gossip.streams.queued,
            }
            | dict(router.counts)
            | {name: n for name, n in self.transport.statistics().items() if n}
        )

    async def gather(self, crowd: int) -> None:
        """Offers from the moment when there are neighbours, until cancelled."""
        dice = Random(self.number)
        while len(self.transport.connected()) < min(DEGREE, crowd - 1):  # noqa: ASYNC110  looked at, not waited for
            await trio.sleep(LOOK_S)
        self.neighbours_at = time.monotonic_ns()
        for turn in range(1_000):
            await self.say(turn * crowd + self.number)
            await trio.sleep(max(AGAIN_S, crowd / OFFERS_PER_S) * dice.uniform(0.8, 1.2))


class House:
    """All peers of this process."""

    def __init__(self, first: int, count: int, folder: Path) -> None:
        self._first = first
        self._count = count
        self._folder = folder
        self.peers: list[Peer] = []
        self._talk = trio.CancelScope()

    def figures(self) -> Figures:
        """How things stand."""
        used = cpu_s()
        counts: Counter[str] = Counter()
        ends, ups, addresses = [], [], []
        for peer in self.peers:
            parts = peer.transport._parts
            assert parts is not None
            counts.update(peer.transport.statistics())
            counts.update({f"gossip_{name}": number for name, number in parts.gossip.router.counts.items()})
            ends.append(sum(len(found) for found in parts.host.get_network().connections.values()))
            ups.append(len(peer.transport.connected()))
            addresses.append(peer.transport.addresses()[0])
        return Figures(rss(), used, ends, ups, addresses, dict(counts))

    async def open(self, order: Open, stack: AsyncExitStack, nursery: trio.Nursery, crowd: int) -> Figures:
        """Open one after the other."""
        self.peers = [
            Peer(self._first + place, self._folder / str(place), order.bootstraps) for place in range(self._count)
        ]
        for peer in self.peers:
            await stack.enter_async_context(peer.transport.serving())
            nursery.start_soon(peer.read, crowd)
            await trio.sleep(order.gap_s)
        return self.figures()

    async def gather(self, order: Gather, nursery: trio.Nursery) -> Gathered:
        """Until everybody of ours heard everybody."""
        nursery.start_soon(self._chatter, order.crowd)
        with trio.move_on_after(order.patience_s):
            while not all(peer.heard_at for peer in self.peers):  # noqa: ASYNC110  the same
                await trio.sleep(LOOK_S)
        late = {peer.number: peer.standing() for peer in self.peers if not peer.heard_at}
        now = time.monotonic_ns()
        neighbours_at = max(peer.neighbours_at or now for peer in self.peers)
        return Gathered(neighbours_at, max(peer.heard_at or now for peer in self.peers), late)

    async def _chatter(self, crowd: int) -> None:
        with self._talk:
            async with trio.open_nursery() as nursery:
                for peer in self.peers:
                    nursery.start_soon(peer.gather, crowd)

    def quiet(self) -> Figures:
        """Say no more by ourselves."""
        self._talk.cancel()
        return self.figures()

    async def speak(self, order: Say) -> Heard:
        """Say everything in its time; what was heard since."""
        said: list[tuple[int, int]] = []
        for peer in self.peers:
            peer.heard.clear()
        used = cpu_s()

        async def at(place: int, number: int, due: int) -> None:
            await trio.sleep(max(0, due - time.monotonic_ns()) / 1e9)
            said.append((number, time.monotonic_ns()))
            await self.peers[place].say(number)

        async with trio.open_nursery() as nursery:
            for place, number, due in order.publish:
                nursery.start_soon(at, place, number, due)
        await trio.sleep(max(0, order.end - time.monotonic_ns()) / 1e9)
        return Heard(said, [item for peer in self.peers for item in peer.heard], cpu_s() - used)

    async def find(self, order: Find) -> Looked:
        """One search after the other."""
        found, missed = [], 0
        for place, number in order.pairs:
            overlay = self.peers[place].transport.overlay
            assert overlay is not None
            wanted = identity_of(number).peer
            started = time.perf_counter()
            try:
                done = await overlay.finder._search(key_of(wanted))
            except (Refused, Unavailable):
                missed += 1
                continue
            took = (time.perf_counter() - started) * 1e3
            if wanted in {contact.peer for contact in (*done.kept, *done.closest)}:
                found.append((took, done.hops, done.asks))
            else:
                missed += 1
        return Looked(found, missed)


def answer(value: Struct) -> None:
    """One line of standard output."""
    print(msgspec.json.encode(value).decode(), flush=True)


async def main(first: int, count: int, crowd: int, folder: Path) -> None:
    """Do what is ordered."""
    identities._checked = Forgetful()  # type: ignore[misc]
    house = House(first, count, folder)
    answer(Figures(rss(), cpu_s(), [], [], [], {}))
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        while True:
            line = await trio.to_thread.run_sync(sys.stdin.readline)
            match msgspec.json.decode(line or '{"type":"Stop"}', type=Order):
                case Open() as order:
                    answer(await house.open(order, stack, nursery, crowd))
                case Gather() as order:
                    answer(await house.gather(order, nursery))
                case Quiet():
                    answer(house.quiet())
                case Look():
                    answer(house.figures())
                case Say() as order:
                    answer(await house.speak(order))
                case Find() as order:
                    answer(await house.find(order))
                case Stop():
                    return


if __name__ == "__main__":
    logging.basicConfig(level=os.environ.get("SHOAL_CROWD_LOG", "ERROR"))
    with tempfile.TemporaryDirectory() as name:
        trio.run(main, int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(name))
