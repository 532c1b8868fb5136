"""The data plane's own TCP port: strangers shake hands here, bounded in number and time, before they cost a thread."""

from __future__ import annotations

import logging
import socket
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import trio

from node.bulk.channel import SocketChannel
from node.bulk.meeting import Parlour, receive_frame, send_frame
from node.bulk.tally import Tally
from protocol.bulk.handshake import Met
from protocol.errors import Unavailable
from protocol.units import PeerId

PENDING_MAX: Final = 256
"""Handshakes under way; the oldest one gives way to the next."""

PENDING_PER_ADDRESS: Final = 64
"""Handshakes under way from one IP address (half of it for what hides behind one router)."""

CONNECTIONS_PER_PEER: Final = 8
"""Connections of one peer; a fetch opens four at most."""

BACKLOG: Final = 512
"""Connections that the kernel holds while the loop is busy."""

log: Final = logging.getLogger("shoal.bulk")

OnMet = Callable[[SocketChannel, Met], Awaitable[None]]


class Listener:
    """Listens on one port on all hosts; hands authenticated connections to `on_met`, which outlasts them."""

    def __init__(self, parlour: Parlour, on_met: OnMet, tally: Tally) -> None:
        self._parlour = parlour
        self._on_met = on_met
        self._tally = tally
        self._pending: OrderedDict[int, tuple[str, trio.CancelScope]] = OrderedDict()
        self._numbers = 0
        self._from: Counter[str] = Counter()
        self._peers: Counter[PeerId] = Counter()
        self.port = 0
        """The port listened on; 0 while there is none."""

    @property
    def pending(self) -> int:
        """Handshakes under way."""
        return len(self._pending)

    @property
    def connections(self) -> int:
        """Connections that are served or wait for it."""
        return self._peers.total()

    async def start(self, hosts: Iterable[str], port: int, nursery: trio.Nursery) -> None:
        """Listen until the nursery is cancelled. Unavailable when the port is taken on every host."""
        wanted = list(dict.fromkeys(hosts))
        failures: list[str] = []
        for host in wanted:
            try:
                bound = _bound(host, port or self.port)
            except OSError as error:
                failures.append(f"{host}: {error.strerror}")
                continue
            listening = trio.socket.from_stdlib_socket(bound)
            self.port = listening.getsockname()[1]
            nursery.start_soon(self._accept, listening, nursery)
        if not self.port:
            raise Unavailable(
                f"cannot listen for data on port {port}: {'; '.join(failures) or 'no host'}",
                code="address_in_use",
                fix="Choose another port, or stop what uses it.",
            )

    async def _accept(self, listening: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        with listening:
            while True:
                try:
                    accepted, address = await listening.accept()
                except OSError as error:
                    log.warning("a connection could not be accepted: %s", error.strerror)
                    await trio.sleep(0.1)  # Out of descriptors: others have to end first.
                    continue
                self._make_room(address[0])
                nursery.start_soon(self._meet, accepted, address[0])

    def _make_room(self, host: str) -> None:
        """The oldest handshake ends when there are too many, of this address first."""
        if self._from[host] >= PENDING_PER_ADDRESS:
            self._evict(lambda other: other == host)
        elif len(self._pending) >= PENDING_MAX:
            self._evict(lambda _: True)

    def _evict(self, fits: Callable[[str], bool]) -> None:
        for number, (host, scope) in self._pending.items():
            if fits(host):
                scope.cancel()
                self._done(number)
                self._tally.add("bulk_handshakes_evicted")
                return

    def _done(self, number: int) -> None:
        entry = self._pending.pop(number, None)
        if entry is not None:
            self._from[entry[0]] -= 1
            if not self._from[entry[0]]:
                del self._from[entry[0]]

    async def _meet(self, accepted: trio.socket.SocketType, host: str) -> None:
        self._numbers += 1
        number = self._numbers
        scope = trio.CancelScope()
        self._pending[number] = host, scope
        self._from[host] += 1
        met: Met | None = None
        with accepted:
            try:
                with scope:
                    met = await self._parlour.as_holder(partial(send_frame, accepted), partial(receive_frame, accepted))
            except Unavailable as error:
                self._tally.add("bulk_handshakes_failed")
                log.debug("%s: %s", host, error.detail)
            finally:
                self._done(number)
            if met is not None:
                await self._keep(accepted, met)

    async def _keep(self, accepted: trio.socket.SocketType, met: Met) -> None:
        """Authenticated: serve it to its end."""
        try:
            with self.place(met.peer):
                channel = SocketChannel(socket.socket(fileno=accepted.detach()))
                try:
                    await self._on_met(channel, met)
                finally:
                    await channel.close()
        except Unavailable as error:
            log.debug("%s", error.detail)

    @contextmanager
    def place(self, peer: PeerId) -> Iterator[None]:
        """One of a peer's places while it is served; Unavailable when it has all of them."""
        if self._peers[peer] >= CONNECTIONS_PER_PEER:
            raise Unavailable(f"a peer has {CONNECTIONS_PER_PEER} data connections at most", code="too_many")
        self._peers[peer] += 1
        try:
            yield
        finally:
            self._peers[peer] -= 1
            if not self._peers[peer]:
                del self._peers[peer]


def _bound(host: str, port: int) -> socket.socket:
    """A listening socket."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((host, port))
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made
