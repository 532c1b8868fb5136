"""The data plane of one node: serves its blobs to peers, and fetches theirs, beside libp2p. Spec: specs/19-bulk.md.

plane = BulkPlane(network, identity, store, dialer, requests, punish, counts)
async with plane.serving(hosts, addresses): await plane.fetch(digest, size_max, sources, is_output=False)
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

import trio
from libp2p.abc import INetStream

from node import entropy
from node.blobs import BlobStore
from node.bulk.channel import Channel, StreamChannel, in_worker
from node.bulk.download import Download, Shop
from node.bulk.gate import Gate
from node.bulk.link import Link
from node.bulk.listener import Listener
from node.bulk.lists import ChunkLists
from node.bulk.meeting import Parlour, has_fast_aes
from node.bulk.pulling import part
from node.bulk.routes import Routes, next_frame
from node.bulk.serving import Serving
from node.bulk.tally import Tally
from node.clock import Clock
from node.dialer import Dialer
from node.libp2p_rim import remote_of
from node.requests import Requests
from node.streams import FrameReader, reset, write_all
from protocol import wire
from protocol.bulk.handshake import HANDSHAKE_BYTES_MAX, Met
from protocol.bulk.tickets import (
    ABSENT,
    DATA_ADDRESSES_MAX,
    DIGESTS_PER_TICKET,
    TicketOffice,
    TicketReply,
    TicketRequest,
)
from protocol.completions import Fetched
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.identity import Identity
from protocol.jobspec import Manifest
from protocol.units import MIB, Digest, PeerId

SERVED_MAX: Final = 64
"""Connections served at a time, a thread each; the others wait their turn."""

LANES_TOTAL: Final = 64
"""Connections of all fetches at a time, a thread each."""

FETCHED_MAX: Final = 4
"""Files of one output fetched at a time."""

MANIFEST_BYTES_MAX: Final = 2 * MIB
"""2048 files with paths of 512 characters fit."""

log: Final = logging.getLogger("shoal.bulk")
_request: Final = wire.decoder(TicketRequest)
_reply: Final = wire.decoder(TicketReply)
_manifest: Final = wire.decoder(Manifest)


class BulkPlane:
    """Serves the store to peers, and fetches from them."""

    def __init__(
        self,
        network: str,
        identity: Identity,
        store: BlobStore,
        dialer: Dialer,
        requests: Requests,
        punish: Callable[[RemoteViolation], Awaitable[None]],
        counts: Counter[str],
    ) -> None:
        self.protocol = f"/shoal/{network}/bulk/1"
        self._store = store
        self._dialer = dialer
        self._requests = requests
        self._punish = punish
        self._clock = Clock()
        self._tally = Tally(counts)
        self._office = TicketOffice()
        self._lists = ChunkLists(store)
        self._parlour = Parlour(network, identity, self._office, self._clock, has_fast_aes())
        self._routes = Routes(self.protocol, dialer, self._parlour, self._tally)
        self._listener = Listener(self._parlour, self._serve_channel, self._tally)
        self._addresses: Callable[[], Iterable[str]] = tuple
        self.mapped: Callable[[], Iterable[str]] = tuple
        """Where routers let others in to the data port."""
        self._served = trio.CapacityLimiter(SERVED_MAX)
        self._running: dict[Digest, tuple[Download, trio.Event]] = {}
        self.up = Gate(self._clock, None)
        """Shares of what leaves; a job is the peer that receives."""
        self.down = Gate(self._clock, None)
        """Shares of what comes; a job is what `fetch` was told."""
        self._shop = Shop(
            store,
            self._lists,
            self.down,
            self._tally,
            self._clock,
            trio.CapacityLimiter(LANES_TOTAL),
            trio.CapacityLimiter(LANES_TOTAL),
            self._open_link,
            self._routes.idle,
            self._keep_link,
            punish,
        )
        requests.serve("ticket", _request, self._give_ticket)

    @property
    def port(self) -> int:
        """The TCP port of the data plane, for routers and firewalls; 0 before it serves."""
        return self._listener.port

    @property
    def tally(self) -> Tally:
        """What was moved, and how."""
        return self._tally

    @asynccontextmanager
    async def serving(
        self, hosts: Iterable[str], port: int, addresses: Callable[[], Iterable[str]]
    ) -> AsyncIterator[None]:
        """Listen for data until the block ends. `addresses`: the control plane's own, whose hosts are told to peers."""
        self._addresses = addresses
        async with AsyncExitStack() as stack:
            nursery = await stack.enter_async_context(trio.open_nursery())
            stack.push_async_callback(self._routes.close)
            stack.callback(nursery.cancel_scope.cancel)
            await self._listener.start(hosts, port, nursery)
            nursery.start_soon(self._retire)
            yield

    async def serve(self, stream: INetStream) -> None:
        """A peer that cannot reach the data port comes by stream."""
        peer = remote_of(stream)
        try:
            if self._dialer.book.is_forbidden(peer):
                raise Unavailable("a peer that is shut out gets no blobs", code="forbidden")
            frames = FrameReader(stream, peer, HANDSHAKE_BYTES_MAX)
            met = await self._parlour.as_holder(partial(write_all, stream), partial(next_frame, frames))
            if met.peer != peer:
                raise RemoteViolation(peer, "it uses somebody else's ticket", code="no_ticket")
            with self._listener.place(peer):
                await self._serve_channel(StreamChannel(stream, frames.rest()), met)
        except RemoteViolation as violation:
            await self._punish(violation)
        except Unavailable as error:
            log.debug("a bulk stream ended: %s", error.detail)
        finally:
            with trio.CancelScope(shield=True):
                await reset(stream)

    async def fetch(
        self, digest: Digest, size_max: int, sources: Sequence[PeerId], is_output: bool, job: bytes = b""
    ) -> Fetched:
        """Have a blob, or for `is_output` a manifest and every file in it (`size_max` then bounds their sum).

        `job` is what shares the link by weight. Raises Unavailable, or Refused where no other source could help."""
        if not is_output:
            return Fetched(digest, await self._have(digest, size_max, sources, job))
        await self._have(digest, MANIFEST_BYTES_MAX, sources, job)
        manifest = self._manifest(digest, size_max)
        sizes = {Digest(file.digest): file.size for file in manifest.files}
        scope = [name for name in sizes if not self._store.has(name)]
        limit = trio.Semaphore(FETCHED_MAX)
        failures: list[Refused | Unavailable] = []
        async with trio.open_nursery() as nursery:

            async def bring(name: Digest, size: int, scope: tuple[Digest, ...]) -> None:
                async with limit:
                    try:
                        found = await self._have(name, size, sources, job, scope)
                    except (Refused, Unavailable) as error:
                        failures.append(error)
                        nursery.cancel_scope.cancel()
                        return
                if found != size:
                    detail = f"{name.hex()} has {found} bytes, its manifest says {size}"
                    failures.append(Refused(detail, code="bad_output"))

            for place, (name, size) in enumerate(sizes.items()):
                first = place // DIGESTS_PER_TICKET * DIGESTS_PER_TICKET
                nursery.start_soon(bring, name, size, tuple(scope[first : first + DIGESTS_PER_TICKET - 1]))
        if failures:
            raise failures[0]
        return Fetched(digest, manifest.size)

    def _manifest(self, digest: Digest, size_max: int) -> Manifest:
        """The manifest of an output. It is what its maker sealed: a bad one is the maker's fault, not the source's."""
        raw = self._store.read(digest, MANIFEST_BYTES_MAX)
        try:
            manifest = wire.decode(raw, _manifest, PeerId(bytes(32)), MANIFEST_BYTES_MAX)
        except RemoteViolation as violation:
            raise Refused(f"{digest.hex()} is no output manifest: {violation.rule}", code="bad_output") from violation
        if manifest.size > size_max:
            raise Refused(
                f"the output has {manifest.size} bytes, {size_max} are allowed",
                code="output_too_large",
                numbers={"size": manifest.size, "size_max": size_max},
            )
        return manifest

    async def _have(
        self, digest: Digest, size_max: int, sources: Sequence[PeerId], job: bytes, scope: tuple[Digest, ...] = ()
    ) -> int:
        """The size of a blob that is here afterwards. Two callers for one digest share one transfer."""
        while not self._store.has(digest):
            running = self._running.get(digest)
            if running is not None:
                running[0].add_sources(sources)
                await running[1].wait()
                continue
            download = Download(self._shop, digest, size_max, job, scope)
            download.add_sources(sources)
            done = trio.Event()
            self._running[digest] = download, done
            try:
                await download.run()
            finally:
                del self._running[digest]
                done.set()
        return self._store.size(digest)

    async def _give_ticket(self, peer: PeerId, request: TicketRequest) -> TicketReply:
        """The answer to somebody who asks on the control plane."""
        digests = [Digest(digest) for digest in request.digests]
        sizes = tuple(self._store.size(digest) if self._store.has(digest) else ABSENT for digest in digests)
        if max(sizes) == ABSENT:
            return TicketReply(sizes, bytes(32), ())
        secret = entropy.seed()
        self._office.issue(peer, digests, secret, self._clock.now())
        here = (self._data_address(text) for text in self._addresses() if "/p2p-circuit" not in text)
        told = dict.fromkeys([*self.mapped(), *here])
        return TicketReply(sizes, secret, tuple(told)[:DATA_ADDRESSES_MAX])

    def _data_address(self, control: str) -> str:
        """The data port on the host of a control address."""
        _, kind, host = control.split("/")[:3]
        return f"/{kind}/{host}/tcp/{self.port}"

    async def _open_link(self, source: PeerId, digests: tuple[Digest, ...]) -> Link | None:
        """Ask for a ticket, and connect with it; None when a link that may be used waits by then."""
        wanted = tuple(dict.fromkeys(digests))[:DIGESTS_PER_TICKET]
        reply = await self._requests.ask(source, "ticket", TicketRequest(wanted), _reply)
        if len(reply.sizes) != len(wanted):
            raise RemoteViolation(source, "its ticket is for something else", code="bad_ticket")
        if reply.sizes[0] == ABSENT:
            raise Unavailable("it does not have the blob", code="no_blob")
        if self._routes.has_idle(source, wanted[0]):
            return None
        for idle in self._routes.spare(source):
            await self._part(idle)
        return await self._routes.open(source, reply.secret, reply.addresses, frozenset(wanted))

    async def _serve_channel(self, channel: Channel, met: Met) -> None:
        """One authenticated connection to its end, in a thread of its own."""
        link = Link(channel, met)
        serving = Serving(link, self._store, self._lists, self.up, self._tally)
        try:
            await in_worker(channel, self._served, serving.run)
        except RemoteViolation as violation:
            await self._punish(violation)
        except Unavailable as error:
            log.debug("a data connection ended: %s", error.detail)

    async def _keep_link(self, link: Link) -> None:
        """A link that did its work: keep it for the next one, or part."""
        late = self._routes.keep(link) if link.channel.way == "direct" else link
        if late is not None:
            await self._part(late)

    async def _part(self, link: Link) -> None:
        try:
            with trio.move_on_after(1):
                await in_worker(link.channel, self._shop.lanes, partial(part, link))
        except (Unavailable, RemoteViolation) as error:
            log.debug("a data connection did not end well: %s", error.detail)
        finally:
            with trio.CancelScope(shield=True):
                await link.channel.close()

    async def _retire(self) -> None:
        """Close connections that nobody used again."""
        while True:
            await trio.sleep(1)
            for link in self._routes.expired():
                await self._part(link)
